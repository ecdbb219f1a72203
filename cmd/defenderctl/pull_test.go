package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"fluent-bit-defender/client"
	"fluent-bit-defender/internal/defendersim"
)

// row is a small alert, processed so long before noon.
func row(name string, before time.Duration, more string) defendersim.Alert {
	at := noon.Add(-before)
	stamp := at.Format("2006-01-02T15:04:05.9999999Z")
	text := fmt.Appendf(nil, `{"AlertTime":%q,"FullId":%q,"AlertId":%q,"AlertPart":0,"LastProcessedTimeUtc":%q%s}`,
		stamp, name, name, stamp, more)
	return defendersim.Alert{FullID: name, AlertID: name, LastProcessed: at, Processed: stamp, Text: text}
}

// names lists the FullIds of lines of JSON.
func names(t *testing.T, out string) []string {
	t.Helper()
	var all []string
	for line := range strings.Lines(out) {
		var r struct{ FullId string }
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		all = append(all, r.FullId)
	}
	return all
}

func TestPullWritesWhatTheServiceHas(t *testing.T) {
	w := newWorld(t)
	w.svc.Add(
		row("before", 3*time.Hour+100, ""),
		row("begin", 3*time.Hour, `,"Zeta":1,"Alpha":{"b":null,"a":[true,false]},"Text":"<ü\u00e9\u2028\"\\>"`),
		row("numbers", 2*time.Hour, `,"Large":18446744073709551615,"Negative":-9223372036854775808,`+
			`"Exact":9007199254740993,"Huge":123456789012345678901234567890,"Half":1.50,"Tiny":1e-7,"Big":1e300`),
		row("late", time.Hour+100, ""),
		row("end", time.Hour, ""),
		defendersim.Alert{AlertID: "x", LastProcessed: noon.Add(-2 * time.Hour), Text: []byte(`["no object"]`)},
	)
	w.write("fluent-bit.conf", w.stanza("event_id_key id", "ago PT20M", "limit 2"))
	w.run("pull", "-c", "fluent-bit.conf", "--since", "2024-05-06T09:00:00Z", "--until", "2024-05-06T11:00:00Z")
	w.run("pull", "-c", "fluent-bit.conf", "--since", "61m")
	w.run("pull", "-c", "fluent-bit.conf", "--since", "2024-05-01", "--until", "2024-05-02")
	w.golden("pull")
	if leftovers, err := os.ReadDir("."); err != nil || len(leftovers) != 3 {
		t.Errorf("%v is left (%v)", leftovers, err)
	}
}

// --format gives another shape than the stanza's, of the same alerts.
func TestPullInAnotherFormat(t *testing.T) {
	w := newWorld(t)
	w.svc.Add(
		row("before", 3*time.Hour+100, ""),
		row("in", 2*time.Hour, `,"Severity":"High","Own":[1]`),
		defendersim.Alert{AlertID: "x", LastProcessed: noon.Add(-2 * time.Hour), Text: []byte(`["no object"]`)},
		row("end", time.Hour, ""),
	)
	w.write("fluent-bit.conf", w.stanza("event_id_key event"))
	w.write("ecs.conf", w.stanza("format ecs", "keep_native on"))
	span := []string{"--since", "2024-05-06T09:00:00Z", "--until", "2024-05-06T11:00:00Z"}
	w.run(append([]string{"pull", "-c", "ecs.conf"}, span...)...)
	w.run(append([]string{"pull", "-c", "ecs.conf", "--format", "native"}, span...)...)
	w.run(append([]string{"pull", "-c", "fluent-bit.conf", "--format", "ecs"}, span...)...)
	w.run(append([]string{"pull", "-c", "fluent-bit.conf", "--format", "leef"}, span...)...)
	w.golden("pull_format")
}

func TestPullGoesOnWhereItEnded(t *testing.T) {
	w := newWorld(t)
	var want []string
	for i := range 50 {
		name := fmt.Sprintf("row-%02d", i)
		w.svc.Add(row(name, 3*time.Hour-time.Duration(i)*time.Minute, ""))
		want = append(want, name)
	}
	w.write("fluent-bit.conf", w.stanza("max_window 10m"))
	args := []string{
		"pull", "-c", "fluent-bit.conf",
		"--since", "2024-05-06T09:00:00Z", "--until", "2024-05-06T10:00:00Z", "--db", "pull.db",
	}

	// The third answer with rows breaks, and the operator loses patience.
	ctx, cancel := context.WithCancel(t.Context())
	w.svc.OnRequest(func(r defendersim.Request) *defendersim.Fault {
		if r.Kind == defendersim.KindAlerts && r.Query.Since.After(noon.Add(-2*time.Hour-45*time.Minute)) {
			cancel()
			return defendersim.Hang()
		}
		return nil
	})
	first := w.runIn(ctx, args...)
	if first.code != 1 || !strings.Contains(first.err, "interrupted") {
		t.Errorf("exit %d: %s", first.code, first.err)
	}
	w.svc.OnRequest(nil)
	second := w.run(args...)
	got := append(names(t, first.out), names(t, second.out)...)
	if len(names(t, first.out)) == 0 || len(names(t, second.out)) == 0 || !slices.Equal(got, want) {
		t.Errorf("got %q and %q", names(t, first.out), names(t, second.out))
	}
	if third := w.run(args...); third.code != 0 || third.out != "" {
		t.Errorf("exit %d, and again: %s", third.code, third.out)
	}
}

