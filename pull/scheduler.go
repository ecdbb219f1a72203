package pull

import (
	"cmp"
	"context"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"fluent-bit-defender/client"
	"fluent-bit-defender/state"
)

const (
	slowStep   = 2 * time.Second       // a source whose steps take this long leaves a slot to the others
	startEvery = 20 * time.Millisecond // between the first steps of sources: each asks for a token

	fewSources = 30              // each waits until its own moment
	together   = 5 * time.Second // more wait for the end of such a moment: see endOfMoment
)

// job is a source and when it is due.
type job struct {
	source *Source
	due    time.Time // local
	began  time.Time // of the step that runs; zero: none does
	slow   bool      // its last step was
	cut    bool      // it is being put off
	cancel context.CancelCauseFunc
	idle   chan struct{} // closed once it is removed and no step runs
}

// scheduler says which source is due. At most parallel steps run at once, and all but one of these slots at most are
// for slow sources.
type scheduler struct {
	mu       sync.Mutex
	parallel int
	born     time.Time
	jobs     map[state.Key]*job
	due      []*job // in this order
	waiting  []*job // due and slow, without a slot
	running  map[*job]bool
	started  time.Time     // when the last new source was due first
	wake     chan struct{} // something changed
	gone     client.Stats  // counts of the sources that were removed

	sums   clientSums
	summed bool // sums are those of now
}

type clientSums struct {
	client.Stats
	sources int
	onGraph int // of sources: those that are pulled from Microsoft Graph
}

func (s *scheduler) init(parallel int) {
	s.parallel, s.born = parallel, time.Now()
	s.jobs, s.running, s.wake = map[state.Key]*job{}, map[*job]bool{}, make(chan struct{}, 1)
}

func (s *scheduler) add(src *Source) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.jobs[src.key] != nil {
		return fmt.Errorf("source %s: %w", src.key, state.ErrKeyInUse)
	}
	now := time.Now()
	s.started = maxTime(now, s.started.Add(startEvery))
	j := &job{source: src, idle: make(chan struct{})}
	s.jobs[src.key], s.summed = j, false
	s.rest(j, s.started)
	s.changed()
	return nil
}

// rest puts j among those that are due later. The caller holds mu.
func (s *scheduler) rest(j *job, due time.Time) {
	j.due = due
	at, _ := slices.BinarySearchFunc(s.due, due, func(o *job, due time.Time) int {
		return cmp.Or(o.due.Compare(due), -1) // behind those of the same time
	})
	s.due = slices.Insert(s.due, at, j)
}

// remove takes a source out and cuts its step short. idle is closed once no step of it runs.
func (s *scheduler) remove(key state.Key) (src *Source, idle <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	j := s.jobs[key]
	if j == nil {
		return nil, nil
	}
	delete(s.jobs, key)
	s.summed = false
	for _, c := range j.source.clients { // what they counted stays counted
		c := c.Stats()
		s.gone.Tokens += c.Tokens
		s.gone.Held += c.Held
	}
	isIt := func(o *job) bool { return o == j }
	s.due, s.waiting = slices.DeleteFunc(s.due, isIt), slices.DeleteFunc(s.waiting, isIt)
	if s.running[j] {
		j.cancel(nil)
	} else {
		close(j.idle)
	}
	return j.source, j.idle
}

// next takes the jobs to run now, and tells when the next is due; zero: none is.
func (s *scheduler) next(ctx context.Context, now time.Time) (start []*job, contexts []context.Context, due time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	slow := 0
	for j := range s.running {
		if j.slow || now.Sub(j.began) >= slowStep {
			slow++
		}
	}
	run := func(j *job) {
		c, cancel := context.WithCancelCause(ctx)
		j.began, j.cancel = now, cancel
		s.running[j], s.summed = true, false
		start, contexts = append(start, j), append(contexts, c)
		if j.slow {
			slow++
		}
	}
	slots := max(1, s.parallel-1)
	for len(s.waiting) > 0 && slow < slots && len(s.running) < s.parallel {
		run(s.waiting[0])
		s.waiting = s.waiting[1:]
	}
	for len(s.due) > 0 && !s.due[0].due.After(now) && len(s.running) < s.parallel {
		j := s.due[0]
		s.due = slices.Delete(s.due, 0, 1)
		if j.slow && slow >= slots {
			s.waiting = append(s.waiting, j)
			continue
		}
		run(j)
	}
	if len(s.due) > 0 {
		due = s.due[0].due
		if len(s.running) == s.parallel {
			due = s.putOff(now, due)
		}
	}
	return start, contexts, due
}

