package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"fluent-bit-defender/internal/defendersim"
	"fluent-bit-defender/internal/flbhost"
)

// tenants prints what stanzas of so many tenants cost, an alert a minute each, with the default keys.
func tenants(so, counts string) error {
	fmt.Println("\n| tenants in one stanza, an alert a minute each | s until all are up to date | MB resident | over " +
		"one tenant | threads | CPU ms a minute | s until a further one is |")
	fmt.Println("|---|---|---|---|---|---|---|")
	first := 0.0
	for _, text := range strings.Split(counts, ",") {
		n, err := strconv.Atoi(text)
		if err != nil {
			return fmt.Errorf("-tenants: %w", err)
		}
		if err := ofTenants(so, n, &first); err != nil {
			return fmt.Errorf("%d tenants: %w", n, err)
		}
	}
	return nil
}

func ofTenants(so string, n int, first *float64) error {
	cloud := defendersim.NewFleet(defendersim.Config{Retain: 2 * time.Hour, JournalSize: 1})
	srv, err := defendersim.StartFleet(cloud, defendersim.ServerOptions{})
	if err != nil {
		return err
	}
	defer srv.Close()
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	ca := filepath.Join(dir, "ca.pem")
	if err := srv.WriteCA(ca); err != nil {
		return err
	}
	gen := defendersim.NewGenerator(rand.New(rand.NewPCG(1, 2)), defendersim.Mix{})
	name := func(i int) string { return fmt.Sprintf("%08d-2222-3333-4444-555555555555", i) }
	list := filepath.Join(dir, "tenants.yaml")
	write := func(n int) error {
		var text strings.Builder
		for i := range n {
			cloud.Tenant(name(i))
			fmt.Fprintf(&text, "- {tenant_id: %s, name: customer %d}\n", name(i), i)
		}
		return os.WriteFile(list, []byte(text.String()), 0o600)
	}
	if err := write(n); err != nil {
		return err
	}
	for i := range n {
		cloud.Tenant(name(i)).Add(gen.Alert(time.Now().Add(-10 * time.Minute)))
	}
	config := fmt.Sprintf("[INPUT]\n    name defender\n    tag t\n    tenants_file %s\n    client_id %s\n    "+
		"client_secret %s\n    url %s\n    authority %s\n    ca_file %s\n    db %s\n",
		list, defendersim.DefaultClientID, defendersim.DefaultSecret, srv.AlertsURL(), srv.Authority(), ca,
		filepath.Join(dir, "defender.db"))
	var records atomic.Int64
	began := time.Now()
	h, err := flbhost.Start(flbhost.Options{Plugin: so, Config: config, Interval: time.Second,
		OnRecord: func(flbhost.Record) { records.Add(1) }})
	if err != nil {
		return err
	}
	defer h.Close()
	until := func(limit time.Duration, what string, done func() bool) (float64, error) {
		since := time.Now()
		for !done() {
			if time.Since(since) > limit {
				return 0, fmt.Errorf("not within %s: %s (%d records)", limit, what, records.Load())
			}
			time.Sleep(50 * time.Millisecond)
		}
		return time.Since(since).Seconds(), nil
	}
	if _, err := until(3*time.Minute, "all tenants up to date",
		func() bool { return records.Load() >= int64(n) }); err != nil {
		return err
	}
	ready := time.Since(began).Seconds()

	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() { // each tenant's alert of the minute
		defer close(stopped)
		tick := time.NewTicker(time.Minute / time.Duration(n))
		defer tick.Stop()
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			case <-tick.C:
				cloud.Tenant(name(i % n)).Add(gen.Alert(time.Now()))
			}
		}
	}()
	time.Sleep(90 * time.Second) // the polls have found their rhythm
	cpu := cpuTicks(h.Pid())
	time.Sleep(time.Minute)
	used := (cpuTicks(h.Pid()) - cpu) * 10
	size, threads := resident(h.Pid(), "VmRSS"), threadsOf(h.Pid())
	close(stop)
	<-stopped
	if *first == 0 {
		*first = size
	}
	seen := cloud.Tenant(name(n))
	if err := write(n + 1); err != nil {
		return err
	}
	added, err := until(time.Minute, "the further tenant", func() bool { return seen.Stats().Alerts > 1 })
	if err != nil {
		return err
	}
	fmt.Printf("| %d | %.0f | %.1f | %.1f | %d | %d | %.1f |\n", n, ready, size, size-*first, threads, used, added)
	return nil
}

// threadsOf is the number of a process's threads.
func threadsOf(pid int) int {
	all, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return 0
	}
	return len(all)
}
