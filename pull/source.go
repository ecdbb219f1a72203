package pull

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"fluent-bit-defender/client"
	"fluent-bit-defender/conf"
	"fluent-bit-defender/ledger"
	"fluent-bit-defender/plan"
	"fluent-bit-defender/record"
	"fluent-bit-defender/shape"
	"fluent-bit-defender/state"
	"fluent-bit-defender/transport"
)

const (
	graphPage  = 1000        // rows of a page of Microsoft Graph, where no limit is set
	capFloor   = 1000        // fewest rows of an answer that may have met a cap of the service
	crashPause = time.Minute // rest after an internal error
	glanceMost = 64 << 10    // bytes of an answer that is asked for its head
	glanceFor  = time.Second // the same in time
)

// Source is one tenant with its filters: it asks, drops what was seen, and delivers the rest into the queue of its
// runner. It does one step at a time, when the runner tells it to; between two it has no goroutine, timer, connection
// or buffer.
type Source struct {
	key     state.Key
	store   state.Store
	log     *slog.Logger
	born    time.Time        // local
	clients []*client.Client // of its API, and of that one's successor
	onGraph atomic.Bool      // for the metrics
	only    *plan.Range      // of Once; nil: all

	// Each of these is used by one step at a time.
	cfg      *conf.Config
	client   *client.Client
	rows     string // the kind of reader that its rows need
	planner  *plan.Planner
	next     *successor // nil: the API has none, or it is pulled already
	dateless bool       // the service sends no Date: the local clock counts
	syntax   syntaxErrors
	report   reports

	ledger *ledger.Ledger // safe for concurrent use
	lane   lane           // the queue's
	run    *Runner        // set once, by Add
}

// KeyOf is the key of the state of the source that cfg describes.
func KeyOf(cfg *conf.Config) state.Key {
	return state.Key{API: cfg.API, Place: cfg.Place(), Tenant: cfg.TenantID, Filters: cfg.Filters()}
}

// tuning is what only tests change.
type tuning struct {
	jitter   func() float64 // in [0, 1); tests replace it to replay a history
	capFloor int
	maxIDs   int // 0: as in life
}

// NewSource loads the state of one tenant from st. The source owns st and the clients once it was added to a runner,
// which closes them. next is the client of cfg.Successor, nil where that is. It returns the error of Store.Load.
func NewSource(cfg *conf.Config, c, next *client.Client, st state.Store, log *slog.Logger) (*Source, error) {
	return newSource(cfg, c, next, st, log, tuning{jitter: rand.Float64, capFloor: capFloor})
}

func newSource(
	cfg *conf.Config, c, next *client.Client, st state.Store, log *slog.Logger, tune tuning,
) (*Source, error) {
	snap, err := st.Load()
	if err != nil {
		return nil, fmt.Errorf("load the state: %w", err)
	}
	s := &Source{key: KeyOf(cfg), store: st, log: log, born: time.Now(), clients: []*client.Client{c}}
	opt := ledger.Options{Max: tune.maxIDs}
	if next != nil {
		s.clients = append(s.clients, next)
		opt.Alerts = rememberAlerts(cfg)
		s.next = &successor{cfg: cfg.Successor, client: next, tune: tune,
			decide: plan.NewSuccession(cfg.SuccessorAfter, s.born, tune.jitter())}
		if !snap.Succeeded.IsZero() {
			cfg, c, s.next = cfg.Successor, next, nil
		}
	} else if !snap.Succeeded.IsZero() {
		log.Warn(fmt.Sprintf("the state says that Microsoft Graph took over from the SIEM API at %s, but successor "+
			"graph is not set: asking the SIEM API again",
			snap.Succeeded.Format(time.RFC3339)))
	}
	opt.FirstOnly = cfg.Updates == "first"
	if m, ok := st.(interface{ Release() }); ok {
		m.Release()
		opt.Whole = true
	}
	s.ledger = ledger.New(snap, opt)
	s.lane.ledger = s.ledger
	s.begin(cfg, c, snap, tune)
	return s, nil
}

