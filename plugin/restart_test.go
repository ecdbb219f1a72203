package main

import (
	"fmt"
	"path/filepath"
	"slices"
	"testing"

	"fluent-bit-defender/internal/flbhost"
)

// What the core was given but had not yet moved out of its ring is lost with the ring; it must come again.
func TestWhatWasLostWithTheRingComesAgain(t *testing.T) {
	t.Parallel()
	f := func(name, core string, end func(t *testing.T, h *flbhost.Host), lost bool) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			o := w.options(service("") + w.stanza("alias one; db "+filepath.Join(t.TempDir(), "state.db")))
			o.Core = core
			h := flbhost.Run(t, o)
			want := w.add(30)
			once(t, h, "one", want)
			if err := h.Busy(); err != nil {
				t.Fatal(err)
			}
			held := w.add(30)
			await(t, h, "a batch in the ring", func() bool {
				s, err := h.Stats()
				if err != nil {
					t.Fatal(err)
				}
				return s.Ring > 0
			})
			end(t, h)
			h.Look(func(v *flbhost.View) {
				if got := len(v.EventsOf("lost")) > 0; got != lost {
					t.Errorf("events %q", v.Events)
				}
			})
			again := flbhost.Run(t, o)
			again.MustAwait(t, limit, "what was lost", func(v *flbhost.View) bool {
				got := keys(v, "one")
				return !slices.ContainsFunc(held, func(k string) bool { return !slices.Contains(got, k) })
			})
			again.MustStop(t, limit)
		})
	}
	paused := func(t *testing.T, h *flbhost.Host) {
		if err := h.Pause("one"); err != nil {
			t.Fatal(err)
		}
		if err := h.Idle(); err != nil { // a paused input's ring is not drained
			t.Fatal(err)
		}
		h.MustStop(t, limit)
	}
	f("stopped while paused by back-pressure", "5.1.1", paused, true)
	f("stopped so by an old core", "3.2.10", paused, true)
	f("killed", "5.1.1", func(t *testing.T, h *flbhost.Host) {
		if err := h.Kill(); err != nil {
			t.Fatal(err)
		}
	}, false)
}

// restart runs the host twice: each must get what is new to it, once.
func restart(t *testing.T, w *world, o flbhost.Options) {
	t.Helper()
	h := flbhost.Run(t, o)
	once(t, h, "", w.add(50))
	h.MustStop(t, limit)
	later := w.add(20)
	again := flbhost.Run(t, o)
	once(t, again, "", later)
	again.MustStop(t, limit)
}

func TestACleanRestartRepeatsNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	o := w.options(service("") + w.stanza("db "+filepath.Join(t.TempDir(), "state.db")))
	restart(t, w, o)
}

// Cores up to 4.0.8 pause an input again and again while an output is still busy at exit.
func TestACleanStopWithABusyOutputRepeatsNothing(t *testing.T) {
	t.Parallel()
	for _, core := range []string{"2.2.0", "3.2.10", "4.0.8", "4.0.14", "5.1.1"} {
		for _, grace := range []int{2, 3, 4} {
			t.Run(fmt.Sprintf("%s, %d ticks", core, grace), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t)
				o := w.options(service("") + w.stanza("db "+filepath.Join(t.TempDir(), "state.db")))
				o.Core, o.OutputRate, o.Grace = core, 1, grace
				restart(t, w, o)
			})
		}
	}
}

func TestTwoStanzasBehindASlowOutput(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	small := "mem_buf_limit 16k; batch_size 8k; max_alert_size 8k"
	o := w.options(service("") + w.stanza("alias one; "+small) + w.stanza("alias two; machine_groups a, b"))
	o.OutputRate, o.Ring = 40_000, 8
	want := w.add(100)
	h := flbhost.Run(t, o)
	once(t, h, "one", want)
	once(t, h, "two", want)
	h.MustStop(t, limit)
	h.Look(func(v *flbhost.View) {
		if len(v.EventsOf("paused")) == 0 {
			t.Error("the small buffer never paused its input")
		}
		if lost := slices.Concat(v.EventsOf("lost"), v.EventsOf("dropped"), v.EventsOf("refused")); len(lost) > 0 {
			t.Errorf("events %q", lost)
		}
	})
}
