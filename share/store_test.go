package share

import (
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"fluent-bit-defender/state"
)

var (
	key   = state.Key{API: "siem", Place: "eu", Tenant: "contoso", Filters: ""}
	begin = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
)

// row is the n-th of some rows, a second after the one before.
func row(n int) state.Entry {
	e := state.Entry{Age: begin.Add(time.Duration(n) * time.Second).UnixNano()}
	binary.BigEndian.PutUint64(e.ID[:], uint64(n))
	return e
}

func rows(from, to int) (out []state.Entry) {
	for n := from; n < to; n++ {
		out = append(out, row(n))
	}
	return out
}

// pod is one process's view of a server.
func pod(s *server, identity string, overlap time.Duration) (*Sources, *fakeAPI) {
	api := &fakeAPI{server: s}
	return &Sources{API: api, Name: "alerts", Identity: identity, Overlap: overlap, Log: slog.New(slog.DiscardHandler)},
		api
}

func alive(string) Verdict { return Verdict{} }
func dead(string) Verdict  { return Verdict{Dead: true} }

func mustTake(t *testing.T, s *Sources, judge func(string) Verdict) (*Store, state.Snapshot) {
	t.Helper()
	st, _, err := s.Take(t.Context(), key, judge)
	if err != nil {
		t.Fatal(err)
	}
	snap, err := st.Load()
	if err != nil {
		t.Fatal(err)
	}
	return st, snap
}

func mustCommit(t *testing.T, st *Store, c state.Change) {
	t.Helper()
	if err := st.Commit(c); err != nil {
		t.Fatal(err)
	}
}

func wantSnapshot(t *testing.T, got, want state.Snapshot) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("snapshot (-want +got):\n%s", diff)
	}
}

func TestWhatOnePodGaveBackAnotherFinds(t *testing.T) {
	s := newServer()
	a, _ := pod(s, "a", time.Minute)
	b, _ := pod(s, "b", time.Minute)
	st, snap := mustTake(t, a, alive)
	wantSnapshot(t, snap, state.Snapshot{})
	unread := []state.UnreadRange{{Since: begin, Until: begin.Add(time.Minute), Reason: "HTTP 500"}}
	mustCommit(t, st, state.Change{Watermark: begin, Add: rows(0, 10), Unread: unread})
	mustCommit(t, st, state.Change{Watermark: begin.Add(time.Second), Add: rows(10, 12), Drop: rows(0, 3),
		Unread: unread})
	if _, _, err := b.Take(t.Context(), key, alive); !errors.Is(err, ErrOwned) {
		t.Fatalf("taken from a pod that lives: %v", err)
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	if err := st.Commit(state.Change{}); !errors.Is(err, state.ErrClosed) {
		t.Errorf("commit after close: %v", err)
	}
	_, snap = mustTake(t, b, alive)
	wantSnapshot(t, snap, state.Snapshot{Found: true, Watermark: begin.Add(time.Second), IDs: rows(3, 12),
		Unread: unread})
}

func TestATakeoverGoesBackByTheOverlap(t *testing.T) {
	for name, test := range map[string]struct {
		// idle: from the last commit to the last renewal; below zero: the renewal was not seen
		overlap, idle time.Duration
		commits       int // of ten, one each ten seconds, that the next owner knows; 0: nothing at all
	}{
		"of a minute":                         {time.Minute, 0, 4},
		"of none":                             {0, 0, 10},
		"longer than all that was done":       {time.Hour, 0, 0},
		"counts from the last sign of life":   {time.Minute, 30 * time.Second, 7},
		"of one that did nothing for an hour": {time.Minute, time.Hour, 10},
		"whose end nobody saw":                {time.Minute, -1, 4},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newServer()
				a, _ := pod(s, "a", test.overlap)
				b, _ := pod(s, "b", test.overlap)
				st, _ := mustTake(t, a, alive)
				for n := range 10 {
					time.Sleep(10 * time.Second)
					c := state.Change{Watermark: begin.Add(time.Duration(n) * time.Second), Add: rows(10*n, 10*n+10)}
					if n > 0 {
						c.Drop = rows(10*n-10, 10*n-7)
					}
					mustCommit(t, st, c)
				}
				time.Sleep(max(test.idle, 0))
				v := Verdict{Dead: true, Renewed: time.Now()}
				if test.idle < 0 {
					v.Renewed = time.Time{}
				}
				time.Sleep(20 * time.Second)
				_, from, err := b.Take(t.Context(), key, func(string) Verdict { return v })
				if err != nil || from != "a" {
					t.Fatalf("taken from %q: %v", from, err)
				}
				c, _ := pod(s, "c", test.overlap)
				next, snap := mustTake(t, c, dead) // b died too, before it did anything: no more is taken back
				want := state.Snapshot{Found: true, Watermark: begin.Add(time.Duration(test.commits-1) * time.Second)}
				if test.commits == 0 {
					want = state.Snapshot{}
				}
				for n := range test.commits {
					first := 3
					if n == test.commits-1 {
						first = 0
					}
					want.IDs = append(want.IDs, rows(10*n+first, 10*n+10)...)
				}
				wantSnapshot(t, snap, want)
				// The first has lost it, and stores nothing more.
				before := s.writes
				for range 2 {
					if err := st.Commit(state.Change{Add: rows(500, 501)}); !errors.Is(err, state.ErrTaken) {
						t.Errorf("commit of the one that was taken for dead: %v", err)
					}
				}
				if err := st.Close(); err != nil || s.writes != before {
					t.Errorf("it closed with %v and %d writes", err, s.writes-before)
				}
				mustCommit(t, next, state.Change{Watermark: begin})
			})
		})
	}
}

