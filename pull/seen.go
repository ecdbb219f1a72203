package pull

import "fluent-bit-defender/record"

// maxSeen bounds the seen set (DESIGN "Identity").
const maxSeen = 5_000_000

// span of one bucket of the seen set, in ns.
const bucketSpan = int64(60e9)

// seen holds the identities of the rows that were fetched, each with the time by which it ages (unix ns): the row's own
// LastProcessedTimeUtc, or when it last came if that is unusable or outside what was asked. Identities lie in buckets of a
// minute beside the map, so that dropping old ones costs what is dropped, not what is held. Not safe for concurrent use.
type seen struct {
	ages    map[record.ID]age
	buckets map[int64][]record.ID
	max     int
}

// age is unix ns with the lowest bit taken for "is in the store" (the service's times have 100 ns steps): one word
// instead of two halves the map's memory.
type age int64

func (a age) time() int64   { return int64(a) &^ 1 }
func (a age) durable() bool { return a&1 == 1 }

func newAge(t int64, durable bool) age {
	if durable {
		return age(t | 1)
	}
	return age(t &^ 1)
}

func newSeen(max int) *seen {
	return &seen{ages: map[record.ID]age{}, buckets: map[int64][]record.ID{}, max: max}
}

// load adds an identity that the store holds.
func (s *seen) load(id record.ID, t int64) { s.put(id, newAge(t, true)) }

func (s *seen) put(id record.ID, a age) {
	s.ages[id] = a
	b := a.time() / bucketSpan
	s.buckets[b] = append(s.buckets[b], id)
}

// reaged is an identity in the store whose age has moved.
type reaged struct {
	id       record.ID
	old, new int64
}

// add tells whether id is new, and remembers it with time t. Of one known already, the age moves on to t if that
// is more than ten minutes later (a row that keeps coming from outside the window stays known); moved is non-nil if the store holds the
// old age.
func (s *seen) add(id record.ID, t int64) (fresh bool, moved *reaged) {
	a, ok := s.ages[id]
	if !ok {
		s.put(id, newAge(t, false))
		return true, nil
	}
	if t-a.time() <= 10*bucketSpan {
		return false, nil
	}
	s.put(id, newAge(t, a.durable()))
	if a.durable() {
		return false, &reaged{id, a.time(), t &^ 1}
	}
	return false, nil
}

// store marks id as held by the store. It returns id's age, and false if id is not known any more.
func (s *seen) store(id record.ID) (int64, bool) {
	a, ok := s.ages[id]
	if !ok || a.durable() {
		return 0, false
	}
	s.ages[id] = newAge(a.time(), true)
	return a.time(), true
}

// holds tells whether id is held with this age.
func (s *seen) holds(id record.ID, t int64) bool {
	a, ok := s.ages[id]
	return ok && a.time() == t
}

// prune drops whole buckets older than before, those that keep says to keep apart, until it has dropped about most
// identities; drop is called for each that the store holds.
func (s *seen) prune(before int64, most int, keep func(from, to int64) bool, drop func(record.ID, int64)) {
	for b := range s.buckets {
		if (b+1)*bucketSpan > before || keep(b*bucketSpan, (b+1)*bucketSpan) {
			continue
		}
		most -= s.dropBucket(b, drop)
		if most <= 0 {
			return
		}
	}
}

// shrink drops the oldest buckets until at most max identities are held, and tells how many it dropped.
func (s *seen) shrink(drop func(record.ID, int64)) (n int) {
	for len(s.ages) > s.max {
		oldest, found := int64(0), false
		for b := range s.buckets {
			if !found || b < oldest {
				oldest, found = b, true
			}
		}
		n += s.dropBucket(oldest, drop)
	}
	return n
}

func (s *seen) dropBucket(b int64, drop func(record.ID, int64)) (n int) {
	for _, id := range s.buckets[b] {
		a, ok := s.ages[id]
		if !ok || a.time()/bucketSpan != b {
			continue // it lies in a later bucket by now
		}
		if a.durable() {
			drop(id, a.time())
		}
		delete(s.ages, id)
		n++
	}
	delete(s.buckets, b)
	return n
}

func (s *seen) len() int { return len(s.ages) }
