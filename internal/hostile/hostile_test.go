// Package hostile drives the real shared object in the bundled host against a service that means harm, or is broken:
// bodies of any size and form, answers that leak, redirects, strange certificates, and a soak. It measures what that
// costs.
package hostile

import (
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"fluent-bit-defender/internal/defendersim"
	"fluent-bit-defender/internal/flbhost"
)

// plugin is the shared object under test: IN_DEFENDER_SO, else one built for this run.
var plugin string

// soaking is the long form: SOAK is set.
var soaking = os.Getenv("SOAK") != ""

// limit bounds what a test waits for. On an idle machine that comes within a few seconds; the long form moves
// gigabytes.
var limit = map[bool]time.Duration{false: time.Minute, true: 15 * time.Minute}[soaking]

func TestMain(m *testing.M) {
	flag.Parse()
	// The tests wait for real time (back-off, timeouts) most of the time, so more of them run at once than there are
	// cores.
	parallel := false
	flag.Visit(func(f *flag.Flag) { parallel = parallel || f.Name == "test.parallel" })
	if !parallel {
		flag.Set("test.parallel", "12")
	}
	os.Exit(func() int {
		plugin = os.Getenv("IN_DEFENDER_SO")
		if plugin == "" {
			dir, err := os.MkdirTemp("", "in_defender")
			if err != nil {
				fmt.Fprintln(os.Stderr, err)
				return 1
			}
			defer os.RemoveAll(dir)
			plugin = filepath.Join(dir, "in_defender.so")
			if err := flbhost.BuildGo("fluent-bit-defender/plugin", plugin); err != nil {
				fmt.Fprintln(os.Stderr, err)
				return 1
			}
		}
		code := m.Run()
		if testing.Verbose() || soaking {
			printMeasured(os.Stdout)
		}
		return code
	}())
}

// world is a simulated service over TLS and what a stanza needs to reach it.
type world struct {
	*testing.T
	svc *defendersim.Service
	srv *defendersim.Server
	dir string
	ca  string
	gen *defendersim.Generator
}

func newWorld(t *testing.T, cfg defendersim.Config) *world {
	t.Helper()
	svc := defendersim.New(cfg)
	srv, err := defendersim.Start(svc, defendersim.ServerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(srv.Close)
	w := &world{T: t, svc: svc, srv: srv, dir: t.TempDir(), gen: newGenerator()}
	w.ca = filepath.Join(w.dir, "ca.pem")
	if err := srv.WriteCA(w.ca); err != nil {
		t.Fatal(err)
	}
	return w
}

func newGenerator() *defendersim.Generator {
	return defendersim.NewGenerator(rand.New(rand.NewPCG(1, 2)), defendersim.Mix{Style: defendersim.WideStyle})
}

// add gives the service a good alert of just now.
func (w *world) add() defendersim.Alert {
	a := w.gen.Alert(w.svc.Now().Add(-time.Second))
	w.svc.Add(a)
	return a
}

// addRow gives the service a row with this text, which need not be a good one, as processed just now.
func (w *world) addRow(text string) {
	w.svc.Add(defendersim.Alert{LastProcessed: w.svc.Now().Add(-time.Second).Truncate(100), Text: []byte(text)})
}

// config is a whole configuration: what more says, lines separated by ";", and what it leaves out.
func (w *world) config(level, more string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "[SERVICE]\n  log_level %s\n[INPUT]\n  name defender\n", level)
	for line := range strings.SplitSeq(more, ";") {
		fmt.Fprintf(&b, "  %s\n", strings.TrimSpace(line))
	}
	has := func(key string) bool { return strings.Contains(b.String(), "\n  "+key+" ") }
	add := func(key, value string) {
		if !has(key) {
			fmt.Fprintf(&b, "  %s %s\n", key, value)
		}
	}
	if w.srv != nil {
		add("url", w.srv.AlertsURL())
		add("token_url", w.srv.TokenURL())
		add("ca_file", w.ca)
	}
	add("tenant_id", defendersim.DefaultTenant)
	add("client_id", defendersim.DefaultClientID)
	add("poll_interval", "1s")
	add("initial_lookback", "30s")
	add("overlap", "10s")
	add("retry_max", "1s")
	if !has("client_secret_file") {
		add("client_secret", defendersim.DefaultSecret)
	}
	return b.String()
}

