package ledger

import (
	"crypto/sha256"
	"encoding/binary"
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"fluent-bit-defender/record"
)

func id(n int) (r record.ID) {
	r[0], r[7], r[8] = byte(n%3), byte(n>>8), byte(n)
	return r
}

func keepNone(int64) bool { return false }

// pruneAll visits every table.
func (s *dedup) pruneAll(before int64, keep func(int64) bool, drop func(record.ID, int64)) {
	for range shards {
		s.prune(before, keep, drop)
	}
}

func TestDedupTellsWhatIsNew(t *testing.T) {
	s := newDedup(10)
	if fresh, _ := s.add(id(1), 5*minute); !fresh {
		t.Error("the first time a row came it was not new")
	}
	if fresh, _ := s.add(id(1), 5*minute); fresh {
		t.Error("the second time it was")
	}
	s.load(id(2), 5*minute)
	if fresh, _ := s.add(id(2), 5*minute); fresh {
		t.Error("what the store holds was new")
	}
}

func TestDedupAgesByTheLastComing(t *testing.T) {
	s := newDedup(10)
	s.load(id(1), 5*minute)
	if _, moved := s.add(id(1), 14*minute); moved != nil {
		t.Error("it moved for less than ten minutes")
	}
	_, moved := s.add(id(1), 16*minute)
	if moved == nil || *moved != (reaged{id(1), 5 * minute, 16 * minute}) {
		t.Fatalf("the store was not told of the move: %v", moved)
	}
	s.pruneAll(16*minute, keepNone, func(record.ID, int64) { t.Error("it was dropped at its old age") })
	if s.len() != 1 {
		t.Fatal("it is gone")
	}
	var dropped []int64
	s.pruneAll(17*minute, keepNone, func(_ record.ID, at int64) { dropped = append(dropped, at) })
	if len(dropped) != 1 || dropped[0] != 16*minute || s.len() != 0 {
		t.Errorf("dropped %v, %d left", dropped, s.len())
	}
}

func TestDedupTellsTheStoreOnlyOfWhatItHolds(t *testing.T) {
	s := newDedup(10)
	s.add(id(1), minute)
	s.add(id(2), minute)
	if at, ok := s.store(id(1)); !ok || at != minute {
		t.Fatalf("store: %d %v", at, ok)
	}
	if _, ok := s.store(id(1)); ok {
		t.Error("it was stored twice")
	}
	var dropped []record.ID
	s.pruneAll(2*minute, keepNone, func(id record.ID, _ int64) { dropped = append(dropped, id) })
	if len(dropped) != 1 || dropped[0] != id(1) {
		t.Errorf("dropped %v", dropped)
	}
	if _, ok := s.store(id(2)); ok {
		t.Error("a forgotten row was stored")
	}
}

func TestDedupKeepsWhatIsInAnUnreadRange(t *testing.T) {
	s := newDedup(10)
	s.add(id(1), minute)
	s.add(id(2), 3*minute)
	s.pruneAll(10*minute, func(t int64) bool { return t == minute }, func(record.ID, int64) {})
	if s.len() != 1 {
		t.Fatalf("%d left", s.len())
	}
	if fresh, _ := s.add(id(1), minute); fresh {
		t.Error("the gap's row was forgotten")
	}
}

// A backlog goes by at hours a second: what lies behind must go as fast, or a set for one hour grows to one for days.
func TestDedupPrunesAsFastAsTimeGoes(t *testing.T) {
	for _, step := range []int64{minute / 60, minute, 20 * minute} {
		s, most, n := newDedup(1<<30), 0, 0
		for second := range int64(1000) {
			now := 100_000*minute + second*step
			for i := range int64(100) {
				n++
				var r record.ID
				binary.LittleEndian.PutUint64(r[1:], uint64(n)*0x9E3779B97F4A7C15)
				r[0] = byte(n)
				s.put(r, newAge(now+i*step/100, false))
			}
			s.prune(now-60*minute, keepNone, func(record.ID, int64) {})
			most = max(most, s.len())
		}
		// An hour is kept, and what came since each table's last turn: five minutes or four seconds, whichever is
		// longer.
		allowed := int(100*(60*minute+pruneRound+5*step)/step) + 1000
		if most > allowed {
			t.Errorf("%d held of %d a minute, where %d would do", most, 100*minute/step, allowed)
		}
	}
}

func TestDedupForgetsTheOldestWhenItIsFull(t *testing.T) {
	s := newDedup(3)
	for n := range 5 {
		s.add(id(n), int64(n+1)*minute)
	}
	if n := s.shrink(func(record.ID, int64) {}); n != 2 || s.len() != 3 {
		t.Fatalf("%d forgotten, %d left", n, s.len())
	}
	if fresh, _ := s.add(id(4), 5*minute); fresh {
		t.Error("the newest was forgotten")
	}
	if fresh, _ := s.add(id(0), minute); !fresh {
		t.Error("the oldest was kept")
	}
}

