package state

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// entryAt is the i-th of the entries that the benchmarks and the churn test pass through: ages rise, hashes scatter.
func entryAt(i int) Entry {
	e := Entry{Age: int64(i) * int64(time.Millisecond)}
	x := uint64(i) * 0x9E3779B97F4A7C15
	binary.BigEndian.PutUint64(e.ID[:], x^x>>29)
	binary.BigEndian.PutUint64(e.ID[8:], uint64(i))
	return e
}

func entries(from, to int) []Entry {
	out := make([]Entry, 0, to-from)
	for i := from; i < to; i++ {
		out = append(out, entryAt(i))
	}
	return out
}

func filled(tb testing.TB, path string, key Key, n int) Store {
	tb.Helper()
	s, err := OpenFile(path, key, nil)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = s.Close() })
	const step = 100_000
	for from := 0; from < n; from += step {
		if err := s.Commit(Change{Watermark: time.Unix(1, 0), Add: entries(from, min(from+step, n))}); err != nil {
			tb.Fatal(err)
		}
	}
	return s
}

// One commit of 1,000 new rows and 1,000 that go: the cost must not grow with what is held.
func BenchmarkCommit(b *testing.B) {
	for _, held := range []int{1_000, 100_000, 1_000_000} {
		b.Run(fmt.Sprintf("held=%d", held), func(b *testing.B) {
			path := filepath.Join(b.TempDir(), "state.db")
			s := filled(b, path, Key{API: "siem", Tenant: b.Name()}, held)
			next := held
			for b.Loop() {
				c := Change{Watermark: time.Unix(int64(next), 0), Add: entries(next, next+1000),
					Drop: entries(next-held, next-held+1000)}
				if err := s.Commit(c); err != nil {
					b.Fatal(err)
				}
				next += 1000
			}
			info, err := os.Stat(path)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(info.Size())/float64(held), "filebytes/held")
		})
	}
}

// The same after a backlog left a million rows' pages free.
func BenchmarkCommitAfterBacklog(b *testing.B) {
	s := filled(b, filepath.Join(b.TempDir(), "state.db"), Key{API: "siem", Tenant: b.Name()}, 1_000_000)
	const held = 1000
	if err := s.Commit(Change{Drop: entries(0, 1_000_000-held)}); err != nil {
		b.Fatal(err)
	}
	next := 1_000_000
	for b.Loop() {
		c := Change{Watermark: time.Unix(int64(next), 0), Add: entries(next, next+1000),
			Drop: entries(next-held, next-held+1000)}
		if err := s.Commit(c); err != nil {
			b.Fatal(err)
		}
		next += 1000
	}
}

func BenchmarkLoad(b *testing.B) {
	s := filled(b, filepath.Join(b.TempDir(), "state.db"), Key{API: "siem", Tenant: b.Name()}, 1_000_000)
	for b.Loop() {
		snap, err := s.Load()
		if err != nil || len(snap.IDs) != 1_000_000 {
			b.Fatal(len(snap.IDs), err)
		}
	}
}

func BenchmarkOpen(b *testing.B) {
	path := filepath.Join(b.TempDir(), "state.db")
	key := Key{API: "siem", Tenant: b.Name()}
	if err := filled(b, path, key, 1_000_000).Close(); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		s, err := OpenFile(path, key, nil)
		if err != nil {
			b.Fatal(err)
		}
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// Not timed, so that it holds on a busy machine: a commit's allocations (nodes, keys, pages) follow what it changes.
func TestACommitCostsWhatItChanges(t *testing.T) {
	withoutSync(t)
	for _, kind := range openers {
		t.Run(kind.name, func(t *testing.T) {
			cost := func(held int) float64 {
				s, err := kind.open(tempDir(t), newKey(t))
				if err != nil {
					t.Fatal(err)
				}
				defer s.Close()
				mustCommit(t, s, Change{Watermark: at(0), Add: entries(0, held)})
				next := held
				return testing.AllocsPerRun(20, func() {
					mustCommit(t, s, Change{Watermark: at(next), Add: entries(next, next+100),
						Drop: entries(next-held, next-held+100)})
					next += 100
				})
			}
			few, many := cost(1000), cost(100_000)
			t.Logf("%.0f allocations with 1,000 held, %.0f with 100,000", few, many)
			if many > 2*few {
				t.Errorf("%.0f allocations with 1,000 held, %.0f with 100,000", few, many)
			}
		})
	}
}
