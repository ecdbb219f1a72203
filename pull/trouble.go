package pull

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"fluent-bit-defender/client"
)

const (
	firstWait = time.Second
	slowWait  = time.Minute // first wait where an operator must act
	tellAgain = 10 * time.Minute
	mostLines = 5  // of one trouble in a minute
	mostTries = 20 // keeps the shift of backOff in range
)

// failed tells of a failed request and counts it for the piece it belongs to (nil: none), if the failure is of that piece's own. It
// returns how long to wait before the next request.
func (e *Engine) failed(pc *piece, err error) time.Duration {
	var ce *client.Error
	errors.As(err, &ce)
	var wait time.Duration
	level, kind := slog.LevelWarn, sortOf(err.Error())
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
		kind = fmt.Sprintln(ce.Kind, ce.Status, ce.Code, kind)
		wait = max(wait, ce.RetryAfter)
	}
	e.count(func(s *Stats) {
		s.Retries++
		if ce != nil && (ce.Kind == client.KindThrottled || ce.RetryAfter > 0) {
			s.Throttled += wait
		}
	})
	if pc == nil || !pc.gap || pc.fails == 0 { // of a gap it was told when it was made
		if wait >= time.Minute/mostLines { // what comes so seldom cannot flood, and would else be told of late
			e.trouble.makeRoom()
		}
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

// named gives an error of an answer the name of its request, which the reader does not know and the client's own errors bear.
func named(err error) error {
	const request = "alerts request: "
	if err == nil || strings.HasPrefix(err.Error(), request) {
		return err
	}
	return fmt.Errorf(request+"%w", err)
}

// varying is what differs between two texts of one sort: what they quote, and words with a digit in them.
var varying = regexp.MustCompile(`"[^"]*"|'(?:[^'\\]|\\.[^']*)'|\S*\d\S*`)

// sortOf is what stays of a text that tells of the same again, at another byte, time or address.
func sortOf(text string) string {
	const most = 300
	text = strings.Join(strings.Fields(varying.ReplaceAllString(text, "")), " ")
	return text[:min(len(text), most)]
}

// failures writes a count of failures.
func failures(n int) string {
	if n == 1 {
		return "1 failure"
	}
	return fmt.Sprintf("%d failures", n)
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

// trouble keeps a lasting failure from flooding the log: one line for each kind of failure, again every ten minutes with a count while it
// lasts, one when it is over, and no more than mostLines a minute, however the kinds alternate. Owned by one goroutine.
type trouble struct {
	kinds map[string]time.Time // when each was told; their number is bounded by mostLines
	lines []time.Time          // told in the last minute, less those that room was made for
	since time.Time
	count int // 0: all is well
	told  bool
}

func (t *trouble) failed(log *slog.Logger, level slog.Level, kind, text string) {
	now := time.Now()
	if t.count == 0 {
		t.since = now
	}
	t.count++
	if told, ok := t.kinds[kind]; ok && now.Sub(told) < tellAgain {
		return
	}
	t.lines = slices.DeleteFunc(t.lines, func(told time.Time) bool { return now.Sub(told) >= time.Minute })
	if len(t.lines) >= mostLines {
		return // it comes again, or something else does
	}
	t.lines = append(t.lines, now)
	maps.DeleteFunc(t.kinds, func(_ string, told time.Time) bool { return now.Sub(told) >= tellAgain })
	if t.kinds == nil {
		t.kinds = map[string]time.Time{}
	}
	t.kinds[kind] = now
	t.told = true
	if t.count > 1 {
		text = fmt.Sprintf("%s (%d failures since %s)", text, t.count, t.since.UTC().Format(time.RFC3339))
	}
	log.Log(context.Background(), level, text)
}

// makeRoom lets one line more be told this minute.
func (t *trouble) makeRoom() {
	if len(t.lines) > 0 {
		t.lines = t.lines[1:]
	}
}

// healed says that it is over, if it was said that it began.
func (t *trouble) healed(log *slog.Logger, text string) {
	if t.told {
		log.Info(fmt.Sprintf("%s after %s", text, failures(t.count)))
	}
	t.over()
}

// over ends the trouble without a word.
func (t *trouble) over() { *t = trouble{lines: t.lines} }

// oddities tells of rows that were repaired or handed over raw: each reason at once, then every ten minutes with a count. Owned by the pulling
// goroutine.
type oddities map[string]*oddity

type oddity struct {
	told time.Time
	rows int
}

func (o *oddities) came(log *slog.Logger, reason, text string) {
	if *o == nil || len(*o) >= 100 { // they are a dozen
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
	rows := "1 such row"
	if odd.rows > 1 {
		rows = fmt.Sprintf("%d such rows", odd.rows)
	}
	log.Warn(fmt.Sprintf("%s (%s so far)", text, rows))
}
