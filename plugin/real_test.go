package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"fluent-bit-defender/internal/defendersim"
	"fluent-bit-defender/internal/flbhost"
)

// The same shared object in a real Fluent Bit.

func realFluentBit(t *testing.T) string {
	t.Helper()
	program, ok := flbhost.FluentBit()
	if !ok {
		t.Skip("SKIPPED: no Fluent Bit in FLUENT_BIT or on PATH")
	}
	return program
}

func TestRealReloadAndStop(t *testing.T) {
	t.Parallel()
	program := realFluentBit(t)
	w := newWorld(t)
	seed := defendersim.SeedAlert(w.svc.Now().Add(-time.Minute))
	w.svc.Add(seed)
	want := append(w.add(300), seed.Key())
	db := filepath.Join(t.TempDir(), "state.db")
	config := func(poll string) string {
		return "[SERVICE]\n  flush 0.2\n  grace 2\n  hot_reload on\n" + w.stanza("alias eu; tag alerts; db "+db, poll)
	}
	h := flbhost.Run(t, flbhost.Options{
		FluentBit: program, Plugin: sharedObject(t), Config: config("batch_size 256k; max_alert_size 256k"),
	})
	once(t, h, "", want)
	for range 2 {
		want = append(want, w.add(20)...)
		if err := h.Reload(config("limit 50"), limit); err != nil {
			t.Fatal(err)
		}
		want = append(want, w.add(20)...)
		once(t, h, "", want)
	}
	w.svc.OnRequest(func(defendersim.Request) *defendersim.Fault { return defendersim.Hang() })
	asked := w.svc.Stats().Alerts
	await(t, h, "a question to the service", func() bool { return w.svc.Stats().Alerts > asked })
	start := time.Now()
	h.MustStop(t, limit)
	// The core itself takes up to a second to see the signal and one to stop.
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("SIGTERM took %v", took)
	}
	h.Look(func(v *flbhost.View) {
		if len(ours(v, "info", "eu")) == 0 {
			t.Error("no line of ours in the form of the core")
		}
		for _, l := range v.Logs {
			if strings.Contains(l.Text, defendersim.DefaultSecret) {
				t.Errorf("the secret is in the log: %q", l.Text)
			}
		}
	})
}

func TestRealLogFileAndDaemon(t *testing.T) {
	t.Parallel()
	program := realFluentBit(t)
	w := newWorld(t)
	w.srv.Down()
	file := filepath.Join(t.TempDir(), "fluent-bit.log")
	read := func() string {
		text, err := os.ReadFile(file)
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		return string(text)
	}
	o := flbhost.Options{FluentBit: program, Plugin: sharedObject(t)}
	// Lines of goroutines reach the log file because they are printed on the instance's thread.
	o.Config = "[SERVICE]\n  flush 0.2\n  grace 1\n  log_file " + file + "\n" + w.stanza("alias eu")
	h := flbhost.Launch(t, o)
	await(t, h, "an error in the log file", func() bool {
		return slices.ContainsFunc(strings.Split(read(), "\n"), func(l string) bool {
			return strings.Contains(l, "[input:defender:eu]") && strings.Contains(l, "refused")
		})
	})
	h.MustStop(t, limit)

	o.Config = "[SERVICE]\n  daemon on\n  log_file " + file + "\n" + w.stanza("alias back")
	d := flbhost.Launch(t, o)
	await(t, d, "the refusal in the log file", func() bool {
		return strings.Contains(read(), "[input:defender:back] Fluent Bit went into the background")
	})
	if err := d.Wait(limit); err != nil {
		t.Fatal(err)
	}
}

// await asks cond now and then.
func await(t *testing.T, h *flbhost.Host, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); !cond(); {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
		h.Await(50*time.Millisecond, "a moment", func(v *flbhost.View) bool { return v.Ended && cond() })
	}
}
