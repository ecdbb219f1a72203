package state

import (
	"runtime"
	"testing"
	"testing/synctest"
	"time"
)

func TestMemoryOutlivesAHotReload(t *testing.T) {
	// All sources close before the first opens again.
	var sources []Key
	var open []Store
	for i := range 200 {
		key := newKey(t)
		s, err := OpenMemory(key)
		if err != nil {
			t.Fatal(err)
		}
		mustCommit(t, s, Change{Watermark: at(i), Add: entries(i, i+1)})
		sources, open = append(sources, key), append(open, s)
	}
	for _, s := range open {
		mustClose(t, s)
	}
	for i, key := range sources {
		s, err := OpenMemory(key)
		if err != nil {
			t.Fatal(err)
		}
		wantLoad(t, s, Snapshot{Found: true, Watermark: at(i), IDs: entries(i, i+1)})
		mustClose(t, s)
	}
}

func TestMemoryForgetsWhatNoStanzaUsesForADay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		open := func(key Key) Store {
			t.Helper()
			s, err := OpenMemory(key)
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		old, used, late := newKey(t), newKey(t), newKey(t)
		s := open(old)
		mustCommit(t, s, Change{Watermark: at(1)})
		mustClose(t, s)
		running := open(used)
		mustCommit(t, running, Change{Watermark: at(2)})
		time.Sleep(time.Hour)
		s = open(late)
		mustCommit(t, s, Change{Watermark: at(3)})
		mustClose(t, s)
		time.Sleep(memoryUnusedFor)
		mustClose(t, running) // was open all the time
		mustClose(t, open(newKey(t)))
		for key, found := range map[Key]bool{old: false, used: true, late: true} {
			s := open(key)
			if snap := mustLoad(t, s); snap.Found != found {
				t.Errorf("%s found: %v", key, snap.Found)
			}
			mustClose(t, s)
		}
	})
}

// The dedup set of a full hour of a busy tenant fits well into what the plugin may add (issue: 64 MB).
func TestMemoryTakesLittleMoreThanItsEntries(t *testing.T) {
	s, err := OpenMemory(newKey(t))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	const n = 200_000
	heap := func() int64 {
		for range 3 { // what earlier tests left in pools and finalizers goes with the second and third
			runtime.GC()
		}
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := heap()
	mustCommit(t, s, Change{Watermark: at(0), Add: entries(0, n)})
	if took := heap() - before; took < 16*n || took > 28*n {
		t.Errorf("%d rows of 24 bytes take %d bytes", n, took)
	}
	runtime.KeepAlive(s)
}
