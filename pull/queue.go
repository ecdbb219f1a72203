package pull

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"fluent-bit-defender/record"
)

// openFor is how long a batch may stay open for more rows while Fluent Bit waits for one.
const openFor = 250 * time.Millisecond

// Batch is a run of records, ready for one append. Whoever took it owns Data until Done.
type Batch struct {
	Data   []byte // msgpack records one after the other
	ids    []record.ID
	seq    uint64
	opened time.Time // when its first row came

	raw, repaired int // of its rows
}

// queue holds the batches between the pulling goroutine and Fluent Bit's thread. Its own lock keeps the
// callback apart from everything that takes longer.
type queue struct {
	lock    sync.Mutex
	ready   []*Batch
	open    *Batch // not full yet; nobody fills it while it lies here
	bytes   int    // of ready and open
	limit   int
	size    int // of a full batch
	spare   []*Batch
	done    []handedBatch // handed over, and not counted yet
	seq     uint64
	pauses  int // since the last Resume
	active  time.Duration
	resumed time.Time // when the time that is not in active yet began
	left    time.Time // when the core began to end; zero: it has not

	hungry  atomic.Bool   // Fluent Bit found nothing to take
	drained chan struct{} // a batch was taken
}

func (q *queue) init(limit, size int) {
	q.limit, q.size = limit, size
	q.resumed = time.Now()
	q.drained = make(chan struct{}, 1)
}

// unpark returns the batch to fill: the open one, so that small answers share a batch, or a new one.
func (q *queue) unpark() *Batch {
	q.lock.Lock()
	defer q.lock.Unlock()
	if b := q.open; b != nil {
		q.open = nil
		q.bytes -= len(b.Data)
		return b
	}
	return q.newBatch()
}

// park leaves b where Fluent Bit can take it before it is full.
func (q *queue) park(b *Batch) {
	q.lock.Lock()
	defer q.lock.Unlock()
	if len(b.ids) == 0 {
		q.seq-- // it was the last, and never held a row
		q.spare = append(q.spare, b)
		return
	}
	q.open = b
	q.bytes += len(b.Data)
}

// newBatch returns an empty batch. The caller holds lock.
func (q *queue) newBatch() *Batch {
	b := &Batch{}
	if n := len(q.spare); n > 0 {
		b, q.spare = q.spare[n-1], q.spare[:n-1]
	}
	q.seq++
	b.seq = q.seq
	return b
}

// forgetSpare lets go of buffers that a backlog has left behind.
func (q *queue) forgetSpare() {
	q.lock.Lock()
	defer q.lock.Unlock()
	q.spare = nil
}

// push gives away a full batch and returns the next one to fill.
func (q *queue) push(b *Batch) *Batch {
	q.lock.Lock()
	defer q.lock.Unlock()
	q.ready = append(q.ready, b)
	q.bytes += len(b.Data)
	q.hungry.Store(false)
	next := q.newBatch()
	if next.Data == nil { // where one batch was full the next will be: growing to it step by step would leave garbage of its size
		next.Data = make([]byte, 0, q.size+q.size/16)
	}
	return next
}

func (q *queue) queued() int {
	q.lock.Lock()
	defer q.lock.Unlock()
	return q.bytes
}

// wait blocks until less than limit bytes are queued; false when ctx ended first.
func (q *queue) wait(ctx context.Context) bool {
	for q.queued() >= q.limit {
		select {
		case <-q.drained:
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// Take gives the next batch to Fluent Bit's thread; nil when none is ready or the instance is paused. It never
// waits.
func (e *Engine) Take() *Batch {
	q := &e.queue
	q.lock.Lock()
	defer q.lock.Unlock()
	if q.pauses > 0 {
		return nil
	}
	var b *Batch
	switch {
	case len(q.ready) > 0:
		b = q.ready[0]
		q.ready[0] = nil
		q.ready = q.ready[1:]
	case q.open != nil:
		b, q.open = q.open, nil
	default:
		q.hungry.Store(true)
		return nil
	}
	q.bytes -= len(b.Data)
	select {
	case q.drained <- struct{}{}:
	default:
	}
	return b
}

// Done says that the core has copied b: its rows are handed over, and durable five unpaused seconds later. It never
// waits.
func (e *Engine) Done(b *Batch) {
	q := &e.queue
	q.lock.Lock()
	defer q.lock.Unlock()
	// Not under mu: that may be held for as long as it takes to look through all that is remembered.
	q.done = append(q.done, handedBatch{ids: b.ids, seq: b.seq, at: q.activeNow(), given: time.Now(), raw: b.raw, repaired: b.repaired, size: len(b.Data)})
	*b = Batch{Data: b.Data[:0]}
	if len(q.spare) <= q.limit/q.size {
		q.spare = append(q.spare, b)
	}
}

// Pause stops the hand-over and the time by which a batch becomes durable: the core leaves a paused input's ring as it
// is.
func (e *Engine) Pause() {
	q := &e.queue
	q.lock.Lock()
	defer q.lock.Unlock()
	if q.pauses++; q.pauses == 1 {
		q.active += time.Since(q.resumed)
	}
}

// Resume ends a pause.
func (e *Engine) Resume() {
	q := &e.queue
	q.lock.Lock()
	defer q.lock.Unlock()
	if q.pauses > 0 {
		q.resumed = time.Now()
	}
	q.pauses = 0
}

// Leave says that the core is about to end: what it was given in the half second before may lie in its ring, which nobody empties any more. Stop
// leaves that uncommitted. Where Leave is not called, Stop takes all for handed over.
func (e *Engine) Leave() {
	q := &e.queue
	q.lock.Lock()
	defer q.lock.Unlock()
	if q.left.IsZero() {
		q.left = time.Now()
	}
}

// inRing tells whether what was given at that time may never have left the core's ring.
func (q *queue) inRing(given time.Time) bool {
	q.lock.Lock()
	defer q.lock.Unlock()
	return !q.left.IsZero() && q.left.Sub(given) < ringTime
}

func (q *queue) isPaused() bool {
	q.lock.Lock()
	defer q.lock.Unlock()
	return q.pauses > 0
}

// activeTime is the time since the engine was made that it was not paused.
func (q *queue) activeTime() time.Duration {
	q.lock.Lock()
	defer q.lock.Unlock()
	return q.activeNow()
}

// activeNow is activeTime for who holds lock.
func (q *queue) activeNow() time.Duration {
	if q.pauses > 0 {
		return q.active
	}
	return q.active + time.Since(q.resumed)
}

// takeDone returns the batches that were handed over since it was last called.
func (q *queue) takeDone() []handedBatch {
	q.lock.Lock()
	defer q.lock.Unlock()
	done := q.done
	q.done = nil
	return done
}

// backPressured tells, at exit, whether the core had paused the instance before, by back-pressure or a rate limit: on its way out an instance
// that ran gets two pauses, one that is paused none more, or two more (flb_input_pause in 5.1.1); what old cores give beyond that the plugin
// keeps to itself. With `threaded off` every instance of the thread sees the pauses of all, two each. Cores without pauses give none.
func (q *queue) backPressured() bool {
	q.lock.Lock()
	defer q.lock.Unlock()
	return q.pauses%2 == 1
}
