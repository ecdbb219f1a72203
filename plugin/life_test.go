package main

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"fluent-bit-defender/internal/defendersim"
	"fluent-bit-defender/internal/flbhost"
)

// exits returns how long each Exit took, by instance.
func exits(v *flbhost.View) map[string]time.Duration {
	took := map[string]time.Duration{}
	for _, e := range v.EventsOf("exited") {
		var name string
		var ms int
		fmt.Sscanf(e, "exited %s %d", &name, &ms)
		took[name] = time.Duration(ms) * time.Millisecond
	}
	return took
}

func leavesInTime(t *testing.T, h *flbhost.Host, instances ...string) {
	t.Helper()
	h.Look(func(v *flbhost.View) {
		took := exits(v)
		for _, name := range instances {
			if d, ok := took[name]; !ok || d > 2*time.Second {
				t.Errorf("the exit of %s took %v (seen: %v)", name, d, ok)
			}
		}
	})
}

func TestItStartsAndStopsWithoutANetwork(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.srv.Down()
	h := flbhost.Run(t, w.options(service("")+w.stanza("retry_max 1s")))
	h.MustAwait(t, limit, "an error that names the network", func(v *flbhost.View) bool {
		refused := func(s string) bool { return strings.Contains(s, "refused") }
		return slices.ContainsFunc(ours(v, "", "defender.0"), refused)
	})
	h.MustStop(t, limit)
	leavesInTime(t, h, "defender.0")
}

func TestExitDoesNotWaitForTheService(t *testing.T) {
	t.Parallel()
	f := func(name string, kind defendersim.Kind, fault *defendersim.Fault) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.add(200)
			asked := make(chan struct{}, 100)
			w.svc.OnRequest(func(r defendersim.Request) *defendersim.Fault {
				if r.Kind != kind {
					return nil
				}
				select {
				case asked <- struct{}{}:
				default:
				}
				return fault
			})
			config := service("") + w.stanza("alias one; machine_groups a") + w.stanza("alias two; machine_groups b")
			h := flbhost.Run(t, w.options(config))
			for range 2 {
				select {
				case <-asked:
				case <-time.After(limit):
					t.Fatal("the service was not asked")
				}
			}
			start := time.Now()
			h.MustStop(t, limit)
			leavesInTime(t, h, "one", "two")
			if took := time.Since(start); took > 5*time.Second {
				t.Errorf("stopped after %v", took)
			}
		})
	}
	f("token endpoint hangs", defendersim.KindToken, defendersim.Hang())
	f("service hangs", defendersim.KindAlerts, defendersim.Hang())
	f("body trickles", defendersim.KindAlerts, defendersim.Slow(10))
}

func TestTwoStanzasEachWithTheirOwnPause(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	o := w.options(service("") + w.stanza("alias one; tag 1; batch_size 4k; max_alert_size 4k") +
		w.stanza("alias two; tag 2; machine_groups a"))
	o.Ring = 8 // what a paused instance gave would fill it soon
	h := flbhost.Run(t, o)
	want := w.add(20)
	once(t, h, "one", want)
	// A bug of Fluent Bit: pausing one stops the collector of two, which was initialised last. One is called on and
	// must stay silent.
	if err := h.Pause("one"); err != nil {
		t.Fatal(err)
	}
	h.MustAwait(t, limit, "the pause", func(v *flbhost.View) bool { return slices.Contains(v.Calls, "Pause one") })
	want = append(want, w.add(200)...)
	asked := w.svc.Stats().Rows
	await(t, h, "the new alerts being fetched", func() bool { return w.svc.Stats().Rows >= asked+200 })
	h.Look(func(v *flbhost.View) {
		if got := len(keys(v, "one")); got != 20 {
			t.Errorf("%d alerts of the paused instance arrived, 20 before the pause", got)
		}
	})
	if err := h.Resume("one"); err != nil {
		t.Fatal(err)
	}
	once(t, h, "one", want)
	group := 0
	for _, r := range w.svc.Ledger() {
		if r.MachineGroup == "a" {
			group++
		}
	}
	h.MustAwait(t, limit, "the alerts of the other", func(v *flbhost.View) bool { return len(keys(v, "two")) == group })
	h.MustAwait(t, limit, "a warning", func(v *flbhost.View) bool {
		told := func(s string) bool { return strings.Contains(s, "storage.type filesystem") }
		return slices.ContainsFunc(ours(v, "warn", "one"), told)
	})
	h.MustStop(t, limit)
	h.Look(func(v *flbhost.View) {
		for _, e := range v.Events {
			if word, _, _ := strings.Cut(e, " "); word == "dropped" || word == "lost" || word == "refused" {
				t.Errorf("event %q", e)
			}
		}
		for _, r := range v.Records {
			if want := map[string]string{"one": "1", "two": "2"}[r.Instance]; r.Tag != want {
				t.Fatalf("a record of %s has the tag %s", r.Instance, r.Tag)
			}
		}
	})
}

