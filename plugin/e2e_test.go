package main

import (
	"debug/elf"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"fluent-bit-defender/internal/defendersim"
	"fluent-bit-defender/internal/flbhost"

	"go.uber.org/goleak"
)

// These tests drive the real shared object in the host, against the simulated service over TLS.

const limit = 30 * time.Second

var soDir string // "": it was not built yet

// buildSO gives IN_DEFENDER_SO, else a shared object that is built for this run.
var buildSO = sync.OnceValues(func() (string, error) {
	if so := os.Getenv("IN_DEFENDER_SO"); so != "" {
		return so, nil
	}
	dir, err := os.MkdirTemp("", "in_defender")
	if err != nil {
		return "", err
	}
	soDir = dir
	so := filepath.Join(dir, "in_defender.so")
	return so, flbhost.BuildGo(".", so, "-trimpath", "-ldflags", "-s -w")
})

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if soDir != "" {
			os.RemoveAll(soDir)
		}
		os.Exit(code)
	}))
}

// sharedObject gives its path. It is not built with the race detector, which would watch no more than these tests wait.
func sharedObject(t *testing.T) string {
	t.Helper()
	if underRace {
		t.Skip("the shared object is not built with the race detector")
	}
	so, err := buildSO()
	if err != nil {
		t.Fatal(err)
	}
	return so
}

// world is a simulated service and what a stanza needs to reach it.
type world struct {
	*testing.T
	svc *defendersim.Service
	srv *defendersim.Server
	ca  string
	gen *defendersim.Generator
}

func newWorld(t *testing.T) *world {
	t.Helper()
	svc := defendersim.New(defendersim.Config{Seed: 1})
	srv, err := defendersim.Start(svc, defendersim.ServerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(srv.Close)
	w := &world{T: t, svc: svc, srv: srv, ca: filepath.Join(t.TempDir(), "ca.pem")}
	if err := srv.WriteCA(w.ca); err != nil {
		t.Fatal(err)
	}
	w.gen = defendersim.NewGenerator(rand.New(rand.NewPCG(1, 2)), defendersim.Mix{Groups: []string{"a", "b"}})
	return w
}

// add gives the service n alerts of the last minutes and returns their keys.
func (w *world) add(n int) []string {
	w.Helper()
	var keys []string
	for range n {
		a := w.gen.Alert(w.svc.Now().Add(-time.Second))
		keys = append(keys, a.Key())
		w.svc.Add(a)
	}
	return keys
}

// stanza is an [INPUT]; more lines are separated by ";".
func (w *world) stanza(more ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "[INPUT]\n  name defender\n  tenant_id %s\n  client_id %s\n  client_secret %s\n"+
		"  url %s\n  token_url %s\n  ca_file %s\n",
		defendersim.DefaultTenant, defendersim.DefaultClientID, defendersim.DefaultSecret,
		w.srv.AlertsURL(), w.srv.TokenURL(), w.ca)
	fmt.Fprintf(&b, "  poll_interval 1s\n  initial_lookback 10m\n  overlap 1m\n")
	for _, m := range more {
		for line := range strings.SplitSeq(m, ";") {
			fmt.Fprintf(&b, "  %s\n", strings.TrimSpace(line))
		}
	}
	return b.String()
}

func service(lines string) string { return "[SERVICE]\n  hot_reload on\n  " + lines + "\n" }

func (w *world) options(config string) flbhost.Options {
	return flbhost.Options{
		Plugin: sharedObject(w.T), Config: config, Trace: true, Slow: time.Second, // the machine may be busy
		Interval: 20 * time.Millisecond, Drain: 50 * time.Millisecond, Tick: 700 * time.Millisecond,
	}
}

// keys are the alerts that arrived, in order, of one instance ("" for all).
func keys(v *flbhost.View, instance string) []string {
	var got []string
	for _, r := range v.Records {
		if instance == "" || r.Instance == instance {
			fields := map[string]any{}
			for _, f := range r.Body {
				fields[f.Key] = f.Value
			}
			got = append(got, defendersim.KeyOf(fields))
		}
	}
	return got
}

