package state

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// genEntry gives few enough ages and hashes for entries to meet.
var genEntry = rapid.Custom(func(t *rapid.T) Entry {
	return Entry{Age: rapid.Int64Range(-3, 40).Draw(t, "age"), ID: ID{0: rapid.Byte().Draw(t, "hash")}}
})

// model is what any store of entries has to act like.
type model map[Entry]bool

func (m model) apply(add, drop []Entry) {
	for _, e := range drop {
		delete(m, e)
	}
	for _, e := range add {
		m[e] = true
	}
}

func (m model) all() []Entry {
	var out []Entry
	for e := range m {
		out = append(out, e)
	}
	slices.SortFunc(out, Entry.compare)
	return out
}

func TestIDSetIsASet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s idSet
		want := make(model)
		t.Repeat(map[string]func(*rapid.T){
			"add some": func(t *rapid.T) {
				es := rapid.SliceOfN(genEntry, 1, 50).Draw(t, "entries")
				want.apply(es, nil)
				for _, e := range es {
					s.add(e)
				}
			},
			"add a run": func(t *rapid.T) {
				from := rapid.IntRange(0, 3000).Draw(t, "from")
				es := entries(from, from+rapid.IntRange(1, 1500).Draw(t, "n"))
				want.apply(es, nil)
				for _, e := range es {
					s.add(e)
				}
			},
			"drop some": func(t *rapid.T) {
				es := rapid.SliceOfN(genEntry, 1, 50).Draw(t, "entries")
				want.apply(nil, es)
				for _, e := range es {
					s.drop(e)
				}
			},
			"drop every few": func(t *rapid.T) {
				step := rapid.IntRange(1, 7).Draw(t, "step")
				for i, e := range want.all() {
					if i%step == 0 {
						want.apply(nil, []Entry{e})
						s.drop(e)
					}
				}
			},
			"": func(t *rapid.T) {
				// cmp.Diff alone would take most of the test's time
				if want, got := want.all(), s.all(); !slices.Equal(want, got) {
					t.Fatalf("(-want +got):\n%s", cmp.Diff(want, got))
				}
				if s.n != len(want) {
					t.Fatalf("counts %d, holds %d", s.n, len(want))
				}
				for i, c := range s.chunks {
					if len(c) == 0 || cap(c) != chunkLen {
						t.Fatalf("chunk %d of %d holds %d, has room for %d", i, len(s.chunks), len(c), cap(c))
					}
				}
				// Any two neighbours hold more than half a chunk: memory is bounded by what is held.
				if most := 2 + 4*s.n/chunkLen; len(s.chunks) > most {
					t.Fatalf("%d chunks for %d entries", len(s.chunks), s.n)
				}
			},
		})
	})
}

func TestRowsInOrderFillTheirChunks(t *testing.T) {
	var s idSet
	for _, e := range entries(0, 100*chunkLen) {
		s.add(e)
	}
	if len(s.chunks) != 100 {
		t.Errorf("%d chunks", len(s.chunks))
	}
}
