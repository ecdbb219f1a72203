package pull

import (
	"context"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"fluent-bit-defender/ledger"
)

// openFor is how long a buffer may stay open for more rows while Fluent Bit waits for some.
const openFor = 250 * time.Millisecond

// Batch is a run of records, ready for one append. Whoever took it owns Data until Done.
type Batch struct {
	Data  []byte    // msgpack records one after the other
	parts []*buffer // whose bytes they were
}

// buffer holds records of one source. While it is filled it belongs to whoever fills it, then to the queue.
type buffer struct {
	lane   *lane
	data   []byte
	opened time.Time // when its first row came

	rows, raw, repaired int
	ledger.Delivered    // Active and At once it is
}

// lane is a source's part of the queue.
type lane struct {
	ledger *ledger.Ledger

	seq uint64 // of its last buffer; used by one step at a time

	// Guarded by the queue's lock.
	full   []*buffer
	open   *buffer // not full yet; nobody fills it while it lies here
	bytes  int     // of both
	inTurn bool    // it is in the queue's turns
	gone   bool    // nothing of it is taken any more
}

// sums count what was delivered.
type sums struct{ rows, raw, repaired, bytes uint64 }

// queue holds what was fetched until Fluent Bit's thread takes it, from each source in its turn. Its own lock keeps
// the callback apart from everything that takes longer.
type queue struct {
	limit, size int         // bytes of all, and of a full batch
	fence       func() bool // nil: none. False: nothing is delivered now

	lock  sync.Mutex
	turns []*lane // that have something, in their turn
	lanes int     // all
	bytes int
	spare [][]byte  // for the next buffers
	done  []*buffer // delivered, and not yet in their ledgers
	sums  sums
	core  coreClock
	room  chan struct{} // closed, and another made, when something was taken

	hungry atomic.Bool // Fluent Bit found nothing to take
}

func (q *queue) init(limit, size int, fence func() bool) {
	q.limit, q.size, q.fence = limit, size, fence
	q.core.resumed = time.Now()
	q.room = make(chan struct{})
}

func (q *queue) join() {
	q.lock.Lock()
	defer q.lock.Unlock()
	q.lanes++
}

// leave throws away what l holds: none of it is taken any more.
func (q *queue) leave(l *lane) {
	q.lock.Lock()
	defer q.lock.Unlock()
	if l.gone {
		return
	}
	q.bytes -= l.bytes
	l.full, l.open, l.bytes, l.gone = nil, nil, 0, true
	q.lanes--
	close(q.room)
	q.room = make(chan struct{})
}

// unpark returns the buffer to fill: the open one, so that small answers share it, or a new one.
func (q *queue) unpark(l *lane) *buffer {
	q.lock.Lock()
	defer q.lock.Unlock()
	if b := l.open; b != nil {
		l.open = nil
		l.bytes -= len(b.data)
		q.bytes -= len(b.data)
		return b
	}
	return q.newBuffer(l)
}

// park leaves b where Fluent Bit can take it before it is full.
func (q *queue) park(l *lane, b *buffer) {
	q.lock.Lock()
	defer q.lock.Unlock()
	if b.rows == 0 {
		l.seq-- // it was the last, and never held a row
		q.recycle(b.data)
		return
	}
	if l.gone {
		return
	}
	l.open = b
	q.grew(l, len(b.data))
}

func (q *queue) grew(l *lane, n int) {
	l.bytes += n
	q.bytes += n
	if !l.inTurn {
		l.inTurn = true
		q.turns = append(q.turns, l)
	}
}

// newBuffer returns an empty buffer. The caller holds lock.
func (q *queue) newBuffer(l *lane) *buffer {
	b := &buffer{lane: l}
	if n := len(q.spare); n > 0 {
		b.data, q.spare = q.spare[n-1], q.spare[:n-1]
	}
	l.seq++
	b.Seq = l.seq
	return b
}

// recycle keeps data for the next buffer. The caller holds lock.
func (q *queue) recycle(data []byte) {
	if len(q.spare) <= q.limit/q.size {
		q.spare = append(q.spare, data[:0])
	}
}

// forgetSpare lets go of buffers that a backlog has left behind.
func (q *queue) forgetSpare() {
	q.lock.Lock()
	defer q.lock.Unlock()
	q.spare = nil
}

