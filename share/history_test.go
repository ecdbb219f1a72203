package share

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"fluent-bit-defender/conf"
	"fluent-bit-defender/internal/defendersim"
	"fluent-bit-defender/state"
)

// A history is a few minutes of some pods that share some sources, in virtual time: they join, leave, are killed with
// their nodes, freeze and are cut off; the API server is away, slow to answer or refuses, and so is Microsoft. What
// pulls is the plugin's engine (engine_test.go), from the simulated service.
//
// At the end no alert is lost, also of what was in the buffers of nodes that died; whatever came twice came because a
// pod was taken over from, within the bound that is promised; and no pod was taken over from that was well.

const (
	historySafe    = 2 * time.Second  // after its delivery an alert is durable: pull's safeAfter
	historyRest    = 10 * time.Second // after a commit that failed: pull's commitRest
	historyOverlap = time.Minute
	historySlack   = 8 * time.Second // ticks of a second, and a commit that is under way
)

type history struct {
	t       *testing.T
	dice    *rand.Rand // of requests; guarded by mu
	rng     *rand.Rand
	server  *server
	begin   time.Time
	end     time.Time // of new alerts
	sources []state.Key
	cfgs    []*conf.Config // by source
	cloud   *defendersim.Fleet
	poll    time.Duration     // poll_interval
	byKey   map[string][2]int // source and number of an alert
	corpses sync.WaitGroup

	mu          sync.Mutex
	alerts      [][]time.Time // by source: when each appears
	delivered   []delivery
	takeovers   []takeover
	commits     map[string]time.Time // the last by owner and object
	pods        []*simPod
	changes     []change
	owners      map[int]ownerSince
	apiAway     time.Time // until then the API server does not answer
	shaky       bool      // it failed so often, or also after it was away, that renewals may come too late
	errors      float64   // part of requests that it fails
	sick        time.Time // until then Microsoft fails half of the requests
	undisturbed bool      // there was nothing but joins, exits and kills
	trace       []event
	names       []string // of the sources' objects
}

type delivery struct {
	source, n int
	at        time.Time
	pod       *simPod
	lost      bool // with the node's buffers
}

type ownerSince struct {
	id    string
	since time.Time
}

type takeover struct {
	source   int
	at       time.Time
	from     string
	lastSeen time.Time // commit of the one it was taken from
}

func (h *history) note(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.trace = append(h.trace, event{time.Since(h.begin), format, args})
}

func (h *history) failf(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.t.Fatalf("%s\n%s", fmt.Sprintf(format, args...), h.told())
}

// event is a line of the trace. Few traces are ever read, so few are written out.
type event struct {
	at     time.Duration
	format string
	args   []any
}

// told is the end of the trace. h.mu is held.
func (h *history) told() string {
	var text strings.Builder
	for _, e := range h.trace[max(0, len(h.trace)-200):] {
		fmt.Fprintf(&text, "%7.2f %s\n", e.at.Seconds(), fmt.Sprintf(e.format, e.args...))
	}
	return text.String()
}

// wrote sees each write of a ConfigMap: nobody but its owner may write it, and only a dead owner may be replaced.
func (h *history) wrote(before, after Object) {
	h.mu.Lock()
	defer h.mu.Unlock()
	was, is, writer := before.Data[dataOwner], after.Data[dataOwner], after.Data[dataWriter]
	now := time.Now()
	source := slices.Index(h.names, after.Name)
	h.trace = append(h.trace, event{time.Since(h.begin), "source %d: owner %q -> %q, watermark %s",
		[]any{source, was, is, after.Data[dataWatermark]}})
	if is != "" && writer != is || is == "" && writer != was && was != "" {
		h.t.Errorf("%7.2f source %d of %s was written by %s\n%s", time.Since(h.begin).Seconds(), source, was, writer,
			h.told())
	}
	if is == "" {
		// What a pod gave back is not promised to come again when its node dies a moment later, nor when the answer was
		// under way as it died.
		for i := range h.delivered {
			if d := &h.delivered[i]; d.source == source && d.pod.id == writer {
				d.lost = false
			}
		}
	}
	if was != "" && is != "" && was != is {
		h.takeovers = append(h.takeovers, takeover{source, now, was, h.commits[was+after.Name]})
		for _, p := range h.pods {
			if p.id == was && !p.disturbed(now) {
				h.t.Errorf("%7.2f source %d was taken over by %s from %s, which was well\n%s",
					time.Since(h.begin).Seconds(),
					source, is, was, h.told())
			}
		}
	}
	if was != is {
		h.owners[source] = ownerSince{is, now}
	}
	if is != "" {
		h.commits[is+after.Name] = now
	}
}

// simPod is a process.
type simPod struct {
	h      *history
	id     string
	api    *fakeAPI
	pod    *Pod
	stanza *Stanza
	engine *engine

	// Guarded by h.mu.
	dead, left  bool
	frozen, cut time.Time // until then
	offline     time.Time // until then it does not reach Microsoft
	trouble     []span    // times in which it was frozen or cut off
}

