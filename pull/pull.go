// Package pull is the engine: it plans windows of service time, fetches them oldest first, drops the rows that were
// seen before, fills batches with the rest and commits what was handed over. It knows nothing of HTTP or of C.
//
// Two goroutines live from Start to Stop: one pulls, one commits once a second. Take, Done, Pause and Resume are
// called from Fluent Bit's thread and never wait.
package pull

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"runtime/debug"
	"sync"
	"time"

	"fluent-bit-defender/client"
	"fluent-bit-defender/conf"
	"fluent-bit-defender/record"
	"fluent-bit-defender/state"
)

const (
	edge        = 2 * time.Second        // shared by neighbouring steps, so that bounds may be inclusive, exclusive or truncated
	graphPage   = 1000                   // rows of a page of Microsoft Graph, where no limit is set
	floor       = 2 * time.Second        // a piece of this span is not halved for its row count any more
	gapFloor    = time.Minute            // a piece of at most this span that keeps failing becomes a gap
	ownFailures = 5                      // failures of its own after which a piece is halved or becomes a gap
	sameSyntax  = 3                      // times the same syntax error comes before the bad text is handed over raw
	maxGaps     = 1000                   // beyond it a failing piece holds the watermark instead
	capFloor    = 1000                   // fewest rows of an answer that can be suspected of a hidden cap
	seenMargin  = time.Hour              // how much older than settled a hash is kept
	safeAfter   = 5 * time.Second        // time after which the core has surely moved a batch out of its ring
	ringTime    = 500 * time.Millisecond // twice the time in which the core empties its ring
	commitEvery = time.Second
	keepFirst   = 181 * 24 * time.Hour // how long an alert that does not come any more is remembered when its updates are dropped
	crashPause  = time.Minute          // rest after an internal error
	barrenMost  = 64 << 30             // bytes of an answer without a new alert, after which it is given up
)

// Engine pulls the alerts of one stanza. Start it once, Stop it once.
type Engine struct {
	cfg    *conf.Config
	client *client.Client
	store  state.Store
	log    *slog.Logger
	jitter func() float64 // in [0, 1); tests replace it to replay a history

	ctx     context.Context // ends at Stop
	cancel  context.CancelFunc
	running sync.WaitGroup

	// Owned by the pulling goroutine.
	reader   *record.Reader
	body     barren
	cur      *Batch    // the batch that is being filled, while an answer is read
	lastSeq  uint64    // of the last batch with a row in it
	arrivals int64     // counts rows, see remembered
	held     bool      // the download of the current answer waited for room in the queue
	asked    *piece    // the piece whose answer is being read
	hold     string    // nothing is settled for the rest of the cycle, for an answer was incomplete: why; empty: none was
	once     bool      // Window runs, not the polls
	linkTold time.Time // when it was last said that a link is refused for which nothing is missing
	holds    int       // cycles in a row with hold
	salvage  bool      // a syntax error of the current answer was passed over: so are the next
	known    map[record.ID]bool
	hidden   hiddenCap
	others   int  // failures in a row that are no step's own
	gapsMade int  // gaps made since the last whole answer
	hurry    bool // the service answers, but not for what the present step is about: its pieces become gaps whole
	retries  map[gapKey]*retry
	trouble  trouble
	crowded  trouble // gaps are as many as are kept
	oddities oddities
	reach    time.Time // what is older may be forgotten since the life before; zero: nothing is
	leap     leap
	latest   time.Time // service time at which the last cycle began
	latestAt time.Time // the same, by the local monotonic clock
	born     time.Time // local

	barrenMost int64 // tests lower it
	firstOnly  bool  // an alert's updates are duplicates of it
	pageSize   int   // rows of a page; 0: the API has no pages

	// release is set for a store in memory: it holds the hashes only between one engine and the next, which give and take them whole.
	release bool

	// snap is what the store held at New; read until the first cycle.
	snap state.Snapshot

	queue

	mu       sync.Mutex // guards what follows; never held over I/O
	seen     *seen
	settled  time.Time // in memory: everything before it was fetched
	gaps     []state.UnreadRange
	ahead    []span
	marks    []mark
	handed   []handedBatch
	safeSeq  uint64 // all batches up to this one are durable
	pending  state.Change
	dirty    bool // pending holds something that is not committed
	stored   time.Time
	lastFull time.Time // service time of the last cycle that read all it planned
	stats    Stats

	told struct { // what Stats returned last
		sync.Mutex
		Stats
	}

	commitTrouble trouble // owned by the committing goroutine
	fullWarned    bool
}

