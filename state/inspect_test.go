package state

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// rows are entries whose ages are so many seconds after at(0).
func rowsAt(seconds ...int) []Entry {
	var entries []Entry
	for _, s := range seconds {
		e := Entry{Age: at(s).UnixNano()}
		binary.BigEndian.PutUint64(e.ID[:], uint64(s)*0x9E3779B97F4A7C15)
		entries = append(entries, e)
	}
	return entries
}

func span(from, to int) []int {
	var all []int
	for i := from; i < to; i++ {
		all = append(all, i)
	}
	return all
}

func mustInspect(t *testing.T, path string) Report {
	t.Helper()
	rep, err := Inspect(path)
	if err != nil {
		t.Fatalf("Inspect: %v", err)
	}
	return rep
}

func TestInspectShowsWhatWasCommitted(t *testing.T) {
	path := filepath.Join(tempDir(t), "state.db")
	a, b := newKey(t), newKey(t)
	one, two := mustOpen(t, path, a), mustOpen(t, path, b)
	unread := []UnreadRange{{Since: at(1), Until: at(2), Reason: "an answer without an end"}}
	mustCommit(t, one, Change{Watermark: at(5), Add: rowsAt(span(0, 10_000)...), Unread: unread})
	mustCommit(t, two, Change{Watermark: at(7)})
	for _, held := range []bool{true, false} {
		rep := mustInspect(t, path)
		info, err := os.Stat(path)
		if err != nil || rep.Bytes != info.Size() || rep.Path != path || rep.Held != held {
			t.Errorf("report %+v of a file of %d bytes, held %v (%v)", rep, info.Size(), held, err)
		}
		if len(rep.Sources) != 2 {
			t.Fatalf("%d sources", len(rep.Sources))
		}
		for i, want := range []SourceReport{
			{Key: a, Watermark: at(5), Unread: unread, IDs: 10_000, Oldest: at(0), Newest: at(9_999)},
			{Key: b, Watermark: at(7)},
		} {
			got := rep.Sources[i]
			if size := int64(want.IDs) * entryKey; got.Bytes < size || got.Bytes > 4*size+8192 {
				t.Errorf("%d bytes for %d rows", got.Bytes, want.IDs)
			}
			if since := time.Since(got.Used); since < 0 || since > time.Minute {
				t.Errorf("used %v", got.Used)
			}
			got.Bytes, got.Used = 0, time.Time{}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		}
		mustClose(t, one)
		mustClose(t, two)
	}
}

// While another goroutine commits as fast as it can, every reading is one of the versions it made: as many rows as
// the watermark time says.
func TestInspectReadsOneVersionWhileItIsWritten(t *testing.T) {
	path := filepath.Join(tempDir(t), "state.db")
	s := mustOpen(t, path, newKey(t))
	mustCommit(t, s, Change{Watermark: at(0)})
	stop := make(chan struct{})
	var writing sync.WaitGroup
	defer writing.Wait()
	defer close(stop)
	writing.Go(func() {
		for n := 1; ; n++ {
			select {
			case <-stop:
				return
			default:
			}
			c := Change{Watermark: at(n % 50), Add: rowsAt(span(0, 40*(n%50))...)}
			if n%50 == 0 {
				c.Drop = rowsAt(span(0, 40*50)...)
			}
			if err := s.Commit(c); err != nil {
				t.Errorf("commit: %v", err)
				return
			}
		}
	})
	versions := map[int]bool{}
	for deadline := time.Now().Add(10 * time.Second); len(versions) < 10 && time.Now().Before(deadline); {
		rep, err := Inspect(path)
		if err != nil {
			t.Fatal(err)
		}
		st := rep.Sources[0]
		n := int(st.Watermark.Sub(at(0)) / time.Second)
		if !rep.Held || st.IDs != 40*n {
			t.Fatalf("version %d with %d rows, held %v", n, st.IDs, rep.Held)
		}
		versions[n] = true
	}
	if len(versions) < 10 {
		t.Errorf("saw %d versions", len(versions))
	}
}

func TestInspectChangesNothing(t *testing.T) {
	path := filepath.Join(tempDir(t), "state.db")
	s := mustOpen(t, path, newKey(t))
	mustCommit(t, s, Change{Watermark: at(0), Add: rowsAt(1, 2, 3)})
	mustClose(t, s)
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	mustInspect(t, path)
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the file is another one (%v)", err)
	}
	mustOpen(t, path, newKey(t)) // and no lock is left
}

