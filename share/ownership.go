package share

import (
	"maps"
	"slices"
	"time"
)

// role is what a pod is.
type role int

const (
	standingBy role = iota // other pods work
	suspended              // its Lease was lost or is not renewed: it delivers nothing, and may have its sources again
	returning              // its Lease was renewed too late: it delivers nothing until it is sure of its sources
	working                // it holds a Lease
)

// action is something to do with a source. Its outcome is told by taken, notTaken or given.
type action struct {
	kind   kind
	source Hash
}

type kind string

const (
	take    kind = "take"    // become its owner and begin to pull it
	give    kind = "give"    // stop pulling it and give it back
	check   kind = "check"   // make sure that it is still this process's, and stop pulling it if it is not
	release kind = "release" // give back what is not pulled: giving it back failed before
)

// phase is where a source stands. In taking, checking, giving and releasing an action is under way.
type phase int

const (
	away phase = iota
	taking
	held
	checking
	giving
	owed // not pulled, but this process may still be its owner
	releasing
)

const (
	retryOwned   = 2 * time.Second // until its owner gives it back
	retryFailed  = 2 * time.Second // doubled with each failure
	retryMost    = 30 * time.Second
	retryRefused = time.Minute // of a ConfigMap that somebody has to put right
	orphanAfter  = time.Minute // until it is told that no worker has a source
)

// ownership decides which sources this process takes and gives back. It is a state machine: what is seen and what
// came of its actions goes in, actions come out. It is not safe for concurrent use.
type ownership struct {
	identity string
	sources  map[Hash]*holding
}

// holding is one source.
type holding struct {
	phase    phase
	gone     bool      // not configured any more
	retry    time.Time // no action before
	failures int
	lost     bool      // to another pod: its puller is to stop
	stale    bool      // it is pulled with old settings
	doubted  bool      // to be checked before anything is delivered
	orphan   time.Time // since when no live worker has it; zero: one has
}

func newOwnership(identity string) *ownership {
	return &ownership{identity: identity, sources: map[Hash]*holding{}}
}

// configure sets which sources there are. One that is gone is given back first, if it is held.
func (o *ownership) configure(sources []Hash) {
	for _, h := range o.sources {
		h.gone = true
	}
	for _, source := range sources {
		h := o.sources[source]
		if h == nil {
			h = &holding{}
			o.sources[source] = h
		}
		h.gone = false
	}
	o.forget()
}

// configured are the sources that are not gone, in order.
func (o *ownership) configured() []Hash {
	var out []Hash
	for _, source := range slices.Sorted(maps.Keys(o.sources)) {
		if !o.sources[source].gone {
			out = append(out, source)
		}
	}
	return out
}

func (o *ownership) forget() {
	maps.DeleteFunc(o.sources, func(_ Hash, h *holding) bool { return h.gone && h.phase == away })
}

// decide returns what is to be done now.
func (o *ownership) decide(now time.Time, r role, live []sighting) []action {
	var out []action
	owners := spread(live)
	for _, source := range slices.Sorted(maps.Keys(o.sources)) {
		h, owner := o.sources[source], owners[source]
		if owner != "" || len(live) == 0 || h.gone {
			h.orphan = time.Time{}
		} else if h.orphan.IsZero() {
			h.orphan = now
		}
		do := func(k kind, next phase) {
			h.phase = next
			out = append(out, action{k, source})
		}
		mine := r == working && owner == o.identity && !h.gone
		switch {
		case h.phase == held && (h.gone || h.lost || h.stale || r == standingBy ||
			r == working && owner != "" && owner != o.identity):
			do(give, giving)
		case now.Before(h.retry):
		case h.phase == held && h.doubted && r == returning:
			do(check, checking)
		case h.phase == owed: // also when it is to be taken again: what is known of it has to be written first
			do(release, releasing)
		case mine && h.phase == away:
			do(take, taking)
		}
	}
	return out
}

// taken: the source is this process's, and is pulled.
func (o *ownership) taken(source Hash) {
	if h := o.sources[source]; h != nil {
		*h = holding{phase: held, gone: h.gone, orphan: h.orphan, doubted: h.doubted, lost: h.lost, stale: h.stale}
	}
}

// renew: the settings of a source have changed.
func (o *ownership) renew(source Hash) {
	if h := o.sources[source]; h != nil {
		h.stale = h.phase == taking || h.phase == held || h.phase == checking
	}
}

// doubt: other pods may have taken what this one holds.
func (o *ownership) doubt() {
	for _, h := range o.sources {
		h.doubted = h.phase == taking || h.phase == held || h.phase == checking
	}
}

// checked: a source is still this process's, or nobody knows.
func (o *ownership) checked(source Hash, now time.Time, failed bool) {
	h := o.sources[source]
	switch {
	case h == nil || h.phase != checking:
	case failed:
		h.phase = held
		h.again(now)
	default:
		h.phase, h.doubted, h.failures = held, false, 0
	}
}

// sure tells whether nothing that is held has to be checked any more.
func (o *ownership) sure() bool {
	for _, h := range o.sources {
		if h.doubted && (h.phase == taking || h.phase == held || h.phase == checking) {
			return false
		}
	}
	return true
}

// outcome is why a source could not be taken.
type outcome int

const (
	anothers outcome = iota // a pod that lives owns it, or was faster
	failed                  // nothing was done
	unknown                 // it may have been done
	unusable                // somebody has to put something right
)

// notTaken: a source could not be taken.
func (o *ownership) notTaken(source Hash, now time.Time, why outcome) {
	h := o.sources[source]
	if h == nil {
		return
	}
	h.phase, h.lost, h.stale, h.doubted = away, false, false, false
	switch why {
	case unusable:
		h.retry = now.Add(retryRefused)
	case unknown:
		h.phase = owed // the answer may be all that is missing
		h.again(now)
	case failed:
		h.again(now)
	default:
		h.retry, h.failures = now.Add(retryOwned), 0
	}
	o.forget()
}

// given: a source was given back, or released. With failed this process may still be its owner.
func (o *ownership) given(source Hash, now time.Time, failed bool) {
	h := o.sources[source]
	if h == nil {
		return
	}
	if h.lost {
		h.retry = now.Add(retryOwned)
	}
	h.phase, h.lost, h.stale, h.doubted = away, false, false, false
	if failed {
		h.phase = owed
		h.again(now)
	}
	o.forget()
}

// lost: a held source turned out to be another's. Its puller is to stop, whatever this process is. It may do so
// before taken is called.
func (o *ownership) lost(source Hash) {
	if h := o.sources[source]; h != nil {
		h.lost = h.phase == taking || h.phase == held || h.phase == checking
	}
}

func (h *holding) again(now time.Time) {
	h.retry = now.Add(min(retryFailed<<min(h.failures, 10), retryMost))
	h.failures++
}

// held is the number of sources that are pulled here.
func (o *ownership) held() (n int) {
	for _, h := range o.sources {
		if h.phase == held || h.phase == checking || h.phase == giving {
			n++
		}
	}
	return n
}

// involved tells whether this process is, or may be, the owner of a source: it has to be seen to live for as long, or
// another pod takes that from it.
func (o *ownership) involved() bool {
	for _, h := range o.sources {
		if h.phase != away {
			return true
		}
	}
	return false
}

// orphans are the sources that no live worker has in its configuration, since a minute.
func (o *ownership) orphans(now time.Time) []Hash {
	var out []Hash
	for source, h := range o.sources {
		if !h.orphan.IsZero() && now.Sub(h.orphan) >= orphanAfter {
			out = append(out, source)
		}
	}
	slices.Sort(out)
	return out
}
