// Package pull drives the planners of the sources of one stanza: it asks what they plan, drops the rows that were
// seen before, queues the rest for Fluent Bit and commits what was delivered. It knows nothing of HTTP or of C.
//
// A Runner has two goroutines from Start to Stop, one that says which source is due and one that commits once a
// second, and one for each step that is under way. Take, Done, Pause, Resume and Leave are called from Fluent Bit's
// thread and never wait.
package pull

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"fluent-bit-defender/conf"
	"fluent-bit-defender/ledger"
	"fluent-bit-defender/record"
	"fluent-bit-defender/state"
)

const (
	commitEvery = time.Second
	commitRest  = 10 * commitEvery // after a commit that failed
)

// Options are what the sources of a stanza share.
type Options struct {
	BatchSize  int         // most bytes of a batch
	QueueLimit int         // most bytes fetched and not yet taken, but for one answer's batch
	Parallel   int         // requests at once
	Fence      func() bool // nil: none. While it says false nothing is delivered; it is asked from Fluent Bit's thread
	Log        *slog.Logger
}

// OptionsOf are those of a stanza.
func OptionsOf(cfg *conf.Config, log *slog.Logger) Options {
	return Options{BatchSize: cfg.BatchSize, QueueLimit: cfg.QueueLimit, Parallel: cfg.Parallel, Log: log}
}

// Runner runs the sources of one stanza. Start it once, Stop it once.
type Runner struct {
	queue
	opt     Options
	ctx     context.Context // ends at Stop
	cancel  context.CancelFunc
	running sync.WaitGroup
	sched   scheduler
	meter   meter
	readers readers

	// committing holds one during a commit: each takes a change and stores it, or gives it back. No sync.Mutex, because
	// a store may wait for the network, and virtual time stands still while somebody waits for a Mutex.
	committing   chan struct{}
	storeFails   streak // used by who commits
	forgetTold   bool   // used by who commits
	progressMost int64  // tests lower it
}

// NewRunner makes a runner without sources.
func NewRunner(opt Options) *Runner {
	opt.Parallel = max(1, opt.Parallel)
	r := &Runner{opt: opt, committing: make(chan struct{}, 1), progressMost: progressMost}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	r.queue.init(opt.QueueLimit, opt.BatchSize, opt.Fence)
	r.sched.init(opt.Parallel)
	r.meter.positions = map[*Source]position{}
	return r
}

// Start begins to pull. It does not wait for anything.
func (r *Runner) Start() {
	r.running.Go(func() { r.guard("scheduling", r.schedule) })
	r.running.Go(func() { r.guard("committing", r.commitLoop) })
}

// Add begins to pull a source. From now on the runner owns it, its client and its store.
func (r *Runner) Add(s *Source) error {
	s.run = r
	s.checkpoint() // before a step may run
	if err := r.sched.add(s); err != nil {
		r.meter.forget(s)
		return err
	}
	r.join()
	return nil
}

// Remove stops pulling a source: what of it is queued is thrown away, what was delivered is awaited until it is
// durable, and committed. Its store and client are closed then, also when ctx ends first, whose error is returned:
// what was delivered last may come again.
func (r *Runner) Remove(ctx context.Context, key state.Key) error {
	s, idle := r.sched.remove(key)
	if s == nil {
		return fmt.Errorf("no source has the state %s", key)
	}
	r.leave(&s.lane)
	<-idle // its step was cut short
	var late error
	began, err := time.Now(), r.commit(s) // it collects what was delivered
	// closeSources commits the last time: that must not come before all is durable, nor while commits fail.
	for (err != nil || !s.ledger.AllDurable()) && !errors.Is(err, state.ErrTaken) &&
		(err == nil || time.Since(began) < commitRest) {
		if !sleep(ctx, commitEvery/4) {
			late = ctx.Err()
			break
		}
		if err == nil {
			began = time.Now() // it fails since then, if the next one does
		}
		err = r.commit(s)
	}
	if late == nil && !errors.Is(err, state.ErrTaken) && !s.ledger.AllDurable() {
		late = errors.New("the state could not be stored: what was delivered last may come again; look at where db is")
	}
	r.meter.forget(s)
	return errors.Join(late, r.closeSources([]*Source{s}, r.leaving()))
}

// Stop ends the pulling, commits what was delivered and closes the stores and clients. It returns ctx's error when
// that takes longer than ctx allows; the rest is then finished in the background. Nothing may be taken after Stop.
func (r *Runner) Stop(ctx context.Context) error {
	r.cancel()
	finished := make(chan error, 1)
	go func() {
		defer func() {
			if p := recover(); p != nil {
				finished <- internal("stopping", p)
			}
		}()
		r.running.Wait()
		finished <- r.closeSources(r.sched.all(), true)
	}()
	select {
	case err := <-finished:
		return err
	case <-ctx.Done():
		return fmt.Errorf("stop pulling: %w", ctx.Err())
	}
}

// closeSources commits the last changes of sources and closes what they own; exit: the core ends.
func (r *Runner) closeSources(sources []*Source, exit bool) error {
	r.committing <- struct{}{}
	defer func() { <-r.committing }()
	durable := r.durable(exit)
	r.collect()
	var changes []state.Pending
	var stores []state.Store
	for _, s := range sources {
		s.closeClients()
		stores = append(stores, s.store)
		if c, dirty := s.ledger.Last(durable); dirty {
			changes = append(changes, state.Pending{Store: s.store, Change: c})
		}
	}
	state.CommitAll(changes)
	var failed error // the others' are of the same cause, as a rule
	for _, p := range changes {
		if p.Err != nil && failed == nil {
			failed = fmt.Errorf("commit the state at exit: %w (the last alerts may be delivered again)", p.Err)
		}
	}
	if err := state.CloseAll(stores); err != nil && failed == nil {
		failed = fmt.Errorf("close the state: %w", err)
	}
	return failed
}

