package share

import (
	"sync"
	"time"
)

// tenure is this process's hold on a Lease. It may be used concurrently, and waits for nothing.
type tenure struct {
	deadline time.Duration // RenewDeadline
	duration time.Duration // LeaseDuration

	mu       sync.Mutex
	trying   bool      // a goroutine contends for a Lease, or holds it
	slot     int       // of that
	held     bool      // and holds it
	worked   bool      // it held one, and no look has shown since that its place was taken
	sent     time.Time // when the last renewal that succeeded was sent
	doubted  bool      // it succeeded so late that other pods may have taken this one for dead
	closed   bool      // the fence is
	fenced   uint64
	failures uint64
}

func (t *tenure) contend(slot int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.trying, t.slot = true, slot
}

// renewed notes a renewal. first tells whether it is the one that made this process a worker, late whether other pods
// may have taken it for dead since the one before.
func (t *tenure) renewed(sent time.Time) (first, late bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	first = !t.held
	late = t.worked && since(t.sent) >= t.duration
	t.held, t.worked, t.sent = true, true, sent
	t.doubted = t.doubted || late
	return first, late
}

// sure: what this process holds is its own.
func (t *tenure) sure() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.doubted = false
}

func (t *tenure) failed() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.held {
		t.failures++
	}
}

// over: the Lease is lost, or was never had.
func (t *tenure) over() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.trying, t.held = false, false
}

// resign: other pods hold all the Leases.
func (t *tenure) resign() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.worked = false
}

func (t *tenure) contending() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.trying && !t.held
}

func (t *tenure) leading() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.held
}

func (t *tenure) role() role {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.within() && t.doubted:
		return returning
	case t.within():
		return working
	case t.worked:
		return suspended
	}
	return standingBy
}

// within tells whether the Lease was renewed within the renew deadline. t.mu is held.
func (t *tenure) within() bool { return t.held && since(t.sent) < t.deadline }

// since is the time since t by the monotonic clock or by the wall clock, whichever says more: one of them may stand
// still while a machine sleeps.
func since(t time.Time) time.Duration {
	now := time.Now()
	return max(now.Sub(t), now.Round(0).Sub(t.Round(0)))
}

// fresh is the fence.
func (t *tenure) fresh() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	ok := t.within() && !t.doubted
	if !ok && t.worked && !t.closed {
		t.fenced++
	}
	t.closed = !ok
	return ok
}

func (t *tenure) counts() (held bool, fenced, failures uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.within(), t.fenced, t.failures
}
