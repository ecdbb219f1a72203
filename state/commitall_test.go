package state

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// writes is the number of transactions that were written to the file, each with one wait for the disk.
func writes(t *testing.T, path string) uint64 {
	t.Helper()
	fd, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer fd.Close()
	return version(fd)
}

func TestStoresOfOneFileCommitInOneTransaction(t *testing.T) {
	path := filepath.Join(tempDir(t), "state.db")
	var all []Pending
	first := mustOpen(t, path, newKey(t))
	before := writes(t, path)
	for i := range 1000 {
		s := mustOpen(t, path, newKey(t))
		all = append(all, Pending{Store: s, Change: Change{Watermark: at(i), Add: entries(i, i+3)}})
	}
	if got := writes(t, path) - before; got != 0 {
		t.Errorf("opening 1,000 sources took %d transactions", got)
	}
	memory, err := OpenMemory(newKey(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = memory.Close() })
	all = append(all, Pending{Store: memory, Change: Change{Watermark: at(7)}, Err: errors.New("of the time before")})
	before = writes(t, path)
	CommitAll(all)
	if got := writes(t, path) - before; got != 1 {
		t.Errorf("%d transactions", got)
	}
	for i, p := range all[:1000] {
		if p.Err != nil {
			t.Fatal(i, p.Err)
		}
		wantLoad(t, p.Store, Snapshot{Found: true, Watermark: at(i), IDs: entries(i, i+3)})
	}
	wantLoad(t, memory, Snapshot{Found: true, Watermark: at(7)})
	if all[1000].Err != nil {
		t.Error(all[1000].Err)
	}
	wantLoad(t, first, Snapshot{})
}

func TestAChangeThatIsToBlameFailsAlone(t *testing.T) {
	dir := tempDir(t)
	path := filepath.Join(dir, "state.db")
	closed := mustOpen(t, path, newKey(t))
	mustClose(t, closed)
	long := make([]UnreadRange, maxMeta/maxReason)
	for i := range long {
		long[i] = UnreadRange{Since: at(1), Until: at(2), Reason: strings.Repeat("x", maxReason)}
	}
	all := []Pending{
		{Store: mustOpen(t, path, newKey(t)), Change: Change{Watermark: at(0)}},
		{Store: closed, Change: Change{Watermark: at(1)}},
		{Store: mustOpen(t, path, newKey(t)), Change: Change{Watermark: time.Date(10_000, 1, 1, 0, 0, 0, 0, time.UTC)}},
		{Store: mustOpen(t, path, newKey(t)), Change: Change{Watermark: at(3), Unread: long}},
		{Store: mustOpen(t, path, newKey(t)), Change: Change{Watermark: at(4), Add: entries(0, 2)}},
		{Store: mustOpen(t, filepath.Join(dir, "other.db"), newKey(t)), Change: Change{Watermark: at(5)}},
	}
	CommitAll(all)
	for i, want := range []string{"", ErrClosed.Error(), "only the years 1 to 9999 can", "16384 unread ranges take", "",
		""} {
		if got := fmt.Sprint(all[i].Err); (want == "") != (all[i].Err == nil) || !strings.Contains(got, want) {
			t.Errorf("%d: got %s, want %q", i, got, want)
		}
	}
	wantLoad(t, all[0].Store, Snapshot{Found: true, Watermark: at(0)})
	wantLoad(t, all[2].Store, Snapshot{})
	wantLoad(t, all[3].Store, Snapshot{})
	wantLoad(t, all[4].Store, Snapshot{Found: true, Watermark: at(4), IDs: entries(0, 2)})
	wantLoad(t, all[5].Store, Snapshot{Found: true, Watermark: at(5)})
}

func TestAFileThatIsGoneFailsAllOfItAndNoOther(t *testing.T) {
	dir := tempDir(t)
	path := filepath.Join(dir, "state.db")
	all := []Pending{
		{Store: mustOpen(t, path, newKey(t)), Change: Change{Watermark: at(0)}},
		{Store: mustOpen(t, path, newKey(t)), Change: Change{Watermark: at(1)}},
		{Store: mustOpen(t, filepath.Join(dir, "other.db"), newKey(t)), Change: Change{Watermark: at(2)}},
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	CommitAll(all)
	if !errors.Is(all[0].Err, ErrReplaced) || !errors.Is(all[1].Err, ErrReplaced) || all[2].Err != nil {
		t.Errorf("%v; %v; %v", all[0].Err, all[1].Err, all[2].Err)
	}
}

// One more source costs the same beside ten and beside 1,000: to open, to load, to commit. Allocations, so that it
// holds on a busy machine.
func TestASourceCostsTheSameHoweverManyThereAre(t *testing.T) {
	withoutSync(t)
	cost := func(others int) float64 {
		dir := tempDir(t)
		var all []Pending
		for i := range others {
			all = append(all, Pending{Store: mustOpen(t, filepath.Join(dir, "state.db"), newKey(t)),
				Change: Change{Watermark: at(i), Add: entries(i, i+10)}})
		}
		CommitAll(all)
		return testing.AllocsPerRun(20, func() {
			s, err := OpenFile(filepath.Join(dir, "state.db"), newKey(t), nil)
			if err != nil {
				t.Fatal(err)
			}
			mustLoad(t, s)
			mustCommit(t, s, Change{Watermark: at(1), Add: entries(0, 10)})
			mustClose(t, s)
		})
	}
	few, many := cost(10), cost(1000)
	t.Logf("%.0f allocations beside 10, %.0f beside 1,000", few, many)
	if many > 2*few {
		t.Errorf("%.0f allocations beside 10 sources, %.0f beside 1,000", few, many)
	}
}