// tellInternal tells of a panic that a loop or a step recovered from.
func tellInternal(log *slog.Logger, what string, p any) {
	log.Error(fmt.Sprintf("internal error while %s: %v; starting again in %s; please report this: %s", what, p,
		crashPause, debug.Stack()))
}

func internal(what string, p any) error {
	return fmt.Errorf("internal error while %s: %v; please report this: %s", what, p, debug.Stack())
}

// guard runs loop until Stop, and starts it again after a rest when it panics: a fault must not end Fluent Bit, nor
// the pulling.
func (r *Runner) guard(what string, loop func(context.Context)) {
	for r.ctx.Err() == nil {
		func() {
			defer func() {
				if p := recover(); p != nil {
					tellInternal(r.opt.Log, what, p)
				}
			}()
			loop(r.ctx)
		}()
		if r.ctx.Err() == nil {
			sleep(r.ctx, crashPause)
		}
	}
}

// collect hands what was delivered to the ledgers, in order. The caller commits.
func (r *Runner) collect() {
	for _, b := range r.takeDone() {
		b.lane.ledger.Deliver(b.Delivered)
	}
}

func (r *Runner) commitLoop(ctx context.Context) {
	tick := time.NewTicker(commitEvery)
	defer tick.Stop()
	var failedAt time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if !failedAt.IsZero() && time.Since(failedAt) < commitRest {
			continue
		}
		failedAt = time.Time{}
		if err := r.commit(r.sched.all()...); err != nil && !errors.Is(err, state.ErrTaken) {
			failedAt = time.Now()
		}
	}
}

// commit stores what of sources became durable, those that share a file in one transaction. It tells of failures
// itself; the error is the first.
func (r *Runner) commit(sources ...*Source) (err error) {
	r.committing <- struct{}{}
	defer func() { <-r.committing }()
	r.collect()
	durable := r.durable(false)
	var changes []state.Pending
	var of []*Source
	for _, s := range sources {
		change, dirty, forgotten := s.ledger.Take(durable)
		if forgotten > 0 {
			r.tellForgotten(s, forgotten)
		}
		if !dirty {
			continue
		}
		if w, ok := s.store.(interface{ Ready(state.Change) bool }); ok && !w.Ready(change) {
			s.ledger.Return(change)
			continue
		}
		changes, of = append(changes, state.Pending{Store: s.store, Change: change}), append(of, s)
	}
	state.CommitAll(changes)
	for i, p := range changes {
		if p.Err != nil {
			of[i].ledger.Return(p.Change)
			if errors.Is(p.Err, state.ErrTaken) { // whoever gave the source to this runner takes it away
				err = cmp.Or(err, p.Err)
				continue
			}
			r.meter.count(func(st *Stats) { st.CommitFailures++ })
			if err == nil || errors.Is(err, state.ErrTaken) {
				err = p.Err
				r.storeFails.failed(of[i].log, slog.LevelWarn, sortOf(err.Error()),
					fmt.Sprintf("cannot store what was pulled: %v; pulling goes on and it "+
						"is tried again every ten seconds, but a crash or restart now would repeat alerts; look at "+
						"where db is: the disk may be full, the file removed or "+
						"replaced, or the Kubernetes API away", err))
			}
			continue
		}
		r.meter.count(func(st *Stats) { st.Commits++ })
	}
	if err == nil && len(changes) > 0 {
		r.storeFails.recovered(r.opt.Log, "the state is stored again")
	}
	return err
}

func (r *Runner) tellForgotten(s *Source, n uint64) {
	r.meter.count(func(st *Stats) { st.Forgotten += n })
	if r.forgetTold {
		return
	}
	r.forgetTold = true
	s.log.Warn(fmt.Sprintf("more than %d alerts are remembered: the oldest are forgotten, so some may come twice "+
		"(none is lost); use filters or a "+
		"shorter ago or overlap", ledger.MaxIDs))
}

// Stats may be called from any goroutine and never waits.
func (r *Runner) Stats() Stats {
	s := r.meter.read()
	r.queue.stats(&s)
	c := r.sched.clientStats()
	s.Client, s.Sources, s.OnGraph = c.Stats, c.sources, c.onGraph
	return s
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

// readers are lent to the sources that read an answer, so that the others need none.
type readers struct {
	mu   sync.Mutex
	idle []lent
}

// mostReaders bounds the readers that are kept, to the default of parallel: each holds a window of 256 KiB, and the
// keys that it has met.
const mostReaders = 8

type lent struct {
	kind   string // of its options
	reader *record.Reader
}

func (r *readers) get(s *Source) *record.Reader {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := len(r.idle) - 1; i >= 0; i-- {
		if l := r.idle[i]; l.kind == s.rows {
			r.idle = append(r.idle[:i], r.idle[i+1:]...)
			return l.reader
		}
	}
	return s.newReader()
}

func (r *readers) put(s *Source, reader *record.Reader) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.idle) == mostReaders {
		r.idle = r.idle[1:]
	}
	r.idle = append(r.idle, lent{s.rows, reader})
}
