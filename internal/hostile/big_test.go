package hostile

import (
	"fmt"
	"testing"

	"fluent-bit-defender/internal/defendersim"
	"fluent-bit-defender/internal/flbhost"
)

// A whole answer is never in memory: the download waits while Fluent Bit has not taken what came.
func TestAnAnswerOfAGigabyte(t *testing.T) {
	t.Parallel()
	n := size(1024, 64)
	w := newWorld(t, defendersim.Config{})
	o := options(w.config("info", ""))
	h, got := w.run(o)
	w.arrive(h, got, w.add())
	g := newGauge(t, h)
	w.svc.Queue(defendersim.KindAlerts, defendersim.BigBody(n*mb))
	last := w.add()
	w.arrive(h, got, last)
	g.note(fmt.Sprintf("an answer of %d MB", n), over)
	h.MustStop(t, limit)
	quiet(t, h)
	rows := 0
	for _, e := range w.svc.Journal() {
		if e.Fault == "big" {
			rows = int(e.Bytes) / 1100
		}
	}
	if got.bulk.rows < rows || got.bulk.repeats > 0 {
		t.Errorf("%d rows came of %d or more, %d of them repeatedly", got.bulk.rows, rows, got.bulk.repeats)
	}
	h.Look(func(v *flbhost.View) { t.Logf("%d records", v.Count) })
}