// once fails unless exactly these alerts arrived, each one once.
func once(t *testing.T, h *flbhost.Host, instance string, want []string) {
	t.Helper()
	err := h.Await(limit, "all alerts", func(v *flbhost.View) bool { return len(keys(v, instance)) >= len(want) })
	h.Look(func(v *flbhost.View) {
		got := keys(v, instance)
		count := map[string]int{}
		for _, k := range got {
			count[k]++
		}
		missing, twice := 0, 0
		for _, k := range want {
			switch count[k] {
			case 0:
				missing++
			case 1:
			default:
				twice++
			}
			delete(count, k)
		}
		if missing+twice+len(count) > 0 {
			t.Errorf("%d arrived of %d: %d missing, %d more than once, %d unknown (%v)",
				len(got), len(want), missing, twice, len(count), err)
		}
	})
}

// ours are the lines of the log that the plugin wrote, without its prefix.
func ours(v *flbhost.View, level, instance string) []string {
	var lines []string
	for _, l := range v.Logs {
		text, ok := strings.CutPrefix(l.Text, "[input:defender:"+instance+"] ")
		if ok && (level == "" || l.Level == level) {
			lines = append(lines, text)
		}
	}
	return lines
}

func TestAlertsBecomeRecords(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	seed := defendersim.SeedAlert(w.svc.Now().Add(-time.Minute))
	w.svc.Add(seed)
	want := append(w.add(500), seed.Key())
	h := flbhost.Run(t, w.options(service("")+w.stanza("tag alerts; batch_size 64k; max_alert_size 64k")))
	once(t, h, "", want)
	want = append(want, w.add(50)...)
	once(t, h, "", want)
	h.MustStop(t, limit)
	h.Look(func(v *flbhost.View) {
		for _, r := range v.Records {
			if r.Tag != "alerts" || r.Instance != "defender.0" {
				t.Fatalf("a record of %s with the tag %s", r.Instance, r.Tag)
			}
		}
	})
}

func TestAFaultyStanzaStopsTheStartWithALineForEachFault(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	text, err := os.ReadFile("../conf/testdata/bad/five_faults.conf")
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for line := range strings.Lines(string(text)) {
		if fault, ok := strings.CutPrefix(line, "# want: "); ok {
			want = append(want, strings.TrimSpace(fault))
		}
	}
	h := flbhost.Launch(t, w.options(service("")+string(text)))
	if err := h.Wait(limit); err == nil || h.ExitCode() != 255 {
		t.Fatalf("ended with %v, code %d", err, h.ExitCode())
	}
	h.Look(func(v *flbhost.View) {
		got := ours(v, "", "defender.0")
		slices.Sort(got)
		slices.Sort(want)
		if len(want) != 5 || !slices.Equal(got, want) {
			t.Errorf("lines\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		if v.HasLog("", defendersim.DefaultSecret) {
			t.Error("the secret is in the log")
		}
	})
}

func TestNoSecretIsLogged(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.svc.Queue(defendersim.KindToken, defendersim.Entra(7000215), defendersim.Status(500))
	w.svc.Queue(defendersim.KindAlerts,
		defendersim.Status(401), defendersim.Status(403), defendersim.Status(500), defendersim.ResetEarly())
	want := w.add(3)
	h := flbhost.Run(t, w.options(service("log_level trace")+w.stanza("retry_max 1s")))
	once(t, h, "", want)
	h.MustStop(t, limit)
	h.Look(func(v *flbhost.View) {
		if len(ours(v, "error", "defender.0")) == 0 {
			t.Error("no error was told")
		}
		for _, secret := range []string{defendersim.DefaultSecret, "Bearer ey"} {
			if v.HasLog("", secret) {
				t.Errorf("%q is in the log", secret)
			}
		}
	})
}

func TestTheLogHasTheCoresFormAndLevels(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	config := service("log_level info") + w.stanza("alias eu") + w.stanza("log_level error; machine_groups a")
	h := flbhost.Run(t, w.options(config))
	h.MustAwait(t, limit, "a line of each level", func(v *flbhost.View) bool {
		return len(ours(v, "info", "eu")) > 0 && len(ours(v, "warn", "eu")) > 0
	})
	h.MustStop(t, limit)
	h.Look(func(v *flbhost.View) {
		if lines := ours(v, "", "defender.1"); len(lines) > 0 {
			t.Errorf("with log_level error: %q", lines)
		}
		for _, l := range v.Logs {
			if l.Level == "" {
				t.Errorf("a line past the log: %q", l.Text)
			}
		}
	})
}

// The child has none of the Go runtime's threads, and what they held at the fork stays held: hence several tries.
func TestDaemonModeIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for i := range 6 {
		config := service("") + w.stanza("threaded off") + w.stanza("threaded off; alias two")
		if i%2 == 0 {
			config = service("") + w.stanza()
		}
		o := w.options(config)
		o.Daemon = true
		h := flbhost.Launch(t, o)
		if err := h.Wait(limit); err == nil || h.ExitCode() != 255 {
			t.Fatalf("ended with %v, code %d", err, h.ExitCode())
		}
		h.Look(func(v *flbhost.View) {
			lines := ours(v, "error", "defender.0")
			if len(lines) != 1 || !strings.Contains(lines[0], "run Fluent Bit in the foreground") {
				t.Errorf("lines %q", lines)
			}
		})
	}
}