func TestAWriteWhoseAnswerWasLostIsKnownAgain(t *testing.T) {
	s := newServer()
	a, api := pod(s, "a", time.Minute)
	b, _ := pod(s, "b", time.Minute)
	st, _ := mustTake(t, a, alive)
	cut := func(context.Context, string, string) error { return errCut }
	api.after = cut // done, but who knows
	change := state.Change{Watermark: begin, Add: rows(0, 5)}
	for range 3 {
		if err := st.Commit(change); !errors.Is(err, errCut) {
			t.Fatalf("commit: %v", err)
		}
		change.Add = append(change.Add, row(len(change.Add)))
	}
	api.after, api.before = nil, cut // not done
	if err := st.Commit(change); !errors.Is(err, errCut) {
		t.Fatalf("commit: %v", err)
	}
	api.before = nil
	mustCommit(t, st, change)
	api.after = func(_ context.Context, verb, _ string) error {
		if verb == "update" {
			api.after = nil
			return errCut
		}
		return nil
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	_, snap := mustTake(t, b, alive)
	wantSnapshot(t, snap, state.Snapshot{Found: true, Watermark: begin, IDs: rows(0, 8)})
}

// After an answer that was lost, a conflict is not one's own write when another pod took the source, or somebody
// edited it.
func TestAConflictAfterALostAnswerIsLookedAt(t *testing.T) {
	for name, meddle := range map[string]func(t *testing.T, s *server){
		"taken": func(t *testing.T, s *server) {
			b, _ := pod(s, "b", 0)
			mustTake(t, b, dead)
		},
		"edited": func(t *testing.T, s *server) {
			_, api := pod(s, "me", 0)
			o, _ := api.Get(t.Context(), objectName("alerts", key))
			o.Data[dataWatermark] = "2020-01-01T00:00:00Z"
			if _, err := api.Update(t.Context(), o); err != nil {
				t.Fatal(err)
			}
		},
		"deleted": func(_ *testing.T, s *server) { clear(s.objects) },
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer()
			a, api := pod(s, "a", 0)
			st, _ := mustTake(t, a, alive)
			api.after = func(context.Context, string, string) error { return errCut }
			if err := st.Commit(state.Change{Watermark: begin}); !errors.Is(err, errCut) {
				t.Fatal(err)
			}
			api.after = nil
			meddle(t, s)
			if err := st.Commit(state.Change{Watermark: begin}); !errors.Is(err, state.ErrTaken) {
				t.Errorf("commit: %v", err)
			}
		})
	}
}

