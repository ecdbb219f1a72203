package pull

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"fluent-bit-defender/client"
	"fluent-bit-defender/state"
)

const (
	windowPatience = 8                     // failures in a row after which Window gives up: about four minutes
	windowGaps     = 3                     // spans in a row that cannot be read after which it gives up
	windowPoll     = 10 * time.Millisecond // between two looks for a batch
)

// GapsError says that Window read all but these spans, which failed again and again.
type GapsError struct{ Unread []state.UnreadRange }

func (e *GapsError) Error() string {
	g := e.Unread[0]
	text := fmt.Sprintf("the alerts processed from %s to %s could not be read: %s", g.Since.Format(time.RFC3339), g.Until.Format(time.RFC3339), g.Reason)
	if n := len(e.Unread) - 1; n > 0 {
		text += fmt.Sprintf(" (and %d spans more)", n)
	}
	return text
}

// Window pulls once what was processed from since to until, oldest first, with the same halving, limits and memory of what was seen as
// Start, which must not be called as well. It goes on where the store ends, and asks for the store's gaps again; a store belongs to
// one window. Neither ago nor initial_lookback play a part. Rows of up to two seconds around the window may come too.
//
// hand is called from one goroutine with whole records, one or more, which are its own until it returns; they count as handed over then,
// unless it returns an error, which ends the window and is returned. Window returns when all was handed over, or at the first error
// that only an operator can mend, after some minutes of others, or with ctx's cause. A *GapsError comes when all the rest was
// handed over. Call Stop in any case: it stores what was.
func (e *Engine) Window(ctx context.Context, since, until time.Time, hand func(records []byte) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(e.ctx, func() { cancel(context.Canceled) })()
	e.running.Go(func() { e.guard(e.ctx, "committing", e.commitLoop) })

	handed := make(chan error, 1)
	read := make(chan struct{}) // closed: no more batches will come
	go func() {
		defer func() {
			if r := recover(); r != nil {
				handed <- fmt.Errorf("internal error while handing over: %v", r)
				cancel(context.Canceled)
			}
		}()
		err := e.handAll(ctx, read, hand)
		if err != nil {
			cancel(err)
		}
		handed <- err
	}()
	err := e.window(ctx, since, until)
	close(read)
	if handErr := <-handed; handErr != nil && !errors.Is(handErr, context.Canceled) {
		return handErr
	}
	return err
}

// handAll hands over every batch until no more will come.
func (e *Engine) handAll(ctx context.Context, read <-chan struct{}, hand func([]byte) error) error {
	for last := false; ; {
		b := e.Take()
		switch {
		case b != nil:
			if err := hand(b.Data); err != nil {
				return err
			}
			e.Done(b)
		case last:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		default:
			select {
			case <-read:
				last = true
			case <-time.After(windowPoll):
			}
		}
	}
}

// window asks for all of it.
func (e *Engine) window(ctx context.Context, since, until time.Time) error {
	now, err := e.windowNow(ctx)
	if err != nil {
		return err
	}
	e.mu.Lock()
	if !e.snap.Found {
		e.settled = since
	}
	e.latest, e.latestAt, e.lastFull = now, time.Now(), now
	e.setMark()
	e.mu.Unlock()
	e.once = true
	work := e.plan(time.Time{}, earlier(until.Add(edge), now), math.MaxInt) // a bound that the service truncates hides nothing
	some, failures := false, 0
	for len(work) > 0 {
		pc := work[len(work)-1]
		work = work[:len(work)-1]
		got := e.ask(ctx, pc, now)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		var ce *client.Error
		switch errors.As(got.err, &ce); {
		case got.err == nil:
			some, failures = true, 0
		case ce != nil && (mustAct(ce.Kind) || ce.Kind == client.KindRefused && !some):
			return got.err
		case ce != nil && !own(ce):
			if failures++; failures == windowPatience {
				return got.err
			}
		}
		more, wait := e.next(pc, got, now)
		work = append(work, more...)
		if e.gapsMade == windowGaps {
			return got.err
		}
		if !sleep(ctx, wait) {
			return context.Cause(ctx)
		}
	}
	e.retryGaps(ctx)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if e.hold != "" {
		return fmt.Errorf("the service says that something is missing from its answers: %s; what came was handed over: try again later", e.hold)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.gaps) > 0 {
		return &GapsError{slices.Clone(e.gaps)}
	}
	return nil
}

// windowNow is the service's time, or the error for want of one.
func (e *Engine) windowNow(ctx context.Context) (time.Time, error) {
	for failures := 1; ; failures++ {
		now, err := e.client.Now(ctx)
		var ce *client.Error
		switch {
		case err == nil:
			return now.UTC().Truncate(100 * time.Nanosecond), nil
		case ctx.Err() != nil:
			return time.Time{}, context.Cause(ctx)
		case errors.As(err, &ce) && mustAct(ce.Kind), failures == windowPatience:
			return time.Time{}, err
		}
		if !sleep(ctx, e.failed(nil, err)) {
			return time.Time{}, context.Cause(ctx)
		}
	}
}