// options are those of a host that is faster than the real one.
func options(config string) flbhost.Options {
	return flbhost.Options{
		// how long callbacks take is for the plugin's own tests: here the machine is busy
		Plugin: plugin, Config: config, Slow: limit,
		Interval: 50 * time.Millisecond, Drain: 50 * time.Millisecond, Tick: 200 * time.Millisecond,
	}
}

// arrivals are the records that a host gave out.
type arrivals struct {
	mu    sync.Mutex
	count map[string]int         // by the alert's key
	body  map[string]flbhost.Map // of the first with that key
	raw   []flbhost.Map
	bulk  bulk
}

func newArrivals() *arrivals {
	return &arrivals{count: map[string]int{}, body: map[string]flbhost.Map{}}
}

func (a *arrivals) take(r flbhost.Record) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.bulk.take(r.Body.String("AlertId")) {
		return
	}
	if _, ok := r.Body.Get("raw"); ok {
		a.raw = append(a.raw, r.Body)
		return
	}
	fields := map[string]any{}
	for _, key := range []string{"FullId", "AlertId", "AlertPart", "LastProcessedTimeUtc"} {
		if v, ok := r.Body.Get(key); ok {
			fields[key] = v
		}
	}
	key := defendersim.KeyOf(fields)
	a.count[key]++
	if a.count[key] == 1 {
		a.body[key] = r.Body
	}
}

func (a *arrivals) has(key string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.count[key] > 0
}

// rawWith returns how many of the raw records hold text.
func (a *arrivals) rawWith(text string) (n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, r := range a.raw {
		if strings.Contains(r.String("raw"), text) {
			n++
		}
	}
	return n
}

// whole fails unless this alert came exactly once and has every field of its text, as it was.
func (a *arrivals) whole(t *testing.T, alert defendersim.Alert) {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	key := alert.Key()
	if a.count[key] != 1 {
		t.Errorf("alert %s came %d times", key, a.count[key])
		return
	}
	came, err := json.Marshal(a.body[key])
	if err != nil {
		t.Fatal(err)
	}
	var got, want any
	if json.Unmarshal(came, &got) != nil || json.Unmarshal(alert.Text, &want) != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("alert %s did not come whole: %s instead of %s", key, came, alert.Text)
	}
}

// bulk notes alerts with the AlertIds big-0, big-1 and so on, without keeping them.
type bulk struct {
	seen    []uint64 // a bit a row
	rows    int
	repeats int
}

func (b *bulk) take(id string) bool {
	var n int
	if !strings.HasPrefix(id, "big-") {
		return false
	}
	for _, c := range id[len("big-"):] {
		n = n*10 + int(c-'0')
	}
	for n/64 >= len(b.seen) {
		b.seen = append(b.seen, make([]uint64, 1024)...)
	}
	if b.seen[n/64]&(1<<(n%64)) != 0 {
		b.repeats++
	} else {
		b.rows++
	}
	b.seen[n/64] |= 1 << (n % 64)
	return true
}

// run starts a host whose records go to the arrivals it returns.
func (w *world) run(o flbhost.Options) (*flbhost.Host, *arrivals) {
	w.Helper()
	got := newArrivals()
	o.OnRecord = got.take
	return flbhost.Run(w.T, o), got
}

// arrive waits for an alert.
func (w *world) arrive(h *flbhost.Host, got *arrivals, a defendersim.Alert) {
	w.Helper()
	h.MustAwait(w.T, limit, "the alert "+a.AlertID, func(*flbhost.View) bool { return got.has(a.Key()) })
}

// quiet fails if the core lost anything on its side.
func quiet(t *testing.T, h *flbhost.Host) {
	t.Helper()
	h.Look(func(v *flbhost.View) {
		for _, word := range []string{"dropped", "lost", "refused"} {
			if e := v.EventsOf(word); len(e) > 0 {
				t.Errorf("events %q", e)
			}
		}
	})
}

// says tells whether a warning or an error in the log holds all the words.
func says(v *flbhost.View, words ...string) bool {
	for _, l := range v.Logs {
		if l.Level != "warn" && l.Level != "error" {
			continue
		}
		found := true
		for _, word := range words {
			found = found && strings.Contains(l.Text, word)
		}
		if found {
			return true
		}
	}
	return false
}

// await asks cond, which the host does not tell of, now and then.
func await(t *testing.T, h *flbhost.Host, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); !cond(); {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
		h.Await(20*time.Millisecond, "a moment", func(v *flbhost.View) bool { return v.Ended && cond() })
	}
}
