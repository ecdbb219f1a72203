package pull

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sort"
	"time"

	"fluent-bit-defender/record"
	"fluent-bit-defender/state"
)

// commitMost bounds the hashes of one transaction, and so its memory, to more than Fluent Bit can take in the second between two.
const commitMost = 20_000

// handedBatch is what is left of a batch once the core has it: durable when safe.
type handedBatch struct {
	ids []record.ID
	seq uint64
	at  time.Duration // active time of the hand-over

	given time.Time // local, of the same

	raw, repaired int // of its rows
	size          int // bytes
}

// mark says: once all batches up to seq are durable, so may settled and gaps be.
type mark struct {
	seq     uint64
	settled time.Time
	gaps    []state.UnreadRange
}

// setMark notes the present settled time and gaps behind the rows fetched so far. A piece that may turn out to have been capped by the next
// answer counts as unread for the store, for the next life does not know of it. The caller holds mu and is the pulling goroutine.
func (e *Engine) setMark() {
	settled := e.settled
	if h := e.hidden.from; !h.IsZero() {
		settled = earlier(settled, h)
	}
	m := mark{e.lastSeq, settled, slices.Clone(e.gaps)}
	if n := len(e.marks); n > 0 && e.marks[n-1].seq == m.seq {
		e.marks[n-1] = m
		return
	}
	e.marks = append(e.marks, m)
}

// collect counts what was handed over. The caller holds mu.
func (e *Engine) collect() {
	for _, h := range e.takeDone() {
		e.handed = append(e.handed, h)
		e.stats.HandedOver += uint64(len(h.ids) - h.raw)
		e.stats.Raw += uint64(h.raw)
		e.stats.Repaired += uint64(h.repaired)
		e.stats.HandedOverSize += uint64(h.size)
	}
}

// change adds to pending what may become durable now: all that was handed over but what inRing names, with onlySafe what was handed over five
// active seconds ago, and no further batch once pending has most hashes to add. dirty tells whether there is anything to commit. The caller holds mu.
func (e *Engine) change(onlySafe bool, most int) (c state.Change, dirty bool) {
	e.collect()
	now := e.activeTime()
	n := 0
	for _, h := range e.handed {
		if onlySafe && now-h.at < safeAfter || !onlySafe && e.inRing(h.given) || len(e.pending.Add) >= most {
			break
		}
		for _, id := range h.ids {
			if t, ok := e.seen.store(id); ok {
				e.pending.Add = append(e.pending.Add, state.Entry{ID: state.ID(id), Age: t})
				e.dirty = true
			}
		}
		e.safeSeq = h.seq
		n++
	}
	e.handed = slices.Delete(e.handed, 0, n)
	e.passMarks()
	drop := func(id record.ID, t int64) {
		e.pending.Drop = append(e.pending.Drop, state.Entry{ID: state.ID(id), Age: t})
		e.dirty = true
	}
	e.seen.prune(e.pruneBefore().UnixNano(), e.inGap, drop)
	if dropped := e.seen.shrink(drop); dropped > 0 {
		e.stats.Forgotten += uint64(dropped)
		if !e.fullWarned {
			e.fullWarned = true
			e.log.Warn(fmt.Sprintf("more than %d alerts are remembered: the oldest are forgotten, so some may come twice (none is lost); use filters or a shorter ago or overlap", maxSeen))
		}
	}
	if e.release { // all at the end
		e.pending.Add, e.pending.Drop = nil, nil
	}
	// A change drops before it adds, so what was dropped since a failed commit must not be added any more.
	e.pending.Add = slices.DeleteFunc(e.pending.Add, func(en state.Entry) bool { return !e.seen.holds(record.ID(en.ID), en.Age) })
	if n := len(e.pending.Drop) - e.seen.max; n > 0 { // commits fail for long: a hash that stays in the file is dropped in the next life
		e.pending.Drop = slices.Delete(e.pending.Drop, 0, n)
	}
	return e.pending, e.dirty
}

