package pull

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"fluent-bit-defender/client"
	"fluent-bit-defender/conf"
	"fluent-bit-defender/internal/defendersim"
	"fluent-bit-defender/plan"
)

// plan is one history: what the service does, what goes wrong, and when the process pauses, restarts or dies. All of
// it is drawn before the history is lived, so that rapid can shrink and replay it.
type life struct {
	seed  uint64
	cfg   conf.Config
	modes defendersim.Modes
	mix   defendersim.Mix
	rows  int
	span  time.Duration // how long things arrive and go wrong; then everything heals

	faultShare float64
	faults     []int         // of faultKinds
	failSpan   time.Duration // 0: none
	poison     int           // rows that are broken until all heals
	skews      bool          // single Dates are off by an hour
	shift      time.Duration // the service's clock jumps
	diskFull   bool
	secretFile string        // in place of a secret in the configuration
	slowOver   time.Duration // windows longer than that take longer than read_timeout; 0: none does
	next       *conf.Config  // every other life has this configuration; nil: all have cfg
	progress   int64         // bytes of an answer that may bring nothing new; 0: as in life
	floor      int           // rows at which a cap of the service can be suspected; 0: 20, for histories are small
	maxIDs     int           // 0: as in life
	events     []event

	graph   bool // Microsoft Graph instead of the SIEM API
	updates int  // of its alerts
	first   bool // updates first

	ends *ending // of the SIEM API; nil: it lives on, and has no successor
}

// mostRequests of one history are far more than any needs.
const mostRequests = 200_000

type event struct {
	at   time.Duration
	what string // pause, restart, reload while paused, crash
	last time.Duration
}

// faultKinds are the faults that a request may have by chance.
var faultKinds = []struct {
	name string
	make func(r *rand.Rand) *defendersim.Fault
}{
	{"500", func(*rand.Rand) *defendersim.Fault { return defendersim.Status(500) }},
	{"503", func(*rand.Rand) *defendersim.Fault { return defendersim.Status(503) }},
	{"401", func(*rand.Rand) *defendersim.Fault { return defendersim.Status(401) }},
	{"403", func(*rand.Rand) *defendersim.Fault { return defendersim.Status(403) }},
	{"429 seconds", func(r *rand.Rand) *defendersim.Fault {
		return defendersim.Throttle(time.Duration(1+r.IntN(30)) * time.Second)
	}},
	{"429 date", func(r *rand.Rand) *defendersim.Fault {
		return defendersim.ThrottleUntil(time.Duration(1+r.IntN(30)) * time.Second)
	}},
	{"refused", func(*rand.Rand) *defendersim.Fault { return defendersim.Refused() }},
	{"reset", func(*rand.Rand) *defendersim.Fault { return defendersim.ResetEarly() }},
	{"broken", func(r *rand.Rand) *defendersim.Fault {
		return defendersim.CutOf(r.Float64(), defendersim.CutBroken)
	}},
	{"cut", func(r *rand.Rand) *defendersim.Fault { return defendersim.CutOf(r.Float64(), defendersim.CutText) }},
	{"cut on the wire", func(r *rand.Rand) *defendersim.Fault {
		return defendersim.CutOf(r.Float64(), defendersim.CutWire)
	}},
	{"html", func(*rand.Rand) *defendersim.Fault { return defendersim.HTML() }},
	{"empty", func(*rand.Rand) *defendersim.Fault { return defendersim.EmptyBody() }},
	{"no alerts", func(*rand.Rand) *defendersim.Fault { return defendersim.NoAlerts() }},
	{"never closed", func(*rand.Rand) *defendersim.Fault { return defendersim.NeverClosed() }},
	{"slow", func(r *rand.Rand) *defendersim.Fault { return defendersim.Slow(2000 + r.IntN(20000)) }},
	{"late", func(r *rand.Rand) *defendersim.Fault {
		return defendersim.Late(time.Duration(r.IntN(90)) * time.Second)
	}},
	{"hang", func(*rand.Rand) *defendersim.Fault { return defendersim.Hang() }},
	{"partial", func(r *rand.Rand) *defendersim.Fault { return defendersim.Partial(0.1 + 0.8*r.Float64()) }},
}

