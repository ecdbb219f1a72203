package pull

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"fluent-bit-defender/client"
)

const (
	mostPages  = 10_000 // of one pass: more than Graph can have in two seconds
	mostPasses = 10     // over the pages of one piece, each of which brought new rows
)

// ask asks for pc. Of an answer in pages it reads the first alone, unless pc is too short to be halved: then all of them, and again until
// a pass brings no new row, because rows that leave the filter meanwhile shift those behind them from page to page (issue 7).
func (e *Engine) ask(ctx context.Context, pc *piece, now time.Time) answer {
	first := e.query(pc)
	got := e.request(ctx, pc, first, now)
	if got.next == "" || pc.span() > floor {
		return got
	}
	for pass := 1; got.err == nil; pass++ {
		before := got.fresh
		if pass == 1 {
			before = 0
		} else {
			got.rows = 0
			got.join(e.request(ctx, pc, first, now))
		}
		for pages := 1; got.err == nil && got.next != ""; pages++ {
			if pages == mostPages {
				got.err = fmt.Errorf("the answer has more than %d pages", mostPages)
				break
			}
			got.join(e.request(ctx, pc, client.Query{Page: got.next}, now))
		}
		if pass > 1 && got.fresh == before {
			break
		}
		if pass == mostPasses && got.err == nil {
			got.err = fmt.Errorf("each of %d passes over the pages of %s brought new alerts", pass, pc)
		}
	}
	return got
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
