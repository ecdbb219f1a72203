package state

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"
)

func TestTheFileIsForItsOwnerOnly(t *testing.T) {
	path := filepath.Join(tempDir(t), "state.db")
	key := newKey(t)
	for _, before := range []os.FileMode{0, 0o644, 0o600} {
		if before != 0 {
			if err := os.Chmod(path, before); err != nil {
				t.Fatal(err)
			}
		}
		mustClose(t, mustOpen(t, path, key))
		info, err := os.Stat(path)
		if err != nil || info.Mode() != 0o600 {
			t.Errorf("mode %o before, %v after (%v)", before, info.Mode(), err)
		}
	}
}

func TestOneFileByAnyName(t *testing.T) {
	dir := tempDir(t)
	path := filepath.Join(dir, "state.db")
	for _, link := range []error{
		os.Symlink("state.db", filepath.Join(dir, "soft")), // dangles at first
		os.Symlink(dir, filepath.Join(dir, "dir")),
	} {
		if link != nil {
			t.Fatal(link)
		}
	}
	a, b, c, d := newKey(t), newKey(t), newKey(t), newKey(t)
	stores := []Store{mustOpen(t, filepath.Join(dir, "soft"), a), mustOpen(t, path, b),
		mustOpen(t, filepath.Join(dir, "dir", "soft"), c)}
	if err := os.Link(path, filepath.Join(dir, "hard")); err != nil {
		t.Fatal(err)
	}
	stores = append(stores, mustOpen(t, filepath.Join(dir, "hard"), d))
	for i, s := range stores {
		mustCommit(t, s, Change{Watermark: at(i)})
	}
	for _, s := range stores {
		mustClose(t, s)
	}
	for i, key := range []Key{a, b, c, d} {
		wantLoad(t, mustOpen(t, path, key), Snapshot{Found: true, Watermark: at(i)})
	}
	if info, err := os.Lstat(filepath.Join(dir, "soft")); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link was replaced: %v %v", info, err)
	}
}

func TestPlacesThatCannotHoldAFile(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "plain")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, path, want string }{
		{"no path", "", "state file: no path was given"},
		{"no directory", filepath.Join(dir, "a", "state.db"),
			"state directory " + filepath.Join(dir, "a") + ": no such directory: create it, mount it, or set db to " +
				"another place"},
		{"a file for a directory", filepath.Join(file, "state.db"), "state directory " + file + " is not a " +
			"directory: set db to another place"},
		{"a directory", dir, "state file " + dir + " is not a regular file: set db to another place"},
		{"a FIFO", fifo, "state file " + fifo + " is not a regular file: set db to another place"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := OpenFile(c.path, newKey(t), nil)
			if err == nil || err.Error() != c.want {
				t.Errorf("got  %v\nwant %s", err, c.want)
			}
		})
	}
	if _, err := OpenFile(filepath.Join(dir, "a", "state.db"), newKey(t), nil); !errors.Is(err, ErrNoDirectory) {
		t.Errorf("no directory is not ErrNoDirectory: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "a")); err == nil {
		t.Error("the directory was created")
	}
}

// asNobody takes the rights of root on files from the rest of the test.
func asNobody(t *testing.T) {
	if os.Geteuid() != 0 {
		return
	}
	const nobody = 65534
	runtime.LockOSThread() // the user is that of one thread; it ends with the test
	t.Cleanup(func() { _ = unix.Setfsuid(0) })
	if err := unix.Setfsuid(nobody); err != nil {
		t.Skipf("the rights of root cannot be laid down: %v", err)
	}
	if uid, err := unix.SetfsuidRetUid(-1); err != nil || uid != nobody {
		t.Skipf("the rights of root cannot be laid down: file system user %d, %v", uid, err)
	}
}

func TestWhatMayNotBeWrittenIsRefused(t *testing.T) {
	for _, c := range []struct {
		name          string
		dirMode, mode os.FileMode
		names         string // what the error has to name
	}{
		{"new file in a read-only directory", 0o555, 0, "state.db"},
		{"existing file in a read-only directory", 0o555, 0o666, "ro: "},
		{"read-only file", 0o777, 0o444, "state.db"},
	} {
		t.Run(c.name, func(t *testing.T) {
			base := t.TempDir()
			for dir := base; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
				if err := os.Chmod(dir, 0o755); err != nil { // nobody has to get there
					t.Fatal(err)
				}
			}
			dir := filepath.Join(base, "ro")
			path := filepath.Join(dir, "state.db")
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = os.Chmod(dir, 0o755) })
			if c.mode != 0 {
				mustClose(t, mustOpen(t, path, newKey(t)))
				if err := os.Chmod(path, c.mode); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.Chmod(dir, c.dirMode); err != nil {
				t.Fatal(err)
			}
			asNobody(t)
			_, err := OpenFile(path, newKey(t), nil)
			if !errors.Is(err, ErrReadOnly) || !strings.Contains(err.Error(), c.names) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestAFileOfAnotherProcessIsLockedAfterFiveSeconds(t *testing.T) {
	path := filepath.Join(tempDir(t), "state.db")
	holder := startChild(t, "hold", path)
	holder.line(t) // it has the file open
	key := newKey(t)
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		_, err := OpenFile(path, key, nil)
		if !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), path) {
			t.Errorf("got %v", err)
		}
		if waited := time.Since(start); waited < lockWait || waited > lockWait+lockPoll {
			t.Errorf("waited %s", waited)
		}
	})
	holder.kill(t)
	mustOpen(t, path, key) // neither the key nor the file stayed taken
}

