package state

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestANewKeyIsNotFound(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Key) Store) {
		wantLoad(t, open(newKey(t)), Snapshot{})
	})
}

func TestWhatWasCommittedIsThereAfterReopening(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Key) Store) {
		key := newKey(t)
		s := open(key)
		unread := []UnreadRange{{Since: at(1), Until: at(2), Reason: "500 from the service"},
			{Since: at(7), Until: at(8)}}
		mustCommit(t, s, Change{Watermark: at(9), Add: entries(0, 300), Unread: unread})
		mustCommit(t, s, Change{Watermark: at(10), Add: entries(300, 400), Drop: entries(0, 150), Unread: unread[:1]})
		want := Snapshot{Found: true, Watermark: at(10), IDs: entries(150, 400), Unread: unread[:1]}
		wantLoad(t, s, want)
		mustClose(t, s)
		s = open(key)
		wantLoad(t, s, want)
		wantLoad(t, s, want)
	})
}

func TestIDsAreInTheOrderOfAge(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Key) Store) {
		s := open(newKey(t))
		want := []Entry{{Age: -1 << 63}, {Age: -5}, {Age: 0}, {Age: 0, ID: ID{1}}, {Age: 0, ID: ID{1, 1}}, {Age: 256},
			{Age: 1<<63 - 1}}
		add := slices.Clone(want)
		slices.Reverse(add)
		mustCommit(t, s, Change{Watermark: at(1), Add: add})
		wantLoad(t, s, Snapshot{Found: true, Watermark: at(1), IDs: want})
		if add[0] != want[len(want)-1] {
			t.Error("the caller's list was sorted")
		}
	})
}

func TestDropsComeBeforeAddsAndMayBeRepeated(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Key) Store) {
		s := open(newKey(t))
		e := entryAt(1)
		aged := Entry{ID: e.ID, Age: e.Age + 5}
		mustCommit(t, s, Change{Watermark: at(1), Add: []Entry{e, e}, Drop: []Entry{e, aged}})
		wantLoad(t, s, Snapshot{Found: true, Watermark: at(1), IDs: []Entry{e}})
		for range 2 {
			mustCommit(t, s, Change{Watermark: at(1), Add: []Entry{aged}, Drop: []Entry{e}})
			wantLoad(t, s, Snapshot{Found: true, Watermark: at(1), IDs: []Entry{aged}})
		}
	})
}

func TestAZeroWatermarkLeavesTheStoredOne(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Key) Store) {
		s := open(newKey(t))
		mustCommit(t, s, Change{Add: entries(0, 1)})
		wantLoad(t, s, Snapshot{Found: true, IDs: entries(0, 1)})
		mustCommit(t, s, Change{Watermark: at(5)})
		mustCommit(t, s, Change{Drop: entries(0, 1)})
		wantLoad(t, s, Snapshot{Found: true, Watermark: at(5)})
	})
}

func TestTheSuccessorIsRemembered(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Key) Store) {
		key := newKey(t)
		s := open(key)
		mustCommit(t, s, Change{Watermark: at(1), Succeeded: at(2)})
		mustCommit(t, s, Change{Watermark: at(3)})
		mustClose(t, s)
		wantLoad(t, open(key), Snapshot{Found: true, Watermark: at(3), Succeeded: at(2)})
	})
}

func TestTimesAndReasonsComeBackInOneForm(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Key) Store) {
		s := open(newKey(t))
		local := time.Now().In(time.FixedZone("somewhere", 3600))
		long := strings.Repeat("ä", maxReason) // two bytes each
		mustCommit(t, s, Change{Watermark: local, Unread: []UnreadRange{
			{Since: local, Until: time.Time{}, Reason: "broken \xff\xfe text"},
			{Since: at(1), Until: at(2), Reason: "x" + long},
		}})
		utc := local.Round(0).UTC()
		wantLoad(t, s, Snapshot{Found: true, Watermark: utc, Unread: []UnreadRange{
			{Since: utc, Reason: "broken \uFFFD text"},
			{Since: at(1), Until: at(2), Reason: "x" + long[:maxReason-2]},
		}})
	})
}

func TestATimeThatCannotBeStoredIsRefusedWhole(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Key) Store) {
		s := open(newKey(t))
		mustCommit(t, s, Change{Watermark: at(1)})
		far := time.Date(10_000, 1, 1, 0, 0, 0, 0, time.UTC)
		for _, c := range []Change{{Watermark: far, Add: entries(0, 1)}, {Unread: []UnreadRange{{Until: far}},
			Add: entries(0, 1)}} {
			if err := s.Commit(c); err == nil || !strings.Contains(err.Error(), "only the years 1 to 9999 can") {
				t.Errorf("commit of the year 10000: %v", err)
			}
		}
		wantLoad(t, s, Snapshot{Found: true, Watermark: at(1)})
	})
}

