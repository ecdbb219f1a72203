package pull

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"fluent-bit-defender/plan"
	"fluent-bit-defender/record"
	"fluent-bit-defender/state"
)

const (
	// failures in a row that are no window's own, after which Once gives up: about four minutes
	oncePatience = 8
	onceOwn      = 12                    // the same of those that are
	oncePoll     = 10 * time.Millisecond // between two looks for a batch
)

// UnreadError says that Once read all but these ranges, which failed again and again.
type UnreadError struct{ Unread []state.UnreadRange }

func (e *UnreadError) Error() string {
	u := e.Unread[0]
	text := fmt.Sprintf("the alerts processed from %s to %s could not be read: %s", u.Since.Format(time.RFC3339),
		u.Until.Format(time.RFC3339), u.Reason)
	if n := len(e.Unread) - 1; n > 0 {
		text += fmt.Sprintf(" (and %d ranges more)", n)
	}
	return text
}

// Once pulls what was processed from since to until, oldest first, with the splitting, limits and memory of Start,
// which must not be called as well; s was not added, and has no successor. It goes on where the store of s ends, and
// asks for its unread ranges again; a store belongs to one such range. Neither ago nor initial_lookback play a part.
// Rows without a usable time come whenever the service shows them.
//
// deliver is called from one goroutine with whole records, one or more, which are its own until it returns; they
// count as delivered then, unless it returns an error, which ends the pull and is returned. Once returns when all was
// delivered, or at the first error that only an operator can mend, after some minutes of others, or with ctx's cause.
// An *UnreadError comes when all the rest was delivered. Call Stop in any case: it stores what was.
func (r *Runner) Once(ctx context.Context, s *Source, since, until time.Time,
	deliver func(records []byte) error) error {
	s.only = &plan.Range{Since: since, Until: until}
	s.planner.Once(*s.only)
	if err := r.Add(s); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(r.ctx, func() { cancel(context.Canceled) })()
	r.running.Go(func() { r.guard("committing", r.commitLoop) })

	delivered := make(chan error, 1)
	read := make(chan struct{}) // closed: no more batches will come
	go func() {
		defer func() {
			if p := recover(); p != nil {
				delivered <- internal("delivering", p)
				cancel(context.Canceled)
			}
		}()
		err := r.deliverAll(ctx, read, deliver)
		if err != nil {
			cancel(err)
		}
		delivered <- err
	}()
	err := s.once(ctx)
	close(read)
	if derr := <-delivered; derr != nil && !errors.Is(derr, context.Canceled) {
		return derr
	}
	return err
}

// outsideOnce tells whether a row is not of the range that Once was asked for: windows are asked with edges around
// them.
func (s *Source) outsideOnce(row *record.Row) bool {
	t := row.Updated
	return s.only != nil && t != 0 && (t < s.only.Since.UnixNano() || t >= s.only.Until.UnixNano())
}

// deliverAll delivers every batch until no more will come.
func (r *Runner) deliverAll(ctx context.Context, read <-chan struct{}, deliver func([]byte) error) error {
	for last := false; ; {
		b := r.Take()
		switch {
		case b != nil:
			if err := deliver(b.Data); err != nil {
				return err
			}
			r.Done(b)
		case last:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		default:
			select {
			case <-read:
				last = true
			case <-time.After(oncePoll):
			}
		}
	}
}

// once takes the steps of the one range until it is read, or is given up.
func (s *Source) once(ctx context.Context) error {
	var given patience
	for {
		r := s.do(ctx, given.over)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case given.err != nil:
			return given.err
		case r.kind == plan.Wait && r.due.IsZero():
			if unread := s.planner.Unread(); len(unread) > 0 {
				return &UnreadError{slices.Clone(unread)}
			}
			return nil
		case r.kind == plan.Wait && !sleep(ctx, time.Until(r.due)):
			return context.Cause(ctx)
		}
	}
}

// patience is how much goes wrong before a pull is given up.
type patience struct {
	some        bool // an answer was read to its end
	own, others int  // failures in a row, that speak against their window or not
	err         error
}

// over tells whether the pull is given up for what came: err says why then.
func (p *patience) over(r result) bool {
	switch {
	case r.Failure == plan.None:
		p.own, p.others = 0, 0
		p.some = p.some || r.kind == plan.Ask
		return false
	case r.Failure == plan.OfWindow, r.Failure == plan.OfLink:
		p.own++
	default:
		p.others++
	}
	if r.Failure == plan.OfOperator || refused(r.err) && !p.some || p.own == onceOwn || p.others == oncePatience {
		p.err = r.err
	}
	return p.err != nil
}
