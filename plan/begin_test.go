package plan

import (
	"testing"
	"time"

	"fluent-bit-defender/state"
)

// Polls by ago ask as far back again once a far jump of the clock is taken back: ids are kept for that.
func TestIdsAreKeptForAgoOverAJump(t *testing.T) {
	const ago, jump = 24 * time.Hour, 3 * time.Hour
	d := talk(Config{Ago: ago}, state.Snapshot{Found: true, Watermark: noon.Add(-time.Minute)})
	d.run(8, nothing)
	before := d.p.KeepFrom(d.clock())
	d.skew = jump
	d.run(8, nothing)
	if got := d.p.KeepFrom(d.clock()); got.After(before) {
		t.Errorf("kept from %s after the jump, from %s before it:\n%s", at(got), at(before), d.out.String())
	}
	d.skew = 0
	d.run(8, nothing)
	if got := d.p.KeepFrom(d.clock()); got.After(d.local.Add(-ago)) {
		t.Errorf("kept from %s once it was taken back:\n%s", at(got), d.out.String())
	}
}
