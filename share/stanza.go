package share

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"fluent-bit-defender/state"
)

const (
	giveWithin = time.Minute // until a source counts as not given back
	namesMost  = 3           // sources that a log line names
)

// entry is a source of a stanza.
type entry struct {
	key    state.Key
	stanza *Stanza
	store  *Store // of the last time that it was pulled; nil: it was given back
}

// Stanza is a stanza whose sources this process shares with other pods.
type Stanza struct {
	pod    *Pod
	puller Puller
	ctx    context.Context // ends at Leave
	cancel context.CancelFunc
	busy   sync.WaitGroup // actions under way
}

// Join adds a stanza. Its sources are taken from now on, by other goroutines than the caller's. state.ErrKeyInUse:
// another stanza of this Pod has one of the keys.
func (p *Pod) Join(puller Puller, keys []state.Key) (*Stanza, error) {
	s := &Stanza{pod: p, puller: puller}
	s.ctx, s.cancel = context.WithCancel(p.ctx)
	if err := s.Configure(keys); err != nil {
		s.cancel()
		return nil, err
	}
	return s, nil
}

// Configure sets the sources of the stanza. Those that are gone are given back if they are pulled here.
func (s *Stanza) Configure(keys []state.Key) error {
	p := s.pod
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, key := range keys {
		if e := p.entries[HashOf(key)]; e != nil && (e.stanza != s || e.key != key) {
			return fmt.Errorf("%s: %w", key, state.ErrKeyInUse)
		}
	}
	all := slices.DeleteFunc(p.own.configured(), func(h Hash) bool { return p.entries[h].stanza == s })
	for _, key := range keys {
		h := HashOf(key)
		all = append(all, h)
		if p.entries[h] == nil {
			p.entries[h] = &entry{key: key, stanza: s}
		}
	}
	p.own.configure(all)
	p.tidy()
	p.rouse()
	return nil
}

// Renew has a source stopped and begun anew, if it is pulled here: its settings have changed.
func (s *Stanza) Renew(key state.Key) {
	p := s.pod
	p.mu.Lock()
	defer p.mu.Unlock()
	p.own.renew(HashOf(key))
	p.rouse()
}

// tidy forgets what is neither configured nor held any more. p.mu is held.
func (p *Pod) tidy() {
	maps.DeleteFunc(p.entries, func(h Hash, _ *entry) bool { return p.own.sources[h] == nil })
}

// Leave ends the taking and giving back of the stanza's sources, and waits for what is under way until ctx ends. What
// the stanza still pulls is given back when its stores are closed.
func (s *Stanza) Leave(ctx context.Context) {
	s.cancel()
	p := s.pod
	p.mu.Lock()
	for h, e := range p.entries {
		if e.stanza == s {
			delete(p.entries, h)
			delete(p.own.sources, h)
		}
	}
	p.rouse()
	p.mu.Unlock()
	quiet := make(chan struct{})
	go func() { s.busy.Wait(); close(quiet) }()
	select {
	case <-quiet:
	case <-ctx.Done():
	}
}

// act decides, and has it done.
func (p *Pod) act() {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if p.lease.role() == returning && p.own.sure() {
		p.lease.sure()
	}
	p.queue = append(p.queue, p.own.decide(now, p.lease.role(), p.workers.live())...)
	if orphans := p.own.orphans(now); len(orphans) > 0 {
		p.told.warn(fmt.Sprintf("no worker has %s in its configuration, so nobody pulls it: give all pods of %s the "+
			"same tenants", p.names(orphans), p.sources.Name))
	}
	for p.hands < min(handsMost, len(p.queue)) {
		p.hands++
		p.running.Go(p.work)
	}
}

// names writes sources for a log line. p.mu is held.
func (p *Pod) names(hashes []Hash) string {
	var text []string
	for i, h := range hashes {
		if i == namesMost {
			text = append(text, fmt.Sprintf("%d more", len(hashes)-i))
			break
		}
		text = append(text, p.entries[h].key.String())
	}
	return strings.Join(text, "; ")
}

// work does what is queued.
func (p *Pod) work() {
	defer p.rouse() // what was done may be followed by more
	for {
		a, e := p.next()
		if e == nil {
			return
		}
		p.do(a, e)
		p.mu.Lock()
		p.tidy()
		p.mu.Unlock()
		e.stanza.busy.Done()
	}
}

// next takes an action off the queue. None is left: nil.
func (p *Pod) next() (action, *entry) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.queue) > 0 {
		a := p.queue[0]
		p.queue = p.queue[1:]
		if e := p.entries[a.source]; e != nil { // else its stanza has left
			e.stanza.busy.Add(1)
			return a, e
		}
	}
	if p.hands--; p.hands == 0 {
		p.tell()
	}
	return action{}, nil
}

