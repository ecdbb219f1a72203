package flbhost

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// Run starts a host for a test and waits until its inputs run. At the end of the test it is killed if it still runs;
// a sin fails the test, and a failed test shows what the host said.
func Run(t testing.TB, o Options) *Host {
	t.Helper()
	h := Launch(t, o)
	t.Cleanup(func() {
		h.Look(func(v *View) {
			for _, s := range v.Sins {
				t.Errorf("the plugin sinned: %s", s)
			}
		})
	})
	h.MustAwait(t, 30*time.Second, "the start", func(v *View) bool { return v.HasEvent("started") })
	return h
}

// Launch is Run without its expectations: for starts that fail, and for plugins that sin.
func Launch(t testing.TB, o Options) *Host {
	t.Helper()
	h, err := Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		h.Close()
		if t.Failed() {
			t.Logf("the host said:\n%s", h.Transcript())
		}
	})
	return h
}

// MustAwait is Await that fails the test.
func (h *Host) MustAwait(t testing.TB, limit time.Duration, what string, cond func(*View) bool) {
	t.Helper()
	if err := h.Await(limit, what, cond); err != nil {
		t.Fatal(err)
	}
}

// MustStop is Stop that fails the test.
func (h *Host) MustStop(t testing.TB, limit time.Duration) {
	t.Helper()
	if err := h.Stop(limit); err != nil {
		t.Fatalf("stop: %v", err)
	}
}

// Transcript is what the host said, the records counted only.
func (h *Host) Transcript() string {
	var b strings.Builder
	h.Look(func(v *View) {
		for _, l := range v.Logs {
			fmt.Fprintf(&b, "log [%s] %s\n", l.Level, l.Text)
		}
		fmt.Fprintf(&b, "events: %q\ncalls: %q\nsins: %q\nrecords: %d\n", v.Events, v.Calls, v.Sins, v.Count)
	})
	return b.String()
}
