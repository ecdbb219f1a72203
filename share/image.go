package share

import (
	"slices"
	"time"

	"fluent-bit-defender/state"
)

// image is the state of a source as its ConfigMap holds it: the changes of the last takeover_overlap one by one, each
// with the time of its commit, and all that came before them as the first. A pod that takes over from a dead one
// leaves out the last of them, and has the state as it was then: watermark, unread ranges and ids fit together,
// whatever the engine meant by each. An image is not changed; its parts are shared.
type image struct {
	steps []step
}

// step is one commit. Of the first, Add holds all ids in order, and Drop none.
type step struct {
	at time.Time // the owner's wall clock, in whole microseconds
	state.Change
}

// sorted returns the entries in order and without repetitions, and leaves the caller's list alone.
func sorted(entries []state.Entry) []state.Entry {
	out := slices.Clone(entries)
	slices.SortFunc(out, state.Entry.Compare)
	return slices.Compact(out)
}

// found tells whether anything was ever committed.
func (m image) found() bool { return len(m.steps) > 0 }

// newest is the newest commit; empty: there is none.
func (m image) newest() step {
	if !m.found() {
		return step{}
	}
	return m.steps[len(m.steps)-1]
}

// last is the time of the newest commit; zero: there is none.
func (m image) last() time.Time { return m.newest().at }

// with adds a commit, which is clean and may hold again what is there, and makes one of what is older than overlap
// before it. Commits that seem to be newer than now, because the clock was set back, count as of now: after a takeover
// too much comes again rather than too little.
func (m image) with(now time.Time, c state.Change, overlap time.Duration) image {
	now = now.UTC().Truncate(time.Microsecond)
	c.Add = sorted(c.Add)
	c.Drop = subtract(sorted(c.Drop), c.Add)
	if m.found() {
		c.Add = subtract(c.Add, sum(m.steps).Add) // what was tried before, and counts from then
	} else {
		c.Drop = nil
	}
	steps := append(slices.Clone(m.steps), step{now, c})
	for i := range steps {
		if steps[i].at.After(now) {
			steps[i].at = now
		}
	}
	return image{steps}.folded(now.Add(-overlap))
}

// folded makes one of the commits up to the time given.
func (m image) folded(until time.Time) image {
	n := 0
	for n < len(m.steps) && !m.steps[n].at.After(until) {
		n++
	}
	if n < 2 {
		return m
	}
	return image{append([]step{sum(m.steps[:n])}, m.steps[n:]...)}
}

// base is the state as a new owner finds it: one commit, of the time before it.
func (m image) base() image {
	if !m.found() {
		return m
	}
	s := sum(m.steps)
	s.at = epoch
	return image{[]step{s}}
}

// epoch is the time of what an earlier owner committed, by whatever clock.
var epoch = time.Unix(0, 0).UTC()

// before is the state as it was committed at the time given. That can be nothing at all, if everything was done by
// the present owner since.
func (m image) before(t time.Time) image {
	n := 0
	for n < len(m.steps) && (m.steps[n].at.Equal(epoch) || !m.steps[n].at.After(t)) {
		n++
	}
	return image{m.steps[:n]}
}

// sum is what the commits come to.
func sum(steps []step) step {
	out := steps[len(steps)-1]
	out.Drop = nil
	held := steps[0].Add
	for i, s := range steps {
		if !s.Watermark.IsZero() {
			out.Watermark = s.Watermark
		}
		if !s.Succeeded.IsZero() {
			out.Succeeded = s.Succeeded
		}
		if i > 0 {
			held = merge(subtract(held, s.Drop), s.Add)
		}
	}
	out.Add = held
	return out
}

// subtract takes the entries of b out of a. Both are in order.
func subtract(a, b []state.Entry) []state.Entry {
	if len(b) == 0 {
		return a
	}
	out := make([]state.Entry, 0, len(a))
	for _, e := range a {
		for len(b) > 0 && b[0].Compare(e) < 0 {
			b = b[1:]
		}
		if len(b) == 0 || b[0] != e {
			out = append(out, e)
		}
	}
	return out
}

// merge joins two lists in order.
func merge(a, b []state.Entry) []state.Entry {
	if len(b) == 0 {
		return a
	}
	out := make([]state.Entry, 0, len(a)+len(b))
	for len(a) > 0 && len(b) > 0 {
		switch c := a[0].Compare(b[0]); {
		case c < 0:
			out, a = append(out, a[0]), a[1:]
		case c > 0:
			out, b = append(out, b[0]), b[1:]
		default:
			a = a[1:]
		}
	}
	return append(append(out, a...), b...)
}

// snapshot is what an engine begins with. The lists are the caller's.
func (m image) snapshot() state.Snapshot {
	if !m.found() {
		return state.Snapshot{}
	}
	s := sum(m.steps)
	snap := state.Snapshot{Found: true, Watermark: s.Watermark, Succeeded: s.Succeeded}
	snap.IDs = append(snap.IDs, s.Add...)
	snap.Unread = append(snap.Unread, s.Unread...)
	return snap
}

// added is the number of ids that are stored.
func (m image) added() (n int) {
	for _, s := range m.steps {
		n += len(s.Add)
	}
	return n
}

// without leaves out the n oldest entries.
func (m image) without(n int) image {
	steps := slices.Clone(m.steps)
	for i := range steps {
		k := min(n, len(steps[i].Add))
		steps[i].Add = steps[i].Add[k:]
		n -= k
	}
	return image{steps}
}
