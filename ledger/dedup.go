package ledger

import (
	"encoding/binary"
	"iter"
	"math"
	"math/bits"

	"fluent-bit-defender/record"
)

const (
	// MaxIDs bounds the dedup set of each source.
	MaxIDs = 5_000_000

	few    = 4_096       // ids that one table holds
	shards = 256         // tables for more
	minute = int64(60e9) // in ns

	// of the watermark's way, after which every table was pruned, however fast a backlog goes by
	pruneRound = 5 * minute
	pruneMost  = shards / 4 // tables in one call: what that takes is spent under the ledger's lock
)

// dedup holds the ids of the rows that were fetched, each with the time by which it ages (unix ns): the row's own
// LastProcessedTimeUtc, or when it last came if that is unusable or outside what was asked.
//
// It is one hash table with open addressing, or 256 of them, of which one at a time grows or is pruned: about 30
// bytes an id, where a Go map and an order by time beside it took 110. An id is a digest, so its own bits are its
// hash. Not safe for concurrent use.
type dedup struct {
	tables []table // 1 or shards
	n, max int
	stale  int64 // ns by which an id's age may lag behind
	next   int   // the table to prune next
	due    int64 // tables to prune because time went on
	before int64 // of the last prune
}

type table struct {
	slots []slot // age 0: empty
	n     int
}

type slot struct {
	id  record.ID
	age age
}

// age is unix ns with the lowest bit taken for "is in the store". The next two bits, which the store keeps too, say
// that this is the time at which the row came, not its own, and that the id is an alert's (AddAlert).
type age int64

const (
	ofComing = 2
	ofAlert  = 4
	flags    = 7
)

func (a age) time() int64   { return int64(a) &^ 1 }
func (a age) durable() bool { return a&1 == 1 }

func newAge(t int64, durable bool) age {
	t &^= 1
	if t == 0 {
		t = 2
	}
	if durable {
		t |= 1
	}
	return age(t)
}

func newDedup(max int) *dedup {
	return &dedup{tables: make([]table, 1), max: max, stale: 10 * minute}
}

// of is the table of id.
func (s *dedup) of(id record.ID) *table { return &s.tables[int(id[0])&(len(s.tables)-1)] }

// find returns the slot of id, or the empty one where it would be; nil if the table has none.
func (t *table) find(id record.ID) *slot {
	if len(t.slots) == 0 {
		return nil
	}
	hi, _ := bits.Mul64(binary.LittleEndian.Uint64(id[1:9]), uint64(len(t.slots)))
	for i := int(hi); ; i++ {
		if i == len(t.slots) {
			i = 0
		}
		if s := &t.slots[i]; s.age == 0 || s.id == id {
			return s
		}
	}
}

// rebuild makes the table anew with so many slots and what keep keeps.
func (t *table) rebuild(size int, keep func(slot) bool) {
	old := t.slots
	t.slots, t.n = make([]slot, (size+7)/8*8), 0
	for _, s := range old {
		if s.age != 0 && keep(s) {
			*t.find(s.id) = s
			t.n++
		}
	}
}

func (s *dedup) get(id record.ID) *slot {
	if sl := s.of(id).find(id); sl != nil && sl.age != 0 {
		return sl
	}
	return nil
}

// put adds an id that is not held. A full table grows by an eighth, since that is much memory where there are many
// ids; while there is one, it doubles.
func (s *dedup) put(id record.ID, a age) {
	if s.n == few && len(s.tables) == 1 {
		one := dedup{tables: s.tables}
		s.tables, s.n = make([]table, shards), 0
		for sl := range one.all() {
			s.put(sl.id, sl.age)
		}
	}
	t := s.of(id)
	if size := len(t.slots); t.n+1 > size/8*7 {
		more := size / 8
		if len(s.tables) == 1 {
			more = size
		}
		t.rebuild(16+size+more, func(slot) bool { return true })
	}
	*t.find(id) = slot{id, a}
	t.n++
	s.n++
}

// load adds an id that the store holds.
func (s *dedup) load(id record.ID, t int64) {
	if s.get(id) == nil {
		s.put(id, newAge(t, true))
	}
}

// reaged is an id in the store whose age has moved.
type reaged struct {
	id       record.ID
	old, new int64
}