// push gives away a full buffer and returns the next one to fill, which begins with rest: that may stand behind the
// end of b.
func (q *queue) push(l *lane, b *buffer, rest []byte) *buffer {
	q.lock.Lock()
	defer q.lock.Unlock()
	next := q.newBuffer(l)
	// where one was full the next will be: growing to it step by step would leave garbage of its size
	if next.data == nil {
		next.data = make([]byte, 0, q.size+q.size/16)
	}
	next.data = append(next.data, rest...)
	if !l.gone {
		l.full = append(l.full, b)
		q.grew(l, len(b.data))
	}
	q.hungry.Store(false)
	return next
}

// crowded tells whether a source that holds held bytes beside has to wait: the queue is full, or its own half of one
// that others share. The channel is closed when something was taken.
func (q *queue) crowded(l *lane, held int) (<-chan struct{}, bool) {
	q.lock.Lock()
	defer q.lock.Unlock()
	return q.room, q.bytes+held >= q.limit || q.lanes > 1 && l.bytes+held >= max(q.limit/2, q.size)
}

// wait blocks until there is room; false when ctx ended first.
func (q *queue) wait(ctx context.Context, l *lane) bool {
	for {
		room, full := q.crowded(l, 0)
		if !full {
			return true
		}
		select {
		case <-room:
		case <-ctx.Done():
			return false
		}
	}
}

// next takes the next buffer of the lane whose turn it is, if it has at most most bytes; nil: there is none. The
// caller holds lock.
func (q *queue) next(most int) *buffer {
	for len(q.turns) > 0 {
		l := q.turns[0]
		b := l.open
		if len(l.full) > 0 {
			b = l.full[0]
		}
		if b != nil && len(b.data) > most {
			return nil
		}
		q.turns[0] = nil
		q.turns = q.turns[1:]
		l.inTurn = false
		if b == nil {
			continue
		}
		if b == l.open {
			l.open = nil
		} else {
			l.full[0] = nil
			l.full = l.full[1:]
		}
		l.bytes -= len(b.data)
		q.bytes -= len(b.data)
		if len(l.full) > 0 || l.open != nil {
			l.inTurn = true
			q.turns = append(q.turns, l)
		}
		return b
	}
	return nil
}

// Take gives the next batch to Fluent Bit's thread; nil when none is ready, the input is paused or the fence is down.
// It never waits. Small buffers are joined, so that many sources need few batches.
func (q *queue) Take() *Batch {
	if q.fence != nil && !q.fence() {
		return nil
	}
	q.lock.Lock()
	defer q.lock.Unlock()
	if q.core.pauses > 0 {
		return nil
	}
	batch := &Batch{}
	size := 0
	for b := q.next(math.MaxInt); b != nil; b = q.next(q.size - size) {
		size += len(b.data)
		batch.parts = append(batch.parts, b)
	}
	if len(batch.parts) == 0 {
		q.hungry.Store(true)
		return nil
	}
	first := batch.parts[0]
	batch.Data, first.data = slices.Grow(first.data, size-len(first.data)), nil
	for _, b := range batch.parts[1:] {
		batch.Data = append(batch.Data, b.data...)
		q.recycle(b.data)
		b.data = nil
	}
	close(q.room)
	q.room = make(chan struct{})
	return batch
}

// Done says that Fluent Bit has copied b: its rows are delivered, and durable some unpaused time later. It never waits.
func (q *queue) Done(b *Batch) {
	q.lock.Lock()
	defer q.lock.Unlock()
	// Not into the ledgers: they may be locked for as long as it takes to look through all that is remembered.
	active, now := q.core.active(), time.Now()
	for _, p := range b.parts {
		q.sums.rows += uint64(p.rows)
		q.sums.raw += uint64(p.raw)
		q.sums.repaired += uint64(p.repaired)
		p.Active, p.At = active, now
	}
	q.sums.bytes += uint64(len(b.Data))
	q.done = append(q.done, b.parts...)
	q.recycle(b.Data)
	*b = Batch{}
}

// takeDone returns what was delivered since it was last called.
func (q *queue) takeDone() []*buffer {
	q.lock.Lock()
	defer q.lock.Unlock()
	done := q.done
	q.done = nil
	return done
}

// stats fills in what the queue counts.
func (q *queue) stats(s *Stats) {
	q.lock.Lock()
	defer q.lock.Unlock()
	s.Delivered, s.Raw, s.Repaired, s.DeliveredSize = q.sums.rows-q.sums.raw, q.sums.raw, q.sums.repaired, q.sums.bytes
	s.Queued, s.Paused = q.bytes, q.core.pauses > 0
}