func TestAPodKnowsItselfAgain(t *testing.T) {
	s := newServer()
	a, api := pod(s, "a", time.Minute)
	api.after = func(_ context.Context, verb, _ string) error {
		if verb == "create" {
			return errCut
		}
		return nil
	}
	if _, _, err := a.Take(t.Context(), key, alive); !errors.Is(err, errCut) {
		t.Fatal(err)
	}
	st, _ := mustTake(t, a, alive)
	mustCommit(t, st, state.Change{Watermark: begin, Add: rows(0, 1)})
	api.before = func(context.Context, string, string) error { return errCut }
	if err := st.Close(); !errors.Is(err, errCut) {
		t.Fatalf("close: %v", err)
	}
	api.before = nil
	b, _ := pod(s, "b", time.Minute)
	if err := b.Release(t.Context(), key); err != nil { // not its own
		t.Fatal(err)
	}
	if _, _, err := b.Take(t.Context(), key, alive); !errors.Is(err, ErrOwned) {
		t.Fatalf("take: %v", err)
	}
	if err := a.Release(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	_, snap := mustTake(t, b, alive)
	wantSnapshot(t, snap, state.Snapshot{Found: true, Watermark: begin, IDs: rows(0, 1)})
}

func TestWritesAreFew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _ := pod(newServer(), "a", time.Minute)
		st, _ := mustTake(t, a, alive)
		unread := []state.UnreadRange{{Since: begin, Until: begin.Add(time.Minute),
			Reason: strings.Repeat("HTTP 500, ", 50)}} // more than is stored
		waits := func(c state.Change) time.Duration {
			start := time.Now()
			for !st.Ready(c) {
				time.Sleep(time.Second)
			}
			mustCommit(t, st, c)
			return time.Since(start)
		}
		for _, test := range []struct {
			what string
			c    state.Change
			want time.Duration
		}{
			{"ids", state.Change{Add: rows(0, 1)}, 5 * time.Second},
			{"a watermark", state.Change{Watermark: begin}, 10 * time.Minute},
			{"ids that go", state.Change{Drop: rows(0, 1)}, 10 * time.Minute},
			{"an unread range", state.Change{Unread: unread}, 5 * time.Second},
			{"the same range", state.Change{Watermark: begin, Unread: unread}, 10 * time.Minute},
			{"no range any more", state.Change{}, 5 * time.Second},
			{"that the successor is pulled", state.Change{Succeeded: begin}, 5 * time.Second},
		} {
			if got := waits(test.c); got != test.want {
				t.Errorf("%s waited %s, want %s", test.what, got, test.want)
			}
		}
	})
}

func TestANewSourceLearnsOfItsNeighbours(t *testing.T) {
	s := newServer()
	a, _ := pod(s, "a", 0)
	st, _ := mustTake(t, a, alive)
	unread := []state.UnreadRange{{Since: begin, Until: begin.Add(time.Minute), Reason: "HTTP 500"}}
	mustCommit(t, st, state.Change{Watermark: begin, Add: rows(0, 3), Unread: unread})
	filtered, other := key, key
	filtered.Filters, other.Tenant = "machine_groups=x", "fabrikam"
	for k, want := range map[state.Key]state.Snapshot{filtered: {Neighbour: begin, NeighbourUnread: unread},
		other: {}} {
		st, _, err := a.Take(t.Context(), k, alive)
		if err != nil {
			t.Fatal(err)
		}
		snap, err := st.Load()
		if err != nil {
			t.Fatal(err)
		}
		wantSnapshot(t, snap, want)
	}
}

// A pod that may not list cannot begin a source, and must not own it either: nobody else could.
func TestARefusedListLeavesANewSourceToOthers(t *testing.T) {
	s := newServer()
	a, api := pod(s, "a", 0)
	api.before = func(_ context.Context, verb, _ string) error {
		if verb == "list" {
			return ErrRefused
		}
		return nil
	}
	if _, _, err := a.Take(t.Context(), key, alive); !errors.Is(err, ErrRefused) {
		t.Fatalf("got %v", err)
	}
	b, _ := pod(s, "b", 0)
	mustTake(t, b, alive)
}