// passMarks moves the pending settled time and gaps up to the last mark whose rows are all durable.
func (e *Engine) passMarks() {
	n := 0
	for _, m := range e.marks {
		if m.seq > e.safeSeq {
			break
		}
		if !m.settled.Equal(e.pending.Watermark) || !slices.Equal(m.gaps, e.pending.Unread) {
			e.pending.Watermark, e.pending.Unread = m.settled, m.gaps
			e.dirty = true
		}
		e.stored = m.settled
		n++
	}
	e.marks = slices.Delete(e.marks, 0, n)
}

// pruneBefore is the time before which no window will ask again. The caller holds mu.
func (e *Engine) pruneBefore() time.Time {
	if e.stored.IsZero() {
		return time.Unix(0, 0)
	}
	before := earlier(e.stored, e.settled)
	if e.firstOnly {
		return before.Add(-keepFirst)
	}
	if e.cfg.Ago > 0 {
		if t := e.lastFull.Add(-e.cfg.Ago); t.Before(before) {
			before = t
		}
	}
	if h := e.hidden.from; !h.IsZero() && h.Before(before) {
		before = h // that span may be asked again
	}
	if e.leap.fresh() {
		before = earlier(before, e.leap.settled)
	}
	return before.Add(-seenMargin)
}

// inGap tells whether a row of age t may come again by an open gap. Of one that ages by its coming nobody knows where it belongs: by any gap
// that was there by then. The caller holds mu.
func (e *Engine) inGap(t int64) bool {
	// Also of one that is filled, but still stored as open.
	for _, gaps := range [][]state.UnreadRange{e.gaps, e.pending.Unread} {
		if within(gaps, t) || t&ofComing != 0 && len(gaps) > 0 && gaps[0].Since.UnixNano() <= t {
			return true
		}
	}
	return false
}

// within tells whether t lies in one of the gaps, or close to it. They are sorted and do not overlap, so only the last that begins before t can hold it.
func within(gaps []state.UnreadRange, t int64) bool {
	n := sort.Search(len(gaps), func(i int) bool { return gaps[i].Since.Add(-2*edge).UnixNano() > t })
	for _, g := range gaps[max(0, n-3):n] { // neighbours share their edges
		if t <= g.Until.Add(edge).UnixNano() {
			return true
		}
	}
	return false
}

func (e *Engine) commitLoop(ctx context.Context) {
	tick := time.NewTicker(commitEvery)
	defer tick.Stop()
	var failedAt time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if !failedAt.IsZero() && time.Since(failedAt) < 10*commitEvery {
			continue
		}
		if err := e.commit(); err != nil {
			failedAt = time.Now()
			e.commitTrouble.failed(e.log, slog.LevelWarn, sortOf(err.Error()), fmt.Sprintf("cannot store what was pulled: %v; pulling goes on and it is tried again every ten seconds, but a crash or restart now would repeat alerts; make room on the disk, or look for who removed or replaced the file", err))
			continue
		}
		failedAt = time.Time{}
		e.commitTrouble.healed(e.log, "the state is stored again")
	}
}

func (e *Engine) commit() error {
	change, dirty := e.takeChange()
	if !dirty {
		return nil
	}
	err := e.store.Commit(change)
	e.mu.Lock()
	defer e.mu.Unlock()
	if err != nil {
		// Kept for the next try, in the order in which it came.
		e.pending.Add = append(change.Add, e.pending.Add...)
		e.pending.Drop = append(change.Drop, e.pending.Drop...)
		e.dirty = true
		e.stats.CommitFailures++
		return err
	}
	e.stats.Commits++
	return nil
}

// takeChange takes what may be committed now out of pending.
func (e *Engine) takeChange() (state.Change, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	change, dirty := e.change(true, commitMost)
	if dirty {
		e.pending.Add, e.pending.Drop, e.dirty = nil, nil, false
	}
	return change, dirty
}
