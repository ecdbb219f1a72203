package share

import (
	"maps"
	"slices"
	"time"

	"github.com/zeebo/xxh3"
)

// workers is what a pod has seen of the workers' Leases. All is judged by the pod's own clock, as client-go does: a
// Lease whose record did not change for the lease duration is stale, whatever times stand in it. Unlike client-go it
// wants to have looked on at the end of that time, or a pod that was frozen itself, or an API server that was, would
// make dead workers of all others.
//
// It is a state machine: times and Leases come in. It is not safe for concurrent use.
type workers struct {
	duration time.Duration // lease_duration
	seen     map[int]sighting
	left     map[string]sighting // by identity: the last Lease of those that hold none any more
	since    time.Time           // from then on each look succeeded and none was long after the one before
	sent     time.Time           // when the last look that succeeded was asked for
	received time.Time           // when its answer came
}

// sighting is a Lease as it was seen.
type sighting struct {
	Lease
	first time.Time // when it was seen so for the first time
	alive bool      // its holder was seen to renew it while this pod looked on
	// renews: its holder was seen to renew it, perhaps between two looks that were far apart.
	renews bool
	// lag is the smallest age by the wall clock that a Lease of this holder had when it was new: so far its clock may
	// be behind.
	lag time.Duration
	// stale: it was silent, and it stays so until somebody writes it, whatever becomes of the looks.
	stale bool
	has   map[Hash]bool
}

const forgetAfter = time.Hour // those that hold no Lease any more

func newWorkers(duration time.Duration) *workers {
	return &workers{duration: duration, seen: map[int]sighting{}, left: map[string]sighting{}}
}

// observe notes what a look showed, unless one that was sent later did so already. Both times are of the local clock,
// with its monotonic part; wall is what the times in Leases are compared with.
func (w *workers) observe(sent, received, wall time.Time, leases []Lease) {
	if sent.Before(w.sent) {
		return
	}
	if w.since.IsZero() || max(sent.Sub(w.received), received.Sub(sent)) > w.duration/2 {
		w.since = received
	}
	w.sent, w.received = sent, received
	before := w.seen
	w.seen = map[int]sighting{}
	for _, l := range leases {
		s := sighting{Lease: l, first: received}
		old, found := before[l.Slot]
		if found && slices.Equal(old.Sources, l.Sources) {
			s.has = old.has
		} else {
			s.has = make(map[Hash]bool, len(l.Sources))
			for _, h := range l.Sources {
				s.has[h] = true
			}
		}
		if found && old.Same(l) {
			s.first, s.alive, s.renews, s.lag, s.stale = old.first, old.alive, old.renews, old.lag, old.stale
		} else {
			s.lag = wall.Sub(l.Renewed)
			if found && old.Holder == l.Holder {
				s.renews, s.lag = true, min(s.lag, old.lag)
			}
			s.alive = found && old.Holder == l.Holder && w.since.Before(received) // it was looked for shortly before
		}
		s.stale = l.Holder != "" && (s.stale || w.silent(s))
		w.seen[l.Slot] = s
		delete(w.left, l.Holder)
	}
	for _, old := range before {
		if old.Holder != "" && !w.holds(old.Holder) {
			w.left[old.Holder] = old
		}
	}
	for identity, s := range w.left {
		s.stale = s.stale || w.silent(s)
		w.left[identity] = s
		if sent.Sub(s.first) > forgetAfter {
			delete(w.left, identity)
		}
	}
}

// failed notes that a look failed: what happened meanwhile was not seen, unless one that was sent later succeeded.
func (w *workers) failed(sent time.Time) {
	if !sent.Before(w.sent) {
		w.since = time.Time{}
	}
}

// silent tells whether s, as it is in the last look, was not renewed for the lease duration while this pod looked on.
func (w *workers) silent(s sighting) bool {
	return w.sent.Sub(s.first) >= w.duration && w.watched(w.duration*2/3)
}

// watched tells whether this pod has looked on for d.
func (w *workers) watched(d time.Duration) bool { return !w.since.IsZero() && w.sent.Sub(w.since) >= d }

