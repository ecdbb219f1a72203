package e2e

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"fluent-bit-defender/internal/defendersim"
	"fluent-bit-defender/internal/flbhost"
)

// victim is a place that runs a stanza, is killed, and runs it again with the same files. When each alert left it is
// kept.
type victim interface {
	start()
	ended() bool
	kill()
	times() map[string][]time.Time // when each alert came, by its key
	choke()                        // lets nothing out in this run from now on, and waits until something waits for that
	finish()                       // stops it as a service manager does
}

// Kill -9 at random moments with db, and in Fluent Bit with storage.type filesystem: no alert is missing, and what
// comes twice was delivered in the last seconds before a kill. In the host what it drained is what the test read:
// it never sends anything again.
//
// Two things repeat after a kill, and the output cannot tell them apart. The plugin delivers again what it had not
// made durable: that was delivered at most 2 s before the kill (the time a batch may lie in Fluent Bit's ring), plus
// up to 1 s until the next commit. And Fluent Bit sends again the chunks of its storage that it had sent but not yet
// deleted: those were under way at the kill. Either way the record had arrived, if it had, after the moment of the
// kill less those 3 s; lately adds what a busy machine takes for a commit.
func TestKilledAtRandomMoments(t *testing.T) {
	t.Parallel()
	db := func(t *testing.T) string { return "db " + filepath.Join(t.TempDir(), "defender.db") }
	common := []string{"initial_lookback 15m", "overlap 10s", "batch_size 512k", "max_alert_size 64k"}
	t.Run("host", func(t *testing.T) {
		t.Parallel()
		svc, srv, ca := service(t, defendersim.Config{})
		v := &hostVictim{T: t, came: map[string][]time.Time{}}
		v.options = flbhost.Options{
			// the machine may be busy
			Plugin: plugin, Interval: 100 * time.Millisecond, Slow: 2 * time.Second, OnRecord: v.add,
			Config: "[SERVICE]\n    grace 3\n" + stanza(srv, ca, "all", append(common, db(t))...),
		}
		killAtRandomMoments(t, svc, v, 7) // a short life: what lies in the ring for 2 s counts as durable
	})
	t.Run("fluent-bit", func(t *testing.T) {
		t.Parallel()
		needFluentBit(t)
		svc, srv, ca := service(t, defendersim.Config{})
		out := newSink(t)
		service := "    scheduler.base 1\n    scheduler.cap 2\n    storage.path " + t.TempDir()
		f := newFluentBit(t, service, stanza(srv, ca, "all", append(common, db(t), "storage.type filesystem")...),
			out.output("all"))
		// a long life: most of what waits is in Fluent Bit's storage alone
		killAtRandomMoments(t, svc, &realVictim{fluentBit: f, out: out}, 6)
	})
}

// killAtRandomMoments lets a victim live and die under load. In one life of ten, the choked one, nothing gets out.
func killAtRandomMoments(t *testing.T, svc *defendersim.Service, v victim, choked int) {
	const lately = 5 * time.Second
	seed := rand.Uint64()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the moments came from seed %d", seed)
		}
	})
	rnd := rand.New(rand.NewPCG(seed, 0))
	history(svc, 600, 10*time.Minute)
	load := startLoad(t, svc, 50)
	var lives []life
	begin := func() {
		lives = append(lives, life{start: time.Now()})
		v.start()
	}
	for i := range times(10, 100) {
		span := time.Duration(rnd.Int64N(int64(2500 * time.Millisecond)))
		if i%5 == 1 { // long enough for something to be older than the last seconds
			span = lately + 2*time.Second + time.Duration(rnd.Int64N(int64(3*time.Second)))
		}
		begin()
		if i%10 == choked {
			v.choke()
		}
		over, asked := time.Now().Add(span), svc.Stats().Alerts
		await(t, span+time.Minute, "the moment to kill", func() bool {
			if v.ended() {
				t.Fatal("it ended by itself")
			}
			if i%5 == 1 && svc.Stats().Alerts < asked+3 { // a long life is one from when it polls
				over = time.Now().Add(span)
			}
			return time.Now().After(over)
		})
		lives[len(lives)-1].kill = time.Now()
		v.kill()
	}
	begin()
	load.stop()
	due := of(svc)
	await(t, 30*time.Second, "all alerts", func() bool { return missing(due, counts(v.times())) == 0 })
	asked := svc.Stats().Alerts
	await(t, 10*time.Second, "some more polls", func() bool { return svc.Stats().Alerts > asked+3 })
	v.finish()
	for i := range lives {
		lives[i].polled = thirdAnswer(svc, lives[i])
	}
	judge(t, due, lives, v.times(), lately)
}

// life is a run between its start and its kill. The last one is not killed. By polled its plugin had asked again for
// all that was not durable when the life before was killed: a busy machine takes long for a start.
type life struct{ start, polled, kill time.Time }

