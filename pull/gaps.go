package pull

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"fluent-bit-defender/record"
	"fluent-bit-defender/state"
)

// retry is what is remembered of one gap between its retries.
type retry struct {
	fails  int
	stuck  int       // failures in a row that are not its own
	whole  bool      // ask without limit
	due    time.Time // local, monotonic
	syntax map[record.ID]int
}

// makeGap stores pc as a gap, so that newer steps go on without it; false when there are too many gaps.
func (e *Engine) makeGap(pc *piece, reason error, now time.Time) bool {
	e.mu.Lock()
	if len(e.gaps) >= maxGaps {
		e.mu.Unlock()
		e.crowded.failed(e.log, slog.LevelError, "full", fmt.Sprintf("%d gaps are open already, the most that are kept: nothing newer than %s is pulled until one can be read; look at the reasons (defenderctl state) and open a case with Microsoft", maxGaps, pc))
		return false
	}
	g := state.UnreadRange{Since: pc.since, Until: pc.until, Reason: e.said(reason)}
	e.gaps = append(slices.Clone(e.gaps), g)
	slices.SortFunc(e.gaps, func(a, b state.UnreadRange) int { return a.Since.Compare(b.Since) })
	open := len(e.gaps)
	e.mu.Unlock()
	e.crowded.over()
	e.gapsMade++
	e.retryOf(g).due = time.Now().Add(e.backOff(0, time.Minute))
	e.log.Error(fmt.Sprintf("cannot read the alerts processed from %s: %s; newer alerts go on, this span is asked again until it can be read; nothing to do unless it lasts for hours; gaps open: %d", pc, g.Reason, open))
	e.settle(pc, now)
	return true
}

// adopt takes over the gaps of other filters that nobody else will ask for. The caller holds mu, and there are no gaps yet.
func (e *Engine) adopt(gaps []state.UnreadRange) {
	for _, g := range gaps { // sorted, but those of two stanzas may overlap
		if n := len(e.gaps); n > 0 && g.Since.Before(e.gaps[n-1].Until) {
			e.gaps[n-1].Until = later(e.gaps[n-1].Until, g.Until)
		} else if n == maxGaps {
			e.gaps[n-1].Until = later(e.gaps[n-1].Until, earlier(g.Until, e.settled)) // one that is too long loses nothing
		} else if g.Since.Before(e.settled) {
			e.gaps = append(e.gaps, g)
		}
	}
}

// retryGaps asks again for the gaps that are due: first for long ones, of which a part may be readable, the newest first, then for those that
// were not asked for longest, for what stays bad must not keep it from the others. It stops at the first failure that is not the gap's own, and
// after three that are.
func (e *Engine) retryGaps(ctx context.Context) {
	e.mu.Lock()
	gaps := slices.Clone(e.gaps)
	e.mu.Unlock()
	long := func(g state.UnreadRange) bool {
		r := e.retryOf(g)
		return g.Until.Sub(g.Since) > gapFloor && r.fails == 0 && r.stuck == 0
	}
	slices.SortFunc(gaps, func(a, b state.UnreadRange) int {
		switch la, lb := long(a), long(b); {
		case la && lb:
			return b.Since.Compare(a.Since)
		case la:
			return -1
		case lb:
			return 1
		}
		return e.retryOf(a).due.Compare(e.retryOf(b).due)
	})
	failures := 0
	for _, g := range gaps {
		r := e.retryOf(g)
		if time.Now().Before(r.due) {
			continue
		}
		now, err := e.client.Now(ctx)
		if err != nil || ctx.Err() != nil {
			return
		}
		r.due = time.Now() // behind the others, whatever becomes of it
		pc := &piece{since: g.Since, until: g.Until, syntax: r.syntax, gap: true, unlimited: r.whole || g.Until.Sub(g.Since) <= floor}
		room := len(gaps) < maxGaps/2 // the other half is for new ones
		got := e.ask(ctx, pc, now)
		if ctx.Err() != nil {
			return
		}
		switch {
		case got.err == nil && got.partial == "":
			e.succeeded()
			e.readGap(g, pc, got, now)
			continue
		case got.err == nil:
			e.succeeded()
			if room && pc.span() > floor && e.limited(pc, got) {
				e.divide(g, pc.halves())
				continue
			}
		case got.cut && pc.span() > floor:
			e.readGap(g, pc, got, now)
			continue
		case !sleep(ctx, e.failed(pc, got.err)):
			return
		case pc.fails == 0: // not its own
			if r.stuck++; r.stuck >= ownFailures && pc.span() > gapFloor && room { // it may be too much to be answered in time
				e.divide(g, pc.halves())
			}
			return
		case pc.span() > gapFloor && room:
			e.divide(g, pc.halves()) // a part of it may be readable
			e.log.Debug(fmt.Sprintf("the gap from %s cannot be read; its halves are asked for next", pc))
		}
		r.fails++
		r.due = time.Now().Add(e.backOff(r.fails, time.Minute))
		if failures++; failures == 3 {
			return
		}
	}
}

// retryOf is what is remembered of g's retries.
func (e *Engine) retryOf(g state.UnreadRange) *retry {
	r := e.retries[keyOf(g)]
	if r == nil {
		r = &retry{syntax: map[record.ID]int{}}
		e.retries[keyOf(g)] = r
	}
	return r
}

// readGap deals with a gap's answer: it is closed, or halved because not all of it came.
func (e *Engine) readGap(g state.UnreadRange, pc *piece, got answer, now time.Time) {
	var parts []*piece
	if got.cut {
		parts = pc.halves()
	} else {
		parts = e.full(pc, got)
	}
	if len(parts) == 1 { // the same without limit
		e.retryOf(g).whole = true
		return
	}
	// Else late rows may still come to it, or came since a cache kept the answer: it is asked again.
	last := !g.Until.After(now.Add(-e.cfg.Overlap)) && !e.client.Doubtful() && !got.cached
	if parts == nil && !last {
		return
	}
	e.divide(g, parts)
	if parts == nil {
		e.log.Info(fmt.Sprintf("the gap from %s is filled; gaps open: %d", pc, e.open()))
	}
}

// divide puts parts in the place of g; none: it is filled.
func (e *Engine) divide(g state.UnreadRange, parts []*piece) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.retries, keyOf(g))
	e.gaps = slices.DeleteFunc(slices.Clone(e.gaps), func(o state.UnreadRange) bool { return keyOf(o) == keyOf(g) })
	for _, p := range parts {
		e.gaps = append(e.gaps, state.UnreadRange{Since: p.since, Until: p.until, Reason: g.Reason})
	}
	slices.SortFunc(e.gaps, func(a, b state.UnreadRange) int { return a.Since.Compare(b.Since) })
	e.setMark()
}

// open is the number of gaps.
func (e *Engine) open() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.gaps)
}
