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
	return strings.NewReplacer("%", "%%", seed.FullID, "%[1]s:x", seed.AlertID, "%[1]s", seed.Processed, "%[2]s", "\n",
		"").Replace(string(seed.Text))
}

// A whole answer is never in memory: the download waits while Fluent Bit has not taken what came. What is kept of
// each row is its hash, be it that all have the same time.
func TestAnAnswerOfAGigabyte(t *testing.T) {
	t.Parallel()
	n := size(1024, 24)
	f := func(name, fraction, stanza string) {
		name = fmt.Sprintf("an answer of %d MB, %s", n, name)
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, defendersim.Config{})
			o := options(w.config("info", strings.ReplaceAll(stanza, "DIR", w.dir)))
			// Faster than the real host, but no faster than this test reads on a busy machine: else the host's ring
			// would be measured.
			o.Interval = time.Duration(size(100, 250)) * time.Millisecond
			h, got := w.run(o)
			w.arrive(h, got, w.add())
			g := newGauge(t, h)
			stamp := w.svc.Now().Format("2006-01-02T15:04:05.") + fraction + "Z"
			row := strings.NewReplacer("%[1]s", "big-%[1]d", "%[2]s", stamp).Replace(rowFormat())
			rows := int(n * mb / int64(len(fmt.Sprintf(row, 100_000))+1))
			first := w.gen.Alert(w.svc.Now())
			w.svc.Queue(defendersim.KindAlerts, page(text("["+string(first.Text)), numbered(rows, ","+row), text("]")))
			w.arrive(h, got, w.add())
			g.note(name)
			h.MustStop(t, limit)
			quiet(t, h)
			got.whole(t, first)
			if got.bulk.rows != rows || got.bulk.repeats > 0 {
				t.Errorf("%d rows came of %d, %d of them repeatedly", got.bulk.rows, rows, got.bulk.repeats)
			}
		})
	}
	f("state in memory", "%07[1]d", "queue_limit 8M")
	f("state in a file", "%07[1]d", "db DIR/state.db")
	f("state in a file and all of one time", "1234567", "db DIR/state.db")
}