func TestPullTellsWhatIsWrong(t *testing.T) {
	w := newWorld(t)
	w.write("fluent-bit.conf", w.stanza())
	w.write("expired.conf", w.stanza("client_secret_file", "client_secret wrong-but-long-enough"))
	w.write("tags.conf", w.stanza("limit 5"))
	w.svc.Queue(defendersim.KindAlerts, defendersim.Status(403))
	w.run("pull", "-c", "fluent-bit.conf", "--since", "1h")
	w.svc.Queue(defendersim.KindAlerts, defendersim.Status(400))
	w.run("pull", "-c", "fluent-bit.conf", "--since", "1h")
	w.run("pull", "-c", "expired.conf", "--since", "1h")
	w.golden("pull_errors")
}

// failing is a standard output that is gone.
type failing struct{ after int }

func (f *failing) Write(p []byte) (int, error) {
	if f.after -= len(p); f.after < 0 {
		return 0, errors.New("no space left on device")
	}
	return len(p), nil
}

func TestPullEndsWhenNothingCanBeWritten(t *testing.T) {
	w := newWorld(t)
	for i := range 100 {
		w.svc.Add(row(fmt.Sprint(i), 2*time.Hour-time.Duration(i)*time.Minute, ""))
	}
	w.write("fluent-bit.conf", w.stanza("max_window 5m"))
	var stderr bytes.Buffer
	a := w.app
	a.in, a.out, a.err = strings.NewReader(""), &failing{3000}, &stderr
	if code := a.run(t.Context(), []string{"pull", "-c", "fluent-bit.conf", "--since", "3h"}); code != 1 {
		t.Errorf("exit %d", code)
	}
	if want := "defenderctl: no space left on device\n"; stderr.String() != want {
		t.Errorf("%q, want %q", stderr.String(), want)
	}
}

func TestPullShowsProgressOnATerminal(t *testing.T) {
	w := newWorld(t)
	w.svc.Add(row("one", time.Hour, ""))
	w.write("fluent-bit.conf", w.stanza())
	w.app.errTTY = true
	r := w.run("pull", "-c", "fluent-bit.conf", "--since", "2h")
	if r.code != 0 || !strings.HasSuffix(r.err, "\x1b[K1 alert\n") || len(names(t, r.out)) != 1 {
		t.Errorf("exit %d: %q %q", r.code, r.out, r.err)
	}
}

// virtual is a run over an in-memory wire, for testing/synctest.
type virtual struct {
	seed  uint64
	svc   *defendersim.Service
	now   time.Time
	where string // the stanza's api and place
	extra string // further keys of the stanza
}

func newVirtual(seed uint64, m defendersim.Modes) *virtual {
	svc := defendersim.New(defendersim.Config{Seed: seed, Modes: m})
	return &virtual{seed: seed, svc: svc, now: time.Now().UTC(), where: "  region us\n"}
}

func (v *virtual) run(t *testing.T, args ...string) result {
	t.Helper()
	stanza := fmt.Sprintf("[INPUT]\n  name defender\n  tenant_id %s\n  client_id %s\n  client_secret %s\n%s%s",
		defendersim.DefaultTenant, defendersim.DefaultClientID, defendersim.DefaultSecret, v.where, v.extra)
	if err := os.WriteFile("fluent-bit.conf", []byte(stanza), 0o600); err != nil {
		t.Fatal(err)
	}
	var out, stderr bytes.Buffer
	a := &app{in: strings.NewReader(""), out: &out, err: &stderr, env: os.LookupEnv, now: time.Now,
		client: []client.Option{client.WithTransport(v.svc.Transport())}}
	code := a.run(t.Context(), append([]string{"pull", "-c", "fluent-bit.conf"}, args...))
	return result{out.String(), stderr.String(), code}
}

// windows keeps runs apart: what is remembered in memory lives as long as the process.
var windows atomic.Int64

// span is a window so many hours long that ended an hour ago, another one each time.
func (v *virtual) span(hours int) (since, until time.Time, args []string) {
	until = v.now.Add(-time.Hour)
	since = until.Add(-time.Duration(hours)*time.Hour - time.Duration(windows.Add(1))*time.Second)
	return since, until, []string{"--since", since.Format(time.RFC3339Nano), "--until", until.Format(time.RFC3339Nano)}
}

