package flbhost_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"fluent-bit-defender/internal/flbhost"
)

// The probe in a real Fluent Bit and in the host: each instance, and the main thread, must see the same calls in the
// same order.
func TestTheHostCallsLikeARealFluentBit(t *testing.T) {
	t.Parallel()
	program, ok := flbhost.FluentBit()
	if !ok {
		t.Skip("SKIPPED: no Fluent Bit in FLUENT_BIT or on PATH to compare the host with")
	}
	const two = "tag a; count 3|tag b; alias bee; count 3"
	f := func(name, config, reload string) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config, reload := stanzas(strings.Split(config, "|")...), strings.Split(reload, "|")
			if reload[0] == "" {
				reload = nil
			}
			o := fast(t, config)
			host := calls(t, o, reload)
			o.FluentBit = program
			real := calls(t, o, reload)
			if got, want := byInstance(host), byInstance(real); !slices.Equal(got, want) {
				t.Errorf("the host called\n%s\nFluent Bit\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
		})
	}
	f("start and stop", two, "")
	f("threaded off", "threaded off|threaded off", "")
	f("reload", two, "tag c; count 3")
	f("failed start", "tag a|fail_init on|tag c", "")
	f("failed start, threaded off", "threaded off|fail_init on|threaded off", "")
	f("failed reload", two, "fail_init on")
}

// byInstance groups the calls of the trace by instance, since instances run at the same time.
func byInstance(trace string) []string {
	groups := map[string][]string{}
	for line := range strings.Lines(trace) {
		words := strings.Fields(line)
		who := "main"
		if len(words) > 1 && words[0] != "PreRegister" {
			who = words[1]
		}
		groups[who] = append(groups[who], strings.Join(words, " "))
	}
	var all []string
	for who, calls := range groups {
		all = append(all, fmt.Sprintf("%s: %s", who, strings.Join(calls, ", ")))
	}
	slices.Sort(all)
	return all
}

// calls runs the probe through a start, a reload if there is one, and a stop, and returns the trace it wrote.
func calls(t *testing.T, o flbhost.Options, reload []string) string {
	t.Helper()
	trace := filepath.Join(t.TempDir(), "trace")
	o.Env = []string{"PROBE_TRACE=" + trace}
	h := flbhost.Launch(t, o)
	err := h.Await(limit, "records", func(v *flbhost.View) bool { return v.Count > 0 })
	if err == nil && reload != nil {
		before := 0
		h.Look(func(v *flbhost.View) { before = v.Count })
		if err = h.Reload(stanzas(reload...), limit); err == nil {
			h.MustAwait(t, limit, "records of the new", func(v *flbhost.View) bool { return v.Count > before })
		}
	}
	if err == nil {
		h.MustStop(t, limit)
	} else {
		h.Wait(limit)
	}
	text, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