type span struct{ from, to time.Time }

// disturbed tells whether there is a reason to take p for dead. h.mu is held.
func (p *simPod) disturbed(now time.Time) bool {
	if p.dead || p.left || p.h.shaky {
		return true
	}
	return slices.ContainsFunc(p.trouble, func(s span) bool {
		return s.to.Sub(s.from) >= 6*time.Second && now.After(s.from) && now.Before(s.to.Add(30*time.Second))
	})
}

// thaw waits while the process is frozen, and tells whether it is alive then.
func (p *simPod) thaw() bool {
	for {
		p.h.mu.Lock()
		until, dead := p.frozen, p.dead
		p.h.mu.Unlock()
		if dead || !time.Now().Before(until) {
			return !dead
		}
		time.Sleep(time.Until(until))
	}
}

// before and after are what happens to a request on its way there and back.
func (p *simPod) before(ctx context.Context, _, _ string) error {
	if !p.thaw() {
		return errCut
	}
	h := p.h
	h.mu.Lock()
	cut, away := time.Now().Before(p.cut), time.Now().Before(h.apiAway)
	dice := h.dice.Float64()
	fails, refused := dice < h.errors/2, dice < h.errors/4
	h.mu.Unlock()
	time.Sleep(time.Duration(dice*20) * time.Millisecond)
	switch {
	case cut, away && dice < 0.8:
		wait(ctx, nil, callWithin)
		return errCut
	case refused:
		return fmt.Errorf("429: %w", ErrRefused)
	case fails:
		return errors.New("500")
	}
	return nil
}

func (p *simPod) after(ctx context.Context, _, _ string) error {
	h := p.h
	h.mu.Lock()
	cut, away := time.Now().Before(p.cut), time.Now().Before(h.apiAway)
	fails := h.dice.Float64() < h.errors/2
	h.mu.Unlock()
	if cut || away {
		wait(ctx, nil, callWithin)
	}
	if !p.thaw() || cut || away || fails {
		return errCut
	}
	return nil
}

func (h *history) join() *simPod {
	h.mu.Lock()
	p := &simPod{h: h, id: fmt.Sprint("pod-", len(h.pods))}
	settings := Settings{Workers: 3, LeaseDuration: 15 * time.Second, TakeoverOverlap: historyOverlap}
	p.api = &fakeAPI{server: h.server, settings: settings, before: p.before, after: p.after,
		leads: func() { h.changed(costOfMove) }}
	p.api.skew = time.Duration(h.rng.NormFloat64() * float64(time.Hour))
	h.pods = append(h.pods, p)
	h.mu.Unlock()
	h.note("%s joins, its clock %s off", p.id, p.api.skew.Round(time.Second))
	log := slog.DiscardHandler
	if os.Getenv("HISTORY_LOG") != "" {
		log = slog.NewTextHandler(os.Stderr, nil).WithAttrs([]slog.Attr{slog.String("pod", p.id)})
	}
	p.pod = New(&Sources{API: p.api, Name: "alerts", Identity: p.id, Clock: p.api.clock, Log: slog.New(log)}, settings)
	p.engine = newEngine(p, slog.New(log))
	stanza, err := p.pod.Join(p.engine, h.sources)
	if err != nil {
		h.t.Fatal(err)
	}
	p.stanza = stanza
	return p
}

// exit is a SIGTERM: everything is given back within two seconds.
func (p *simPod) exit() {
	p.h.note("%s exits", p.id)
	p.h.changed(costOfMove + p.h.vacancy(p))
	p.engine.pause()
	time.Sleep(time.Second) // Fluent Bit waits for its outputs
	start := time.Now()
	p.engine.Leave()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second/2)
	p.stanza.Leave(ctx)
	cancel()
	p.engine.stop()
	p.pod.Close()
	p.h.mu.Lock()
	p.left = true
	well := p.h.undisturbed
	p.h.mu.Unlock()
	p.h.note("%s has exited", p.id)
	if d := time.Since(start); well && d > 2*time.Second {
		p.h.failf("%s took %s to exit", p.id, d)
	}
}

// kill ends the process, and the node with what its Fluent Bit had not sent for a while, as far as it is of sources
// that the pod had then.
func (p *simPod) kill(buffered time.Duration) {
	h := p.h
	h.changed(costOfDeath + h.vacancy(p))
	h.note("%s dies, and with it what it was given in the last %s", p.id, buffered.Round(time.Second))
	h.mu.Lock()
	p.dead = true
	for i := range h.delivered {
		o := h.owners[h.delivered[i].source]
		if d := &h.delivered[i]; d.pod == p && time.Since(d.at) < buffered && o.id == p.id && !d.at.Before(o.since) {
			d.lost = true
		}
	}
	h.mu.Unlock()
	h.corpses.Go(p.bury)
}

