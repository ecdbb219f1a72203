package plan

import (
	"slices"
	"time"
)

// window is a span of service time that is asked for, and what has come of that so far.
type window struct {
	Range
	unlimited bool      // ask without a limit: it cannot be split any more
	ago       bool      // it is asked for by ago
	fine      bool      // it is shorter than what neighbours share
	unread    bool      // it is an unread range that is asked for again
	fails     int       // of its own, in a row
	network   int       // times the connection failed, or took too long
	asked     time.Time // local, when it was last asked for
	got       Answer    // the sum over its pages
	paging    *paging   // nil: its first page is asked for
}

// request is what to send for w. It begins an edge earlier, so that neighbours share it.
func (w *window) request(limit int) Request {
	r := Request{Window: w.Range, Limit: limit, Ago: w.ago}
	if w.unlimited {
		r.Limit = 0
	}
	if w.paging != nil {
		r.Page = w.paging.link
	}
	shared := Edge
	if w.fine {
		shared = w.Span() / 4 // or halves would not be shorter
	}
	r.Since, r.Until = w.Since.Add(-shared), w.Until
	return r
}

func (w *window) halves() (older, newer Range) {
	middle := w.Since.Add(w.Span() / 2)
	return Range{w.Since, middle}, Range{middle, w.Until}
}

// split has w asked again in halves, the older first.
func (p *Planner) split(w *window) {
	older, newer := w.halves()
	p.tell(Fact{Kind: SplitWindow, Window: w.Range, Reason: w.got.Reason, N: w.got.Rows})
	fine := w.fine || w.Span() <= smallest
	p.poll.stack = append(p.poll.stack, &window{Range: newer, fine: fine}, &window{Range: older, fine: fine})
}

// nextWindow takes the next window to read, nil at the end.
func (p *Planner) nextWindow() *window {
	if len(p.poll.stack) == 0 {
		p.plan()
	}
	n := len(p.poll.stack)
	if n == 0 {
		return nil
	}
	w := p.poll.stack[n-1]
	p.poll.stack = p.poll.stack[:n-1]
	return w
}

// plan lists the next windows up to the poll's time without the unread ranges.
func (p *Planner) plan() {
	from, now := p.poll.planned, p.poll.now
	var windows []*window
	add := func(until time.Time) {
		for from.Before(until) && len(windows) < mostWindows {
			to := earlier(from.Add(p.cfg.MaxWindow), until)
			windows = append(windows, &window{Range: Range{from, to}})
			from = to
		}
	}
	for _, u := range p.unread.list {
		if !u.Until.After(from) {
			continue
		}
		if u.Since.After(now) || len(windows) == mostWindows {
			break
		}
		add(u.Since)
		if len(windows) < mostWindows {
			from = u.Until
		}
	}
	add(now)
	p.poll.planned = from
	slices.Reverse(windows)
	p.poll.stack = windows
}

// advance moves the watermark to what is known after w was read, or set aside. The answer's own Date has the last
// word on the time at which it was asked for: while it disputes the time we took it for, the watermark stays, and the
// next poll asks again.
func (p *Planner) advance(c Clock, w *window) {
	if c.Disputed || c.Service.IsZero() {
		return
	}
	t := earlier(p.poll.now, c.Service.Add(-c.Local.Sub(w.asked))).Add(-p.cfg.Overlap)
	p.watermark = later(p.watermark, earlier(w.Until, t))
}

// planAgo plans a request by ago where one such answer covers all since the watermark.
func (p *Planner) planAgo() {
	from := p.poll.now.Add(-p.cfg.Ago)
	// Of what lies before reach an earlier life, with a shorter ago or none, may have forgotten what it delivered.
	if p.cfg.Ago <= 0 || p.once != nil || from.After(p.watermark) || from.Before(p.reach) || len(p.unread.list) > 0 {
		return
	}
	p.poll.stack = []*window{{Range: Range{from, p.poll.now}, ago: true}}
}

// answeredByAgo takes an answer by ago. Where it may not be all, the poll goes on with windows.
func (p *Planner) answeredByAgo(c Clock, w *window, a Answer) {
	// The service counted back from its own present, which is later than the poll's: it may have begun after the
	// watermark.
	began := c.Service.Add(Edge - p.cfg.Ago)
	if c.Service.IsZero() || began.After(p.watermark) || a.Cached || p.limited(w, a) || p.capped(w, a) {
		return
	}
	p.advance(c, w)
	p.poll.planned = p.poll.now
}

// verdict is what an answer that was read to its end leaves to ask.
type verdict int

const (
	whole     verdict = iota // nothing
	inHalves                 // rows may hide: the halves
	unlimited                // rows may hide, and the window cannot be split: the same without a limit
)

// hidden tells whether more rows than came may hide behind an answer.
func (p *Planner) hidden(w *window, a Answer) verdict {
	// Rows that come in every answer bring splitting to no end.
	outside := p.cfg.PageSize == 0 && a.Rows > 0 && 2*a.Outside >= a.Rows && !a.Resynced
	divisible := w.Span() > smallest && !outside
	switch {
	case p.limited(w, a) && divisible:
		return inHalves
	case p.limited(w, a):
		return unlimited
	case !p.capped(w, a):
		return whole
	case divisible:
		return inHalves
	case !outside:
		p.tell(Fact{Kind: RowsMayHide, Window: w.Range, N: a.Rows})
	}
	return whole
}

// limited tells whether rows may be missing because of the limit that was asked for, or of the size of a page.
func (p *Planner) limited(w *window, a Answer) bool {
	switch {
	case p.cfg.PageSize > 0 && w.Span() > smallest: // a full page without a link is no proof that there is no more
		return a.Next != "" || a.Rows >= p.cfg.PageSize || a.Resynced
	case p.cfg.PageSize > 0: // the link may have been in the invalid text: as few pages as can be
		return a.Resynced && !w.unlimited
	}
	return p.cfg.Limit > 0 && !w.unlimited && (a.Rows >= p.cfg.Limit || a.Resynced)
}

// capped tells whether an answer without a limit looks like one that the service has cut: it holds a round number of
// rows (caps are round), or as many as the one before it. Nobody knows how many rows invalid text holds.
func (p *Planner) capped(w *window, a Answer) bool {
	if p.cfg.PageSize > 0 || p.cfg.Limit > 0 && !w.unlimited {
		return false
	}
	same := a.Rows == p.lastRows
	p.lastRows = a.Rows
	if a.Resynced {
		return a.Rows >= p.cfg.CapFloor/2
	}
	return a.Rows >= p.cfg.CapFloor && (same || a.Rows%(p.cfg.CapFloor/2) == 0)
}