func TestALockThatIsGivenBackInTimeIsTaken(t *testing.T) {
	path := filepath.Join(tempDir(t), "state.db")
	key := newKey(t)
	synctest.Test(t, func(t *testing.T) {
		fd, err := openLocked(path, os.O_CREATE, 0)
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		time.AfterFunc(2*time.Second, func() { _ = fd.Close() })
		mustClose(t, mustOpen(t, path, key))
		if waited := time.Since(start); waited < 2*time.Second || waited > 2*time.Second+lockPoll {
			t.Errorf("waited %s", waited)
		}
	})
}

// Who waits for a damaged file must not get it once it was moved aside.
func TestALockOnAFileThatWasMovedAsideIsNotTaken(t *testing.T) {
	path := filepath.Join(tempDir(t), "state.db")
	key := newKey(t)
	synctest.Test(t, func(t *testing.T) {
		fd, err := openLocked(path, os.O_CREATE, 0)
		if err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(time.Second, func() {
			if _, err := moveAside(path, time.Now()); err != nil {
				t.Error(err)
			}
			_ = fd.Close()
		})
		s := mustOpen(t, path, key)
		mustCommit(t, s, Change{Watermark: at(1)})
		mustClose(t, s)
	})
	wantLoad(t, mustOpen(t, path, key), Snapshot{Found: true, Watermark: at(1)})
}