// finds fails unless a pull brings each alert as often as want says, though one request in four fails.
func (v *virtual) finds(
	t *testing.T, rnd *rand.Rand, want map[string]int, keyOf func(map[string]any) string, args []string,
) {
	t.Helper()
	v.svc.OnRequest(func(defendersim.Request) *defendersim.Fault {
		switch rnd.IntN(12) {
		case 0:
			return defendersim.Status(503)
		case 1:
			return defendersim.Throttle(3 * time.Second)
		case 2:
			return defendersim.CutAt(rnd.Int64N(20_000), defendersim.CutHow(rnd.IntN(2)))
		}
		return nil
	})
	r := v.run(t, args...)
	if r.code != 0 {
		t.Fatalf("exit %d: %s", r.code, r.err)
	}
	for line := range strings.Lines(r.out) {
		var fields map[string]any
		if err := json.Unmarshal([]byte(line), &fields); err != nil {
			t.Fatal(err)
		}
		want[keyOf(fields)]--
	}
	for key, n := range want {
		if n != 0 {
			t.Errorf("seed %d: %s came %d times too few", v.seed, key, n)
		}
	}
}

// Limits, ties, bounds of any kind and faults do not keep anything back, and nothing comes twice.
func TestPullFindsAllWhateverTheServiceDoes(t *testing.T) {
	t.Chdir(t.TempDir())
	for seed := range uint64(6) {
		synctest.Test(t, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 7))
			v := newVirtual(seed, defendersim.Modes{
				Order:          defendersim.Order(rnd.IntN(3)),
				SinceExclusive: rnd.IntN(2) == 0, UntilExclusive: rnd.IntN(2) == 0,
				TruncateBounds: time.Second, Gzip: true,
			})
			since, until, args := v.span(4)
			mix := defendersim.Mix{TieShare: 0.2, UpdateShare: 0.1, PartShare: 0.1}
			alerts := defendersim.Generate(rnd, 1500, since.Add(-time.Hour), v.now, mix)
			v.svc.Add(alerts...)
			want := map[string]int{}
			for _, a := range alerts {
				if !a.LastProcessed.Before(since) && a.LastProcessed.Before(until) {
					want[a.Key()]++
				}
			}
			if limit := rnd.IntN(3) * 50; limit > 0 {
				v.extra = fmt.Sprintf("  limit %d\n", limit)
			}
			v.finds(t, rnd, want, defendersim.KeyOf, args)
		})
	}
}

// A minute that cannot be read keeps nothing else back, is told, and comes with the next run.
func TestPullGoesAroundAGap(t *testing.T) {
	t.Chdir(t.TempDir())
	synctest.Test(t, func(t *testing.T) {
		v := newVirtual(1, defendersim.Modes{})
		since, _, args := v.span(2)
		var all []string
		for i := range 60 {
			a := row(fmt.Sprint("row", i), noon.Sub(since)-time.Duration(i)*2*time.Minute-time.Second, "")
			v.svc.Add(a)
			all = append(all, a.FullID)
		}
		bad := since.Add(40*time.Minute + time.Second) // of row 20
		healed := v.now.Add(24 * time.Hour)
		v.svc.FailSpan(bad, bad, healed, defendersim.Status(500))
		args = append(args, "--db", "pull.db")
		first := v.run(t, args...)
		const unread = "could not be read: alerts request: error in the service (500)"
		if first.code != 1 || !strings.Contains(first.err, unread) {
			t.Errorf("exit %d: %s", first.code, first.err)
		}
		got := names(t, first.out)
		if len(got) != 59 || slices.Contains(got, "row20") {
			t.Errorf("%d rows came", len(got))
		}
		time.Sleep(25 * time.Hour)
		second := v.run(t, args...)
		if second.code != 0 {
			t.Errorf("exit %d: %s", second.code, second.err)
		}
		got = append(got, names(t, second.out)...)
		slices.Sort(got)
		slices.Sort(all)
		if !slices.Equal(got, all) {
			t.Errorf("the two runs gave %q", got)
		}
	})
}

func TestPullGivesUp(t *testing.T) {
	t.Chdir(t.TempDir())
	for name, fault := range map[string]*defendersim.Fault{
		"error in the service (500)": defendersim.Status(500), "throttled (429)": defendersim.Throttle(time.Minute),
		"refused": defendersim.Refused(), "no list of alerts": defendersim.HTML(),
		"refused the token (401)": defendersim.Status(401),
	} {
		synctest.Test(t, func(t *testing.T) {
			v := newVirtual(1, defendersim.Modes{})
			_, _, args := v.span(3)
			v.svc.OnRequest(func(r defendersim.Request) *defendersim.Fault {
				if r.Kind == defendersim.KindAlerts {
					return fault
				}
				return nil
			})
			r := v.run(t, args...)
			if took := time.Since(v.now); r.code != 1 || !strings.Contains(r.err, name) || took > time.Hour {
				t.Errorf("%s: exit %d after %s: %s", name, r.code, took, r.err)
			}
		})
	}
}
