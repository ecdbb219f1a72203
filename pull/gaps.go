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
	g := state.Gap{Since: pc.since, Until: pc.until, Reason: e.said(reason)}
	e.gaps = append(slices.Clone(e.gaps), g)
	slices.SortFunc(e.gaps, func(a, b state.Gap) int { return a.Since.Compare(b.Since) })
	open := len(e.gaps)
	e.mu.Unlock()
	e.crowded.over()
	e.gapsMade++
	e.retries[keyOf(g)] = &retry{due: time.Now().Add(e.backOff(0, time.Minute))}
	e.log.Error(fmt.Sprintf("cannot read the alerts processed from %s: %s; newer alerts go on, this span is asked again until it can be read; nothing to do unless it lasts for hours; gaps open: %d", pc, g.Reason, open))
	e.settle(pc, now)
	return true
}

// retryGaps asks again for the gaps that are due. It stops at the first failure that is not the gap's own, and after three
// that are.
func (e *Engine) retryGaps(ctx context.Context) {
	e.mu.Lock()
	gaps := slices.Clone(e.gaps)
	e.mu.Unlock()
	failures := 0
	for _, g := range gaps {
		r := e.retries[keyOf(g)]
		if r == nil {
			r = &retry{}
			e.retries[keyOf(g)] = r
		}
		if time.Now().Before(r.due) {
			continue
		}
		now, err := e.client.Now(ctx)
		if err != nil || ctx.Err() != nil {
			return
		}
		if r.syntax == nil {
			r.syntax = map[record.ID]int{}
		}
		pc := &piece{since: g.Since, until: g.Until, syntax: r.syntax, gap: true, unlimited: g.Until.Sub(g.Since) <= floor}
		got := e.ask(ctx, pc, now)
		if ctx.Err() != nil {
			return
		}
		if got.err != nil && !(got.cut && pc.span() > floor) {
			if !sleep(ctx, e.failed(pc, got.err)) || pc.fails == 0 { // none: not its own
				return
			}
			r.fails++
			r.due = time.Now().Add(e.backOff(r.fails, time.Minute))
			if failures++; failures == 3 {
				return
			}
			continue
		}
		if got.err == nil && got.partial != "" {
			e.succeeded()
			r.fails++
			r.due = time.Now().Add(e.backOff(r.fails, time.Minute))
			if failures++; failures == 3 {
				return
			}
			continue
		}
		if got.err == nil {
			e.succeeded()
		}
		e.readGap(g, pc, got, now)
	}
}

// readGap deals with a gap's answer: it is closed, or halved because not all of it came.
func (e *Engine) readGap(g state.Gap, pc *piece, got answer, now time.Time) {
	var parts []*piece
	if got.cut {
		parts = pc.halves()
	} else {
		parts = e.full(pc, got)
	}
	last := !g.Until.After(now.Add(-e.cfg.Overlap)) && !e.client.Doubtful() // else late rows may still come to it: it is asked again
	if parts == nil && !last {
		return
	}
	e.mu.Lock()
	delete(e.retries, keyOf(g))
	e.gaps = slices.DeleteFunc(slices.Clone(e.gaps), func(o state.Gap) bool { return keyOf(o) == keyOf(g) })
	for _, p := range parts {
		e.gaps = append(e.gaps, state.Gap{Since: p.since, Until: p.until, Reason: g.Reason})
	}
	slices.SortFunc(e.gaps, func(a, b state.Gap) int { return a.Since.Compare(b.Since) })
	open := len(e.gaps)
	e.setMark()
	e.mu.Unlock()
	if parts == nil {
		e.log.Info(fmt.Sprintf("the gap from %s is filled; gaps open: %d", pc, open))
	}
}