func TestOldCores(t *testing.T) {
	t.Parallel()
	for _, core := range []string{"2.0.0", "2.2.0", "4.0.0", "4.1.0", "4.2.3"} {
		t.Run(core, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			want := w.add(30)
			o := w.options(service("") + w.stanza("tag 1") + w.stanza("alias two; tag 2; machine_groups a, b"))
			o.Core = core
			h := flbhost.Run(t, o) // writing where an old core has no room is a sin
			once(t, h, "defender.0", want)
			once(t, h, "two", want)
			h.MustStop(t, limit)
			leavesInTime(t, h, "defender.0", "two")
		})
	}
}

func TestThreadedOff(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	config := service("") + w.stanza("threaded off; tag 1") +
		w.stanza("alias two; threaded off; tag 2; machine_groups a, b")
	h := flbhost.Run(t, w.options(config))
	want := w.add(10)
	once(t, h, "defender.0", want)
	if err := h.Pause("defender.0"); err != nil {
		t.Fatal(err)
	}
	if err := h.Pause("two"); err != nil {
		t.Fatal(err)
	}
	want = append(want, w.add(10)...)
	if err := h.Resume("defender.0"); err != nil {
		t.Fatal(err)
	}
	if err := h.Resume("two"); err != nil {
		t.Fatal(err)
	}
	once(t, h, "defender.0", want)
	once(t, h, "two", want)
	h.MustStop(t, limit)
	leavesInTime(t, h, "defender.0", "two")
	h.Look(func(v *flbhost.View) {
		if refused := v.EventsOf("refused"); len(refused) > 0 {
			t.Errorf("appended while paused: %q", refused)
		}
	})

	// Before 4.1 nothing says which stanza a callback is about.
	o := w.options(config)
	o.Core = "3.2.0"
	old := flbhost.Launch(t, o)
	if err := old.Wait(limit); err == nil {
		t.Fatal("an old core started two stanzas on one thread")
	}
	old.Look(func(v *flbhost.View) {
		if !v.HasLog("error", "leave out `threaded off`") {
			t.Error("no remedy was named")
		}
	})
}

func TestHotReloadLosesAndRepeatsNothing(t *testing.T) {
	t.Parallel()
	for _, db := range []string{"", "file"} {
		t.Run("db "+db, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			one := "alias one"
			if db != "" {
				one += "; db " + filepath.Join(t.TempDir(), "state.db")
			}
			h := flbhost.Run(t, w.options(service("")+w.stanza(one)))
			want := w.add(20)
			once(t, h, "one", want)
			before, err := h.Stats()
			if err != nil {
				t.Fatal(err)
			}
			for i := range 4 {
				config := service("") + w.stanza(one)
				if i%2 == 0 {
					config += w.stanza("alias two; machine_groups b")
				}
				want = append(want, w.add(20)...)
				if err := h.Reload(config, limit); err != nil {
					t.Fatal(err)
				}
				want = append(want, w.add(20)...)
				once(t, h, "one", want)
			}
			if err := h.Signal(syscall.SIGHUP); err != nil { // the core's signal handlers stand now
				t.Fatal(err)
			}
			h.MustAwait(t, limit, "the reload by signal", func(v *flbhost.View) bool {
				return len(v.EventsOf("reloaded")) == 5
			})
			want = append(want, w.add(20)...)
			once(t, h, "one", want)
			after, err := h.Stats()
			if err != nil {
				t.Fatal(err)
			}
			if after.FDs > before.FDs+2 || after.Threads > before.Threads+6 || after.RSS > before.RSS+32<<20 {
				t.Errorf("before %+v, after five reloads %+v", before, after)
			}
			h.MustStop(t, limit)
			h.Look(func(v *flbhost.View) {
				if lost := append(v.EventsOf("lost"), v.EventsOf("dropped")...); len(lost) > 0 {
					t.Errorf("events %q", lost)
				}
			})
		})
	}
}

func TestAFailedReloadEndsAndSaysWhy(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	h := flbhost.Run(t, w.options(service("")+w.stanza()))
	if err := h.Reload(service("")+w.stanza("max_window soon"), limit); err == nil {
		t.Fatal("reloaded")
	}
	if h.Wait(limit); h.ExitCode() != 255 {
		t.Errorf("code %d", h.ExitCode())
	}
	h.Look(func(v *flbhost.View) {
		if !v.HasLog("error", `[input:defender:defender.0] max_window: "soon"`) {
			t.Error("the fault is not in the log")
		}
	})
}

func TestAFailedStartLeavesTheOtherStanzasBehindInPeace(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.add(5)
	config := service("") + w.stanza() + w.stanza("limit none; alias bad") + w.stanza("alias never; threaded off")
	h := flbhost.Launch(t, w.options(config))
	if err := h.Wait(limit); err == nil || h.ExitCode() != 255 {
		t.Fatalf("ended with %v, code %d", err, h.ExitCode())
	}
	h.Look(func(v *flbhost.View) {
		if !v.HasLog("error", "[input:defender:bad] limit: ") {
			t.Error("the fault is not in the log")
		}
	})
}