// bury ends what runs for a process that is dead.
func (p *simPod) bury() {
	p.pod.Close()
	p.engine.pause()
	p.engine.stop()
}

func (h *history) alive() (out []*simPod) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, p := range h.pods {
		if !p.dead && !p.left {
			out = append(out, p)
		}
	}
	return out
}

func (h *history) run() {
	kinds := []string{"join", "exit", "kill", "freeze", "cut", "offline", "away", "errors", "sick"}
	h.undisturbed = h.rng.IntN(2) == 0
	if h.undisturbed {
		kinds = kinds[:3]
	}
	for range 2 + h.rng.IntN(3) {
		h.join()
		time.Sleep(time.Duration(h.rng.IntN(5)) * time.Second)
	}
	for time.Now().Before(h.end) {
		time.Sleep(time.Duration(h.rng.ExpFloat64() * 25 * float64(time.Second)))
		alive := h.alive()
		p := alive[1:][h.rng.IntN(max(1, len(alive)-1))%max(1, len(alive)-1):]
		span := time.Duration(3+h.rng.IntN(40)) * time.Second
		switch kind := kinds[h.rng.IntN(len(kinds))]; {
		case kind == "join" && len(alive) < 5:
			h.join()
		case kind == "exit" && len(alive) > 2:
			p[0].exit()
		case kind == "kill" && len(alive) > 2:
			p[0].kill(time.Duration(h.rng.Int64N(int64(historyOverlap))))
		case kind == "freeze" && len(p) > 0:
			h.disturb(p[0], span, &p[0].frozen, "frozen")
		case kind == "cut" && len(p) > 0:
			h.disturb(p[0], span, &p[0].cut, "cut off")
		case kind == "offline" && len(p) > 0:
			h.disturb(p[0], span, &p[0].cut, "cut off")
			h.disturb(p[0], span, &p[0].offline, "cut off from Microsoft too")
		case kind == "sick":
			h.note("Microsoft fails half of the requests for %s", span)
			h.mu.Lock()
			h.sick = time.Now().Add(span)
			h.mu.Unlock()
		case kind == "away":
			h.note("the API server is away for %s", span)
			h.mu.Lock()
			h.apiAway = time.Now().Add(span)
			h.shaky = h.shaky || h.errors > 0
			h.mu.Unlock()
		case kind == "errors":
			h.mu.Lock()
			h.errors = []float64{0, 0, 0.1, 0.5}[h.rng.IntN(4)]
			h.shaky = h.shaky || h.errors > 0.2 || h.errors > 0 && !h.apiAway.IsZero()
			h.mu.Unlock()
			h.note("of the requests to the API server %.0f %% fail", 100*h.errors)
		}
	}
	h.mu.Lock()
	h.errors = 0
	h.mu.Unlock()
	time.Sleep(4 * time.Minute) // all is well again for long
	for _, p := range h.alive() {
		p.exit()
	}
	h.corpses.Wait()
}

func (h *history) disturb(p *simPod, d time.Duration, what *time.Time, how string) {
	h.note("%s is %s for %s", p.id, how, d)
	h.mu.Lock()
	defer h.mu.Unlock()
	*what = time.Now().Add(d)
	p.trouble = append(p.trouble, span{time.Now(), *what})
}

func play(t *testing.T, seed uint64) {
	h := &history{
		t: t, rng: rand.New(rand.NewPCG(seed, 16)), dice: rand.New(rand.NewPCG(seed, 17)), server: newServer(),
		begin:   time.Now(),
		commits: map[string]time.Time{}, owners: map[int]ownerSince{}, byKey: map[string][2]int{},
	}
	h.end = h.begin.Add(time.Duration(90+h.rng.IntN(120)) * time.Second)
	h.server.wrote = h.wrote
	h.populate()
	h.run()
	h.check()
}

func TestMain(m *testing.M) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(1600) // a history makes garbage, and little lives
	}
	os.Exit(m.Run())
}

func TestHistories(t *testing.T) {
	n := 30
	if v := os.Getenv("HISTORIES"); v != "" {
		n, _ = strconv.Atoi(v)
	}
	first := rand.Uint64N(1 << 40)
	if v := os.Getenv("HISTORY"); v != "" {
		first, _ = strconv.ParseUint(v, 10, 64)
		n = 1
	}
	for shard := range 2 {
		t.Run(strconv.Itoa(shard), func(t *testing.T) {
			t.Parallel()
			for i := shard; i < n && !t.Failed(); i += 2 {
				seed := first + uint64(i)
				if !t.Run(fmt.Sprint(seed), func(t *testing.T) {
					synctest.Test(t,
						func(t *testing.T) { play(t, seed) })
				}) {
					t.Logf("HISTORY=%d go test ./share -run TestHistories plays it again, though not in the same "+
						"order within a millisecond, "+
						"nor with the same jitter of polls and looks: try it some times; HISTORY_LOG=1 writes "+
						"the log lines", seed)
				}
			}
		})
	}
}
