package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"time"

	"fluent-bit-defender/client"
	"fluent-bit-defender/conf"
	"fluent-bit-defender/internal/defendersim"
	"fluent-bit-defender/pull"
	"fluent-bit-defender/state"
)

// rowSize is about what a row of defendersim.BigBody takes.
const rowSize = 1040

// growth pulls ever more rows in one window over the in-memory wire and prints the time of each row. The service's
// work, which makes the rows, is part of it and the same for all.
func growth(most int) error {
	fmt.Println("\n| rows in one window | µs a row, service included | hashes held | heap MB |")
	fmt.Println("|---|---|---|---|")
	for rows := 1000; rows <= most; rows *= 10 {
		svc := defendersim.New(defendersim.Config{})
		first := true
		svc.OnRequest(func(r defendersim.Request) *defendersim.Fault {
			if r.Kind != defendersim.KindAlerts || r.Query.Limit == 1 || !first { // a limit of 1: for the Date alone
				return nil
			}
			first = false
			return defendersim.BigBody(int64(rows) * rowSize)
		})
		text := map[string]string{
			"tenant_id": defendersim.DefaultTenant, "client_id": defendersim.DefaultClientID,
			"client_secret": defendersim.DefaultSecret,
			"region":        "us", "poll_interval": "1d", "max_window": "1d",
		}
		cfg, err := conf.Load(func(key string) string { return text[key] }, os.Getenv)
		if err != nil {
			return err
		}
		quiet := slog.New(slog.DiscardHandler)
		c, err := client.New(cfg, client.WithTransport(svc.Transport()), client.WithLogger(quiet))
		if err != nil {
			return err
		}
		st, err := state.OpenMemory(state.Key{API: "siem", Place: fmt.Sprint(rows), Tenant: cfg.TenantID})
		if err != nil {
			return err
		}
		source, err := pull.NewSource(cfg, c, nil, st, quiet)
		if err != nil {
			return err
		}
		e := pull.NewRunner(pull.OptionsOf(cfg, quiet))
		if err := e.Add(source); err != nil {
			return err
		}
		began := time.Now()
		e.Start()
		for e.Stats().LastSuccess.IsZero() || e.Stats().Queued > 0 {
			if b := e.Take(); b != nil {
				e.Done(b)
			} else {
				time.Sleep(100 * time.Microsecond)
			}
		}
		took := time.Since(began)
		stats := e.Stats()
		runtime.GC()
		var mem runtime.MemStats
		runtime.ReadMemStats(&mem)
		fmt.Printf("| %d | %.2f | %d | %.0f |\n", stats.Rows, float64(took.Microseconds())/float64(stats.Rows),
			stats.IDs, float64(mem.HeapAlloc)/1e6)
		if err := e.Stop(context.Background()); err != nil {
			return err
		}
	}
	return nil
}
