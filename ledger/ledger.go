// Package ledger keeps what was pulled of one source: the ids of all rows that were fetched, which of them were
// delivered, and the change that may become durable now. It knows nothing of requests, and does no I/O.
//
// Two states: in memory is all that was fetched; durable are the ids of rows that were delivered long enough ago, and
// a watermark that passes no row that is not durable. Checkpoints link the two: each notes the watermark and the
// unread ranges behind the number of the batch with the last row before it, and becomes durable when that batch is.
package ledger

import (
	"slices"
	"sort"
	"sync"
	"time"

	"fluent-bit-defender/plan"
	"fluent-bit-defender/record"
	"fluent-bit-defender/state"
)

const (
	// MostPerCommit bounds the ids of one change, and so its memory, to more than Fluent Bit can take in the second
	// between two.
	MostPerCommit = 20_000
	// KeepFirst is how long an alert that does not come any more is remembered when its updates are dropped: longer
	// than Graph keeps any.
	KeepFirst = 181 * 24 * time.Hour
)

// Options say how ids age.
type Options struct {
	FirstOnly bool // an alert's updates are duplicates of it: all that is remembered comes again and again, for months
	Whole     bool // the store is memory: it takes the ids at the end, whole, and none before
	Max       int  // most ids; 0: 5 million
	// Alerts is how long behind the watermark alerts are remembered (AddAlert); 0: none are.
	Alerts time.Duration
}

// Delivered is a batch that Fluent Bit has copied. The ledger owns IDs from then on.
type Delivered struct {
	Seq    uint64 // of the batch: each later one of the source has a larger number
	IDs    []record.ID
	Active time.Duration // unpaused time at its delivery
	At     time.Time     // local, of the same
}

// Checkpoint is what was read once all rows up to the batch Seq were fetched.
type Checkpoint struct {
	Seq       uint64
	Watermark time.Time
	Unread    []state.UnreadRange // not changed by anyone any more
	KeepFrom  time.Time           // rows from here on may be asked for again
}

// Ledger is safe for concurrent use; its lock is never held over I/O.
type Ledger struct {
	opt Options

	mu          sync.Mutex
	ids         *dedup
	arrivals    int64 // counts rows, for their order within a second
	last        Checkpoint
	checkpoints []Checkpoint
	delivered   []Delivered // not durable yet
	durable     uint64      // all batches up to this one are
	pending     state.Change
	dirty       bool // pending holds something that is not committed
	forgotten   uint64
}

// New returns the ledger of a source whose store holds snap. It keeps no part of snap.IDs.
func New(snap state.Snapshot, opt Options) *Ledger {
	if opt.Max == 0 {
		opt.Max = MaxIDs
	}
	l := &Ledger{opt: opt, ids: newDedup(opt.Max)}
	l.setFirstOnly(opt.FirstOnly)
	for _, e := range snap.IDs {
		l.ids.load(record.ID(e.ID), e.Age)
	}
	l.last = Checkpoint{Watermark: snap.Watermark, Unread: snap.Unread, KeepFrom: snap.Watermark}
	l.pending.Watermark, l.pending.Unread, l.pending.Succeeded = snap.Watermark, snap.Unread, snap.Succeeded
	return l
}

// Succeed notes that since at (service time) the source is pulled from its API's successor. FirstOnly is as in
// Options, from now on.
func (l *Ledger) Succeed(at time.Time, firstOnly bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pending.Succeeded, l.dirty = at, true
	l.setFirstOnly(firstOnly)
}

func (l *Ledger) setFirstOnly(first bool) {
	if l.opt.FirstOnly = first; first {
		l.ids.stale = 24 * 60 * minute
	}
}

