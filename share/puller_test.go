package share

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"sync"
	"time"

	"fluent-bit-defender/state"
)

// simPuller pulls as the engine does, in the simplest way that keeps its guarantees.
type simPuller struct {
	pod *simPod

	mu      sync.Mutex
	sources map[state.Key]*simSource
	running sync.WaitGroup
}

type simSource struct {
	puller *simPuller
	key    state.Key
	index  int
	store  *Store
	ctx    context.Context
	cancel context.CancelFunc
	gone   chan struct{} // closed when it does not pull any more

	seen      map[int]bool
	watermark time.Time
	polled    time.Time
	queue     []int
	handed    []delivery // not durable yet
	pending   state.Change
	dirty     bool
}

func (p *simPuller) Add(key state.Key, st *Store) error {
	snap, err := st.Load()
	if err != nil {
		return errors.Join(err, st.Close())
	}
	h := p.pod.h
	s := &simSource{puller: p, key: key, index: slices.Index(h.sources, key), store: st, gone: make(chan struct{}), seen: map[int]bool{}, watermark: h.begin}
	if !snap.Watermark.IsZero() {
		s.watermark = snap.Watermark
	}
	for _, e := range snap.IDs {
		s.seen[int(binary.BigEndian.Uint64(e.ID[:]))] = true
	}
	h.note("source %d: %s begins at watermark %.2f with %d ids", s.index, p.pod.id, s.watermark.Sub(h.begin).Seconds(), len(s.seen))
	s.ctx, s.cancel = context.WithCancel(context.Background())
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.sources[key] != nil {
		h.t.Errorf("%s pulls source %d already", p.pod.id, s.index)
	}
	p.sources[key] = s
	p.running.Go(s.run)
	return nil
}

func (p *simPuller) of(key state.Key) *simSource {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sources[key]
}

func (p *simPuller) forget(s *simSource) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.sources[s.key] == s {
		delete(p.sources, s.key)
	}
}

func (p *simPuller) Remove(ctx context.Context, key state.Key) error {
	s := p.of(key)
	if s == nil {
		return state.ErrTaken
	}
	s.cancel()
	<-s.gone
	for len(s.handed) > 0 && ctx.Err() == nil && !errors.Is(s.commit(false), state.ErrTaken) {
		wait(ctx, nil, 200*time.Millisecond)
		s.collect(historySafe)
	}
	return s.finish()
}

// stop is an exit: all that was delivered is durable.
func (p *simPuller) stop() {
	p.mu.Lock()
	var all []*simSource
	for _, s := range p.sources {
		all = append(all, s)
	}
	p.mu.Unlock()
	var closing sync.WaitGroup
	for _, s := range all {
		s.cancel()
		<-s.gone
		closing.Go(func() { _ = s.finish() })
	}
	closing.Wait()
	p.running.Wait()
}

func (s *simSource) finish() error {
	s.collect(0)
	err := s.commit(true)
	if cerr := s.store.Close(); err == nil {
		err = cerr
	}
	s.puller.forget(s)
	return err
}

func (s *simSource) run() {
	defer close(s.gone)
	for s.ctx.Err() == nil {
		wait(s.ctx, nil, time.Second)
		if s.ctx.Err() != nil || !s.puller.pod.thaw() {
			return
		}
		s.poll()
		s.deliver()
		s.collect(historySafe)
		_ = s.commit(false) // tried again, until the pod stops it if the source is another's
	}
}

func (s *simSource) poll() {
	h := s.puller.pod.h
	s.polled = time.Now()
	for n, at := range h.alerts[s.index] {
		if !at.After(s.polled) && at.After(s.watermark.Add(-2*time.Second)) && !s.seen[n] {
			s.seen[n] = true
			s.queue = append(s.queue, n)
		}
	}
}

func (s *simSource) deliver() {
	p := s.puller.pod
	if !p.pod.Fence() {
		return
	}
	p.h.mu.Lock()
	defer p.h.mu.Unlock()
	for _, n := range s.queue {
		d := delivery{source: s.index, n: n, at: time.Now(), pod: p}
		p.h.delivered = append(p.h.delivered, d)
		s.handed = append(s.handed, d)
	}
	s.queue = nil
}

func (s *simSource) entry(n int) state.Entry {
	e := state.Entry{Age: s.puller.pod.h.alerts[s.index][n].UnixNano()}
	binary.BigEndian.PutUint64(e.ID[:], uint64(n))
	return e
}

// collect makes durable what was delivered some time ago.
func (s *simSource) collect(after time.Duration) {
	n := 0
	for n < len(s.handed) && time.Since(s.handed[n].at) >= after {
		s.pending.Add = append(s.pending.Add, s.entry(s.handed[n].n))
		s.dirty = true
		n++
	}
	s.handed = s.handed[n:]
	mark := s.polled.Add(-10 * time.Second)
	for _, d := range s.handed {
		mark = earliest(mark, s.puller.pod.h.alerts[s.index][d.n])
	}
	for _, n := range s.queue {
		mark = earliest(mark, s.puller.pod.h.alerts[s.index][n])
	}
	if mark.After(s.watermark) {
		s.watermark, s.pending.Watermark, s.dirty = mark, mark, true
	}
	for n := range s.seen {
		if e := s.entry(n); e.Age < s.watermark.Add(-30*time.Second).UnixNano() {
			delete(s.seen, n)
			s.pending.Drop = append(s.pending.Drop, e)
			s.pending.Add = slices.DeleteFunc(s.pending.Add, func(o state.Entry) bool { return o == e })
		}
	}
}

func (s *simSource) commit(now bool) error {
	if !s.dirty || !now && !s.store.Ready(s.pending) {
		return nil
	}
	err := s.store.Commit(s.pending)
	if err == nil {
		s.pending, s.dirty = state.Change{}, false
	}
	return err
}

func earliest(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
