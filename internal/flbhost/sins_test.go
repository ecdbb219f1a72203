package flbhost_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"fluent-bit-defender/internal/flbhost"
)

func TestSinsAreTold(t *testing.T) {
	t.Parallel()
	f := func(stanza, sin string) {
		t.Helper()
		t.Run(stanza, func(t *testing.T) {
			t.Parallel()
			h := flbhost.Launch(t, fast(t, stanzas(stanza)))
			h.MustAwait(t, limit, sin, func(v *flbhost.View) bool {
				return slices.ContainsFunc(v.Sins, func(s string) bool { return strings.Contains(s, sin) })
			})
		})
	}
	f("bad cut", "the record is cut")
	f("bad notmap", "the body is not a map")
	f("bad c1", "byte 0xc1")
	f("bad deep", "nested deeper than an old Fluent Bit reads")
	f("bad marker", "the time is a marker")
	f("bad zero", "data with length 0")
	f("bad minus", "-1 with data")
	f("bad straylog", "log_print from a thread that is not the instance's")
}

func TestAMalformedRecordSwallowsTheRest(t *testing.T) {
	t.Parallel()
	h := flbhost.Launch(t, fast(t, stanzas("records 5; count 5; bad c1")))
	h.MustAwait(t, limit, "the chunk", func(v *flbhost.View) bool { return v.Count > 0 })
	h.MustStop(t, limit)
	h.Look(func(v *flbhost.View) {
		if v.Count != 2 {
			t.Errorf("%d records of 5 arrived, the third is malformed", v.Count)
		}
	})
}

func TestASlowCallbackIsASin(t *testing.T) {
	t.Parallel()
	o := fast(t, stanzas("sleep_ms 80"))
	o.Slow = 50 * time.Millisecond
	h := flbhost.Launch(t, o)
	h.MustAwait(t, limit, "a sin", func(v *flbhost.View) bool {
		return slices.ContainsFunc(v.Sins, func(s string) bool { return strings.Contains(s, "took") })
	})
}

// standstill is a reader of the log that reads nothing until it is let go.
type standstill struct{ gone chan struct{} }

func (s standstill) Write(p []byte) (int, error) {
	<-s.gone
	return len(p), nil
}

// Who reads the host's log or its chunks slowly holds up neither a callback nor the other instances (issue 7).
func TestASlowReaderHoldsNoCallback(t *testing.T) {
	t.Parallel()
	reader := standstill{make(chan struct{})}
	o := fast(t, stanzas("lines 20", "alias other"))
	o.Slow, o.Stderr = 500*time.Millisecond, reader
	h := flbhost.Launch(t, o)
	const callbacks = 300 // 6 MB of log, where a pipe holds 64 KB
	h.MustAwait(t, limit, "many callbacks", records(callbacks, "probe.0"))
	h.MustAwait(t, limit, "those of the other", records(callbacks, "other"))
	close(reader.gone)
	h.MustStop(t, limit)
	h.Look(func(v *flbhost.View) {
		if len(v.Sins) > 0 {
			t.Errorf("the plugin is charged: %q", v.Sins)
		}
	})
}

func TestWritingBeyondTheDefinitionIsASin(t *testing.T) {
	t.Parallel()
	f := func(core, offset string, sins int) {
		t.Helper()
		o := fast(t, stanzas("tag a"))
		o.Core, o.Env = core, []string{"PROBE_OVERRUN=" + offset}
		h := flbhost.Launch(t, o)
		h.MustAwait(t, limit, "the start", func(v *flbhost.View) bool { return v.HasEvent("started") })
		h.MustStop(t, limit)
		h.Look(func(v *flbhost.View) {
			if len(v.Sins) != sins {
				t.Errorf("core %s, byte %s: %q", core, offset, v.Sins)
			}
		})
	}
	f("4.2.2", "32", 1) // event_type came with 4.2.3
	f("5.1.0", "32", 0)
	f("5.1.0", "40", 1) // config_map came with 5.1.1
	f("5.1.1", "40", 0)
}

func TestOldCoresCallLess(t *testing.T) {
	t.Parallel()
	f := func(core, slot string, want ...string) {
		t.Helper()
		o := fast(t, stanzas("tag a; count 3"))
		trace := filepath.Join(t.TempDir(), "trace")
		o.Core, o.Env = core, []string{"PROBE_TRACE=" + trace}
		h := flbhost.Run(t, o)
		h.MustAwait(t, limit, "records", records(3, "probe.0"))
		h.MustStop(t, limit)
		text, err := os.ReadFile(trace)
		if err != nil {
			t.Fatal(err)
		}
		want = append([]string{"Register", "Init probe.0 slot=" + slot + " tag=hidden Mixed=none"}, want...)
		if got := strings.Split(strings.TrimSpace(string(text)), "\n"); !slices.Equal(got, want) {
			t.Errorf("core %s called %q, want %q", core, got, want)
		}
	}
	f("2.0.0", "proxy", "Exit probe.0", "Unregister")
	h := func(core, slot string) {
		t.Helper()
		o := fast(t, stanzas("tag a; count 3"))
		o.Core = core
		host := flbhost.Run(t, o)
		host.MustAwait(t, limit, "records", records(3, "probe.0"))
		host.MustStop(t, limit)
		host.Look(func(v *flbhost.View) {
			if !slices.Contains(v.Calls, "PreRegister 0") || !slices.Contains(v.Calls, "Pause probe.0") {
				t.Errorf("core %s with the slot %s called %q", core, slot, v.Calls)
			}
		})
	}
	h("2.2.0", "proxy")
	h("4.0.9", "proxy")
	h("4.1.0", "empty")
}