// Add tells whether a row is new, and remembers it. It ages by its own time t (unix ns), or, where that is unusable
// or not what was asked for, by when it came (own is false then).
func (l *Ledger) Add(id record.ID, t int64, own bool) (fresh bool) {
	coming := int64(0)
	if !own {
		coming = ofComing
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	// Within its second a row ages in the order of arrival: a commit of many rows of one time then touches neighbouring
	// pages of the state file, where the order of their ids would touch nearly all.
	l.arrivals = (l.arrivals + flags + 1) % int64(time.Second)
	fresh, moved := l.ids.add(id, t-t%int64(time.Second)+l.arrivals+coming)
	if moved != nil {
		l.pending.Drop = append(l.pending.Drop, state.Entry{ID: state.ID(moved.id), Age: moved.old})
		l.pending.Add = append(l.pending.Add, state.Entry{ID: state.ID(moved.id), Age: moved.new})
		l.dirty = true
	}
	return fresh
}

// AddAlert remembers the alert with this id, of which a row of time t (unix ns) was fetched, and that row by Add. It
// tells whether the id is to be delivered with the row: it must not become durable before that.
func (l *Ledger) AddAlert(id record.ID, t int64, row record.ID) (deliver bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	stores, moved := l.ids.addAlert(id, t)
	if moved != nil {
		l.pending.Drop = append(l.pending.Drop, state.Entry{ID: state.ID(moved.id), Age: moved.old})
		l.dirty = true
	}
	if sl := l.ids.get(row); stores && sl != nil && sl.age.durable() {
		t, _ := l.ids.store(id)
		l.pending.Add = append(l.pending.Add, state.Entry{ID: state.ID(id), Age: t})
		l.dirty = true
		return false
	}
	return stores
}

// Alert returns the time (unix ns) of the last row that came of the alert with this id, by AddAlert; false: none is
// remembered.
func (l *Ledger) Alert(id record.ID) (t int64, known bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	sl := l.ids.get(id)
	if sl == nil || sl.age.time()&ofAlert == 0 {
		return 0, false
	}
	return sl.age.time() &^ flags, true
}

// Checkpoint notes what was read by now.
func (l *Ledger) Checkpoint(cp Checkpoint) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last = cp
	if n := len(l.checkpoints); n > 0 && l.checkpoints[n-1].Seq == cp.Seq {
		l.checkpoints[n-1] = cp
		return
	}
	l.checkpoints = append(l.checkpoints, cp)
}

// Deliver notes batches that were delivered, in their order.
func (l *Ledger) Deliver(d ...Delivered) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.delivered = append(l.delivered, d...)
}

// Len is the number of ids held.
func (l *Ledger) Len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ids.len()
}

// AllDurable tells whether all that was delivered is durable in the change that Take returns next or returned before.
func (l *Ledger) AllDurable() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.delivered) == 0
}

// Take returns the change to commit now, which is the caller's: of the delivered batches those up to the first that
// is not durable, and no further one once MostPerCommit ids are to be added. False: there is nothing to commit.
// forgotten is the number of ids that were dropped since the last call because there are too many: their rows may
// come twice.
func (l *Ledger) Take(durable func(Delivered) bool) (c state.Change, dirty bool, forgotten uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.dirty && len(l.delivered) == 0 && len(l.checkpoints) == 0 { // as with most of a thousand sources each second
		return state.Change{}, false, 0
	}
	l.advance(durable, MostPerCommit)
	c, dirty, forgotten = l.pending, l.dirty, l.forgotten
	l.forgotten = 0
	if dirty {
		l.pending.Add, l.pending.Drop, l.dirty = nil, nil, false
	}
	return c, dirty, forgotten
}

// Return gives back a change whose commit failed: it is part of the next one.
func (l *Ledger) Return(c state.Change) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pending.Add = append(c.Add, l.pending.Add...)
	l.pending.Drop = append(c.Drop, l.pending.Drop...)
	l.dirty = true
}

// Last returns the last change of a life, with all durable batches.
func (l *Ledger) Last(durable func(Delivered) bool) (c state.Change, dirty bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.advance(durable, int(^uint(0)>>1))
	c, dirty = l.pending, l.dirty
	if l.opt.Whole && !c.Watermark.IsZero() {
		c.Add, c.Drop, dirty = nil, nil, true
		for sl := range l.ids.all() {
			if sl.age.durable() {
				c.Add = append(c.Add, state.Entry{ID: state.ID(sl.id), Age: sl.age.time()})
			}
		}
	}
	return c, dirty
}

