package share

import (
	"bytes"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"fluent-bit-defender/state"
)

// model is what an image promises, in the simplest words: all commits, and what they come to up to a time.
type model []step

func (m model) snapshot(until time.Time) state.Snapshot {
	held := map[state.Entry]bool{}
	var snap state.Snapshot
	for _, s := range m {
		if s.at.After(until) {
			break
		}
		for _, e := range s.Drop {
			delete(held, e)
		}
		for _, e := range s.Add {
			held[e] = true
		}
		snap.Found, snap.Unread = true, s.Unread
		if !s.Watermark.IsZero() {
			snap.Watermark = s.Watermark
		}
		if !s.Succeeded.IsZero() {
			snap.Succeeded = s.Succeeded
		}
	}
	snap.IDs = slices.SortedFunc(maps.Keys(held), state.Entry.Compare)
	return snap
}

func drawChange(t *rapid.T) state.Change {
	var c state.Change
	draw := func(label string) (out []state.Entry) {
		for _, n := range rapid.SliceOfN(rapid.IntRange(0, 15), 0, 6).Draw(t, label) {
			out = append(out, row(n))
		}
		return out
	}
	c.Add, c.Drop = draw("add"), draw("drop")
	if rapid.Bool().Draw(t, "moves") {
		c.Watermark = begin.Add(time.Duration(rapid.IntRange(0, 1e6).Draw(t, "watermark")) * time.Microsecond)
	}
	if rapid.IntRange(0, 4).Draw(t, "succeeds") == 1 {
		c.Succeeded = begin.Add(time.Hour)
	}
	for _, n := range rapid.SliceOfN(rapid.IntRange(0, 3), 0, 3).Draw(t, "unread") {
		since := begin.Add(time.Duration(n) * time.Hour)
		c.Unread = append(c.Unread, state.UnreadRange{Since: since, Until: since.Add(time.Minute), Reason: "HTTP 500"})
	}
	return c
}

func TestAnImageIsItsCommits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		overlap := time.Duration(rapid.IntRange(0, 60).Draw(t, "overlap")) * time.Second
		now := begin
		var m image
		var all model
		for range rapid.IntRange(0, 12).Draw(t, "commits") {
			now = now.Add(time.Duration(rapid.IntRange(0, 40).Draw(t, "wait")) * time.Second)
			c := drawChange(t)
			m, all = m.with(now, c, overlap), append(all, step{now, c})
		}
		encoded := m.encode()
		decoded, err := decode(encoded)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(decoded.encode(), encoded) {
			t.Fatal("decoded and encoded again it is another")
		}
		want := func(what string, got image, until time.Time) {
			if diff := cmp.Diff(all.snapshot(until), got.snapshot()); diff != "" {
				t.Fatalf("%s (-want +got):\n%s", what, diff)
			}
		}
		want("all of it", decoded, now)
		want("as a base", decoded.base(), now)
		if n := len(decoded.base().steps); n > 1 {
			t.Fatalf("the base has %d steps", n)
		}
		want("as a base, whenever that was", decoded.base().before(begin.Add(-time.Hour)), now)
		if len(all) > 0 {
			back := now.Add(-time.Duration(rapid.IntRange(0, int(overlap/time.Second)).Draw(t, "back")) * time.Second)
			want("as it was", decoded.before(back), back)
		}
	})
}

// The clock of a pod may be set back: what was committed since counts as new, and no more is kept for it than
// otherwise.
func TestAClockSetBackKeepsTheOrder(t *testing.T) {
	var m image
	now := begin
	for n := range 100 {
		if n == 50 {
			now = now.Add(-time.Hour)
		}
		now = now.Add(10 * time.Second)
		m = m.with(now, state.Change{Watermark: begin, Add: rows(n, n+1)}, time.Minute)
		if !slices.IsSortedFunc(m.steps, func(a, b step) int { return a.at.Compare(b.at) }) {
			t.Fatalf("the commits are not in order after commit %d", n)
		}
		if n == 52 && len(m.before(now.Add(-time.Minute)).snapshot().IDs) > 47 {
			t.Error("some of what was delivered in the last minute is kept")
		}
	}
	if n := len(m.steps); n > 7 {
		t.Errorf("%d commits of a minute are kept, one each 10 s", n)
	}
}

func FuzzDecode(f *testing.F) {
	var m image
	f.Add(m.encode())
	m = m.with(begin, state.Change{Watermark: begin, Add: rows(0, 3)}, time.Minute)
	f.Add(m.encode())
	unread := []state.UnreadRange{{Since: begin, Until: begin.Add(time.Minute), Reason: "HTTP 500"}}
	m = m.with(begin.Add(time.Second), state.Change{Add: rows(3, 4), Drop: rows(0, 1), Unread: unread}, time.Minute)
	f.Add(m.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decode(b)
		if err != nil {
			return
		}
		again, err := decode(m.encode())
		if err != nil {
			t.Fatalf("what was decoded cannot be decoded again: %v", err)
		}
		if diff := cmp.Diff(m.snapshot(), again.snapshot()); diff != "" {
			t.Fatalf("decoded again (-first +second):\n%s", diff)
		}
	})
}