// tokenFaults befall token requests.
var tokenFaults = []func() *defendersim.Fault{
	func() *defendersim.Fault { return defendersim.Status(500) },
	func() *defendersim.Fault { return defendersim.Status(429) },
	func() *defendersim.Fault { return defendersim.Refused() },
	func() *defendersim.Fault { return defendersim.Entra(7000215) },
	func() *defendersim.Fault { return defendersim.Entra(90033) },
}

func drawLife(t *rapid.T) life {
	pick := func(name string, from ...time.Duration) time.Duration { return rapid.SampledFrom(from).Draw(t, name) }
	chance := func(name string, of int) bool { return rapid.IntRange(0, of-1).Draw(t, name) == 1 }
	p := life{seed: rapid.Uint64().Draw(t, "seed")}
	c := &p.cfg
	c.PollInterval = pick("poll", 10*time.Second, 30*time.Second, time.Minute)
	c.Overlap = pick("overlap", time.Minute, 10*time.Second, 3*time.Minute)
	c.MaxWindow = pick("max_window", time.Hour, time.Minute, 10*time.Minute)
	c.InitialLookback = pick("lookback", 10*time.Minute, time.Minute, time.Hour)
	c.RetryMax = pick("retry_max", 10*time.Second, time.Minute)
	c.ConnectTimeout, c.ReadTimeout = 10*time.Second, 20*time.Second
	c.Limit = rapid.SampledFrom([]int{0, 0, 1, 2, 7, 50}).Draw(t, "limit")
	c.BatchSize = rapid.SampledFrom([]int{1 << 20, 4096, 16384}).Draw(t, "batch")
	c.QueueLimit = c.BatchSize * rapid.SampledFrom([]int{8, 1, 2}).Draw(t, "queue")
	c.MaxAlertSize = c.BatchSize
	if chance("ago", 4) {
		c.Ago = c.Overlap + c.PollInterval + pick("ago more", 0, time.Minute, 10*time.Minute)
		c.AgoText = fmt.Sprintf("PT%dS", int(c.Ago.Seconds()))
	}
	m := &p.modes
	m.SinceExclusive, m.UntilExclusive = rapid.Bool().Draw(t, "since exclusive"),
		rapid.Bool().Draw(t, "until exclusive")
	m.TruncateBounds = pick("truncate bounds", 0, 0, time.Second, time.Millisecond)
	m.TruncateRows = pick("truncate rows", 0, 0, 0, time.Second)
	m.Order = rapid.SampledFrom([]defendersim.Order{defendersim.Ascending, defendersim.Descending,
		defendersim.Random}).Draw(t, "order")
	m.Form = rapid.SampledFrom([]defendersim.Form{defendersim.FormArray, defendersim.FormValue,
		defendersim.FormSingle}).Draw(t, "form")
	m.Gzip, m.ContentLength = chance("gzip", 4), rapid.Bool().Draw(t, "content-length")
	m.RefuseFuture = rapid.Bool().Draw(t, "refuse future")
	m.UntimedFor = 4 * time.Hour
	m.UntimedNewest = rapid.Bool().Draw(t, "untimed newest")
	if chance("stall cut", 4) {
		m.StallCut = 30 * time.Second
	}

	p.rows = rapid.IntRange(0, 120).Draw(t, "rows")
	p.span = time.Duration(rapid.IntRange(5, 25).Draw(t, "minutes")) * time.Minute
	p.mix = defendersim.Mix{Late: c.Overlap - time.Second, LateShare: 0.3, TieShare: 0.2, UpdateShare: 0.1,
		PartShare: 0.1}
	if c.Limit == 0 && chance("untimed", 4) {
		p.mix.UntimedShare = 0.05 // behind a limit such rows may be hidden for good
	}
	if c.Limit == 0 && p.mix.UntimedShare == 0 && chance("cap", 5) {
		m.Cap = rapid.SampledFrom([]int{20, 30, 50}).Draw(t, "cap size")
	}
	kinds := len(faultKinds) - 1 // the last is Graph's
	if chance("graph", 3) {
		kinds++
		drawGraph(t, &p)
	}
	if rapid.Bool().Draw(t, "faulty") {
		p.faultShare = rapid.SampledFrom([]float64{0.1, 0.3, 0.7}).Draw(t, "fault share")
		p.faults = rapid.SliceOfNDistinct(rapid.IntRange(0, kinds-1), 1, 5, rapid.ID).Draw(t, "faults")
	}
	if chance("fail span", 5) {
		p.failSpan = pick("fails", time.Second, 20*time.Second, 3*time.Minute, 12*time.Minute)
	}
	if chance("slow windows", 8) {
		p.slowOver = pick("slow over", 2*time.Minute, 5*time.Minute)
	}
	if chance("poison", 5) {
		p.poison = rapid.IntRange(1, 2).Draw(t, "poisoned")
	}
	if p.faultShare == 0 && p.failSpan == 0 && chance("skews", 4) {
		p.skews = true
	}
	if chance("shift", 6) {
		p.shift = pick("jump", time.Hour, -50*time.Minute, 20*time.Second, -20*time.Second)
	}
	p.diskFull = chance("disk full", 6)
	if chance("changes", 5) {
		c := p.cfg
		c.MaxWindow = pick("next max_window", time.Hour, time.Minute)
		c.PollInterval = pick("next poll", 10*time.Second, time.Minute)
		c.Ago, c.AgoText = 0, ""
		if !p.graph && rapid.Bool().Draw(t, "next ago") {
			c.Ago, c.AgoText = c.Overlap+2*time.Minute, fmt.Sprintf("PT%dS", int((c.Overlap+2*time.Minute).Seconds()))
		}
		if m.Cap == 0 && p.mix.UntimedShare == 0 {
			c.Limit = rapid.SampledFrom([]int{0, 3, 20}).Draw(t, "next limit")
		}
		p.next = &c
	}
	for range rapid.IntRange(0, 4).Draw(t, "events") {
		p.events = append(p.events, event{
			at:   time.Duration(rapid.IntRange(0, int(p.span/time.Millisecond)).Draw(t, "at")) * time.Millisecond,
			what: rapid.SampledFrom([]string{"pause", "restart", "crash", "stop while paused"}).Draw(t, "what"),
			last: time.Duration(rapid.IntRange(0, 120_000).Draw(t, "for")) * time.Millisecond,
		})
	}
	return p
}