// putOff makes room while every slot is taken by a slow step and a source is due: the youngest step of a source that
// was not known to be slow is cut short, and goes on among the slow ones. Without it a region that hangs would take
// all slots until each of its sources was met once. It tells when to look again; zero: when a step ends. The caller
// holds mu.
func (s *scheduler) putOff(now, due time.Time) time.Time {
	var young *job
	for j := range s.running {
		if j.cut {
			return time.Time{}
		}
		if !j.slow && (young == nil || j.began.After(young.began)) {
			young = j
		}
	}
	if young == nil || s.parallel == 1 {
		return time.Time{}
	}
	if look := maxTime(due, young.began.Add(slowStep)); look.After(now) {
		return look
	}
	young.cut = true
	young.cancel(errPutOff)
	return time.Time{}
}

// errPutOff ends a step that holds the last slot of those that are not slow.
var errPutOff = fmt.Errorf("no whole answer within %s while other tenants waited, so it was put off", slowStep)

// done ends a step of j, which is due again then; zero: never. asked: it sent a request, which tells whether j is slow.
func (s *scheduler) done(j *job, due time.Time, asked bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	j.cancel(nil)
	if asked {
		j.slow = time.Since(j.began) >= slowStep
	}
	j.began, j.cut = time.Time{}, false
	delete(s.running, j)
	switch {
	case s.jobs[j.source.key] != j:
		close(j.idle)
	case !due.IsZero():
		if len(s.jobs) > fewSources {
			due = endOfMoment(s.born, time.Now(), due)
		}
		s.rest(j, due)
	}
	s.changed()
}

// endOfMoment is the end of the moment in which a source is due. A moment is whole seconds since born: a tenth of the
// wait, 5 s at most, and none for a wait under 10 s. All that is due in one runs in one go: a processor that is woken
// for each source alone works longer.
func endOfMoment(born, now, due time.Time) time.Time {
	moment := min(together, (due.Sub(now) / 10).Truncate(time.Second))
	if moment <= 0 {
		return due
	}
	return born.Add((due.Sub(born)/moment + 1) * moment) // Time.Truncate would lose the monotonic clock
}

// changed wakes who schedules. The caller holds mu.
func (s *scheduler) changed() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// all are the sources.
func (s *scheduler) all() []*Source {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]*Source, 0, len(s.jobs))
	for _, j := range s.jobs {
		all = append(all, j.source)
	}
	return all
}

// clientStats are the sums over all clients, those of removed sources included, and of times the earliest. They change
// by steps only, and a large stanza has none under way most of the time.
func (s *scheduler) clientStats() clientSums {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.summed {
		return s.sums
	}
	sum := clientSums{Stats: s.gone, sources: len(s.jobs)}
	for _, j := range s.jobs {
		graph := j.source.onGraph.Load()
		for i, c := range j.source.clients {
			c := c.Stats()
			sum.Tokens += c.Tokens
			sum.Held += c.Held
			sum.CertificateEnds = soonest(sum.CertificateEnds, c.CertificateEnds)
			// the other's token is asked for once a day
			if asked := i == 1 == graph || len(j.source.clients) == 1; asked {
				sum.TokenEnds = soonest(sum.TokenEnds, c.TokenEnds)
			}
		}
		if graph {
			sum.onGraph++
		}
	}
	s.sums, s.summed = sum, len(s.running) == 0
	return sum
}

// schedule runs the steps that are due until ctx ends.
func (r *Runner) schedule(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		start, contexts, due := r.sched.next(ctx, time.Now())
		for i, j := range start {
			r.running.Go(func() { r.step(contexts[i], j) })
		}
		wait := time.Hour
		if !due.IsZero() {
			wait = time.Until(due)
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			return
		case <-r.sched.wake:
		case <-timer.C:
		}
	}
}

// freeStart gives back what the start of a process needs and no later moment does: the system's certificates and the
// first handshake.
var freeStart sync.Once

func (r *Runner) step(ctx context.Context, j *job) {
	due, asked := j.source.step(ctx)
	if ctx.Err() == nil && due.After(time.Now()) { // it rests
		freeStart.Do(debug.FreeOSMemory)
		r.forgetSpare()
	}
	r.sched.done(j, due, asked)
}

func maxTime(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// soonest is the earlier of two times, of which zero is none.
func soonest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
