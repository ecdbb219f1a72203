package share

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
	"sync"
	"time"

	"fluent-bit-defender/state"
)

const (
	handsMost  = 8                // actions at a time
	workerLook = time.Second      // between two looks of a worker, at most: what another gives back waits for it
	standby    = 30 * time.Second // between two looks of a pod that stands by, with one worker alive
	// more with each further worker, up to three: a thousand pods are to ask less than 20 times a second
	seldomer  = 22 * time.Second
	crashRest = 30 * time.Second // after an internal error
	closeRest = time.Second      // in which the Lease is to be released at the end
)

// Settings are what the stanzas of one NAME have to agree on.
type Settings struct {
	Workers         int
	LeaseDuration   time.Duration
	TakeoverOverlap time.Duration
}

// RenewDeadline is how long after the last renewal a worker still delivers, and tries to renew.
func (s Settings) RenewDeadline() time.Duration { return s.LeaseDuration * 2 / 3 }

// RetryPeriod is the time between two renewals.
func (s Settings) RetryPeriod() time.Duration { return s.LeaseDuration * 2 / 15 }

// Puller pulls the sources of a stanza.
type Puller interface {
	// Add begins to pull a source whose state is in st, and owns st from then on, also when it fails: it closes it.
	Add(key state.Key, st *Store) error
	// Remove stops pulling a source, waits until what was delivered is durable, commits and closes its store. It
	// returns the error of that.
	Remove(ctx context.Context, key state.Key) error
}

// Pod is this process among those of one NAME. Its stanzas share one Lease. It may be used concurrently.
type Pod struct {
	sources  *Sources
	settings Settings
	log      *slog.Logger

	cancel  context.CancelFunc
	ctx     context.Context // ends at Close
	wake    chan struct{}   // something changed: look and decide now
	running sync.WaitGroup
	lease   tenure

	mu       sync.Mutex // never held over I/O
	workers  *workers
	own      *ownership
	entries  map[Hash]*entry
	informed bool // see workers: until then no source is this process's
	queue    []action
	hands    int   // goroutines that work on queue
	done     tally // since it was told last
	told     reporter
	stats    Stats
}

// tally counts what was done, for one line of log.
type tally struct {
	took, over, gave, lost int
	last                   string // one that was taken or given
}

// Stats are what the metrics show.
type Stats struct {
	Worker        bool
	Owned         int
	Configured    int // sources that this pod's stanzas have, whoever pulls them
	Takeovers     uint64
	Fenced        uint64
	RenewFailures uint64
}

// New begins to take part. Close ends it.
func New(sources *Sources, settings Settings) *Pod {
	sources.Overlap = settings.TakeoverOverlap
	p := &Pod{
		sources: sources, settings: settings, log: sources.Log, wake: make(chan struct{}, 1),
		workers: newWorkers(settings.LeaseDuration), own: newOwnership(sources.Identity),
		entries: map[Hash]*entry{},
	}
	p.told.log = sources.Log
	p.lease.deadline, p.lease.duration = settings.RenewDeadline(), settings.LeaseDuration
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.running.Go(func() { p.guard("sharing the work", p.run) })
	return p
}

// Close gives up the Lease. What the stanzas pulled they have given back before. It returns after a second, whatever
// hangs.
func (p *Pod) Close() {
	p.cancel()
	gone := make(chan struct{})
	go func() { p.running.Wait(); close(gone) }()
	late := time.NewTimer(closeRest)
	defer late.Stop()
	select {
	case <-gone:
	case <-late.C:
	}
}

// Fence tells whether anything may be delivered to Fluent Bit now: the Lease was renewed so lately that no other pod
// can have taken this one for dead.
func (p *Pod) Fence() bool { return p.lease.fresh() }

// Stats returns how this pod stands.
func (p *Pod) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.stats
	s.Owned, s.Configured = p.own.held(), 0
	for _, h := range p.own.sources {
		if !h.gone {
			s.Configured++
		}
	}
	s.Worker, s.Fenced, s.RenewFailures = p.lease.counts()
	return s
}

func (p *Pod) guard(what string, loop func()) {
	for p.ctx.Err() == nil {
		func() {
			defer p.recovered(what)
			loop()
		}()
		wait(p.ctx, nil, crashRest)
	}
}

func (p *Pod) recovered(what string) {
	if r := recover(); r != nil {
		p.log.Error(fmt.Sprintf("internal error while %s: %v; please report this: %s", what, r, debug.Stack()))
	}
}