func TestWhatIsNotOursIsRefused(t *testing.T) {
	for name, test := range map[string]struct {
		change func(o *Object)
		want   string
	}{
		"newer": {func(o *Object) { o.Data["version"] = "2" },
			"ConfigMap alerts-NAME: a newer version of this plugin wrote it: use that version in all pods, or delete " +
				"it to begin again at initial_lookback"},
		"edited": {func(o *Object) { o.Data["watermark"] = "2020-01-01T00:00:00Z" },
			"ConfigMap alerts-NAME: it is not as this plugin wrote it: put it back as it was, or delete it to begin " +
				"again at initial_lookback"},
		"shortened": {func(o *Object) { o.Binary["state"] = o.Binary["state"][1:] },
			"ConfigMap alerts-NAME: it is not as this plugin wrote it: put it back as it was, or delete it to begin " +
				"again at initial_lookback"},
		"another's": {func(o *Object) { o.Data = map[string]string{"fluent-bit.conf": "[SERVICE]"} },
			"ConfigMap alerts-NAME: it belongs to something else: choose another name in db kubernetes://"},
		"of another source": {func(o *Object) {
			o.Data["source"] = `{"api":"graph","place":"","tenant":"x","filters":""}`
			o.Data["checksum"] = checksum(*o)
		}, "ConfigMap alerts-NAME: it belongs to something else: choose another name in db kubernetes://"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer()
			a, api := pod(s, "a", 0)
			st, _ := mustTake(t, a, alive)
			mustCommit(t, st, state.Change{Watermark: begin, Add: rows(0, 3)})
			o, _ := api.Get(t.Context(), st.object.Name)
			test.change(&o)
			s.objects[o.Name] = o
			_, _, err := a.Take(t.Context(), key, alive)
			want := strings.Replace(test.want, "alerts-NAME", o.Name, 1)
			if err == nil || err.Error() != want {
				t.Errorf("got  %v\nwant %s", err, want)
			}
			if got := s.objects[o.Name]; got.Version != o.Version {
				t.Error("it was written")
			}
		})
	}
}

func TestABigStateLosesItsOldestIDs(t *testing.T) {
	var told strings.Builder
	s := newServer()
	a, _ := pod(s, "a", time.Minute)
	a.Log = slog.New(slog.NewTextHandler(&told, nil))
	st, _ := mustTake(t, a, alive)
	all := rows(0, 60_000)
	for i := range all { // as ids are: nothing to compress
		binary.BigEndian.PutUint64(all[i].ID[:], rand.Uint64())
	}
	mustCommit(t, st, state.Change{Watermark: begin, Add: all[:1000]})
	mustCommit(t, st, state.Change{Watermark: begin, Add: all[1000:]})
	if n := strings.Count(told.String(), "level=WARN"); n != 1 {
		t.Errorf("%d warnings:\n%s", n, told.String())
	}
	size := 0
	for k, v := range s.objects[st.object.Name].Data {
		size += len(k) + len(v)
	}
	for k, v := range s.objects[st.object.Name].Binary {
		size += len(k) + len(v)
	}
	if size > 900<<10+2048 {
		t.Errorf("the ConfigMap has %d bytes", size)
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	_, snap := mustTake(t, a, alive)
	n := len(snap.IDs)
	if n < 40_000 {
		t.Errorf("%d ids have room", n)
	}
	wantSnapshot(t, snap, state.Snapshot{Found: true, Watermark: begin, IDs: all[len(all)-n:]})
}

func TestAThousandUnreadRangesHaveRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		a, _ := pod(s, "a", time.Hour)
		st, _ := mustTake(t, a, alive)
		var unread []state.UnreadRange
		for n := range 1000 {
			since := begin.Add(time.Duration(n) * time.Hour)
			unread = append(unread, state.UnreadRange{Since: since, Until: since.Add(time.Minute),
				Reason: strings.Repeat("ä", 500)})
		}
		for n := range 20 {
			time.Sleep(5 * time.Second)
			mustCommit(t, st, state.Change{Watermark: begin, Add: rows(n, n+1), Unread: unread[n:]})
		}
		if size := len(s.objects[st.object.Name].Binary[binaryState]); size > sizeMax {
			t.Errorf("%d bytes", size)
		}
		if err := st.Close(); err != nil {
			t.Fatal(err)
		}
		b, _ := pod(s, "b", time.Hour)
		_, snap := mustTake(t, b, dead)
		if len(snap.Unread) != 981 || snap.Unread[0].Reason != strings.Repeat("ä", 128) {
			t.Errorf("%d ranges, the first because of %q", len(snap.Unread), snap.Unread[0].Reason)
		}
	})
}

var _ state.Store = (*Store)(nil)

func TestEveryCallEnds(t *testing.T) {
	s := newServer()
	a, api := pod(s, "a", 0)
	st, _ := mustTake(t, a, alive)
	st.sources.API = deadlines{api, t}
	mustCommit(t, st, state.Change{Watermark: begin})
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
}

// deadlines sees to it that each call has a time limit.
type deadlines struct {
	API
	t *testing.T
}

func (d deadlines) Update(ctx context.Context, o Object) (Object, error) {
	if _, has := ctx.Deadline(); !has {
		d.t.Error("a call without a time limit")
	}
	return d.API.Update(ctx, o)
}