func TestOldCoresPauseAnewWhileAStopWaits(t *testing.T) {
	t.Parallel()
	f := func(core string, want int) {
		t.Helper()
		o := fast(t, stanzas("tag a; count 3"))
		o.Core, o.OutputRate, o.Grace = core, 1, 4
		h := flbhost.Run(t, o)
		h.MustAwait(t, limit, "records", records(3, "probe.0"))
		h.MustStop(t, limit)
		h.Look(func(v *flbhost.View) {
			n := 0
			for _, c := range v.Calls {
				if c == "Pause probe.0" {
					n++
				}
			}
			if n != want {
				t.Errorf("core %s paused %d times in a stop of four ticks, want %d: %q", core, n, want, v.Calls)
			}
		})
	}
	f("2.2.0", 5)
	f("4.0.2", 5)
	f("4.0.3", 3)
	f("4.0.8", 3)
	f("4.0.9", 2)
	f("5.1.1", 2)
}

func TestTheCoreKeepsItsOwnKeys(t *testing.T) {
	t.Parallel()
	trace := filepath.Join(t.TempDir(), "trace")
	o := fast(t, stanzas("TAG a; Mixed ${PROBE_VALUE}${PROBE_UNSET}; mixed second; log_level debug"))
	o.Env = []string{"PROBE_TRACE=" + trace, "PROBE_VALUE=first $# \"q\""}
	h := flbhost.Run(t, o)
	h.MustAwait(t, limit, "a debug line", func(v *flbhost.View) bool {
		return v.HasLog("debug", "[input:probe] debug is on")
	})
	h.MustStop(t, limit)
	text, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	if want := "tag=hidden Mixed=first $# \"q\"\n"; !strings.Contains(string(text), want) {
		t.Errorf("the probe saw %q, want %q", text, want)
	}
}

func TestDaemonForksAfterTheLoad(t *testing.T) {
	t.Parallel()
	o := fast(t, stanzas("count 2"))
	o.Daemon = true
	h := flbhost.Run(t, o)
	h.MustAwait(t, limit, "records", records(2, "probe.0"))
	h.MustStop(t, limit)
}

func TestAFilenameThatLooksLikeACPluginIsRefused(t *testing.T) {
	t.Parallel()
	so := filepath.Join(t.TempDir(), "flb-in_probe.so")
	if err := os.Link(probe(t), so); err != nil {
		text, err := os.ReadFile(probe(t))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(so, text, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	o := fast(t, stanzas("tag a"))
	o.Plugin = so
	h := flbhost.Launch(t, o)
	if err := h.Wait(limit); err == nil || h.ExitCode() != 1 {
		t.Errorf("ended with %v, code %d", err, h.ExitCode())
	}
}

func TestSignalsAndStats(t *testing.T) {
	t.Parallel()
	h := flbhost.Run(t, fast(t, stanzas("tag a")))
	s, err := h.Stats()
	if err != nil || s.RSS < 1<<19 || s.Threads < 3 || s.FDs < 3 {
		t.Fatalf("%+v, %v", s, err)
	}
	if err := h.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	h.MustAwait(t, limit, "a reload", func(v *flbhost.View) bool { return v.HasEvent("reloaded") })
	if err := h.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := h.Wait(limit); err != nil {
		t.Fatal(err)
	}
	crash := flbhost.Launch(t, fast(t, stanzas("bad crash")))
	if err := crash.Wait(limit); err == nil || crash.ExitCode() != -1 {
		t.Errorf("a crash ended with %v, code %d", err, crash.ExitCode())
	}
}

func TestDecodeKeepsOrderAndTypes(t *testing.T) {
	chunk := []byte{
		0x92, 0xd7, 0, 0x5f, 0, 0, 0, 0, 0, 0, 100, 0x88,
		0xa1, 'z', 0xc0, 0xa1, 'a', 0xc3, 0xa1, 'i', 0xff,
		0xa1, 'u', 0xcf, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
		0xa1, 'f', 0xcb, 0x3f, 0xf8, 0, 0, 0, 0, 0, 0, 0xa1, 's', 0xa3, '<', '&', '"', 0xa1, 'l', 0x92, 1, 0xcc, 200,
		0xa1, 'm', 0x81, 0xa1, 'k', 0xd3, 0x80, 0, 0, 0, 0, 0, 0, 0,
	}
	records, err := flbhost.Decode("defender.0", "t", append(chunk, chunk...))
	if err != nil || len(records) != 2 {
		t.Fatalf("%d records, %v", len(records), err)
	}
	got, err := records[1].JSON()
	want := `{"date":"2020-07-04T04:05:20.0000001Z","z":null,"a":true,"i":-1,"u":18446744073709551615,` +
		`"f":1.5,"s":"<&\"","l":[1,200],"m":{"k":-9223372036854775808}}`
	if err != nil || string(got) != want || !json.Valid(got) {
		t.Errorf("%s, %v\nwant %s", got, err, want)
	}
	for cut := 1; cut < len(chunk); cut++ {
		if _, err := flbhost.Decode("defender.0", "t", chunk[:cut]); err == nil {
			t.Fatalf("a chunk cut after %d bytes was decoded", cut)
		}
	}
}
