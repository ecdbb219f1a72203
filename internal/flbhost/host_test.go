package flbhost_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"fluent-bit-defender/internal/flbhost"
)

const limit = 20 * time.Second

var buildProbe = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "probe")
	if err != nil {
		return "", err
	}
	so := filepath.Join(dir, "in_probe.so")
	return so, flbhost.BuildC("testdata/probe/probe.c", so)
})

func TestMain(m *testing.M) {
	code := m.Run()
	if so, err := buildProbe(); err == nil {
		os.RemoveAll(filepath.Dir(so))
	}
	os.Exit(code)
}

func probe(t *testing.T) string {
	t.Helper()
	so, err := buildProbe()
	if err != nil {
		t.Fatal(err)
	}
	return so
}

// stanzas makes a configuration of one [INPUT] each; lines are separated by ";".
func stanzas(inputs ...string) string {
	var b strings.Builder
	b.WriteString("[SERVICE]\n  flush 1\n  hot_reload on\n  log_level info\n")
	for _, in := range inputs {
		b.WriteString("[INPUT]\n  name probe\n")
		for line := range strings.SplitSeq(in, ";") {
			fmt.Fprintf(&b, "  %s\n", strings.TrimSpace(line))
		}
	}
	return b.String()
}

func fast(t *testing.T, config string) flbhost.Options {
	return flbhost.Options{
		Plugin: probe(t), Config: config, Trace: true,
		Interval: 10 * time.Millisecond, Drain: 20 * time.Millisecond,
		Tick: 100 * time.Millisecond, Slow: 5 * time.Second,
	}
}

func records(n int, instance string) func(*flbhost.View) bool {
	return func(v *flbhost.View) bool {
		have := 0
		for _, r := range v.Records {
			if r.Instance == instance {
				have++
			}
		}
		return have >= n
	}
}

// of keeps the calls that concern one instance.
func of(v *flbhost.View, instance string) (calls []string) {
	for _, c := range v.Calls {
		if words := strings.Fields(c); len(words) > 1 && words[1] == instance {
			calls = append(calls, c)
		}
	}
	return calls
}

func TestAnInputLivesInThisOrder(t *testing.T) {
	t.Parallel()
	h := flbhost.Run(t, fast(t, stanzas("tag a", "tag b; alias bee")))
	h.MustAwait(t, limit, "three records each", func(v *flbhost.View) bool {
		return records(3, "probe.0")(v) && records(3, "bee")(v)
	})
	h.MustStop(t, limit)
	h.Look(func(v *flbhost.View) {
		want := func(got []string, want ...string) {
			t.Helper()
			if !slices.Equal(got, want) {
				t.Errorf("calls %q, want %q", got, want)
			}
		}
		want(of(v, "bee"), "Init bee 1", "PreRun bee", "Pause bee", "Pause bee", "PreExit bee 0", "Exit bee")
		want(v.Calls[:4], "PreRegister 0", "Register", "Init probe.0 1", "Init bee 1")
		// A pause is a message to the thread: it may come late.
		calls := slices.DeleteFunc(slices.Clone(v.Calls), func(c string) bool { return strings.HasPrefix(c, "Pause") })
		want(calls[len(calls)-5:], "PreExit bee 0", "Exit bee", "PreExit probe.0 0", "Exit probe.0", "Unregister")
		for i, r := range v.Records {
			if n, _ := r.Body.Get("n"); r.Tag != map[string]string{"probe.0": "a", "bee": "b"}[r.Instance] || n == nil {
				t.Fatalf("record %d: %+v", i, r)
			}
			if time.Since(r.Time).Abs() > time.Hour {
				t.Fatalf("record %d has the time %v", i, r.Time)
			}
		}
	})
}

func TestHotReloadRegistersBeforeTheOldOneExits(t *testing.T) {
	t.Parallel()
	h := flbhost.Run(t, fast(t, stanzas("tag a")))
	h.MustAwait(t, limit, "a record", records(1, "probe.0"))
	if err := h.Reload(stanzas("tag c", "tag d"), limit); err != nil {
		t.Fatal(err)
	}
	h.MustAwait(t, limit, "a record of the new stanza", records(1, "probe.1"))
	h.Look(func(v *flbhost.View) {
		from := slices.Index(v.Calls, "PreRegister 1")
		want := []string{
			"PreRegister 1", "Register", "Pause probe.0", "Pause probe.0", "PreExit probe.0 1", "Exit probe.0",
			"Unregister", "Init probe.0 1", "Init probe.1 1",
		}
		if got := v.Calls[from : from+len(want)]; !slices.Equal(got, want) {
			t.Errorf("calls %q, want %q", got, want)
		}
	})
	if err := h.Reload("[INPUT]\n  name other\n", limit); err == nil {
		t.Error("a configuration without sense was loaded")
	}
	h.MustStop(t, limit)
}

func TestAFailedInitEndsTheStart(t *testing.T) {
	t.Parallel()
	h := flbhost.Launch(t, fast(t, stanzas("tag a", "fail_init on", "tag c")))
	if err := h.Wait(limit); err == nil || h.ExitCode() != 255 {
		t.Fatalf("ended with %v, code %d", err, h.ExitCode())
	}
	h.Look(func(v *flbhost.View) {
		// Those already initialised see no Exit: their threads just end.
		want := []string{"PreRegister 0", "Register", "Init probe.0 1", "Init probe.1 0", "Unregister"}
		if !slices.Equal(v.Calls, want) || !v.HasEvent("start-failed") || !v.HasLog("error", "told to fail") {
			t.Errorf("calls %q, want %q", v.Calls, want)
		}
	})
}

