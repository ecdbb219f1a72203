package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"fluent-bit-defender/internal/defendersim"
	"fluent-bit-defender/internal/flbhost"
)

// inHost runs the shared object in the bundled host against one answer of size bytes, with further keys, and calls
// look while records come.
func inHost(
	so string, size int64, interval time.Duration, keys string, look func(h *flbhost.Host, records *atomic.Int64) error,
) error {
	svc := defendersim.New(defendersim.Config{})
	var first atomic.Bool
	svc.OnRequest(func(r defendersim.Request) *defendersim.Fault {
		// a limit of 1: for the Date alone
		if r.Kind != defendersim.KindAlerts || r.Query.Limit == 1 || size == 0 || first.Swap(true) {
			return nil
		}
		return defendersim.BigBody(size)
	})
	srv, err := defendersim.Start(svc, defendersim.ServerOptions{})
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
	config := fmt.Sprintf("[INPUT]\n    name defender\n    tag t\n    tenant_id %s\n    client_id %s\n    "+
		"client_secret %s\n    url %s\n    token_url %s\n    ca_file %s\n    poll_interval 5m\n    max_window 1d\n%s",
		defendersim.DefaultTenant, defendersim.DefaultClientID, defendersim.DefaultSecret, srv.AlertsURL(),
		srv.TokenURL(), ca, keys)
	var records atomic.Int64
	// A copy, as it is installed: the file as the linker wrote it lies in the page cache in larger pieces, of which the
	// kernel maps half a megabyte more than is used.
	installed := filepath.Join(dir, "in_defender.so")
	if text, err := os.ReadFile(so); err != nil {
		return err
	} else if err := os.WriteFile(installed, text, 0o600); err != nil {
		return err
	}
	h, err := flbhost.Start(flbhost.Options{Plugin: installed, Config: config, Interval: interval,
		Drain: min(interval, 250*time.Millisecond), OnRecord: func(flbhost.Record) { records.Add(1) }})
	if err != nil {
		return err
	}
	defer h.Close()
	if err := h.Await(30*time.Second, "the start",
		func(v *flbhost.View) bool { return v.HasEvent("started") }); err != nil {
		return err
	}
	return look(h, &records)
}

// memory prints what an answer adds to the host at its peak, and what the loaded plugin costs while nothing comes.
func memory(so string) error {
	fmt.Println("\n| in the host, default keys | MB resident |")
	fmt.Println("|---|---|")
	bare, bareTicks, err := bareHost()
	if err != nil {
		return err
	}
	var idle float64
	err = inHost(so, 0, time.Second, "", func(h *flbhost.Host, _ *atomic.Int64) error {
		time.Sleep(3 * time.Second)
		idle = resident(h.Pid(), "VmRSS")
		cpu := cpuTicks(h.Pid())
		time.Sleep(60 * time.Second)
		fmt.Printf("| the whole host, between polls | %.1f |\n| the host with an input in C that does nothing | %.1f "+
			"|\n| so the plugin: its .so, runtime and engine | %.1f |\n", idle, bare, idle-bare)
		fmt.Printf("| *CPU in a minute between polls: the host with the plugin, with the input in C* | *%d "+
			"ms, %d ms* |\n", (cpuTicks(h.Pid())-cpu)*10, bareTicks*10)
		return nil
	})
	for _, size := range []int64{85e6, 1e9} {
		if err != nil {
			return err
		}
		// Ten callbacks a second, not one, to be done in minutes; what waits five seconds to be durable is ten times as
		// much then.
		err = inHost(so, size, 100*time.Millisecond, "", func(h *flbhost.Host, records *atomic.Int64) error {
			for still, last := 0, int64(0); still < 20; {
				time.Sleep(100 * time.Millisecond)
				now := records.Load()
				if now == last && now > 0 {
					still++
				} else {
					still = 0
				}
				last = now
			}
			fmt.Printf("| peak over idle, an answer of %d MB, %d records | %.1f |\n", size/1e6, records.Load(),
				resident(h.Pid(), "VmHWM")-idle)
			return nil
		})
	}
	return err
}

// bareHost is the host's own resident size, MB, and its CPU time in a minute: with an input in C that does next to
// nothing.
func bareHost() (size float64, ticks int, err error) {
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return 0, 0, err
	}
	defer os.RemoveAll(dir)
	so := filepath.Join(dir, "probe.so")
	if err := flbhost.BuildC("../internal/flbhost/testdata/probe/probe.c", so); err != nil {
		return 0, 0, err
	}
	h, err := flbhost.Start(flbhost.Options{Plugin: so, Config: "[INPUT]\n    name probe\n    tag t\n",
		Interval: time.Second})
	if err != nil {
		return 0, 0, err
	}
	defer h.Close()
	if err := h.Await(30*time.Second, "the start",
		func(v *flbhost.View) bool { return v.HasEvent("started") }); err != nil {
		return 0, 0, err
	}
	time.Sleep(time.Second)
	before := cpuTicks(h.Pid())
	time.Sleep(time.Minute)
	return resident(h.Pid(), "VmRSS"), cpuTicks(h.Pid()) - before, nil
}

// catchUp prints how long a million alerts of backlog take with the largest batches, one callback a second.
func catchUp(so string, alerts int64) error {
	return inHost(so, alerts*rowSize, time.Second, "    batch_size 16M\n    queue_limit 32M\n",
		func(h *flbhost.Host, records *atomic.Int64) error {
			began := time.Now()
			for records.Load() < alerts*99/100 {
				time.Sleep(50 * time.Millisecond)
				if time.Since(began) > 10*time.Minute {
					return fmt.Errorf("%d of %d alerts after ten minutes", records.Load(), alerts)
				}
			}
			took := time.Since(began)
			fmt.Printf("\nA backlog of %d alerts, batch_size 16M, one callback a second: %.0f s, %.0f "+
				"alerts a second\n", records.Load(), took.Seconds(), float64(records.Load())/took.Seconds())
			return nil
		})
}

// resident reads a size of /proc/PID/status in MB.
func resident(pid int, field string) float64 {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, field+":"); ok {
			kb, _ := strconv.Atoi(strings.Fields(rest)[0])
			return float64(kb) * 1024 / 1e6
		}
	}
	return 0
}

// cpuTicks is the CPU time of a process in hundredths of a second.
func cpuTicks(pid int) int {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	fields := strings.Fields(string(text)[strings.LastIndexByte(string(text), ')')+1:])
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return user + system
}
