package ledger

import (
	"testing"
	"time"

	"fluent-bit-defender/state"
)

func TestWithinUnreadRanges(t *testing.T) {
	at := func(s int) time.Time { return time.Unix(1_700_000_000+int64(s), 0) }
	var ranges []state.UnreadRange
	for i := range 1000 { // of 2 s each, in pairs that touch
		ranges = append(ranges, state.UnreadRange{Since: at(100*i + 2*(i%2)), Until: at(100*i + 2*(i%2) + 2)})
	}
	slow := func(s int) bool {
		for _, g := range ranges {
			if !at(s).Before(g.Since.Add(-2*edge)) && !at(s).After(g.Until.Add(edge)) {
				return true
			}
		}
		return false
	}
	for s := -10; s < 1200; s++ {
		if got, want := within(ranges, at(s).UnixNano()), slow(s); got != want {
			t.Errorf("second %d: %t", s, got)
		}
	}
	if within(nil, 0) {
		t.Error("no range holds anything")
	}
}
