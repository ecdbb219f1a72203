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
	mostPages   = 1000           // of one pass
	mostPasses  = 10             // over the pages of one piece, each of which brought new rows
	mostEmpty   = 20             // empty pages in a row, which Graph's pages may be in the midst of others
	partialMost = 24 * time.Hour // how long the service may call a span incomplete before that becomes a gap
	pageTries   = 4              // of one page, as long as the failures are not its own
)

// ask asks for pc. An answer of more than one page is better halved, because rows that leave the filter meanwhile shift those behind them
// from page to page: then got.next is not empty. The pages are read where pc is too short to be halved, and where the first is not full (those
// behind it are empty then, as a rule), until a pass over them brings no new row (issue 7).
func (e *Engine) ask(ctx context.Context, pc *piece, now time.Time) answer {
	first := e.query(pc)
	got := e.request(ctx, pc, first, now)
	if got.err != nil || got.next == "" || pc.span() > floor && got.rows >= e.pageSize {
		return got
	}
	if pc.span() <= floor && first.Limit > 0 { // as few pages as can be
		first.Limit = 0
		got.join(e.request(ctx, pc, first, now))
	}
	for pass := 1; ; pass++ {
		before := got.fresh
		if pass > 1 {
			got.rows = 0
			got.join(e.request(ctx, pc, first, now))
		}
		if halve := e.pages(ctx, pc, &got, now); got.err != nil || halve || pass > 1 && got.fresh == before {
			return got
		}
		if pass == mostPasses {
			got.err = fmt.Errorf("alerts request: each of %d passes over the pages of %s brought new alerts; if it lasts, divide the alerts among stanzas by filter", pass, pc)
			return got
		}
	}
}

// pages reads the pages behind the first. It tells whether pc should rather be halved: a page behind the first holds something, or is
// refused, as Graph has refused its own links.
func (e *Engine) pages(ctx context.Context, pc *piece, got *answer, now time.Time) (halve bool) {
	full := got.rows >= graphPage
	for n, empty := 1, 0; got.err == nil && got.next != ""; n++ {
		link := got.next
		if n == mostPages || empty == mostEmpty {
			got.err = fmt.Errorf("alerts request: the answer has more than %d pages, %d of them empty; if it lasts, divide the alerts among stanzas by filter, and report it to Microsoft", n, empty)
			return false
		}
		page := e.page(ctx, pc, link, now)
		got.join(page)
		if empty++; page.rows > 0 {
			empty = 0
		}
		var ce *client.Error
		refused := errors.As(page.err, &ce) && ce.Kind == client.KindRefused
		switch {
		case page.err == nil && page.next == link && page.rows == 0:
			got.next = "" // an empty page that leads to itself is the end
		case page.err == nil && page.next == link:
			got.err = errors.New("alerts request: the link to the next page leads to its own page; if it lasts, report it to Microsoft")
		case refused && n == 1 && (got.rows == 0 || !full && pc.span() <= floor):
			// A page that is not full is the last, whatever link stands on it. Where it can be halved that shows whether it is so.
			if e.linkTold.IsZero() || time.Since(e.linkTold) >= tellAgain {
				e.linkTold = time.Now()
				e.log.Warn(fmt.Sprintf("%s; the page before it was not full, so nothing is taken to be missing", e.said(page.err)))
			}
			got.err, got.next = nil, ""
		case refused && pc.span() > floor, page.err == nil && page.rows > 0 && pc.span() > floor:
			got.err, got.next = nil, link
			return true
		}
	}
	return false
}

// page asks for a page, again while the failure is not of its own: a pass that begins anew for each may never come to its end.
func (e *Engine) page(ctx context.Context, pc *piece, link string, now time.Time) (page answer) {
	for try := 1; ; try++ {
		page.join(e.request(ctx, pc, client.Query{Page: link}, now))
		var ce *client.Error
		if page.err == nil || ctx.Err() != nil || try == pageTries || errors.As(page.err, &ce) && own(ce) || !sleep(ctx, e.failed(nil, page.err)) {
			return page
		}
		page.err = nil
	}
}

// join adds the next page to what came before it.
func (got *answer) join(page answer) {
	got.rows += page.rows
	got.fresh += page.fresh
	got.err, got.next = page.err, page.next
	got.cut = page.cut
	got.salvaged = got.salvaged || page.salvaged
	if page.partial != "" {
		got.partial = page.partial
	}
}

// incomplete deals with an answer that the service calls incomplete (206): its rows are kept, and nothing is settled before the next poll, which
// asks for all of it again. What stays incomplete for a day becomes a gap, or ever more would be asked for at each poll.
func (e *Engine) incomplete(pc *piece, warning string, now time.Time) {
	if !pc.gap && !e.once && pc.until.Before(now.Add(-e.cfg.Overlap-partialMost)) && e.makeGap(pc, errors.New("the service says that something is missing: "+warning), now) {
		return
	}
	e.hold = warning
	e.trouble.failed(e.log, slog.LevelWarn, "partial", fmt.Sprintf("the service says that something is missing from the alerts of %s: %s; what came is handed over, and the span is asked again; nothing to do unless it lasts for hours", pc, warning))
}