// TestHistories lives histories at random and holds the guarantees against each: nothing lost, nothing twice, no
// request sooner after an error than the back-off allows.
func TestHistories(t *testing.T) {
	lives(1)
	for shard := range 2 {
		t.Run(strconv.Itoa(shard), func(t *testing.T) {
			t.Parallel()
			rapid.Check(t, func(rt *rapid.T) {
				p := drawLife(rt)
				var h *history
				synctest.Test(t, func(*testing.T) { h = relive(p) })
				if len(h.faults) > 0 {
					rt.Fatalf("%s\n%+v\n%s%s", strings.Join(h.faults, "\n"), p, h.log.String(), h.journal())
				}
			})
		})
	}
}

type history struct {
	life
	svc     *defendersim.Service
	rnd     *rand.Rand // of events
	wire    *rand.Rand // of faults
	disk    *crashStore
	core    *core
	source  *Source
	store   *crashStore
	began   time.Time
	since   time.Time // start of the first life that stored anything
	before  int       // requests before it
	healed  atomic.Bool
	crashes []arrival // when and in which life the process lost what was not durable
	starts  []time.Time
	faults  []string
	joined  *joined // both APIs; nil: one is pulled
	over    wire    // between client and service; nil: nothing
	lost    int
	log     strings.Builder
}

func (h *history) fail(format string, args ...any) {
	if len(h.faults) < 10 {
		h.faults = append(h.faults, fmt.Sprintf(format, args...))
	}
}

// newHistory makes the service and the core of a plan; alerts and the first start are the caller's.
func newHistory(p life) *history {
	h := &history{
		life: p, rnd: rand.New(rand.NewPCG(p.seed, 1)), wire: rand.New(rand.NewPCG(p.seed, 3)),
		disk: newDisk(), began: time.Now().UTC()}
	h.svc = defendersim.New(defendersim.Config{Seed: p.seed, Modes: p.modes, JournalSize: 100_000})
	h.core = &core{arrived: map[string][]arrival{}, keyOf: defendersim.KeyOf}
	if p.graph {
		h.core.keyOf = h.graphKey
	}
	if p.ends != nil {
		h.joined = &joined{}
		h.core.keyOf = h.keyOfBoth
	}
	h.svc.OnRequest(h.fault)
	return h
}