// New loads the stanza's state and prepares an engine. The engine owns c and st from now on: Stop closes both.
// It returns the error of Store.Load.
func New(cfg *conf.Config, c *client.Client, st state.Store, log *slog.Logger) (*Engine, error) {
	snap, err := st.Load()
	if err != nil {
		return nil, fmt.Errorf("load the state: %w", err)
	}
	e := &Engine{
		cfg: cfg, client: c, store: st, log: log, jitter: rand.Float64, snap: snap,
		born: time.Now(), known: map[record.ID]bool{}, retries: map[gapKey]*retry{},
		seen: newSeen(maxSeen), barrenMost: barrenMost, firstOnly: cfg.Updates == "first",
	}
	e.hidden.floor = capFloor
	if e.firstOnly {
		e.seen.stale = 24 * 60 * minute // all that is remembered comes again and again, for months
	}
	e.ctx, e.cancel = context.WithCancel(context.Background())
	e.queue.init(cfg.QueueLimit, cfg.BatchSize)
	for _, entry := range snap.IDs {
		e.seen.load(record.ID(entry.ID), entry.Age)
	}
	e.snap.IDs = nil
	if m, ok := st.(interface{ Release() }); ok {
		m.Release()
		e.release = true
	}
	e.settled, e.stored, e.gaps = snap.Watermark, snap.Watermark, snap.Unread
	e.pending.Watermark, e.pending.Unread = snap.Watermark, snap.Unread
	schema := record.SIEM
	if cfg.API == "graph" {
		schema = record.Graph
		schema.FirstOnly = e.firstOnly
		e.pageSize = cmp.Or(cfg.Limit, graphPage)
	}
	e.reader = record.NewReader(record.Options{
		Schema: schema, TimeKey: cfg.TimeKey, EventIDKey: cfg.EventIDKey, DropNull: cfg.DropNull,
		MaxAlert: cfg.MaxAlertSize, MaxRecord: cfg.BatchSize,
	})
	e.reader.Salvage(e.passOver)
	return e, nil
}

// Start begins to pull. It does not wait for anything.
func (e *Engine) Start() {
	e.running.Go(func() { e.guard(e.ctx, "pulling", e.pullLoop) })
	e.running.Go(func() { e.guard(e.ctx, "committing", e.commitLoop) })
}

// Stop ends both goroutines, commits what was handed over and closes the store and the client. It returns ctx's error
// when that takes longer than ctx allows; the rest is then finished in the background. Nothing may be taken after Stop.
func (e *Engine) Stop(ctx context.Context) error {
	e.cancel()
	finished := make(chan error, 1)
	go func() {
		defer e.recovered("stopping")
		e.running.Wait()
		finished <- e.finish()
	}()
	select {
	case err := <-finished:
		return err
	case <-ctx.Done():
		return fmt.Errorf("stop pulling: %w", ctx.Err())
	}
}

func (e *Engine) finish() error {
	e.client.Close()
	e.mu.Lock()
	change, dirty := e.change(e.backPressured(), math.MaxInt)
	if e.release && change.Watermark != (time.Time{}) {
		change.Add, change.Drop, dirty = nil, nil, true
		e.seen.each(func(id record.ID, t int64) {
			change.Add = append(change.Add, state.Entry{ID: state.ID(id), Age: t})
		})
	}
	e.mu.Unlock()
	var err error
	if dirty {
		if err = e.store.Commit(change); err != nil {
			err = fmt.Errorf("commit the state at exit: %w (the last alerts may be handed over again)", err)
		}
	}
	if cerr := e.store.Close(); cerr != nil && err == nil {
		err = fmt.Errorf("close the state: %w", cerr)
	}
	return err
}

// guard runs loop until ctx ends and starts it again after a rest when it panics: a fault in one answer must
// not end Fluent Bit, and must not end the pulling either.
func (e *Engine) guard(ctx context.Context, what string, loop func(context.Context)) {
	for ctx.Err() == nil {
		func() {
			defer e.recovered(what)
			loop(ctx)
		}()
		if ctx.Err() == nil {
			sleep(ctx, crashPause)
		}
	}
}

func (e *Engine) recovered(what string) {
	if r := recover(); r != nil {
		e.log.Error(fmt.Sprintf("internal error while %s: %v; starting again in %s; please report this: %s", what, r, crashPause, debug.Stack()))
	}
}

// freeStart gives back what the start of a process needs and no later moment does: the system's certificates and the first handshake.
var freeStart sync.Once

func (e *Engine) pullLoop(ctx context.Context) {
	for ctx.Err() == nil {
		begin := time.Now()
		e.cycle(ctx)
		if ctx.Err() == nil {
			freeStart.Do(debug.FreeOSMemory)
		}
		if e.hold != "" {
			e.holds++
			sleep(ctx, e.backOff(e.holds, firstWait))
		} else {
			e.holds = 0
		}
		interval := time.Duration(float64(e.cfg.PollInterval) * (0.9 + 0.2*e.jitter()))
		sleep(ctx, interval-time.Since(begin))
	}
}

// sleep waits for d or for the end of ctx; it tells whether ctx goes on.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
