package pull

import (
	"time"

	"fluent-bit-defender/ledger"
)

const (
	// safeAfter is the unpaused time after which Fluent Bit has surely moved a batch out of its ring and, with
	// storage.type filesystem, to disk. Versions 2.2.3 to 5.1.1 empty the ring every 250 ms and whenever it fills; an
	// engine that stands still for eight of these rounds is out of reach (docs/guarantees.md).
	safeAfter = 2 * time.Second
	ringTime  = 500 * time.Millisecond // twice the time in which Fluent Bit empties its ring
)

// coreClock knows what Fluent Bit does with what it was given: a paused input's ring stays as it is, and one that
// ends is not emptied. Guarded by the queue's lock.
type coreClock struct {
	pauses  int // since the last Resume
	unpause time.Duration
	resumed time.Time // when the time that is not in unpause yet began
	left    time.Time // when the core began to end; zero: it has not
}

// active is the unpaused time so far.
func (c *coreClock) active() time.Duration {
	if c.pauses > 0 {
		return c.unpause
	}
	return c.unpause + time.Since(c.resumed)
}

// Pause stops the delivery, and the time by which a batch becomes durable.
func (q *queue) Pause() {
	q.lock.Lock()
	defer q.lock.Unlock()
	if q.core.pauses++; q.core.pauses == 1 {
		q.core.unpause += time.Since(q.core.resumed)
	}
}

// Resume ends a pause.
func (q *queue) Resume() {
	q.lock.Lock()
	defer q.lock.Unlock()
	if q.core.pauses > 0 {
		q.core.resumed = time.Now()
	}
	q.core.pauses = 0
}

// Leave says that the core is about to end: what it was given in the half second before may lie in its ring, which
// nobody empties any more. Stop leaves that uncommitted. Where Leave is not called, Stop takes all for durable.
func (q *queue) Leave() {
	q.lock.Lock()
	defer q.lock.Unlock()
	if q.core.left.IsZero() {
		q.core.left = time.Now()
	}
}

// durable returns what is durable now: while the core runs, what was delivered long enough ago; at its exit, all but
// what may lie in its ring. By back-pressure or a rate limit the core may have paused the input before. On its way out
// an input that ran gets two pauses, one that is paused none more, or two more (flb_input_pause in 5.1.1); what old
// cores give beyond that the plugin keeps to itself. With `threaded off` every instance of the thread sees the pauses
// of all, two each. Cores without pauses give none.
func (q *queue) durable(exit bool) func(ledger.Delivered) bool {
	q.lock.Lock()
	defer q.lock.Unlock()
	if !exit || q.core.pauses%2 == 1 {
		active := q.core.active()
		return func(d ledger.Delivered) bool { return active-d.Active >= safeAfter }
	}
	left := q.core.left
	return func(d ledger.Delivered) bool { return left.IsZero() || left.Sub(d.At) >= ringTime }
}

// leaving tells whether the core has begun to end.
func (q *queue) leaving() bool {
	q.lock.Lock()
	defer q.lock.Unlock()
	return !q.core.left.IsZero()
}