// live lives p inside a bubble and checks it.
func relive(p life) *history {
	h := newHistory(p)
	keys := h.populate()
	for i := range min(p.poison, len(keys)) {
		h.svc.Poison(keys[h.rnd.IntN(len(keys)-i)], h.began.Add(p.span+p.shift), "")
	}
	if p.failSpan > 0 {
		from := h.began.Add(time.Duration(h.rnd.Int64N(int64(p.span))))
		h.svc.FailSpan(from, from.Add(p.failSpan), h.began.Add(p.span+p.shift), defendersim.Status(500))
	}
	if p.diskFull {
		full := h.began.Add(p.span / 3)
		h.disk.faulty = func() error {
			if now := time.Now(); now.After(full) && now.Before(full.Add(p.span/3)) && !h.healed.Load() {
				return errors.New("no space left on device")
			}
			return nil
		}
	}
	h.start()
	h.run()
	h.stop(false)
	h.check()
	total.add(h)
	return h
}

// populate gives the service its alerts and returns their keys.
func (h *history) populate() (keys []string) {
	rnd, from, to := rand.New(rand.NewPCG(h.seed, 2)), h.began.Add(-2*h.cfg.InitialLookback), h.began.Add(h.span)
	switch {
	case h.graph:
		return h.populateGraph(rnd, from, to)
	case h.ends != nil:
		h.populateBoth(rnd, from, to)
		return nil
	}
	for _, a := range defendersim.Generate(rnd, h.rows, from, to, h.mix) {
		h.svc.Add(a)
		keys = append(keys, a.Key())
	}
	return keys
}

// fault is what goes wrong with one request.
func (h *history) fault(req defendersim.Request) *defendersim.Fault {
	if req.N > mostRequests {
		panic(fmt.Sprintf("more than %d requests: %+v", mostRequests, h.life))
	}
	if h.skews {
		// Single Dates only, never two in a row. What is set here holds for the next request.
		h.svc.SetModes(func(m *defendersim.Modes) {
			wrong := time.Hour
			if h.shift == wrong {
				// one that is wrong by just what the clock jumped looks as if it had not jumped, and nobody could tell
				wrong += time.Minute
			}
			off := time.Duration(h.wire.IntN(2)*2-1) * wrong
			if m.DateOffset != 0 || h.wire.IntN(5) > 0 || req.N < 4 { // the first Date of all must be believed
				off = 0
			}
			m.DateOffset = off
		})
	}
	if h.ends != nil && req.Kind == defendersim.KindAlerts {
		if f := h.ends.fault(time.Since(h.began)); f != nil {
			return f
		}
	}
	if !h.healed.Load() && h.slowOver > 0 && req.Kind != defendersim.KindToken &&
		req.Query.Until.Sub(req.Query.Since) > h.slowOver {
		return defendersim.Late(h.cfg.ReadTimeout + 5*time.Second)
	}
	if h.healed.Load() || h.wire.Float64() >= h.faultShare || len(h.life.faults) == 0 {
		return nil
	}
	if req.Kind == defendersim.KindToken {
		return tokenFaults[h.wire.IntN(len(tokenFaults))]()
	}
	return faultKinds[h.life.faults[h.wire.IntN(len(h.life.faults))]].make(h.wire)
}

func (h *history) start() {
	cfg := h.cfg
	if h.next != nil && len(h.starts)%2 == 1 {
		cfg = *h.next
	}
	cfg.API, cfg.TenantID, cfg.ClientID = "siem", defendersim.DefaultTenant, defendersim.DefaultClientID
	cfg.Auth, cfg.ClientSecret = "client_secret", conf.Secret(defendersim.DefaultSecret)
	if h.secretFile != "" {
		cfg.ClientSecret, cfg.ClientSecretFile = "", h.secretFile
	}
	cfg.URL, cfg.Resource = defendersim.AlertsHost+"/api/alerts", defendersim.DefaultResource
	cfg.TokenURL = defendersim.LoginHost + "/" + defendersim.DefaultTenant + "/oauth2/token"
	cfg.TimeKey = "AlertTime"
	if h.graph {
		h.useGraph(&cfg)
	}
	log := slog.New(slog.NewTextHandler(&h.log, &slog.HandlerOptions{Level: slog.LevelInfo}))
	c, err := client.New(&cfg, client.WithTransport(h.over.of(h.svc.Transport())), client.WithLogger(log))
	if err != nil {
		panic(err)
	}
	var next *client.Client
	if h.ends != nil {
		cfg.Successor, cfg.SuccessorAfter = h.successorOf(cfg), h.ends.after
		if next, err = client.New(cfg.Successor, client.WithTransport(h.svc.Transport()),
			client.WithLogger(log)); err != nil {
			panic(err)
		}
	}
	h.store = h.disk.open()
	jitter := rand.New(rand.NewPCG(h.seed, uint64(len(h.starts))))
	s, err := newSource(&cfg, c, next, h.store, log, tuning{jitter: jitter.Float64, capFloor: cmp.Or(h.floor, 20),
		maxIDs: h.maxIDs})
	if err != nil {
		panic(err)
	}
	e := NewRunner(OptionsOf(&cfg, log))
	e.progressMost = cmp.Or(h.progress, progressMost)
	h.starts = append(h.starts, time.Now())
	if !h.disk.found {
		stats := h.svc.Stats()
		h.since, h.before = time.Now(), stats.Alerts+stats.Graph+stats.Tokens+stats.Other
	}
	h.core.engine, h.core.paused = e, false
	h.core.lives++
	e.Start()
	if err := e.Add(s); err != nil {
		panic(err)
	}
	h.source = s
}