func TestInspectRefusesWhatAnOpenWould(t *testing.T) {
	dir := t.TempDir()
	path := func(name string, content []byte) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	if rep := mustInspect(t, path("empty.db", nil)); rep.Sources != nil || rep.Bytes != 0 {
		t.Errorf("an empty file: %+v", rep)
	}
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]error{
		filepath.Join(dir, "nowhere"):                                            os.ErrNotExist,
		path("sqlite.db", append([]byte(sqliteMagic), make([]byte, 4096)...)):    ErrForeign,
		path("garbage.db", bytes.Repeat([]byte("not a database at all "), 1000)): ErrDamaged,
		fifo: nil,
		dir:  nil,
	} {
		if _, err := Inspect(name); err == nil || want != nil && !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
	}
}

func TestResetGoesBack(t *testing.T) {
	path := filepath.Join(tempDir(t), "state.db")
	key, other := newKey(t), newKey(t)
	s := mustOpen(t, path, key)
	mustCommit(t, s, Change{Watermark: at(900), Add: rowsAt(span(0, 1000)...), Unread: []UnreadRange{
		{Since: at(100), Until: at(110), Reason: "before"}, {Since: at(490), Until: at(510), Reason: "across"},
		{Since: at(600), Until: at(610), Reason: "after"},
	}})
	o := mustOpen(t, path, other)
	untouched := Change{Watermark: at(3), Add: rowsAt(800)}
	mustCommit(t, o, untouched)
	if err := Reset(path, key, at(500)); !errors.Is(err, ErrLocked) {
		t.Errorf("of a file that is open: %v", err)
	}
	mustClose(t, s)
	mustClose(t, o)
	if err := Reset(path, key, at(500)); err != nil {
		t.Fatal(err)
	}
	wantLoad(t, mustOpen(t, path, key), Snapshot{Found: true, Watermark: at(500), IDs: rowsAt(span(0, 500)...),
		Unread: []UnreadRange{
			{Since: at(100), Until: at(110), Reason: "before"}, {Since: at(490), Until: at(500), Reason: "across"},
		}})
	wantLoad(t, mustOpen(t, path, other), Snapshot{Found: true, Watermark: at(3), IDs: rowsAt(800)})
}

func TestReturnEndsTheSuccession(t *testing.T) {
	path := filepath.Join(tempDir(t), "state.db")
	key := newKey(t)
	s := mustOpen(t, path, key)
	mustCommit(t, s, Change{Watermark: at(900), Add: rowsAt(5, 6), Succeeded: at(800)})
	if err := Return(path, key); !errors.Is(err, ErrLocked) {
		t.Errorf("of a file that is open: %v", err)
	}
	mustClose(t, s)
	if err := Return(path, newKey(t)); err == nil {
		t.Error("a key that is not there is no error")
	}
	if err := Return(path, key); err != nil {
		t.Fatal(err)
	}
	wantLoad(t, mustOpen(t, path, key), Snapshot{Found: true, Watermark: at(900), IDs: rowsAt(5, 6)})
}

func TestResetGoesForward(t *testing.T) {
	path := filepath.Join(tempDir(t), "state.db")
	key := newKey(t)
	s := mustOpen(t, path, key)
	mustCommit(t, s, Change{Watermark: at(900), Add: rowsAt(5, 6),
		Unread: []UnreadRange{{Since: at(100), Until: at(110)}}})
	mustClose(t, s)
	if err := Reset(path, key, at(2000)); err != nil {
		t.Fatal(err)
	}
	wantLoad(t, mustOpen(t, path, key), Snapshot{Found: true, Watermark: at(2000), IDs: rowsAt(5, 6),
		Unread: []UnreadRange{{Since: at(100), Until: at(110)}}})
}

func TestResetOfANewKeyBeginsIt(t *testing.T) {
	path := filepath.Join(tempDir(t), "state.db")
	mustClose(t, mustOpen(t, path, newKey(t)))
	key := newKey(t)
	if err := Reset(path, key, at(1)); err != nil {
		t.Fatal(err)
	}
	wantLoad(t, mustOpen(t, path, key), Snapshot{Found: true, Watermark: at(1)})
}

func TestResetRefuses(t *testing.T) {
	dir := t.TempDir()
	garbage := filepath.Join(dir, "garbage")
	text := bytes.Repeat([]byte("not a database at all "), 1000)
	if err := os.WriteFile(garbage, text, 0o600); err != nil {
		t.Fatal(err)
	}
	key := newKey(t)
	if err := Reset(filepath.Join(dir, "nowhere"), key, at(1)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
	if err := Reset(garbage, key, at(1)); !errors.Is(err, ErrDamaged) {
		t.Errorf("a damaged file: %v", err)
	}
	if err := Reset(garbage, key, time.Time{}); err == nil {
		t.Error("no time was taken for one")
	}
	if now, err := os.ReadFile(garbage); err != nil || !bytes.Equal(now, text) {
		t.Errorf("the damaged file was changed (%v)", err)
	}
	if names, err := os.ReadDir(dir); err != nil || len(names) != 1 {
		t.Errorf("%d files are there (%v)", len(names), err)
	}
}