// add tells whether id is new, and remembers it with time t. Of one known already, the age moves on to t if that is
// more than stale later (a row that keeps coming from outside the window stays known), or if t is the first that is
// of its coming; moved is non-nil if the store holds the old age.
func (s *dedup) add(id record.ID, t int64) (fresh bool, moved *reaged) {
	sl := s.get(id)
	if sl == nil {
		s.put(id, newAge(t, false))
		return true, nil
	}
	old := sl.age
	if t-old.time() <= s.stale && (t&ofComing == 0 || old&ofComing != 0 || t < old.time()) {
		return false, nil
	}
	sl.age = newAge(t, old.durable())
	if old.durable() {
		return false, &reaged{id, old.time(), sl.age.time()}
	}
	return false, nil
}

// addAlert remembers an alert of which a row of time t came. It tells whether that has to be stored; moved is non-nil
// if the store holds an older time.
func (s *dedup) addAlert(id record.ID, t int64) (stores bool, moved *reaged) {
	a := newAge(t&^flags|ofAlert, false)
	sl := s.get(id)
	if sl == nil {
		s.put(id, a)
		return true, nil
	}
	old := sl.age
	if a.time() <= old.time() {
		return false, nil
	}
	sl.age = a
	if old.durable() {
		return true, &reaged{id, old.time(), a.time()}
	}
	return true, nil
}

// store marks id as held by the store. It returns id's age, and false if id is not known any more or was marked before.
func (s *dedup) store(id record.ID) (int64, bool) {
	sl := s.get(id)
	if sl == nil || sl.age.durable() {
		return 0, false
	}
	sl.age |= 1
	return sl.age.time(), true
}

// holds tells whether id is held with this age.
func (s *dedup) holds(id record.ID, t int64) bool {
	sl := s.get(id)
	return sl != nil && sl.age.time() == t
}

// prune drops what is older than before and keep does not keep; drop is called for each id that the store holds. It
// visits one table, another each time, so that once a second all are visited within five minutes, and more of them
// the faster before moves on: without that a backlog of days would all be held until its end. No call drops many more
// than a commit adds.
func (s *dedup) prune(before int64, keep func(t int64) bool, drop func(record.ID, int64)) {
	all := int64(len(s.tables))
	if moved := min(before-s.before, pruneRound); moved > 0 {
		s.due = min(s.due+moved*all/pruneRound, all)
	}
	s.before = before
	s.due = max(s.due, 1)
	for held, n := s.n, 0; n < pruneMost && s.due > 0 && held-s.n < MostPerCommit; n++ {
		s.next %= len(s.tables)
		s.weed(&s.tables[s.next], func(sl slot) bool { return sl.age.time() >= before || keep(sl.age.time()) }, drop)
		s.next = (s.next + 1) % len(s.tables)
		s.due--
	}
}

// weed drops from a table what keep does not keep.
func (s *dedup) weed(t *table, keep func(slot) bool, drop func(record.ID, int64)) {
	old := 0
	for _, sl := range t.slots {
		if sl.age != 0 && !keep(sl) {
			old++
		}
	}
	if old == 0 {
		return
	}
	s.n -= old
	t.rebuild((t.n-old)*5/4+16, func(sl slot) bool {
		if keep(sl) {
			return true
		}
		if sl.age.durable() {
			drop(sl.id, sl.age.time())
		}
		return false
	})
}

// shrink drops the oldest ids once more than max are held, and some more so that it is rarely needed. It tells how
// many it dropped. Its time is that of a few walks over all.
func (s *dedup) shrink(drop func(record.ID, int64)) int {
	held := s.n
	if held <= s.max {
		return 0
	}
	least := held - s.max + s.max/16
	before := s.after(least, least+s.max/64)
	for i := range s.tables {
		s.weed(&s.tables[i], func(sl slot) bool { return sl.age.time() >= before }, drop)
	}
	return held - s.n
}

// after is a time before which at least least ids are held, and at most most, unless too many have the same age.
func (s *dedup) after(least, most int) int64 {
	from, to := int64(math.MaxInt64), int64(math.MinInt64)
	for sl := range s.all() {
		from, to = min(from, sl.age.time()), max(to, sl.age.time()+1)
	}
	for older := 0; ; {
		const steps = 4096
		step := (to-from-1)/steps + 1
		var held [steps]int
		for sl := range s.all() {
			if t := sl.age.time(); from <= t && t < to {
				held[(t-from)/step]++
			}
		}
		i := 0
		for ; older+held[i] < least; i++ {
			older += held[i]
		}
		from += int64(i) * step
		if to = from + step; step == 1 || older+held[i] <= most {
			return to
		}
	}
}

// all are the slots with an id.
func (s *dedup) all() iter.Seq[slot] {
	return func(yield func(slot) bool) {
		for i := range s.tables {
			for _, sl := range s.tables[i].slots {
				if sl.age != 0 && !yield(sl) {
					return
				}
			}
		}
	}
}

func (s *dedup) len() int { return s.n }
