package defendersim

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"math"
	"slices"
	"sort"
	"time"
)

// GraphVersion is a version of an alert in the ledger.
type GraphVersion struct {
	GraphAlert
	Added time.Time // when the service got it; it comes in no earlier answer
	// Visible and Replaced bound the time in which answers carry it: until a later version of the alert is visible.
	// Replaced zero: it is the last. Replaced not after Visible: no answer ever carries it.
	Visible, Replaced time.Time
	Fate
	at  int64 // Updated in unix ns
	seq int
}

// shown tells whether answers at the time now carry the version.
func (v *GraphVersion) shown(now time.Time) bool {
	return !now.Before(v.Visible) && (v.Replaced.IsZero() || now.Before(v.Replaced))
}

type graphStore struct {
	list  []*GraphVersion // by at, then seq
	byKey map[string]*GraphVersion
	byID  map[string][]*GraphVersion // by at
	seq   int
}

func newGraphStore() graphStore {
	return graphStore{byKey: make(map[string]*GraphVersion), byID: make(map[string][]*GraphVersion)}
}

func byUpdate(a, b *GraphVersion) int { return cmp.Or(cmp.Compare(a.at, b.at), a.seq-b.seq) }

// AddGraph gives versions of alerts to Graph. It panics when a Key comes twice, or a version without a time.
func (s *Service) AddGraph(alerts ...GraphAlert) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	st := &s.graph
	inOrder := true
	for _, a := range alerts {
		st.seq++
		v := &GraphVersion{GraphAlert: a, Added: now, at: nanos(a.Updated), seq: st.seq}
		if v.VisibleAt.IsZero() {
			v.VisibleAt = v.Updated
		}
		if v.Visible = v.VisibleAt; v.Added.After(v.Visible) {
			v.Visible = v.Added
		}
		key := v.Key()
		switch {
		case a.Updated.IsZero():
			panic(fmt.Sprintf("defendersim: an alert of Graph without lastUpdateDateTime: %.200s", key))
		case st.byKey[key] != nil:
			panic(fmt.Sprintf("defendersim: alert added twice: %.200s", key))
		}
		st.byKey[key] = v
		st.succeed(v)
		n := len(st.list)
		inOrder = inOrder && (n == 0 || st.list[n-1].at <= v.at)
		st.list = append(st.list, v)
	}
	if !inOrder {
		slices.SortFunc(st.list, byUpdate)
	}
	if s.cfg.Retain > 0 {
		st.forget(now.Add(-s.cfg.Retain))
	}
}

// succeed puts a version among those of its alert, each of which lasts until a later one is visible.
func (st *graphStore) succeed(v *GraphVersion) {
	all := append(st.byID[v.ID], v)
	slices.SortFunc(all, byUpdate)
	st.byID[v.ID] = all
	var next time.Time
	for _, v := range slices.Backward(all) {
		v.Replaced = next
		if next.IsZero() || v.Visible.Before(next) {
			next = v.Visible
		}
	}
}

func (st *graphStore) forget(before time.Time) {
	n := 0
	for ; n < len(st.list) && st.list[n].Visible.Before(before); n++ {
		v := st.list[n]
		delete(st.byKey, v.Key())
		left := slices.DeleteFunc(st.byID[v.ID], func(o *GraphVersion) bool { return o == v })
		if st.byID[v.ID] = left; len(left) == 0 {
			delete(st.byID, v.ID)
		}
		st.list[n] = nil
	}
	st.list = st.list[n:]
}

// choose is all that a query finds at the time now, in the order of the mode. Pages are cut from it: they are of the
// alerts as they are when a page is asked for, not as they were at the first.
func (st *graphStore) choose(q GraphQuery, m *Modes, now time.Time) []*GraphVersion {
	since, until := q.filter.window(false)
	if m.TruncateBounds > 0 {
		since = floor(since, m.TruncateBounds)
	}
	if until < math.MaxInt64-int64(m.TruncateRows) {
		until += int64(m.TruncateRows)
	}
	var rows []*GraphVersion
	first := sort.Search(len(st.list), func(i int) bool { return st.list[i].at >= since })
	for _, v := range st.list[first:] {
		if v.at > until {
			break
		}
		if v.shown(now) && q.filter.match(&v.GraphAlert, m) {
			rows = append(rows, v)
		}
	}
	switch m.Graph.Order {
	case NewestUpdated:
		slices.Reverse(rows)
	case OldestUpdated:
	case Shuffled:
		slices.SortStableFunc(rows, func(a, b *GraphVersion) int { return cmp.Compare(mixed(a.ID), mixed(b.ID)) })
	default:
		slices.SortStableFunc(rows, func(a, b *GraphVersion) int { return b.Created.Compare(a.Created) })
	}
	return rows
}

// mixed is a number for an id that has nothing to do with time.
func mixed(id string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(id))
	return h.Sum64()
}

// GraphLedger is every version of every alert that Graph has, by lastUpdateDateTime. Texts are shared with the
// service: read only.
func (s *Service) GraphLedger() []GraphVersion {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]GraphVersion, len(s.graph.list))
	for i, v := range s.graph.list {
		all[i] = *v
	}
	return all
}

// LookupGraph finds a version by its key.
func (s *Service) LookupGraph(key string) (GraphVersion, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if v := s.graph.byKey[key]; v != nil {
		return *v, true
	}
	return GraphVersion{}, false
}

// GraphDue says of which reader DueGraph speaks.
type GraphDue struct {
	Filter string    // as the reader sends it, without the window; "": all
	Since  time.Time // the earliest lastUpdateDateTime that it asked for
	Began  time.Time // its first poll, in service time: what was visible by then was not late; zero: nothing was
	At     time.Time // its last poll
	// Overlap is how long after lastUpdateDateTime it counts on a version becoming visible.
	Overlap time.Duration
	// Stay is how long a version that was replaced must have been visible: longer than any time in which the reader
	// did not, or could not, read a window to its end. Negative: versions that were replaced by At are not due.
	Stay time.Duration
}

// DueGraph is what a reader must have been given: versions that the filter lets through, updated from Since to At,
// visible by At and in time, and still there at At or there for Stay. So it holds each alert's last version, where
// that came in time. Poisoned versions are included. A filter that cannot be read panics.
func (s *Service) DueGraph(d GraphDue) []GraphVersion {
	var filter *graphFilter
	if d.Filter != "" {
		var err error
		if filter, err = parseFilter(d.Filter); err != nil {
			panic("defendersim: DueGraph: " + err.Error())
		}
	}
	return slices.DeleteFunc(s.GraphLedger(), func(v GraphVersion) bool {
		late := v.Visible.After(v.Updated.Add(d.Overlap)) && v.Visible.After(d.Began)
		outside := v.Updated.Before(d.Since) || v.Updated.After(d.At)
		if late || outside || v.Visible.After(d.At) || !filter.match(&v.GraphAlert, &Modes{}) {
			return true
		}
		if v.Replaced.IsZero() || v.Replaced.After(d.At) {
			return false
		}
		from := v.Visible
		if d.Began.After(from) {
			from = d.Began
		}
		return d.Stay < 0 || !v.Replaced.After(from) || v.Replaced.Sub(from) < d.Stay
	})
}