func TestOneKeyIsOpenOnce(t *testing.T) {
	key := newKey(t)
	for _, first := range openers {
		for _, second := range openers {
			t.Run(first.name+" then "+second.name, func(t *testing.T) {
				s, err := first.open(tempDir(t), key)
				if err != nil {
					t.Fatal(err)
				}
				dir := tempDir(t) // another file is no way out
				if _, err := second.open(dir, key); !errors.Is(err, ErrKeyInUse) || !strings.Contains(err.Error(),
					key.Tenant) {
					t.Fatalf("the second open gave %v", err)
				}
				mustClose(t, s)
				s, err = second.open(dir, key)
				if err != nil {
					t.Fatalf("after the close: %v", err)
				}
				mustClose(t, s)
			})
		}
	}
}

func TestKeysDoNotShareState(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Key) Store) {
		a := newKey(t)
		b, c := a, a
		b.Tenant, b.Filters = a.Tenant+"x", a.Filters[1:] // the fields run into each other alike
		c.Tenant, c.Filters = "", a.Tenant+a.Filters
		for i, key := range []Key{a, b, c} {
			s := open(key)
			mustCommit(t, s, Change{Watermark: at(i), Add: entries(i, i+1)})
			mustClose(t, s)
		}
		for i, key := range []Key{a, b, c} {
			wantLoad(t, open(key), Snapshot{Found: true, Watermark: at(i), IDs: entries(i, i+1)})
		}
	})
}

func TestNeighbourIsTheLatestOtherKeyOfTheTenant(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Key) Store) {
		key := newKey(t)
		with := func(change func(*Key)) Key {
			k := key
			change(&k)
			return k
		}
		early, late := with(func(k *Key) { k.Filters = "" }), with(func(k *Key) { k.Place = "gcc" })
		older := UnreadRange{Since: at(-9), Until: at(-8), Reason: "of one that is behind"}
		mustCommit(t, open(early), Change{Watermark: at(1), Unread: []UnreadRange{older}})
		s := open(late)
		unread := []UnreadRange{older, {Since: at(0), Until: at(1), Reason: "as before"}}
		mustCommit(t, s, Change{Watermark: at(2), Unread: unread[1:]})
		mustClose(t, s) // open or not does not matter
		mustCommit(t, open(with(func(k *Key) { k.API = "graph" })), Change{Watermark: at(3)})
		mustCommit(t, open(with(func(k *Key) { k.Tenant += "'s other" })), Change{Watermark: at(4)})
		open(with(func(k *Key) { k.Filters = "never committed" }))

		s = open(key)
		wantLoad(t, s, Snapshot{Neighbour: at(2), NeighbourUnread: unread})
		mustCommit(t, s, Change{Watermark: at(5)})
		wantLoad(t, s, Snapshot{Found: true, Watermark: at(5), Neighbour: at(2), NeighbourUnread: unread})
	})
}

func TestAClosedStoreSaysSo(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Key) Store) {
		key := newKey(t)
		s := open(key)
		mustClose(t, s)
		again := open(key)
		mustClose(t, s) // the second time does nothing: not even free the key of the new one
		if _, err := OpenMemory(key); !errors.Is(err, ErrKeyInUse) {
			t.Errorf("the key of an open store is free: %v", err)
		}
		if _, err := s.Load(); !errors.Is(err, ErrClosed) {
			t.Errorf("load: %v", err)
		}
		if err := s.Commit(Change{}); !errors.Is(err, ErrClosed) {
			t.Errorf("commit: %v", err)
		}
		wantLoad(t, again, Snapshot{})
	})
}

func TestStoresWorkConcurrently(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Key) Store) {
		var wg sync.WaitGroup
		for range 4 {
			key := newKey(t)
			s := open(key)
			wg.Go(func() {
				for i := range 10 {
					err := s.Commit(Change{Watermark: at(i), Add: entries(i*50, i*50+50),
						Drop: entries(i*50-100, i*50-50)})
					if err != nil {
						t.Error(err)
						return
					}
					snap, err := s.Load()
					if err != nil || !snap.Watermark.Equal(at(i)) ||
						!slices.Equal(snap.IDs, entries(max(0, i*50-50), i*50+50)) {
						t.Errorf("after commit %d: %d entries, watermark %s, %v", i, len(snap.IDs), snap.Watermark, err)
						return
					}
				}
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	})
}