func (p *Pod) do(a action, e *entry) {
	finished := false
	defer func() {
		if !finished { // a panic: nobody knows how far it came
			p.given(a.source, errors.New("internal error"))
		}
	}()
	defer p.recovered("moving a source")
	switch a.kind {
	case take:
		p.take(a.source, e)
	case give:
		ctx, cancel := context.WithTimeout(e.stanza.ctx, giveWithin)
		p.given(a.source, e.stanza.puller.Remove(ctx, e.key))
		cancel()
	case check:
		p.check(a.source, e)
	case release:
		ctx, cancel := context.WithTimeout(e.stanza.ctx, callWithin)
		if e.store != nil {
			p.given(a.source, e.store.giveBack(ctx)) // its puller has closed it
		} else {
			p.given(a.source, p.sources.Release(ctx, e.key))
		}
		cancel()
	}
	finished = true
}

// take becomes the owner of a source and has it pulled.
func (p *Pod) take(h Hash, e *entry) {
	if p.lease.role() != working {
		p.notTaken(h, nil)
		return
	}
	ctx, cancel := context.WithTimeout(e.stanza.ctx, 2*callWithin)
	defer cancel()
	e.store = nil
	st, from, err := p.sources.Take(ctx, e.key, func(owner string) Verdict {
		// The ConfigMap is read, so now look again. An owner that comes back renews its Lease before it checks its
		// sources: one that had renewed is seen now, and what one that renews later writes keeps this process from
		// writing.
		if !p.judge(owner).Dead || !p.look() {
			return Verdict{}
		}
		return p.judge(owner)
	})
	if err != nil {
		p.notTaken(h, err)
		return
	}
	st.onLost = func() {
		p.mu.Lock()
		p.own.lost(h)
		p.done.lost++
		p.mu.Unlock()
		p.rouse()
	}
	e.store = st
	if err := e.stanza.puller.Add(e.key, st); err != nil {
		p.notTaken(h, fmt.Errorf("source %s: %w", e.key, err))
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.own.taken(h)
	p.told.recovered("taking " + string(h))
	p.done.took++
	p.done.last = e.key.String()
	if from != "" {
		p.done.over++
		p.stats.Takeovers++
	}
}

func (p *Pod) judge(owner string) Verdict {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.workers.judge(owner)
}

// check makes sure of a source by writing its ConfigMap: whoever wanted to take it over, and read it before, cannot
// do so any more.
func (p *Pod) check(h Hash, e *entry) {
	ctx, cancel := context.WithTimeout(e.stanza.ctx, callWithin)
	defer cancel()
	err := e.store.touch(ctx)
	if !errors.Is(err, state.ErrTaken) {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.own.checked(h, time.Now(), err != nil); err != nil && p.ctx.Err() == nil {
			p.told.failed("checking sources", err)
		}
		return
	}
	// Nothing of a source that is another's can be stored any more, so there is nothing to wait for.
	over, end := context.WithCancel(e.stanza.ctx)
	end()
	_ = e.stanza.puller.Remove(over, e.key)
	p.given(h, err)
}

func (p *Pod) notTaken(h Hash, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	why := unknown
	switch {
	case err == nil, errors.Is(err, ErrOwned), errors.Is(err, state.ErrTaken):
		why = anothers
	case errors.Is(err, ErrNewer), errors.Is(err, ErrEdited), errors.Is(err, ErrForeign):
		why = unusable
	case errors.Is(err, ErrRefused):
		why = failed
	}
	if p.own.notTaken(h, time.Now(), why); why == anothers || p.ctx.Err() != nil {
		return
	}
	if why == unusable {
		p.told.failed("taking "+string(h), fmt.Errorf("a source is not pulled: %w", err))
		return
	}
	p.told.failed("taking sources", err)
}

func (p *Pod) given(h Hash, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	failed := err != nil && !errors.Is(err, state.ErrTaken)
	if p.own.given(h, time.Now(), failed); !failed {
		p.done.gave++
		if e := p.entries[h]; e != nil {
			p.done.last, e.store = e.key.String(), nil
		}
		return
	}
	if p.ctx.Err() == nil {
		p.told.failed("giving sources back", err)
	}
}

// tell writes one line about what was done, however much that is. p.mu is held.
func (p *Pod) tell() {
	d := p.done
	p.done = tally{}
	var text []string
	add := func(n int, what string) {
		if n > 0 {
			text = append(text, fmt.Sprintf(what, n))
		}
	}
	add(d.took, "%d taken")
	add(d.over, "%d of them from pods that died")
	add(d.gave, "%d given back")
	add(d.lost, "%d lost to other pods")
	if len(text) == 0 {
		return
	}
	line := "sources: " + strings.Join(text, ", ")
	if d.took+d.gave == 1 {
		line += " (" + d.last + ")"
	}
	p.log.Info(fmt.Sprintf("%s; this pod pulls %d of %d", line, p.own.held(), len(p.own.configured())))
}
