package pull

import (
	"slices"
	"time"
)

// mostAhead bounds the spans that are remembered as read ahead of settled; what does not fit is asked for again.
const mostAhead = 1000

// span is service time that was read to its end while settled stood still before it, for an answer that was incomplete. It is known in memory
// only: the next life asks for it again, and knows its rows.
type span struct{ since, until time.Time }

// readAhead notes a span. The caller holds mu.
func (e *Engine) readAhead(since, until time.Time) {
	if !until.After(since) || len(e.ahead) >= mostAhead {
		return
	}
	all := append(e.ahead, span{since, until})
	slices.SortFunc(all, func(a, b span) int { return a.since.Compare(b.since) })
	merged := all[:1]
	for _, s := range all[1:] {
		last := &merged[len(merged)-1]
		if s.since.After(last.until) {
			merged = append(merged, s)
		} else if s.until.After(last.until) {
			last.until = s.until
		}
	}
	e.ahead = merged
}

// catchUp moves settled over what was read ahead of it. The caller holds mu.
func (e *Engine) catchUp() {
	for len(e.ahead) > 0 && !e.ahead[0].since.After(e.settled) {
		if e.ahead[0].until.After(e.settled) {
			e.settled = e.ahead[0].until
		}
		e.ahead = e.ahead[1:]
	}
}

// skipped are the spans that plan leaves out, in order of time: the gaps, and what was read ahead. The caller holds mu.
func (e *Engine) skipped() []span {
	all := slices.Clone(e.ahead)
	for _, g := range e.gaps {
		all = append(all, span{g.Since, g.Until})
	}
	slices.SortFunc(all, func(a, b span) int { return a.since.Compare(b.since) })
	return all
}

// farLeap is the least leap that is remembered: one that is shorter may be taken back within what is known of each row anyway.
const farLeap = 10 * time.Minute

// leap remembers the far leaps of the service's clock of a day. When they are taken back, because it was wrong, all since then is asked again, but
// nothing that was settled before. What was handed over since then stays known as long.
type leap struct {
	by      time.Duration // 0: they were taken back
	settled time.Time     // before the first of them
	at      time.Time     // local
}

// fresh tells whether there is one.
func (l *leap) fresh() bool { return !l.at.IsZero() && time.Since(l.at) < 24*time.Hour }

// note adds a leap ahead.
func (l *leap) note(by time.Duration, settled time.Time) {
	if !l.fresh() {
		*l = leap{settled: settled, at: time.Now()}
	}
	l.by += by
}

// back is what settled becomes when the clock goes back by so much.
func (l *leap) back(by time.Duration, settled time.Time) time.Time {
	to := settled.Add(-by)
	if !l.fresh() || l.by == 0 || by > l.by+5*edge {
		return to
	}
	if by >= l.by-5*edge { // all of them
		l.by = 0
		return l.settled
	}
	return later(to, l.settled)
}