// Whatever is added, moved, stored and pruned, the set is what a plain map would be, and the store is told of every
// change to what it holds.
func TestDedupAgainstAModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := newDedup(1000)
		model := map[record.ID]int64{}
		stored := map[record.ID]int64{}
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				id, at := id(rapid.IntRange(0, 20).Draw(t, "id")),
					int64(rapid.IntRange(1, 100).Draw(t, "minute"))*minute
				fresh, moved := s.add(id, at)
				old, known := model[id]
				if fresh == known {
					t.Fatalf("fresh %v, known %v", fresh, known)
				}
				if !known || at-old > 10*minute {
					model[id] = at
				}
				if moved != nil {
					if stored[id] != moved.old {
						t.Fatalf("the store holds %d, told %d", stored[id], moved.old)
					}
					stored[id] = moved.new
				}
			},
			"store": func(t *rapid.T) {
				id := id(rapid.IntRange(0, 20).Draw(t, "id"))
				if at, ok := s.store(id); ok {
					stored[id] = at
				}
			},
			"prune": func(t *rapid.T) {
				before := int64(rapid.IntRange(0, 100).Draw(t, "before")) * minute
				s.pruneAll(before, keepNone, func(id record.ID, at int64) {
					if stored[id] != at {
						t.Fatalf("the store holds %d, told to drop %d", stored[id], at)
					}
					delete(stored, id)
				})
				for id, at := range model {
					if at < before {
						delete(model, id)
					}
				}
			},
			"": func(t *rapid.T) {
				if s.len() != len(model) {
					t.Fatalf("%d held, model %d", s.len(), len(model))
				}
				for id, at := range stored {
					if model[id] != at {
						t.Fatalf("stored %d, held %d", at, model[id])
					}
				}
			},
		})
	})
}

// Many identities, of which some go and come again, are all found and nothing else is.
func TestDedupHoldsMany(t *testing.T) {
	s := newDedup(1 << 30)
	many := func(n int) record.ID {
		sum := sha256.Sum256(binary.LittleEndian.AppendUint64(nil, uint64(n)))
		return record.ID(sum[:16])
	}
	const n = 200_000
	for i := range n {
		if fresh, _ := s.add(many(i), int64(i%10+1)*minute); !fresh {
			t.Fatalf("%d was known", i)
		}
	}
	s.pruneAll(6*minute, keepNone, func(record.ID, int64) {})
	if s.len() != n/2 {
		t.Fatalf("%d left", s.len())
	}
	for i := range n {
		if got, want := s.holds(many(i), int64(i%10+1)*minute), i%10+1 >= 6; got != want {
			t.Fatalf("%d held: %v", i, got)
		}
	}
	slots := 0
	for i := range s.tables {
		slots += len(s.tables[i].slots)
	}
	if bytes := slots * 24 / s.len(); bytes > 40 {
		t.Errorf("%d bytes an identity", bytes)
	}
}

// More than the set may hold of one second, in which rows age in the order of their arrival.
func TestDedupForgetsOfOneMinute(t *testing.T) {
	s := newDedup(1600)
	for i := range 2000 {
		s.add(id(i), 5*minute+int64(i)*(flags+1))
	}
	if n := s.shrink(func(record.ID, int64) {}); s.len() > 1600 || s.len() < 1400 || n != 2000-s.len() {
		t.Errorf("%d forgotten, %d left", n, s.len())
	}
}

// digest is an identity whose bits are spread as those of a digest are.
func digest(i int) (id record.ID) {
	binary.BigEndian.PutUint64(id[:], uint64(i)*0x9E3779B97F4A7C15)
	binary.BigEndian.PutUint64(id[8:], uint64(i)*0xC2B2AE3D27D4EB4F)
	return id
}

// With `updates first` ages lie spread over half a year: dropping the oldest takes as few walks over all as with ages
// of an hour.
func TestShrinkOfAgesFarApart(t *testing.T) {
	const max = 20_000
	s := newDedup(max)
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).UnixNano()
	age := map[record.ID]int64{}
	for i := range max + 1 {
		id := digest(i)
		age[id] = start + int64(i)*180*24*60*minute/max
		s.add(id, age[id])
	}
	dropped := map[record.ID]bool{}
	for id := range age {
		s.store(id)
	}
	n := s.shrink(func(id record.ID, _ int64) { dropped[id] = true })
	if want := 1 + max/16; n < want || n > want+shards || len(dropped) != n || s.len() != max+1-n {
		t.Fatalf("%d dropped, %d told, %d left of %d", n, len(dropped), s.len(), max+1)
	}
	newest, oldest := int64(0), int64(math.MaxInt64)
	for id, a := range age {
		if dropped[id] && a > newest {
			newest = a
		} else if !dropped[id] && a < oldest {
			oldest = a
		}
	}
	if newest > oldest+180*24*60*minute/4096 {
		t.Errorf("one of %d was dropped, one of %d was kept", newest/minute, oldest/minute)
	}
}

func BenchmarkShrinkOfAgesFarApart(b *testing.B) {
	const max = 1_000_000
	for b.Loop() {
		b.StopTimer()
		s := newDedup(max)
		for i := range max + 1 {
			s.add(digest(i), 1_700_000_000e9+int64(i)*180*24*60*minute/max)
		}
		b.StartTimer()
		s.shrink(func(record.ID, int64) {})
	}
}