// thirdAnswer is when the third answer with alerts of a life ended, or the last where it had fewer.
func thirdAnswer(svc *defendersim.Service, of life) time.Time {
	ahead := time.Until(svc.Now())
	n, at := 0, of.start
	for _, e := range svc.Journal() {
		if done := e.Done.Add(-ahead); e.Kind == defendersim.KindAlerts && n < 3 && done.After(of.start) &&
			(of.kill.IsZero() || done.Before(of.kill)) {
			n, at = n+1, done
		}
	}
	return at
}

// judge fails if an alert is missing, is none of these, or came again though it had come before the last seconds of a
// life.
func judge(t *testing.T, due []defendersim.Row, lives []life, times map[string][]time.Time, lately time.Duration) {
	t.Helper()
	allowed := func(first, again time.Time) bool {
		for i, one := range lives[:len(lives)-1] {
			next := lives[i+1].start
			if first.After(one.kill.Add(-lately)) && first.Before(next) && again.After(next) {
				return true
			}
			// What was under way at the kill may come both from Fluent Bit's storage and from the plugin after it.
			if first.After(next) && again.Before(lives[i+1].polled.Add(lately)) {
				return true
			}
		}
		return false
	}
	var wrong []string
	known := map[string]bool{}
	for _, row := range due {
		known[row.ID] = true
		if len(times[row.ID]) == 0 {
			wrong = append(wrong, row.ID+" is missing")
		}
	}
	repeats := 0
	for key, came := range times {
		if !known[key] {
			wrong = append(wrong, key+" is no alert of the service")
		}
		for i := 1; i < len(came); i++ {
			repeats++
			if !allowed(came[i-1], came[i]) {
				wrong = append(wrong, fmt.Sprintf("%s came at %s and again at %s", key, came[i-1], came[i]))
			}
		}
	}
	for i, text := range wrong {
		if i == 5 {
			t.Errorf("and %d more", len(wrong)-i)
			break
		}
		t.Error(text)
	}
	if len(wrong) > 0 {
		t.Logf("the lives: %v", lives)
	}
	if repeats == 0 { // each kill in the first seconds of a life brings some
		t.Error("nothing came twice: were there any kills?")
	}
	t.Logf("%d kills, %d alerts, %d repeats", len(lives)-1, len(due), repeats)
}

func counts(times map[string][]time.Time) map[string]int {
	n := map[string]int{}
	for key, came := range times {
		n[key] = len(came)
	}
	return n
}

// realVictim is a Fluent Bit that sends to a server.
type realVictim struct {
	*fluentBit
	out *sink
}

func (v *realVictim) start() {
	v.out.refuse(false)
	v.fluentBit.start()
}

func (v *realVictim) ended() bool {
	select {
	case <-v.done:
		return true
	default:
		return false
	}
}

func (v *realVictim) times() map[string][]time.Time { return v.out.times() }

func (v *realVictim) choke() {
	before := v.out.refuse(true)
	v.await(30*time.Second, "a refused request", func() bool { return v.out.refuse(true) > before })
}

func (v *realVictim) finish() { v.stop(10 * time.Second) }

// hostVictim is the bundled host. Killing it waits until all that it wrote is read.
type hostVictim struct {
	*testing.T
	options flbhost.Options
	host    *flbhost.Host

	mu   sync.Mutex
	came map[string][]time.Time
}

func (v *hostVictim) add(r flbhost.Record) {
	fields := map[string]any{}
	for _, f := range r.Body {
		fields[f.Key] = f.Value
	}
	key := defendersim.KeyOf(fields)
	v.mu.Lock()
	defer v.mu.Unlock()
	v.came[key] = append(v.came[key], time.Now())
}

func (v *hostVictim) start() { v.host = flbhost.Launch(v.T, v.options) }

func (v *hostVictim) ended() (ended bool) {
	v.host.Look(func(view *flbhost.View) { ended = view.Ended })
	return ended
}

func (v *hostVictim) kill() {
	v.Helper()
	if err := v.host.Kill(); err != nil {
		v.Fatal(err)
	}
	v.host.Look(func(view *flbhost.View) {
		for _, sin := range view.Sins {
			v.Errorf("the plugin sinned: %s", sin)
		}
	})
}

func (v *hostVictim) times() map[string][]time.Time {
	v.mu.Lock()
	defer v.mu.Unlock()
	all := map[string][]time.Time{}
	for key, came := range v.came {
		all[key] = came[:len(came):len(came)]
	}
	return all
}

// choke keeps the host from draining the plugin's ring: a kill loses what lies in it.
func (v *hostVictim) choke() {
	v.Helper()
	v.host.MustAwait(v.T, 30*time.Second, "the start",
		func(view *flbhost.View) bool { return view.HasEvent("started") })
	if err := v.host.Busy(); err != nil {
		v.Fatal(err)
	}
	await(v.T, 30*time.Second, "a batch in the ring", func() bool {
		stats, err := v.host.Stats()
		if err != nil {
			v.Fatal(err)
		}
		return stats.Ring > 0
	})
}

func (v *hostVictim) finish() { v.host.MustStop(v.T, grace) }