func TestWithThreadedOffEvenTheUninitialisedExit(t *testing.T) {
	t.Parallel()
	h := flbhost.Launch(t, fast(t, stanzas("threaded off", "fail_init on", "threaded off")))
	h.Wait(limit)
	h.Look(func(v *flbhost.View) {
		if got := of(v, "probe.2"); !slices.Equal(got, []string{"Pause probe.2", "PreExit probe.2 0", "Exit probe.2"}) {
			t.Errorf("calls %q", got)
		}
	})
}

func TestAFailedReloadEndsTheProcess(t *testing.T) {
	t.Parallel()
	h := flbhost.Run(t, fast(t, stanzas("tag a")))
	if err := h.Reload(stanzas("fail_init on"), limit); err == nil {
		t.Fatal("reloaded")
	}
	if h.Wait(limit); h.ExitCode() != 255 {
		t.Fatalf("code %d, want 255", h.ExitCode())
	}
}

func TestPauseStopsTheCollectorOfTheLastInstance(t *testing.T) {
	t.Parallel()
	o := fast(t, stanzas("tag a; heed off", "tag b"))
	o.Ring = 4
	h := flbhost.Run(t, o)
	if err := h.Pause("probe.0"); err != nil {
		t.Fatal(err)
	}
	// The paused one goes on being called, its ring fills and its data is dropped; the other stands still.
	h.MustAwait(t, limit, "data dropped with an error line", func(v *flbhost.View) bool {
		return len(v.EventsOf("dropped")) > 0 && v.HasLog("error", "could not enqueue records into the ring buffer")
	})
	before := 0
	h.Look(func(v *flbhost.View) {
		for _, e := range v.EventsOf("dropped") {
			if strings.Contains(e, "probe.1") {
				t.Errorf("event %q", e)
			}
		}
		before = v.Count
	})
	if err := h.Resume("probe.0"); err != nil {
		t.Fatal(err)
	}
	h.MustAwait(t, limit, "both again", func(v *flbhost.View) bool {
		return v.Count > before+20 && records(1, "probe.1")(v)
	})
	h.MustStop(t, limit)
}

func TestExitPausesTwiceUnlessBackPressureAlreadyDid(t *testing.T) {
	t.Parallel()
	h := flbhost.Run(t, fast(t, stanzas("tag a", "tag b")))
	if err := h.Pause("probe.0"); err != nil {
		t.Fatal(err)
	}
	h.MustStop(t, limit)
	h.Look(func(v *flbhost.View) {
		count := func(call string) (n int) {
			for _, c := range v.Calls {
				if c == call {
					n++
				}
			}
			return n
		}
		if a, b := count("Pause probe.0"), count("Pause probe.1"); a != 1 || b != 2 {
			t.Errorf("%d pauses of the paused, %d of the other", a, b)
		}
	})
}

func TestWhatIsInAPausedRingAtExitIsLost(t *testing.T) {
	t.Parallel()
	o := fast(t, stanzas("heed off", "tag b"))
	o.Ring = 4
	h := flbhost.Run(t, o)
	if err := h.Pause("probe.0"); err != nil {
		t.Fatal(err)
	}
	h.MustAwait(t, limit, "a full ring", func(v *flbhost.View) bool { return len(v.EventsOf("dropped")) > 0 })
	h.MustStop(t, limit)
	h.Look(func(v *flbhost.View) {
		if !v.HasEvent("lost probe.0 4") || len(v.EventsOf("lost")) != 1 {
			t.Errorf("events %q", v.Events)
		}
	})
}

func TestABusyEngineDrainsNoRing(t *testing.T) {
	t.Parallel()
	o := fast(t, stanzas("tag a"))
	o.Ring = 4
	h := flbhost.Run(t, o)
	if err := h.Busy(); err != nil {
		t.Fatal(err)
	}
	h.MustAwait(t, limit, "a full ring", func(v *flbhost.View) bool { return len(v.EventsOf("dropped")) > 0 })
	if s, err := h.Stats(); err != nil || s.Ring != 4 {
		t.Errorf("%+v, %v", s, err)
	}
	before := 0
	h.Look(func(v *flbhost.View) { before = v.Count })
	if err := h.Idle(); err != nil {
		t.Fatal(err)
	}
	h.MustAwait(t, limit, "what the ring held", func(v *flbhost.View) bool { return v.Count >= before+4 })
	h.MustStop(t, limit)
}

func TestMemBufLimitPausesAndResumes(t *testing.T) {
	t.Parallel()
	o := fast(t, stanzas("mem_buf_limit 200; records 5; count 20"))
	h := flbhost.Run(t, o)
	h.MustAwait(t, limit, "all records through two pauses", func(v *flbhost.View) bool {
		return v.Count == 20 && len(v.EventsOf("resumed")) >= 2
	})
	h.MustStop(t, limit)
}

func TestACallbackIsLateButNeverTwice(t *testing.T) {
	t.Parallel()
	o := fast(t, stanzas("sleep_ms 60"))
	start := time.Now()
	h := flbhost.Run(t, o)
	h.MustAwait(t, limit, "five records", records(5, "probe.0"))
	if took := time.Since(start); took < 5*60*time.Millisecond {
		t.Errorf("five callbacks of 60 ms in %v", took)
	}
	h.MustStop(t, limit)
}