// stop ends the process: cleanly, or as kill -9 does.
func (h *history) stop(crash bool) {
	c := h.core
	lost := crash || c.paused
	if lost {
		h.crashes = append(h.crashes, arrival{c.lives, c.active, time.Now()})
	}
	if crash {
		h.store.dead.Store(true)
	} else if !c.paused {
		c.pause()
		c.engine.Pause()
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if err := c.engine.Stop(ctx); err != nil && !crash && !h.diskFull {
		h.fail("stop: %v", err)
	}
	if lost {
		c.ring = nil
	} else {
		c.drain(true)
	}
}

// run lives the span with its events, heals everything, and lives on until all must have come.
func (h *history) run() {
	shiftAt := h.began.Add(h.span / 2)
	var resumeAt time.Time
	events := h.events
	due := func(e event) bool { return time.Since(h.began) >= e.at }
	// After the span: the longest waits of the engine, then gaps, then what becomes visible late.
	poll := 3 * h.cfg.PollInterval
	if h.next != nil {
		// an unread range behind a limit is halved once in a poll
		poll = 8 * max(h.cfg.PollInterval, h.next.PollInterval)
	}
	if h.ends != nil {
		poll += h.ends.after + 2*h.cfg.RetryMax + 4*time.Minute
	}
	rest := h.cfg.Overlap + poll + 6*h.cfg.RetryMax + 4*time.Minute + max(h.shift, 0)
	for time.Since(h.began) < h.span+rest+max(-h.shift, 0) {
		if !h.healed.Load() && time.Since(h.began) >= h.span {
			h.healed.Store(true)
			if h.core.paused {
				h.core.resume()
			}
		}
		if h.shift != 0 && time.Now().After(shiftAt) {
			h.svc.Shift(h.shift)
			shiftAt = h.began.Add(1000 * time.Hour)
		}
		if h.core.paused && time.Now().After(resumeAt) {
			h.core.resume()
		}
		for i := 0; i < len(events) && !h.healed.Load(); i++ {
			if !due(events[i]) {
				continue
			}
			ev := events[i]
			events = append(append([]event{}, events[:i]...), events[i+1:]...)
			i--
			h.core.live(time.Duration(h.rnd.IntN(900)) * time.Millisecond)
			switch ev.what {
			case "pause":
				if !h.core.paused {
					h.core.pause()
				}
				resumeAt = time.Now().Add(ev.last)
				continue
			case "stop while paused":
				if !h.core.paused {
					h.core.pause()
				}
				h.core.live(time.Duration(h.rnd.IntN(9000)) * time.Millisecond)
				h.stop(false)
			default:
				h.stop(ev.what == "crash")
			}
			time.Sleep(ev.last / 4)
			h.start()
		}
		h.core.live(time.Second)
		h.core.take()
	}
}

func (h *history) check() {
	for _, s := range h.core.broken {
		h.fail("%s", s)
	}
	if s := h.core.engine.Stats(); s.Queued == 0 && s.Rows != s.Delivered+s.Raw+s.Duplicates {
		h.fail("%d rows came, and %d were delivered, %d raw, %d duplicates", s.Rows, s.Delivered, s.Raw, s.Duplicates)
	}
	from := h.began.Add(1000 * time.Hour) // the earliest time that was asked for since anything was stored
	for _, en := range h.svc.Journal() {
		if wider := en.Query.Until.Sub(en.Query.Since) - plan.Edge; wider >= 0 && wider < time.Microsecond {
			continue // asked for its Date alone; bounds are widened to whole 100 ns
		}
		if en.Kind != defendersim.KindToken && en.N > h.before && en.Query.Ago == 0 && en.Query.Since.Before(from) &&
			!en.Query.Since.IsZero() {
			from = en.Query.Since
		}
	}
	from = from.Add(plan.Edge)
	due := h.since.Add(-h.cfg.InitialLookback + time.Second)
	if h.since.After(h.began.Add(h.span / 2)) {
		due = due.Add(h.shift)
	}
	if h.shift == 0 || from.Before(due) { // what is older may come, by an overlap that is longer than the lookback
		from = due
	}
	switch {
	case h.graph:
		h.checkGraph(from)
	case h.ends != nil:
		h.checkBoth(from)
	default:
		for _, row := range h.svc.Due(defendersim.Filter{}, from, h.began.Add(h.span), h.cfg.Overlap) {
			if !row.Poisoned && len(h.core.arrived[row.ID]) == 0 && !h.core.inInvalidText(row.FullID, row.Processed) {
				h.lost++
				h.fail("lost: %s processed %s visible %s", row.ID, row.LastProcessed.Sub(h.began),
					row.VisibleAt.Sub(h.began))
			}
		}
	}
	for key, came := range h.core.arrived {
		for i := 1; i < len(came); i++ {
			if !h.repeatable(came[i-1]) {
				h.fail("twice: %s in life %d after %s, again in life %d", key, came[i-1].life,
					came[i-1].at.Sub(h.began), came[i].life)
			}
		}
	}
	h.checkRequests()
}

// repeatable tells whether what arrived then may come again: it was not durable when its process lost it.
func (h *history) repeatable(a arrival) bool {
	allowed := safeAfter + 2*commitEvery
	if h.diskFull {
		allowed += h.span
	}
	for _, c := range h.crashes {
		if c.life == a.life && c.active-a.active <= allowed {
			return true
		}
	}
	// Beyond a crash, commits that failed are lost as well.
	return h.diskFull && a.life < h.core.lives
}

// journal lists the requests, if JOURNAL is set: to look into a history that failed.
func (h *history) journal() string {
	if os.Getenv("JOURNAL") == "" {
		return ""
	}
	var text strings.Builder
	at := func(t time.Time) time.Duration { return t.Sub(h.began).Round(time.Millisecond) }
	for _, en := range h.svc.Journal() {
		q := en.Query
		fmt.Fprintf(&text, "%d at %s done %s: %v from %s to %s ago %s page %t limit %d: %d %s, %d rows\n",
			en.N, at(en.At), at(en.Done), en.Kind, at(q.Since), at(q.Until), q.Ago, en.Graph.Page, q.Limit, en.Status,
			en.Fault, en.Rows)
	}
	return text.String()
}

// checkRequests holds the requests against the back-off: after an error nothing is asked for three quarters of a
// second.
func (h *history) checkRequests() {
	if h.shift != 0 || h.modes.StallCut != 0 {
		return // service times cannot be compared; an answer that we held is asked again at once
	}
	lasts := map[defendersim.Kind]defendersim.Entry{} // what fails there says nothing of a successor
	journal := h.svc.Journal()
	slices.SortFunc(journal, func(a, b defendersim.Entry) int { return a.N - b.N })
	for _, en := range journal {
		if en.Kind == defendersim.KindToken {
			continue
		}
		last := lasts[en.Kind]
		restarted := slices.ContainsFunc(h.starts, func(s time.Time) bool {
			return !s.Before(last.At) && !s.After(en.At)
		})
		if last.Graph.Page && last.Status == 400 {
			last.Status = 200 // a refused link: its window is halved, at the pace of all requests to Graph
		}
		failed := last.N > 0 && last.Status != 200 && last.Status != 206 && last.Status != 401
		if failed && !restarted && en.At.Sub(last.Done) < 750*time.Millisecond {
			h.fail("request %d came %s after request %d failed with %d %s", en.N, en.At.Sub(last.Done), last.N,
				last.Status, last.Fault)
		}
		lasts[en.Kind] = en
	}
}
