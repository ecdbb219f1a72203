package main

import (
	"maps"
	"slices"
	"sync"
	"time"

	"fluent-bit-defender/state"
)

// table finds the instance that a call is about: by the token of the context slot on cores from 4.1 on, else by the
// OS thread that Init ran on. With `threaded off` all instances share one thread. Its methods may be called from any
// thread.
type table struct {
	mu     sync.Mutex
	token  uintptr // the last one given; never given again, so that a stale one finds nothing
	tokens map[uintptr]*instance
	// threads keeps the instances of a thread in the order of their Inits.
	threads map[int][]*instance
	pauses  map[int]int // by thread: pauses not yet resumed, at most as many as it has instances
	leaving []leaver
}

var instances = newTable()

func newTable() *table {
	return &table{tokens: map[uintptr]*instance{}, threads: map[int][]*instance{}, pauses: map[int]int{}}
}

// reserve returns a token to put into the context slot. It finds nothing until add.
func (t *table) reserve() uintptr {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.token++
	return t.token
}

func (t *table) add(in *instance, thread int, token uintptr) {
	t.mu.Lock()
	defer t.mu.Unlock()
	in.token = token
	t.tokens[token] = in
	t.threads[thread] = append(t.threads[thread], in)
}

// find returns the instance of a token, nil for a stale one. Zero comes from cores that hand no token over: then it
// is the instance of the thread, nil when there are several.
func (t *table) find(token uintptr, thread int) *instance {
	t.mu.Lock()
	defer t.mu.Unlock()
	if all := t.threads[thread]; token == 0 && len(all) == 1 {
		return all[0]
	}
	return t.tokens[token]
}

// of returns the instances of a thread in the order of their Inits.
func (t *table) of(thread int) []*instance {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.threads[thread])
}

// remove takes out the last initialised instance of a thread and returns it; nil when there is none.
func (t *table) remove(thread int) *instance {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := t.threads[thread]
	if len(all) == 0 {
		return nil
	}
	in := all[len(all)-1]
	delete(t.tokens, in.token)
	if len(all) == 1 {
		delete(t.threads, thread)
		delete(t.pauses, thread)
	} else {
		t.threads[thread] = all[:len(all)-1]
		t.pauses[thread] = min(t.pauses[thread], len(all)-1)
	}
	return in
}

// all returns every instance.
func (t *table) all() []*instance {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Collect(maps.Values(t.tokens))
}

// count is the number of instances that live.
func (t *table) count() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.tokens)
}

// paused notes a pause of some instance of this thread.
func (t *table) paused(thread int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pauses[thread] = min(t.pauses[thread]+1, len(t.threads[thread]))
}

// resumed notes a resume and tells whether all that were paused on this thread are resumed. Where instances share a
// thread a call does not say which one it means: going on while another is paused would have its data dropped.
func (t *table) resumed(thread int) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pauses[thread] = max(t.pauses[thread]-1, 0)
	return t.pauses[thread] == 0
}

// leave notes an engine that outlived its Exit: it still holds its state. gone is closed when it has stopped.
func (t *table) leave(gone <-chan struct{}, keys []state.Key) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.leaving = append(t.leaving, leaver{gone, keys, time.Now()})
}

// await waits until all that outlived their Exit have stopped, for a hot reload may begin the same stanza anew.
// False: some have not within limit after it, however many Inits wait.
func (t *table) await(limit time.Duration) bool {
	t.mu.Lock()
	leaving := slices.Clone(t.leaving)
	t.mu.Unlock()
	for _, l := range leaving {
		late := time.NewTimer(limit - time.Since(l.since))
		select {
		case <-l.gone:
		case <-late.C:
		}
		late.Stop()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.leaving = slices.DeleteFunc(t.leaving, leaver.stopped)
	return len(t.leaving) == 0
}

// left tells whether an engine that outlived its Exit has this state.
func (t *table) left(key state.Key) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.ContainsFunc(t.leaving, func(l leaver) bool { return slices.Contains(l.keys, key) && !l.stopped() })
}

// leaver is an engine that outlived its Exit.
type leaver struct {
	gone  <-chan struct{}
	keys  []state.Key
	since time.Time
}

func (l leaver) stopped() bool {
	select {
	case <-l.gone:
		return true
	default:
		return false
	}
}
