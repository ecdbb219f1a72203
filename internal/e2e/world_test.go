package e2e

import (
	"cmp"
	"fmt"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/semver"

	"fluent-bit-defender/internal/defendersim"
	"fluent-bit-defender/internal/flbhost"
)

// world is a simulated service and a place to run the plugin in, once or again and again. What arrives in all runs is
// counted.
type world struct {
	*testing.T
	svc  *defendersim.Service
	srv  *defendersim.Server
	ca   string
	host flbhost.Options

	mu   sync.Mutex
	came map[string]int
}

// everywhere runs a test in the bundled host and, where there is one, in a real Fluent Bit, each with a world of its
// own.
func everywhere(t *testing.T, test func(w *world)) {
	t.Helper()
	t.Parallel()
	f := func(name string, options func(t *testing.T) flbhost.Options) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := &world{T: t, host: options(t), came: map[string]int{}}
			w.svc, w.srv, w.ca = service(t, defendersim.Config{})
			w.host.Plugin, w.host.OnRecord = plugin, w.add
			test(w)
		})
	}
	f("host", func(*testing.T) flbhost.Options {
		return flbhost.Options{Interval: 100 * time.Millisecond, Slow: 2 * time.Second} // the machine may be busy
	})
	f("fluent-bit", func(t *testing.T) flbhost.Options { return flbhost.Options{FluentBit: needFluentBit(t)} })
}

func (w *world) real() bool { return w.host.FluentBit != "" }

func (w *world) add(r flbhost.Record) {
	fields := map[string]any{}
	for _, f := range r.Body {
		fields[f.Key] = f.Value
	}
	key := defendersim.KeyOf(fields)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.came[key]++
}

// arrived counts the records by their alert's key.
func (w *world) arrived() map[string]int {
	w.mu.Lock()
	defer w.mu.Unlock()
	keys := map[string]int{}
	for key, n := range w.came {
		keys[key] = n
	}
	return keys
}

func (w *world) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for _, came := range w.came {
		n += came
	}
	return n
}

// stanza is an input of this world's service; more lines come first, so that they override its keys.
func (w *world) stanza(more ...string) string { return stanza(w.srv, w.ca, "alerts", more...) }

func (w *world) options(service, inputs string) flbhost.Options {
	o := w.host
	o.Config = "[SERVICE]\n    flush 0.2\n    grace 5\n    hot_reload on\n" + service + "\n" + inputs
	if w.real() { // the output that flbhost reads
		o.Config += "[OUTPUT]\n    name stdout\n    match *\n    format json_lines\n    json_date_key date\n    " +
			"json_date_format iso8601\n"
	}
	return o
}

// start starts the inputs and waits until they run.
func (w *world) start(service, inputs string) *flbhost.Host {
	w.Helper()
	return flbhost.Run(w.T, w.options(service, inputs))
}

// refused starts inputs that must not start within limit and returns what the plugin said. Before 4.0.3 Fluent Bit
// goes on without them.
func (w *world) refused(limit time.Duration, inputs string) []string {
	w.Helper()
	h := flbhost.Launch(w.T, w.options("", inputs))
	w.awaitRefusal(h, limit)
	return ours(h, "error")
}

// awaitRefusal waits until h ended because an input did not start, or goes on without it.
func (w *world) awaitRefusal(h *flbhost.Host, limit time.Duration) {
	w.Helper()
	if w.goesOn() {
		h.MustAwait(w.T, limit, "the refusal", func(v *flbhost.View) bool { return v.HasLog("error", coreAfter) })
		w.stopWithout(h, limit)
		return
	}
	if err := h.Wait(limit); err == nil || h.ExitCode() <= 0 {
		w.Fatalf("the start was not refused: %v, exit code %d", err, h.ExitCode())
	}
}

// stopWithout stops a Fluent Bit that goes on without an input. 3.2.10 aborts then when it frees that input, after
// all is done: that is no fault of the plugin.
func (w *world) stopWithout(h *flbhost.Host, limit time.Duration) {
	if err := h.Stop(limit); err != nil && !w.real() {
		w.Fatal(err)
	}
}

// goesOn tells whether this Fluent Bit goes on without an input whose Init failed: from 4.0.3 on it ends
// (src/flb_input_thread.c).
func (w *world) goesOn() bool { return w.before("4.0.3") }

// before tells whether this Fluent Bit is older than a version.
func (w *world) before(version string) bool {
	if w.real() {
		return realBefore(version)
	}
	return semver.Compare("v"+cmp.Or(w.host.Core, "5.1.1"), "v"+version) < 0
}

// realBefore tells whether the real Fluent Bit is older than a version.
func realBefore(version string) bool { return semver.Compare("v"+versionAtHand(), "v"+version) < 0 }

// versionAtHand is the version of the real Fluent Bit.
var versionAtHand = sync.OnceValue(func() string {
	path, _ := flbhost.FluentBit()
	text, err := exec.Command(path, "--version").Output()
	m := regexp.MustCompile(`v(\d+\.\d+\.\d+)`).FindSubmatch(text)
	if err != nil || m == nil {
		panic(fmt.Sprintf("%s --version: %v, %q", path, err, text))
	}
	return string(m[1])
})

// coreAfter is what the core says in the same form when an Init has failed.
const coreAfter = "could not initialize threaded plugin instance"

// ours are the lines of a level that the plugin said, without the core's prefix.
func ours(h *flbhost.Host, level string) []string {
	var lines []string
	h.Look(func(v *flbhost.View) {
		for _, l := range v.Logs {
			text, ok := strings.CutPrefix(l.Text, "[input:defender:")
			_, text, _ = strings.Cut(text, "] ")
			if ok && l.Level == level && text != coreAfter {
				lines = append(lines, text)
			}
		}
	})
	return lines
}

// says waits until the plugin said something of this level that holds text.
func (w *world) says(h *flbhost.Host, limit time.Duration, level, text string) {
	w.Helper()
	h.MustAwait(w.T, limit, fmt.Sprintf("a line with %q", text),
		func(v *flbhost.View) bool { return v.HasLog(level, text) })
}

// awaitAll waits until every alert that is due has come.
func (w *world) awaitAll(limit time.Duration, due []defendersim.Row) {
	w.Helper()
	defer func() {
		if w.Failed() {
			arrived := w.arrived()
			for _, row := range due {
				if arrived[row.ID] == 0 {
					w.Logf("missing: %s of %s, visible at %s", row.ID, row.MachineGroup,
						row.VisibleAt.Format(time.StampMilli))
				}
			}
		}
	}()
	await(w.T, limit, fmt.Sprintf("all %d alerts", len(due)), func() bool {
		return w.count() >= len(due) && missing(due, w.arrived()) == 0
	})
}

// polls waits for n more requests of alerts.
func (w *world) polls(n int) {
	w.Helper()
	asked := w.svc.Stats().Alerts
	await(w.T, 20*time.Second, fmt.Sprintf("%d more polls", n), func() bool { return w.svc.Stats().Alerts >= asked+n })
}
