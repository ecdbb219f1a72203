// Command defendersim runs the simulated Microsoft side as a process of its own: for a demo, and for tests that drive
// other programs against it. It stops at SIGINT and SIGTERM.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"fluent-bit-defender/internal/defendersim"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "defendersim:", err)
		os.Exit(1)
	}
}

// URLs is what -url-file holds. The file appears, whole, once the service answers.
type URLs struct {
	TenantID     string `json:"tenant_id"`
	ClientID     string `json:"client_id"`
	ClientSecret string `json:"client_secret"`
	Authority    string `json:"authority"`
	TokenURL     string `json:"token_url"`
	TokenURLV2   string `json:"token_url_v2"`
	IdentityURL  string `json:"identity_url"`
	Resource     string `json:"resource"`
	AlertsURL    string `json:"alerts_url"`
	CAFile       string `json:"ca_file,omitempty"`
}

// run serves until ctx ends, then prints the service's counts to out as one JSON object.
func run(ctx context.Context, args []string, out io.Writer) error {
	o, err := parse(args, out)
	if err != nil || o == nil {
		return err
	}
	svc := defendersim.New(o.config)
	if o.native != "" {
		svc.SetNative(o.native, true)
	}
	if o.identity != "" {
		svc.SetIdentities(o.identity)
	}
	if o.faultShare > 0 {
		hook, err := defendersim.RandomFaults(o.config.Seed, o.faultShare, o.faults...)
		if err != nil {
			return err
		}
		svc.OnRequest(hook)
	}
	f, err := newFeed(svc, o)
	if err != nil {
		return err
	}
	defer f.close()
	srv, err := defendersim.Start(svc, o.server)
	if err != nil {
		return err
	}
	defer srv.Close()
	if o.ca != "" {
		if err := srv.WriteCA(o.ca); err != nil {
			return err
		}
	}
	urls := URLs{
		TenantID: o.config.Tenant, ClientID: o.config.ClientID, ClientSecret: o.config.ClientSecret,
		Authority: srv.Authority(), TokenURL: srv.TokenURL(), TokenURLV2: srv.TokenURLV2(),
		IdentityURL: srv.IdentityURL(), Resource: defendersim.DefaultResource, AlertsURL: srv.AlertsURL(),
		CAFile: o.ca,
	}
	fmt.Fprintf(out, "defendersim: tokens at %s, alerts at %s\n", urls.TokenURL, urls.AlertsURL)
	if o.urlFile != "" {
		if err := writeWhole(o.urlFile, urls); err != nil {
			return err
		}
	}
	err = f.run(ctx)
	srv.Close() // first, so that the counts are final
	return errors.Join(err, json.NewEncoder(out).Encode(svc.Stats()))
}

// writeWhole writes a JSON file so that a reader sees all of it or none. It holds the simulated secret: mode 0600.
func writeWhole(path string, v any) error {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".urls-*")
	if err != nil {
		return err
	}
	_, err = tmp.Write(append(text, '\n'))
	if err = errors.Join(err, tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		os.Remove(tmp.Name())
	}
	return err
}

// feed adds alerts: some at the start, then a steady rate.
type feed struct {
	svc    *defendersim.Service
	gen    *defendersim.Generator
	rnd    *rand.Rand
	opts   *options
	ledger *bufio.Writer // nil: none
	file   *os.File
}

func newFeed(svc *defendersim.Service, o *options) (*feed, error) {
	f := &feed{svc: svc, opts: o, rnd: rand.New(rand.NewPCG(o.config.Seed, 0xfeed))}
	f.gen = defendersim.NewGenerator(f.rnd, o.mix)
	if o.ledger != "" {
		file, err := os.Create(o.ledger)
		if err != nil {
			return nil, err
		}
		f.file, f.ledger = file, bufio.NewWriter(file)
	}
	now := svc.Now()
	first := defendersim.Generate(f.rnd, o.initial, now.Add(-o.initialSpan), now, o.mix)
	if o.example {
		first = append(first, defendersim.SeedAlert(now))
	}
	return f, f.add(first)
}

func (f *feed) close() {
	if f.file != nil {
		f.file.Close()
	}
}

// run adds alerts ten times a second, so that their sum keeps to the rate.
func (f *feed) run(ctx context.Context) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	start, added := time.Now(), 0
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		var alerts []defendersim.Alert
		now := f.svc.Now()
		for due := int(time.Since(start).Seconds() * f.opts.rate); added < due; added++ {
			a := f.gen.Alert(now)
			if f.opts.mix.Late > 0 && f.rnd.Float64() < f.opts.mix.LateShare {
				a.VisibleAt = a.LastProcessed.Add(time.Duration(f.rnd.Int64N(int64(f.opts.mix.Late) + 1)))
			}
			alerts = append(alerts, a)
		}
		if err := f.add(alerts); err != nil {
			return err
		}
	}
}

// add gives alerts to the service and, before that, to the ledger file: a test that reads it misses none that was
// served.
func (f *feed) add(alerts []defendersim.Alert) error {
	if f.ledger != nil {
		enc := json.NewEncoder(f.ledger)
		for _, a := range alerts {
			line := struct {
				Key           string    `json:"key"`
				MachineGroup  string    `json:"machine_group"`
				LastProcessed time.Time `json:"last_processed,omitzero"`
				VisibleAt     time.Time `json:"visible_at,omitzero"` // none: at last_processed
			}{a.Key(), a.MachineGroup, a.LastProcessed, a.VisibleAt}
			if err := enc.Encode(line); err != nil {
				return fmt.Errorf("ledger: %w", err)
			}
		}
		if err := f.ledger.Flush(); err != nil {
			return fmt.Errorf("ledger: %w", err)
		}
	}
	f.svc.Add(alerts...)
	return nil
}