func TestAFileThatIsRemovedOrReplacedStopsCommits(t *testing.T) {
	path := filepath.Join(tempDir(t), "state.db")
	key := newKey(t)
	s := mustOpen(t, path, key)
	mustCommit(t, s, Change{Watermark: at(1)})
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	for _, what := range []string{"removed", "replaced"} {
		if err := s.Commit(Change{Watermark: at(2)}); !errors.Is(err, ErrReplaced) {
			t.Errorf("%s: %v", what, err)
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	wantLoad(t, s, Snapshot{Found: true, Watermark: at(1)})
	mustClose(t, s)
	wantLoad(t, mustOpen(t, path, key), Snapshot{})
}

func TestFilesOfOthersAreLeftAlone(t *testing.T) {
	newBolt := func(path string, fill func(*bbolt.Tx) error) {
		db, err := bbolt.Open(path, 0o600, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := db.Update(fill); err != nil {
			t.Fatal(err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name  string
		write func(path string)
		want  error
		text  string
	}{
		{"another program's bbolt", func(path string) {
			newBolt(path, func(tx *bbolt.Tx) error { _, err := tx.CreateBucket([]byte("theirs")); return err })
		}, ErrForeign, "belongs to another program"},
		{"SQLite", func(path string) {
			if err := os.WriteFile(path, []byte("SQLite format 3\x00 and more"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, ErrForeign, "SQLite"},
		{"a newer layout", func(path string) {
			newBolt(path, func(tx *bbolt.Tx) error {
				b, err := tx.CreateBucket(layoutBucket)
				if err != nil {
					return err
				}
				rec, err := encodeRecord(layoutRecord{Version: layoutVersion + 1})
				if err != nil {
					return err
				}
				return b.Put(versionKey, rec)
			})
		}, ErrNewer, "layout 2"},
		{"a newer bbolt", func(path string) {
			data := slices.Clone(sample())
			for _, at := range []int{0, os.Getpagesize()} {
				binary.NativeEndian.PutUint32(data[at+pageHeader+4:], boltVersion+1)
			}
			seal(data)
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
		}, ErrNewer, "bbolt format 3"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "theirs")
			c.write(path)
			before, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			_, err = OpenFile(path, newKey(t), nil)
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(),
				c.text) {
				t.Errorf("got %v", err)
			}
			after, err := os.ReadFile(path)
			if err != nil || !bytes.Equal(before, after) {
				t.Errorf("the file was changed (%v)", err)
			}
		})
	}
}

func TestStateUnusedFor90DaysGoes(t *testing.T) {
	path := filepath.Join(tempDir(t), "state.db")
	own, stale, fresh := newKey(t), newKey(t), newKey(t)
	for _, key := range []Key{own, stale, fresh} {
		s := mustOpen(t, path, key)
		mustCommit(t, s, Change{Watermark: at(1), Add: entries(0, 500)})
		mustClose(t, s)
	}
	s := mustOpen(t, path, own).(*fileStore)
	now := time.Now()
	use := func(key Key, used time.Time) {
		t.Helper()
		err := s.file.do(func(db *bbolt.DB) error {
			return db.Update(func(tx *bbolt.Tx) error { return apply(tx, key, Change{}, used) })
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	prepared := func(now time.Time) (deleted []Key) {
		t.Helper()
		err := s.file.do(func(db *bbolt.DB) error {
			return db.Update(func(tx *bbolt.Tx) error {
				newest, err := newestUse(tx) // a process that has just found the file
				if err != nil {
					return err
				}
				deleted, err = tidy(tx, now, newest, claimed)
				return err
			})
		})
		if err != nil && !errors.Is(err, errUnchanged) {
			t.Fatal(err)
		}
		return deleted
	}
	const days = 24 * time.Hour
	use(own, now.Add(-91*days))
	use(stale, now.Add(-91*days-time.Minute))
	use(fresh, now.Add(-89*days))
	if got := prepared(now); len(got) != 0 {
		t.Errorf("after a pause of all sources, %v went", got)
	}
	use(own, now)
	if got := prepared(now.Add(-2 * days)); len(got) != 0 {
		t.Errorf("with a clock that is behind, %v went", got)
	}
	open := mustOpen(t, path, stale)
	use(stale, now.Add(-91*days)) // as if it had failed since
	if got := prepared(now); len(got) != 0 {
		t.Errorf("of open sources, %v went", got)
	}
	mustClose(t, open)
	use(stale, now.Add(-91*days)) // the tidying noted that it was in use
	if got := prepared(now); len(got) != 1 || got[0] != stale {
		t.Errorf("%v went, not the one that was unused", got)
	}
	wantLoad(t, mustOpen(t, path, stale), Snapshot{})
	wantLoad(t, mustOpen(t, path, fresh), Snapshot{Found: true, Watermark: at(1), IDs: entries(0, 500)})
}

// Nothing is deleted in the first ten minutes, in which a start opens its sources, nor later by a clock that is wrong.
func TestNoSourceGoesBeforeItsTurnToBeOpened(t *testing.T) {
	const days = 24 * time.Hour
	for _, c := range []struct {
		name string
		away time.Duration // by which the clock goes on between the lives
	}{
		{"the clock is 100 days ahead, or nothing ran for 100 days", 100 * days},
		{"a restart", time.Minute},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(tempDir(t), "state.db")
			all := []Key{newKey(t), newKey(t), newKey(t)}
			synctest.Test(t, func(t *testing.T) {
				for _, key := range all {
					s := mustOpen(t, path, key)
					mustCommit(t, s, Change{Watermark: at(1)})
					mustClose(t, s)
				}
				time.Sleep(c.away)
				s := mustOpen(t, path, all[0])
				defer s.Close()
				for range 3 {
					mustCommit(t, s, Change{Watermark: at(2)})
					time.Sleep(5 * time.Minute)
				}
				time.Sleep(20 * days)
				mustCommit(t, s, Change{Watermark: at(3)})
				for _, key := range all[1:] {
					o := mustOpen(t, path, key)
					if snap := mustLoad(t, o); !snap.Found {
						t.Errorf("%s is gone", key)
					}
					mustClose(t, o)
				}
			})
		})
	}
}

// A tenant that fails for months commits nothing: its state is in use as long as it is open.
func TestWhatIsOpenIsInUseWithoutCommits(t *testing.T) {
	path := filepath.Join(tempDir(t), "state.db")
	lives, fails := newKey(t), newKey(t)
	synctest.Test(t, func(t *testing.T) {
		a, b := mustOpen(t, path, lives), mustOpen(t, path, fails)
		mustCommit(t, b, Change{Watermark: at(1)})
		for range 100 {
			time.Sleep(24 * time.Hour)
			mustCommit(t, a, Change{Watermark: at(2)})
		}
		mustClose(t, a)
		mustClose(t, b)
		a = mustOpen(t, path, lives) // the one that fails has its turn much later
		time.Sleep(time.Hour)
		mustCommit(t, a, Change{Watermark: at(3)})
		mustClose(t, a)
		wantLoad(t, mustOpen(t, path, fails), Snapshot{Found: true, Watermark: at(1)})
	})
}

// Rows come and go: the file grows to what is held at most, and stays there.
func TestTheFileStaysBoundedUnderChurn(t *testing.T) {
	path := filepath.Join(tempDir(t), "state.db")
	s := mustOpen(t, path, newKey(t))
	const held, step = 5000, 500
	var early int64
	for i := 0; i < 300; i++ {
		from := i * step
		mustCommit(t, s, Change{Watermark: at(i), Add: entries(from, from+step), Drop: entries(max(0, from-held),
			max(0, from-held+step))})
		if i == 50 {
			early = size(t, path)
		}
	}
	if now := size(t, path); now > early || now > held*150 {
		t.Errorf("%d bytes after 300 commits, %d after 50, for %d rows", now, early, held)
	}
	if snap := mustLoad(t, s); len(snap.IDs) != held+step-step {
		t.Errorf("%d rows held", len(snap.IDs))
	}
}

func size(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}
