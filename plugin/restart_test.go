package main

import (
	"path/filepath"
	"slices"
	"testing"

	"fluent-bit-defender/internal/flbhost"
)

// What the core was given but had not yet moved out of its ring is lost with the ring; it must come again.
func TestWhatWasLostWithTheRingComesAgain(t *testing.T) {
	t.Parallel()
	f := func(name string, end func(t *testing.T, h *flbhost.Host), lost bool) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			o := w.options(service("") + w.stanza("alias one; db "+filepath.Join(t.TempDir(), "state.db")))
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
	f("stopped while paused by back-pressure", func(t *testing.T, h *flbhost.Host) {
		if err := h.Pause("one"); err != nil {
			t.Fatal(err)
		}
		if err := h.Idle(); err != nil { // a paused input's ring is not drained
			t.Fatal(err)
		}
		h.MustStop(t, limit)
	}, true)
	f("killed", func(t *testing.T, h *flbhost.Host) {
		if err := h.Kill(); err != nil {
			t.Fatal(err)
		}
	}, false)
}

func TestACleanRestartRepeatsNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	o := w.options(service("") + w.stanza("db "+filepath.Join(t.TempDir(), "state.db")))
	h := flbhost.Run(t, o)
	once(t, h, "", w.add(50))
	h.MustStop(t, limit)
	later := w.add(20)
	again := flbhost.Run(t, o)
	once(t, again, "", later)
	again.MustStop(t, limit)
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
