package hostile

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"fluent-bit-defender/internal/defendersim"
)

// rowFormat makes a row like the example of Microsoft's page of an id and a LastProcessedTimeUtc.
func rowFormat() string {
	seed := defendersim.SeedAlert(time.Unix(1, 0))
	return strings.NewReplacer("%", "%%", seed.FullID, "%[1]s:x", seed.AlertID, "%[1]s", seed.Processed, "%[2]s", "\n", "").Replace(string(seed.Text))
}

// A whole answer is never in memory: the download waits while Fluent Bit has not taken what came. What is kept of each row is its
// hash.
func TestAnAnswerOfAGigabyte(t *testing.T) {
	t.Parallel()
	w := newWorld(t, defendersim.Config{})
	o := options(w.config("info", ""))
	o.Interval = 100 * time.Millisecond // ten times as fast as the real one; faster, and the host's own ring would be measured
	h, got := w.run(o)
	w.arrive(h, got, w.add())
	g := newGauge(t, h)
	row := strings.NewReplacer("%[1]s", "big-%[1]d", "%[2]s", w.svc.Now().Format(time.RFC3339)).Replace(rowFormat())
	n := size(1024, 64)
	rows := int(n * mb / int64(len(fmt.Sprintf(row, 100_000))+1))
	first := w.gen.Alert(w.svc.Now())
	w.svc.Queue(defendersim.KindAlerts, page(text("["+string(first.Text)), numbered(rows, ","+row), text("]")))
	w.arrive(h, got, w.add())
	g.note(fmt.Sprintf("an answer of %d MB", n))
	h.MustStop(t, limit)
	quiet(t, h)
	got.whole(t, first)
	if got.bulk.rows != rows || got.bulk.repeats > 0 {
		t.Errorf("%d rows came of %d, %d of them repeatedly", got.bulk.rows, rows, got.bulk.repeats)
	}
}
