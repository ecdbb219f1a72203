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
	mostPages  = 1000 // of one pass
	mostPasses = 10   // over the pages of one piece, each of which brought new rows
)

// ask asks for pc. An answer of more than one page is better halved, because rows that leave the filter meanwhile shift those behind them
// from page to page: then got.next is not empty. The pages are read where pc is too short to be halved, and where the first is not full (the
// second is empty then, as a rule), until a pass over them brings no new row (issue 7).
func (e *Engine) ask(ctx context.Context, pc *piece, now time.Time) answer {
	first := e.query(pc)
	got := e.request(ctx, pc, first, now)
	if got.err != nil || got.next == "" || pc.span() > floor && got.rows >= e.pageSize {
		return got
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
			got.err = fmt.Errorf("each of %d passes over the pages of %s brought new alerts", pass, pc)
			return got
		}
	}
}

// pages reads the pages behind the first. It tells whether pc should rather be halved: the second page holds something, or is refused, as
// Graph has refused its own links.
func (e *Engine) pages(ctx context.Context, pc *piece, got *answer, now time.Time) (halve bool) {
	for n := 1; got.err == nil && got.next != ""; n++ {
		link := got.next
		if n == mostPages {
			got.err = fmt.Errorf("the answer has more than %d pages", mostPages)
			return false
		}
		page := e.request(ctx, pc, client.Query{Page: link}, now)
		got.join(page)
		if page.next == link {
			got.err = errors.New("the link to the next page leads to its own page")
		}
		if pc.span() <= floor {
			continue
		}
		var ce *client.Error
		if errors.As(page.err, &ce) && ce.Kind == client.KindRefused {
			e.log.Debug(fmt.Sprintf("the link to the next page of %s is refused: %v; asking for its halves", pc, page.err))
			got.err, got.next = nil, link
			return true
		}
		if got.err == nil && (page.rows > 0 || page.next != "") {
			got.next = link
			return true
		}
	}
	return false
}

// join adds the next page to what came before it.
func (got *answer) join(page answer) {
	got.rows += page.rows
	got.fresh += page.fresh
	got.err, got.next = page.err, page.next
	got.cut = got.cut || page.cut
	got.salvaged = got.salvaged || page.salvaged
	if page.partial != "" {
		got.partial = page.partial
	}
}

// incomplete deals with an answer that the service calls incomplete (206): its rows are kept, and nothing is settled before the next poll, which
// asks for all of it again.
func (e *Engine) incomplete(pc *piece, warning string) {
	e.hold = warning
	e.trouble.failed(e.log, slog.LevelWarn, "partial", fmt.Sprintf("the service says that something is missing from the alerts of %s: %s; what came is handed over, and the span is asked again", pc, warning))
}