func TestARowNestedTooDeepDoesNotSwallowItsChunk(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	want := w.add(5)
	at := w.svc.Now().Add(-time.Second).UTC().Truncate(100)
	stamp := at.Format("2006-01-02T15:04:05.9999999Z")
	for _, depth := range []int{26, 40, 1000} {
		a, err := defendersim.ParseAlert(fmt.Appendf(nil,
			`{"FullId":"deep:%d","AlertId":"deep","AlertPart":%d,"LastProcessedTimeUtc":%q,"Deep":%s1%s}`,
			depth, depth, stamp, strings.Repeat("[", depth), strings.Repeat("]", depth)))
		if err != nil {
			t.Fatal(err)
		}
		w.svc.Add(a)
	}
	want = append(want, w.add(5)...)
	h := flbhost.Run(t, w.options(service("")+w.stanza())) // a depth that an old core cannot read is a sin
	h.MustAwait(t, limit, "all rows", func(v *flbhost.View) bool { return v.Count >= len(want)+3 })
	h.MustStop(t, limit)
	h.Look(func(v *flbhost.View) {
		got, raw := keys(v, ""), 0
		for _, r := range v.Records {
			if _, ok := r.Body.Get("raw"); ok {
				raw++
			}
		}
		for _, k := range want {
			if !slices.Contains(got, k) {
				t.Errorf("%s is missing", k)
			}
		}
		if raw != 2 || len(got) != len(want)+3 {
			t.Errorf("%d records, %d of them raw", len(got), raw)
		}
	})
}

func TestTheSharedObjectRunsWhereItShould(t *testing.T) {
	t.Parallel()
	makefile, err := os.ReadFile("../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	name := regexp.MustCompile(`(?m)^SO\s*:=\s*(\S+)`).FindSubmatch(makefile)
	if name == nil || filepath.Base(string(name[1])) != "in_defender.so" { // flb-... would be taken for a C plugin
		t.Errorf("the Makefile builds %s", name)
	}
	f, err := elf.Open(sharedObject(t))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	imported, err := f.ImportedSymbols()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range imported {
		var major, minor int
		if n, _ := fmt.Sscanf(s.Version, "GLIBC_%d.%d", &major, &minor); n == 2 && major*1000+minor > 2034 {
			t.Errorf("%s needs %s; the official images from 3.0 on have 2.34 at least", s.Name, s.Version)
		}
	}
	symbols, err := f.DynamicSymbols()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range symbols {
		if s.Section != elf.SHN_UNDEF && strings.HasPrefix(s.Name, "FLB") {
			got = append(got, s.Name)
		}
	}
	slices.Sort(got)
	want := []string{
		"FLBPluginExit", "FLBPluginInit", "FLBPluginInputCallback", "FLBPluginInputCallbackCtx",
		"FLBPluginInputCleanupCallback", "FLBPluginInputCleanupCallbackCtx", "FLBPluginInputPause",
		"FLBPluginInputPreExit", "FLBPluginInputPreRun", "FLBPluginInputResume",
		"FLBPluginPreRegister", "FLBPluginRegister", "FLBPluginUnregister",
	}
	if !slices.Equal(got, want) {
		t.Errorf("exports %q, want %q", got, want)
	}
}
