package pull

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"fluent-bit-defender/client"
)

const (
	firstWait = time.Second
	slowWait  = time.Minute // first wait where an operator must act
	tellAgain = 10 * time.Minute
	mostTries = 20 // keeps the shift of backOff in range
)

// failed tells of a failed request and counts it for the piece it belongs to (nil: none), if the failure is of that piece's own. It
// returns how long to wait before the next request.
func (e *Engine) failed(pc *piece, err error) time.Duration {
	var ce *client.Error
	errors.As(err, &ce)
	var wait time.Duration
	level, kind := slog.LevelWarn, "answer"
	switch {
	case pc != nil && own(ce):
		pc.fails++
		wait = e.backOff(e.gapsMade+pc.fails-1, firstWait)
	case ce != nil && mustAct(ce.Kind):
		level = slog.LevelError
		wait = e.backOff(e.others, slowWait)
		e.others++
	default:
		wait = e.backOff(e.others, firstWait)
		e.others++
	}
	if ce != nil {
		kind = fmt.Sprint(ce.Kind, ce.Status)
		wait = max(wait, ce.RetryAfter)
	}
	e.count(func(s *Stats) {
		s.Retries++
		if ce != nil && (ce.Kind == client.KindThrottled || ce.RetryAfter > 0) {
			s.Throttled += wait
		}
	})
	if pc == nil || !pc.gap || pc.fails == 0 { // of a gap it was told when it was made
		e.trouble.failed(e.log, level, kind, fmt.Sprintf("%s; trying again in %s, no alert is lost meanwhile", e.said(err), wait.Round(time.Second)))
	}
	return wait
}

// said is an error's text, fit for the log and for the state: a body may echo the secrets of a request.
func (e *Engine) said(err error) string {
	var ce *client.Error
	if errors.As(err, &ce) {
		return err.Error() // the client masks its own
	}
	return e.client.Mask(err.Error())
}

// own tells whether a failure speaks against the step that was asked, not against everything.
func own(ce *client.Error) bool {
	return ce == nil || ce.Kind == client.KindService || ce.Kind == client.KindRefused
}

// mustAct tells whether nothing will change until an operator acts.
func mustAct(k client.Kind) bool {
	switch k {
	case client.KindToken, client.KindUnauthorized, client.KindForbidden, client.KindConfig:
		return true
	}
	return false
}

// succeeded lets the waits begin anew.
func (e *Engine) succeeded() { e.others, e.gapsMade = 0, 0 }

// backOff is first, doubled tries times, at most retry_max, less up to a fifth.
func (e *Engine) backOff(tries int, first time.Duration) time.Duration {
	d := e.cfg.RetryMax
	if w := first << min(tries, mostTries); w < d {
		d = w
	}
	return d - time.Duration(float64(d)*0.2*e.jitter())
}

// trouble keeps a lasting failure from flooding the log: one line at first, one at each change of its kind, one every ten minutes with
// a count, one when it is over. Owned by one goroutine.
type trouble struct {
	kind  string // "" : all is well
	since time.Time
	told  time.Time
	count int
}

func (t *trouble) failed(log *slog.Logger, level slog.Level, kind, text string) {
	now := time.Now()
	if t.kind == "" {
		t.since = now
	}
	t.count++
	if kind == t.kind && now.Sub(t.told) < tellAgain {
		return
	}
	if t.count > 1 {
		text = fmt.Sprintf("%s (%d failures since %s)", text, t.count, t.since.UTC().Format(time.RFC3339))
	}
	t.kind, t.told = kind, now
	log.Log(context.Background(), level, text)
}

func (t *trouble) healed(log *slog.Logger, text string) {
	if t.kind == "" {
		return
	}
	log.Info(fmt.Sprintf("%s after %d failures", text, t.count))
	*t = trouble{}
}

// oddities tells of rows that were repaired or handed over raw: each reason at once, then every ten minutes with a count. Owned by the pulling
// goroutine.
type oddities map[string]*oddity

type oddity struct {
	told time.Time
	rows int
}

func (o *oddities) came(log *slog.Logger, reason, text string) {
	if *o == nil || len(*o) >= 100 { // reasons are few, unless someone plays with us
		*o = oddities{}
	}
	odd := (*o)[reason]
	if odd == nil {
		odd = &oddity{}
		(*o)[reason] = odd
	}
	odd.rows++
	if !odd.told.IsZero() && time.Since(odd.told) < tellAgain {
		return
	}
	odd.told = time.Now()
	log.Warn(fmt.Sprintf("%s (%d such rows so far)", text, odd.rows))
}
