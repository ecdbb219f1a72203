package pull

import (
	"context"
	"errors"
	"fmt"
	"time"

	"fluent-bit-defender/client"
)

// steps reads all that plan lists, oldest first. It tells whether it came to the end.
func (e *Engine) steps(ctx context.Context, now time.Time) bool {
	var from time.Time
	for {
		work := e.plan(from, now, mostSteps)
		if len(work) == 0 {
			return true
		}
		from = work[0].until // not settled, which may stand still
		if !e.work(ctx, work, now) {
			return false
		}
	}
}

// work reads what is planned. It tells whether it came to the end.
func (e *Engine) work(ctx context.Context, work []*piece, now time.Time) bool {
	for len(work) > 0 {
		pc := work[len(work)-1]
		work = work[:len(work)-1]
		got := e.ask(ctx, pc, now)
		if ctx.Err() != nil {
			return false
		}
		more, wait := e.next(pc, got, now)
		work = append(work, more...)
		if !sleep(ctx, wait) {
			return false
		}
		if t, err := e.client.Now(ctx); err == nil && now.Sub(t) > edge {
			return false // the service's clock went back: what was planned lies in its future
		}
	}
	return true
}

// next decides what follows an answer: the pieces to ask (a stack) and how long to wait before.
func (e *Engine) next(pc *piece, got answer, now time.Time) (more []*piece, wait time.Duration) {
	if got.err == nil && got.partial != "" {
		if pc.span() > floor && e.limited(pc, got) {
			return pc.halves(), 0
		}
		e.succeeded()
		e.incomplete(pc, got.partial, now)
		return nil, 0
	}
	if got.err == nil {
		e.succeeded()
		e.hurry = false
		if more := e.full(pc, got); more != nil {
			return more, 0
		}
		e.settle(pc, now)
		return nil, 0
	}
	if pc.probe != nil {
		pc.probe.fresh += got.fresh // the next try has them no more
	}
	if got.cut && pc.span() > floor {
		e.log.Debug(fmt.Sprintf("the answer for %s was cut while the queue was full; asking for its halves", pc))
		return pc.halves(), 0
	}
	wait = e.failed(pc, got.err)
	var ce *client.Error
	if errors.As(got.err, &ce) && ce.Kind == client.KindNetwork {
		pc.stuck++
	}
	// Is it this span or the whole service? What is newer must not wait until each minute of a long bad span was tried by itself.
	if own(ce) && e.gapsMade > 1 && !e.once {
		if !sleep(e.ctx, wait) {
			return nil, 0
		}
		wait = e.answers()
		if e.hurry = wait == 0; e.hurry {
			e.succeeded()
			wait = firstWait
		}
	}
	switch {
	case pc.stuck >= ownFailures && pc.span() > gapFloor: // it may be too much to be answered in time
		e.log.Debug(fmt.Sprintf("the connection failed %d times for %s; asking for its halves", pc.stuck, pc))
		return pc.halves(), wait
	case pc.fails < ownFailures:
		return []*piece{pc}, wait
	case pc.span() > gapFloor && !e.hurry:
		e.log.Debug(fmt.Sprintf("%s failed %d times; asking for its halves", pc, pc.fails))
		return pc.halves(), wait
	case !e.makeGap(pc, got.err, now):
		if !sleep(e.ctx, wait) {
			return nil, 0
		}
		e.retryGaps(e.ctx) // one that can be read again makes room
		return []*piece{pc}, wait
	}
	return nil, wait
}

// answers asks whether the service answers for its present: 0 if it does, else how long to wait.
func (e *Engine) answers() time.Duration {
	now, err := e.client.Now(e.ctx)
	if err == nil {
		err = e.glance(e.ctx, now)
	}
	if err == nil {
		return 0
	}
	var ce *client.Error
	if errors.As(err, &ce) {
		return max(firstWait, ce.RetryAfter)
	}
	return firstWait
}

// settle moves settled to what is known after pc was read (or became a gap), and notes it behind the rows fetched so far. The
// answer's own Date has the last word on the time at which it was asked for: while it contradicts the time we took it for,
// nothing is settled, and the span is asked again.
func (e *Engine) settle(pc *piece, now time.Time) {
	then, err := e.client.Now(e.ctx)
	if err != nil {
		return
	}
	t := earlier(pc.until, earlier(now, then.Add(-time.Since(pc.asked))).Add(-e.cfg.Overlap))
	doubt := e.client.Doubtful()
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case doubt:
	case e.hold != "":
		e.readAhead(pc.since, t)
	default:
		if t.After(e.settled) {
			e.settled = t
		}
		e.catchUp()
	}
	e.setMark()
}