// wait waits for d, for the channel or for the end of ctx.
func wait(ctx context.Context, wake <-chan struct{}, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-wake:
	case <-ctx.Done():
	}
}

func (p *Pod) rouse() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

func (p *Pod) run() {
	for p.ctx.Err() == nil {
		p.look()
		p.contend()
		p.act()
		wait(p.ctx, p.wake, p.pause())
	}
}

// look reads the Leases, and tells whether it could.
func (p *Pod) look() bool {
	ctx, cancel := context.WithTimeout(p.ctx, callWithin)
	defer cancel()
	sent := time.Now()
	leases, err := p.sources.API.Leases(ctx)
	if p.ctx.Err() != nil {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !sent.Before(p.workers.sent) {
		p.sources.away.Store(err != nil)
	}
	if err != nil {
		p.workers.failed(sent)
		p.told.failed("looking for the other pods", err)
		return false
	}
	p.told.recovered("looking for the other pods")
	p.workers.observe(sent, time.Now(), p.sources.now(), leases)
	p.informed = p.informed || p.workers.informed(p.sources.Identity)
	return true
}

// pause is the time to the next look. Pods that stand by are many, and look seldom: the more workers live the less,
// for all of them will hardly die at once. Only when a Lease looks old do they look again in time to see it become
// stale.
func (p *Pod) pause() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.lease.leading() || p.lease.contending() || p.own.involved() {
		return min(p.settings.RetryPeriod(), workerLook)
	}
	live := len(p.workers.live())
	if p.workers.since.IsZero() {
		return jitter(p.settings.LeaseDuration)
	}
	if p.workers.overdue(p.settings.Workers, p.sources.now()) {
		return jitter(p.settings.LeaseDuration / 3) // well below the half that counts as having looked on
	}
	return jitter(standby + seldomer*time.Duration(min(max(live, 1), 3)-1))
}

// jitter takes off up to a fifth.
func jitter(d time.Duration) time.Duration {
	return time.Duration(float64(d) * (0.8 + 0.2*rand.Float64()))
}

// contend tries to become a worker when there is room for one.
func (p *Pod) contend() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ctx.Err() != nil || p.lease.leading() || p.lease.contending() || len(p.own.sources) == 0 ||
		p.workers.since.IsZero() {
		return
	}
	free := p.workers.free(p.settings.Workers, p.sources.Identity)
	if len(free) == 0 {
		p.told.say(fmt.Sprintf("standing by: other pods hold the Leases of all %d workers", p.settings.Workers))
		p.lease.resign() // its place was taken
		return
	}
	target := free[rand.IntN(len(free))]
	for _, l := range free {
		if l.Holder == p.sources.Identity {
			target = l
		}
	}
	p.informed = p.own.held() > 0 || p.workers.informed(p.sources.Identity)
	p.lease.contend(target.Slot)
	p.running.Go(func() { p.lead(target) })
}

// lead holds a Lease for as long as it can.
func (p *Pod) lead(target Lease) {
	defer p.rouse()
	defer p.lease.over()
	defer p.recovered("holding a Lease")
	name := LeaseName(p.sources.Name, target.Slot)
	err := p.sources.API.Lead(p.ctx, target.Slot, Candidate{
		Identity: p.sources.Identity, Dead: target, Sources: p.hashes,
		Leading: func() {
			defer p.recovered("becoming a worker")
			p.mu.Lock()
			p.told.say("this pod is a worker: it holds the Lease " + name)
			p.mu.Unlock()
			p.rouse()
		},
		Renewed: func(sent time.Time) {
			p.mu.Lock()
			defer p.mu.Unlock()
			first, late := p.lease.renewed(sent)
			if late {
				p.own.doubt()
			}
			if first || late {
				p.rouse()
			}
			p.told.recovered("renewing the Lease")
		},
		Failed: func(err error) {
			if errors.Is(err, ErrConflict) || p.ctx.Err() != nil {
				return // another pod was faster
			}
			p.lease.failed()
			p.mu.Lock()
			p.told.failed("renewing the Lease", err)
			p.mu.Unlock()
		},
	})
	if err != nil && p.ctx.Err() == nil && !errors.Is(err, ErrConflict) {
		p.mu.Lock()
		p.told.failed("holding the Lease", err)
		p.mu.Unlock()
	}
}

// hashes are what the Lease says that this process has.
func (p *Pod) hashes() []Hash {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.informed {
		return nil
	}
	return p.own.configured()
}