// advance adds to pending what may become durable now.
func (l *Ledger) advance(durable func(Delivered) bool, most int) {
	n := 0
	for _, d := range l.delivered {
		if !durable(d) || len(l.pending.Add) >= most {
			break
		}
		for _, id := range d.IDs {
			if t, ok := l.ids.store(id); ok {
				l.pending.Add = append(l.pending.Add, state.Entry{ID: state.ID(id), Age: t})
				l.dirty = true
			}
		}
		l.durable = d.Seq
		n++
	}
	l.delivered = slices.Delete(l.delivered, 0, n)
	l.passCheckpoints()
	l.forget()
}

// passCheckpoints moves the pending watermark and unread ranges up to the last checkpoint whose rows are all durable.
func (l *Ledger) passCheckpoints() {
	n := 0
	for _, cp := range l.checkpoints {
		if cp.Seq > l.durable {
			break
		}
		if !cp.Watermark.Equal(l.pending.Watermark) || !slices.Equal(cp.Unread, l.pending.Unread) {
			l.pending.Watermark, l.pending.Unread = cp.Watermark, cp.Unread
			l.dirty = true
		}
		n++
	}
	l.checkpoints = slices.Delete(l.checkpoints, 0, n)
}

// forget drops ids that are too old to come again, and the oldest where there are too many.
func (l *Ledger) forget() {
	drop := func(id record.ID, t int64) {
		l.pending.Drop = append(l.pending.Drop, state.Entry{ID: state.ID(id), Age: t})
		l.dirty = true
	}
	before := l.forgetBefore()
	alerts := before.Add(-l.opt.Alerts).UnixNano()
	l.ids.prune(before.UnixNano(), func(t int64) bool { return t&ofAlert != 0 && t >= alerts || l.inUnread(t) }, drop)
	l.forgotten += uint64(l.ids.shrink(drop))
	if l.opt.Whole { // the store takes them all at the end
		l.pending.Add, l.pending.Drop = nil, nil
	}
	// A change drops before it adds, so what was dropped since a failed commit must not be added any more.
	l.pending.Add = slices.DeleteFunc(l.pending.Add, func(e state.Entry) bool {
		return !l.ids.holds(record.ID(e.ID), e.Age)
	})
	// commits fail for long: an id that stays in the store is dropped in the next life
	if n := len(l.pending.Drop) - l.ids.max; n > 0 {
		l.pending.Drop = slices.Delete(l.pending.Drop, 0, n)
	}
}

// forgetBefore is the time before which no window will ask again.
func (l *Ledger) forgetBefore() time.Time {
	before := l.pending.Watermark
	if l.last.KeepFrom.Before(before) {
		before = l.last.KeepFrom
	}
	switch {
	case before.IsZero():
		return time.Unix(0, 0)
	case l.opt.FirstOnly:
		return before.Add(-KeepFirst)
	}
	return before.Add(-plan.KeepMargin)
}

// inUnread tells whether a row of age t may come again by an unread range. Of one that ages by its coming nobody
// knows where it belongs: by any range that was there by then.
func (l *Ledger) inUnread(t int64) bool {
	// Also of one that is read, but still stored as unread.
	for _, ranges := range [][]state.UnreadRange{l.last.Unread, l.pending.Unread} {
		switch {
		case within(ranges, t):
			return true
		case len(ranges) == 0:
		case t&ofComing != 0 && ranges[0].Since.UnixNano() <= t,
			t&ofAlert != 0 && ranges[0].Since.Add(-l.opt.Alerts).UnixNano() <= t:
			return true
		}
	}
	return false
}

// within tells whether t lies in one of the ranges, or close to it. They are sorted and do not overlap, so only the
// last that begins before t can hold it.
func within(ranges []state.UnreadRange, t int64) bool {
	n := sort.Search(len(ranges), func(i int) bool { return ranges[i].Since.Add(-2*plan.Edge).UnixNano() > t })
	for _, r := range ranges[max(0, n-3):n] { // neighbours share their edges
		if t <= r.Until.Add(plan.Edge).UnixNano() {
			return true
		}
	}
	return false
}