// begin has s pulled as cfg says from now on.
func (s *Source) begin(cfg *conf.Config, c *client.Client, start state.Snapshot, tune tuning) {
	s.cfg, s.client, s.dateless = cfg, c, false
	s.rows = fmt.Sprintf("%+v %s %v", s.readerOptions(cfg), cfg.Format, cfg.KeepNative)
	s.onGraph.Store(cfg.API == conf.Graph)
	p := plan.Config{
		Overlap: cfg.Overlap, MaxWindow: cfg.MaxWindow, Lookback: cfg.InitialLookback, PollInterval: cfg.PollInterval,
		RetryMax: cfg.RetryMax,
		Ago:      cfg.Ago, Limit: cfg.Limit, CapFloor: tune.capFloor, Jitter: tune.jitter,
	}
	if cfg.API == conf.Graph {
		p.PageSize = cmp.Or(cfg.Limit, graphPage)
	}
	s.planner = plan.New(p, start, s.born)
}

// readerOptions are those of a reader for rows of this source.
func (s *Source) readerOptions(cfg *conf.Config) record.Options {
	schema, alerts := record.SIEM, []string{"AlertId"}
	if cfg.API == conf.Graph {
		schema, alerts = record.Graph, []string{"id", "providerAlertId"}
		schema.FirstOnly = cfg.Updates == "first"
	}
	if len(s.clients) == 1 {
		alerts = nil
	}
	return record.Options{Schema: schema, Alerts: alerts, TimeKey: cfg.TimeKey, EventIDKey: cfg.EventIDKey,
		TenantKey: cfg.TenantIDKey, DropNull: cfg.DropNull,
		MaxAlert: cfg.MaxAlertSize, MaxRecord: cfg.BatchSize}
}

// newReader returns a reader for rows of this source, which come in the format that the stanza wants.
func (s *Source) newReader() *record.Reader {
	opt := s.readerOptions(s.cfg)
	if opt.Encode, opt.EncodeRaw = shape.Encoders(s.cfg.Format, s.cfg.API, s.cfg.KeepNative); opt.Encode != nil {
		opt.MaxRecord = max(s.cfg.BatchSize, min(shapedMost*s.cfg.MaxAlertSize, conf.MaxBatchSize))
	}
	return record.NewReader(opt)
}

// shapedMost is how many times the size of its alert a record in another shape may have: with the native alert beside
// it up to three times. One that is larger than a batch is a batch of its own.
const shapedMost = 4

// clock is what is known of the time now.
func (s *Source) clock() plan.Clock {
	c := plan.Clock{Local: time.Now(), Trusted: s.client.Trusted(), Disputed: s.client.Disputed()}
	if t, ok := s.client.Known(); ok {
		c.Service = t
	} else if s.dateless {
		c.Service = c.Local.Round(0).UTC()
	}
	return c
}

// result is what one step came to.
type result struct {
	plan.Answer
	kind plan.Kind
	due  time.Time // local: when the next is; zero: never
	err  error
}

// step does what the planner asks for next, and tells when the next is due, by the local clock; zero: never. asked:
// it sent a request. An end of ctx cuts it short.
func (s *Source) step(ctx context.Context) (due time.Time, asked bool) {
	defer func() {
		if p := recover(); p != nil { // a fault of ours must not end Fluent Bit, nor the pulling
			tellInternal(s.log, "pulling", p)
			due = time.Now().Add(crashPause)
			s.planner.Abandon(due)
		}
	}()
	r := s.do(ctx, nil)
	return r.due, r.kind != plan.Wait
}

