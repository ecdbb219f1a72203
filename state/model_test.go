package state

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// Any mix of commits, loads, closes and reopens of three sources acts like a map, in memory and in one file, which is
// sound after each step.
func TestStoresActLikeTheModel(t *testing.T) {
	withoutSync(t)
	for _, kind := range openers {
		t.Run(kind.name, func(t *testing.T) {
			dir := t.TempDir()
			runs := 0
			rapid.Check(t, func(rt *rapid.T) {
				runs++
				where := filepath.Join(dir, fmt.Sprint(runs))
				if err := os.Mkdir(where, 0o700); err != nil {
					rt.Fatal(err)
				}
				checkModel(t, rt, where, kind)
				if err := os.RemoveAll(where); err != nil {
					rt.Fatal(err)
				}
			})
		})
	}
}

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
	slices.SortFunc(out, Entry.Compare)
	return out
}

type modelSource struct {
	key       Key
	store     Store // nil: closed
	seen      model
	found     bool
	watermark time.Time
	unread    []UnreadRange
}

func checkModel(t *testing.T, rt *rapid.T, where string, kind opener) {
	tenant := newKey(t)
	sources := make([]*modelSource, 3)
	for i := range sources {
		key := tenant
		key.Filters = fmt.Sprint(i)
		sources[i] = &modelSource{key: key, seen: make(model)}
	}
	defer func() {
		for _, st := range sources {
			if st.store != nil {
				_ = st.store.Close() // failed before
			}
		}
	}()
	pick := func(rt *rapid.T) *modelSource {
		st := rapid.SampledFrom(sources).Draw(rt, "source")
		if st.store == nil {
			s, err := kind.open(where, st.key)
			if err != nil {
				rt.Fatal(err)
			}
			st.store = s
		}
		return st
	}
	genTime := rapid.Map(rapid.IntRange(0, 1000), at)
	commit := func(rt *rapid.T, st *modelSource, c Change) {
		if rapid.Bool().Draw(rt, "settles") {
			c.Watermark = genTime.Draw(rt, "watermark")
			st.watermark = c.Watermark
		}
		for range rapid.IntRange(0, 3).Draw(rt, "unread") {
			c.Unread = append(c.Unread, UnreadRange{Since: genTime.Draw(rt, "since"), Until: genTime.Draw(rt, "until"),
				Reason: rapid.String().Draw(rt, "reason")})
		}
		if err := st.store.Commit(c); err != nil {
			rt.Fatal(err)
		}
		st.found, st.unread = true, c.Unread
		st.seen.apply(c.Add, c.Drop)
	}
	rt.Repeat(map[string]func(*rapid.T){
		"commit some": func(rt *rapid.T) {
			commit(rt, pick(rt), Change{
				Add:  rapid.SliceOfN(genEntry, 0, 60).Draw(rt, "add"),
				Drop: rapid.SliceOfN(genEntry, 0, 60).Draw(rt, "drop"),
			})
		},
		"commit a run": func(rt *rapid.T) {
			from := rapid.IntRange(0, 1500).Draw(rt, "from")
			commit(rt, pick(rt), Change{Add: entries(from, from+rapid.IntRange(1, 800).Draw(rt, "n"))})
		},
		"drop the oldest": func(rt *rapid.T) {
			st := pick(rt)
			all := st.seen.all()
			commit(rt, st, Change{Drop: all[:rapid.IntRange(0, len(all)).Draw(rt, "n")]})
		},
		"drop every few": func(rt *rapid.T) {
			st := pick(rt)
			step := rapid.IntRange(2, 90).Draw(rt, "step")
			var c Change
			for i, e := range st.seen.all() {
				if i%step == 0 {
					c.Drop = append(c.Drop, e)
				}
			}
			commit(rt, st, c)
		},
		"load": func(rt *rapid.T) {
			st := pick(rt)
			got, err := st.store.Load()
			if err != nil {
				rt.Fatal(err)
			}
			want := Snapshot{Found: st.found, Watermark: st.watermark, IDs: st.seen.all(), Unread: st.unread}
			for _, other := range sources {
				if other != st {
					want.Meet(other.watermark, other.unread)
				}
			}
			if diff := differ(want, got); diff != "" {
				rt.Fatalf("(-want +got):\n%s", diff)
			}
		},
		"close": func(rt *rapid.T) {
			st := rapid.SampledFrom(sources).Draw(rt, "source")
			if st.store == nil {
				return
			}
			if err := st.store.Close(); err != nil {
				rt.Fatal(err)
			}
			st.store = nil
		},
		"close all": func(rt *rapid.T) {
			for _, st := range sources {
				if st.store != nil {
					if err := st.store.Close(); err != nil {
						rt.Fatal(err)
					}
					st.store = nil
				}
			}
			if _, err := os.Stat(filepath.Join(where, "state.db")); err == nil {
				mustBeSound(t, filepath.Join(where, "state.db"))
			}
		},
		"": func(rt *rapid.T) {
			fd, err := os.Open(filepath.Join(where, "state.db"))
			if err != nil {
				return // in memory, or not opened yet
			}
			defer fd.Close()
			info, err := fd.Stat()
			if err != nil {
				rt.Fatal(err)
			}
			if err := check(fd, info.Size()); err != nil {
				rt.Fatalf("our check: %v", err)
			}
		},
	})
}