func (w *workers) holds(identity string) bool {
	for _, s := range w.seen {
		if s.Holder == identity {
			return true
		}
	}
	return false
}

// live are the Leases that are held and not stale, by their slots.
func (w *workers) live() []sighting {
	var out []sighting
	for _, s := range w.seen {
		if s.Holder != "" && !s.stale {
			out = append(out, s)
		}
	}
	slices.SortFunc(out, func(a, b sighting) int { return a.Slot - b.Slot })
	return out
}

// informed tells whether this pod knows of each Lease whether its holder lives. A worker that does not would be given
// the sources of dead ones by those who do, and not dare to take them.
func (w *workers) informed(identity string) bool {
	for _, s := range w.seen {
		if s.Holder != "" && s.Holder != identity && !s.alive && !s.stale {
			return false
		}
	}
	return !w.since.IsZero()
}

// free are the slots below n that this process can have: of nobody, of itself (it could not renew in time), or with
// the Lease of a dead worker.
func (w *workers) free(n int, identity string) []Lease {
	var out []Lease
	for slot := range n {
		switch s, found := w.seen[slot]; {
		case !found || s.Holder == "" || s.Holder == identity:
			out = append(out, Lease{Slot: slot})
		case s.stale:
			out = append(out, s.Lease)
		}
	}
	return out
}

// overdue tells whether to look again soon, at the Leases below n. Either one did not change between two looks that
// were the lease duration apart, or all look as if they were stale by the times in them and the wall clock. Looks that
// are far apart show neither for certain, and without others nobody would ever know.
func (w *workers) overdue(n int, wall time.Time) bool {
	held, old := 0, 0
	for slot := range n {
		s, found := w.seen[slot]
		if !found || s.Holder == "" || s.stale {
			continue
		}
		if w.sent.Sub(s.first) >= w.duration {
			return true
		}
		held++
		age := wall.Sub(s.Renewed)
		if s.renews {
			age -= s.lag
		}
		if age > w.duration {
			old++
		}
	}
	return held > 0 && old == held
}

// judge tells what is known of the owner of a source.
func (w *workers) judge(owner string) Verdict {
	for _, s := range w.seen {
		if s.Holder == owner && !s.stale {
			return Verdict{}
		}
	}
	for _, s := range w.seen {
		if s.Holder == owner {
			return Verdict{Dead: true, Renewed: s.Renewed}
		}
	}
	// It let go of its Lease, or somebody deleted that, or another pod has it already. It may be alive for as long as
	// its Lease would have lasted.
	if s, found := w.left[owner]; found {
		return Verdict{Dead: s.stale, Renewed: s.Renewed}
	}
	return Verdict{Dead: w.watched(w.duration)}
}

// spread tells which worker, by its identity, each source belongs to: by rendezvous hashing over the live Leases
// whose holders have the source, but no worker gets a fifth more than its share while another has room. All pods that
// see the same Leases compute the same. The slot counts, not its holder, so that a pod that was replaced leaves its
// sources to the one that takes its place.
func spread(live []sighting) map[Hash]string {
	known := map[Hash]bool{}
	for _, s := range live {
		maps.Copy(known, s.has)
	}
	owners, loads := make(map[Hash]string, len(known)), make([]int, len(live))
	for _, source := range slices.Sorted(maps.Keys(known)) {
		best, score := -1, uint64(0)
		full, fullScore := -1, uint64(0) // where no worker that has the source has room
		for i, s := range live {
			if !s.has[source] {
				continue
			}
			n := xxh3.HashStringSeed(string(source), uint64(s.Slot))
			if full < 0 || n > fullScore {
				full, fullScore = i, n
			}
			if roomy := 5*loads[i]*len(live) < 6*len(known); roomy && (best < 0 || n > score) {
				best, score = i, n
			}
		}
		if best < 0 {
			best = full
		}
		loads[best]++
		owners[source] = live[best].Holder
	}
	return owners
}