// do takes one step. If over is not nil and says so of what came, the planner does not hear of it, and nothing is told.
func (s *Source) do(ctx context.Context, over func(result) bool) (r result) {
	ask, look := s.looks()
	if ask {
		return s.askSuccessor(ctx)
	}
	next := s.planner.Next(s.clock())
	r.kind = next.Kind
	s.tellFacts()
	s.checkpoint() // before the rows of what is asked next: the poll may have begun by it
	switch next.Kind {
	case plan.Wait:
		r.due = next.At
		if !look.IsZero() && look.Before(r.due) {
			r.due = look
		}
		return r
	case plan.GetTime:
		r.err = s.getTime(ctx)
	case plan.Glance:
		r.err = s.glance(ctx, next.Request)
	case plan.Ask:
		r.Answer, r.err = s.request(ctx, next.Request)
	}
	switch cause := context.Cause(ctx); {
	case cause == errPutOff && r.err != nil:
		r.err = errPutOff
	case cause != nil && cause != errPutOff:
		return result{kind: next.Kind, err: cause}
	}
	s.run.meter.outcome(s, r.err != nil)
	s.heard(r.err)
	r.Failure = failureOf(r.err, next.Request.Page != "")
	if r.err != nil {
		r.Reason = s.textOf(r.err)
		var ce *transport.Error
		if errors.As(r.err, &ce) {
			r.After = ce.RetryAfter
		}
	}
	if over != nil && over(r) {
		return r
	}
	now := s.clock()
	o := s.planner.Answer(now, r.Answer)
	s.tellFailure(r.Answer, o, r.err)
	s.tellFacts()
	s.checkpoint()
	r.due = now.Local
	return r
}

// checkpoint hands what the planner knows now to the ledger and the runner.
func (s *Source) checkpoint() {
	clock := s.clock()
	if s.planner.Watermark().IsZero() {
		return // no poll has begun: nothing is known
	}
	s.ledger.Checkpoint(ledger.Checkpoint{Seq: s.lane.seq, Watermark: s.planner.Watermark(), Unread: s.planner.Unread(),
		KeepFrom: s.planner.KeepFrom(clock)})
	p := position{watermark: s.planner.Watermark(), unread: len(s.planner.Unread()), lastDone: s.planner.LastDone()}
	p.service, p.local = s.planner.Began()
	s.run.meter.place(s, p)
}

// getTime finds the service's time with a request for a token.
func (s *Source) getTime(ctx context.Context) error {
	asked := time.Now()
	_, err := s.client.Now(ctx)
	if err != nil {
		s.run.meter.request(err, false, asked)
		return err
	}
	_, known := s.client.Known()
	s.dateless = !known
	return nil
}

// glance makes a request for its Date, or its status, alone. What comes of the answer counts for nothing.
func (s *Source) glance(ctx context.Context, r plan.Request) error {
	asked := time.Now()
	ans, err := s.client.Fetch(ctx, client.Query{Since: r.Since, Until: r.Until, Limit: r.Limit})
	s.run.meter.request(err, false, asked)
	if err == nil {
		// A connection serves again only if its answer was read to the end: a thousand tenants glance at their start.
		late := time.AfterFunc(glanceFor, func() { ans.Body.Close() })
		_, _ = io.CopyN(io.Discard, ans.Body, glanceMost)
		late.Stop()
		ans.Body.Close()
	}
	return err
}

// failureOf is what an error says about the request. page: the request was for a link.
func failureOf(err error, page bool) plan.Failure {
	var ce *transport.Error
	switch {
	case err == nil:
		return plan.None
	case errors.Is(err, errPutOff):
		return plan.OfService
	case !errors.As(err, &ce), ce.Kind == transport.KindService:
		return plan.OfWindow
	case ce.Kind == transport.KindRefused && page:
		return plan.OfLink
	case ce.Kind == transport.KindRefused:
		return plan.OfWindow
	case ce.Kind == transport.KindNetwork:
		return plan.OfNetwork
	case mustAct(ce.Kind):
		return plan.OfOperator
	}
	return plan.OfService
}

// mustAct tells whether nothing will change until an operator acts.
func mustAct(k transport.Kind) bool {
	switch k {
	case transport.KindToken, transport.KindUnauthorized, transport.KindForbidden, transport.KindConfig:
		return true
	}
	return false
}

// refused tells whether the service refused the very query.
func refused(err error) bool {
	var ce *transport.Error
	return errors.As(err, &ce) && ce.Kind == transport.KindRefused
}
