package state

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"
)

// children are what this test binary does as another process (see TestMain). Each goes on until it is killed.
var children = map[string]func(path string) error{
	// Holds the file open.
	"hold": func(path string) error {
		if _, err := OpenFile(path, Key{Tenant: "the holder"}, nil); err != nil {
			return err
		}
		fmt.Println("open")
		_, err := io.Copy(io.Discard, os.Stdin)
		return err
	},
	// Commits the steps of crashStep, from where the file left off, and prints the number of each when it is done.
	"commit": func(path string) error {
		s, err := OpenFile(path, crashKey, nil)
		if err != nil {
			return err
		}
		snap, err := s.Load()
		if err != nil {
			return err
		}
		for n := crashSteps(snap); ; n++ {
			if err := s.Commit(crashStep(n)); err != nil {
				return err
			}
			fmt.Println(n + 1)
		}
	},
}

type child struct {
	cmd   *exec.Cmd
	lines *bufio.Scanner
	errs  bytes.Buffer
}

func startChild(t *testing.T, kind, path string) *child {
	t.Helper()
	c := &child{cmd: exec.Command(os.Args[0])}
	c.cmd.Env = append(os.Environ(), childEnv+"="+kind+" "+path)
	c.cmd.Stderr = &c.errs
	if _, err := c.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.lines = bufio.NewScanner(out)
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.kill(t) })
	return c
}

// line returns the next line that the child prints.
func (c *child) line(t *testing.T) string {
	t.Helper()
	deadline := time.AfterFunc(30*time.Second, func() { _ = c.cmd.Process.Kill() })
	defer deadline.Stop()
	if !c.lines.Scan() {
		t.Fatalf("the child says nothing more: %s", c.errs.String())
	}
	return c.lines.Text()
}

// kill ends the child with SIGKILL, waits for it, and returns what it had printed and nobody read. A second call does
// nothing.
func (c *child) kill(t *testing.T) (unread []string) {
	if c.cmd.ProcessState != nil {
		return nil
	}
	_ = c.cmd.Process.Kill()
	for c.lines.Scan() {
		unread = append(unread, c.lines.Text())
	}
	_ = c.cmd.Wait() // says that it was killed
	if c.errs.Len() > 0 {
		t.Errorf("the child says: %s", c.errs.String())
	}
	return unread
}

var crashKey = Key{API: "siem", Tenant: "kill -9"}

// crashStep is the n-th commit: 300 rows come, those of five commits before go, and the unread ranges change.
func crashStep(n int) Change {
	c := Change{Watermark: at(n), Add: entries(n*300, n*300+300), Unread: []UnreadRange{{Since: at(n), Until: at(n + 1),
		Reason: strconv.Itoa(n)}}}
	if n >= 5 {
		c.Drop = entries((n-5)*300, (n-4)*300)
	}
	return c
}

// crashSteps is the number of commits that a snapshot shows, going by its watermark.
func crashSteps(s Snapshot) int {
	if !s.Found {
		return 0
	}
	return int(s.Watermark.Unix()-at(0).Unix()) + 1
}

func TestKill9LeavesAWholeCommit(t *testing.T) {
	path := filepath.Join(tempDir(t), "state.db")
	rounds := 10
	if testing.Short() {
		rounds = 3
	}
	for round := range rounds {
		c := startChild(t, "commit", path)
		var acks []string
		for range 1 + rand.IntN(20) {
			acks = append(acks, c.line(t))
		}
		acks = append(acks, c.kill(t)...) // in the middle of the next commit
		done, err := strconv.Atoi(acks[len(acks)-1])
		if err != nil {
			t.Fatal(err)
		}
		mustBeSound(t, path)
		s := mustOpen(t, path, crashKey)
		snap := mustLoad(t, s)
		mustClose(t, s)
		n := crashSteps(snap)
		if n < done || n > done+1 {
			t.Fatalf("round %d: %d commits were acknowledged, %d are there", round, done, n)
		}
		want := Snapshot{Found: true, Watermark: at(n - 1), IDs: entries(max(0, n-5)*300, n*300),
			Unread: crashStep(n - 1).Unread}
		if diff := differ(want, snap); diff != "" {
			t.Fatalf("round %d after %d commits (-want +got):\n%s", round, n, diff)
		}
	}
}

// fails is what a store has to survive: while broken, a commit fails and changes nothing; after mend it works.
func fails(t *testing.T, path string, breakIt, mend func()) {
	t.Helper()
	key, other := newKey(t), newKey(t)
	s, o := mustOpen(t, path, key), mustOpen(t, path, other)
	mustCommit(t, s, Change{Watermark: at(1), Add: entries(0, 100)})
	mustCommit(t, o, Change{Watermark: at(2), Add: entries(0, 10)})
	before := Snapshot{Found: true, Watermark: at(1), IDs: entries(0, 100)}
	beside := Snapshot{Found: true, Watermark: at(2), IDs: entries(0, 10)}

	breakIt()
	big := Change{Watermark: at(3), Add: entries(100, 20_000), Drop: entries(0, 50)}
	for range 3 {
		err := s.Commit(big)
		if err == nil {
			t.Fatal("the commit went through")
		}
		t.Log(err)
		if !strings.Contains(err.Error(), path) {
			t.Errorf("the error does not name the file: %v", err)
		}
		wantLoad(t, s, before)
		wantLoad(t, o, beside)
	}

	mend()
	big.Add = append(big.Add, entries(20_000, 20_500)...)
	mustCommit(t, s, big)
	wantLoad(t, s, Snapshot{Found: true, Watermark: at(3), IDs: entries(50, 20_500)})
	wantLoad(t, o, beside)
	mustClose(t, s)
	mustClose(t, o)
	mustBeSound(t, path)
	wantLoad(t, mustOpen(t, path, key), Snapshot{Found: true, Watermark: at(3), IDs: entries(50, 20_500)})
}

// alone runs the test in a process of its own, as a limit on files is the process's: the go command has this one keep
// a log in a file. It tells whether it did.
func alone(t *testing.T) bool {
	const env = "STATE_TEST_ALONE"
	if os.Getenv(env) == t.Name() {
		return false
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), env+"="+t.Name())
	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("--- PASS: "+t.Name())) {
		t.Errorf("%v: %s", err, out)
	}
	return true
}

// fileLimit sets how long a file of this process may grow. It is put back at the end of the test.
func fileLimit(t *testing.T) (set func(bytes int64), lift func()) {
	t.Helper()
	var old syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &old); err != nil {
		t.Fatal(err)
	}
	set = func(bytes int64) {
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: uint64(bytes),
			Max: old.Max}); err != nil {
			t.Fatal(err)
		}
	}
	lift = func() { _ = syscall.Setrlimit(syscall.RLIMIT_FSIZE, &old) }
	t.Cleanup(lift)
	return set, lift
}

func TestAFileThatMayNotGrowKeepsItsState(t *testing.T) {
	if alone(t) {
		return
	}
	path := filepath.Join(tempDir(t), "state.db")
	set, lift := fileLimit(t)
	fails(t, path, func() { set(size(t, path)) }, lift)
}

func TestAStartOnAFullDiskReadsWhatIsThere(t *testing.T) {
	if alone(t) {
		return
	}
	path := filepath.Join(tempDir(t), "state.db")
	key := newKey(t)
	s := mustOpen(t, path, key)
	mustCommit(t, s, Change{Watermark: at(1), Add: entries(0, 9)})
	mustClose(t, s)

	set, lift := fileLimit(t)
	set(1)
	again := mustOpen(t, path, key)
	wantLoad(t, again, Snapshot{Found: true, Watermark: at(1), IDs: entries(0, 9)})
	if _, err := OpenFile(filepath.Join(filepath.Dir(path), "new"), newKey(t), nil); !errors.Is(err, ErrNoRoom) ||
		!strings.Contains(err.Error(), "new") {
		t.Errorf("a new file on a full disk: %v", err)
	}
	lift()
	mustCommit(t, again, Change{Watermark: at(2)})
	wantLoad(t, again, Snapshot{Found: true, Watermark: at(2), IDs: entries(0, 9)})
}

func TestTooManyUnreadRangesAreRefusedWhole(t *testing.T) {
	s := mustOpen(t, filepath.Join(tempDir(t), "state.db"), newKey(t))
	mustCommit(t, s, Change{Watermark: at(1)})
	unread := slices.Repeat([]UnreadRange{{Since: at(1), Until: at(2), Reason: strings.Repeat("x", maxReason)}},
		maxMeta/maxReason)
	if err := s.Commit(Change{Watermark: at(2), Add: entries(0, 1), Unread: unread}); err == nil ||
		!strings.Contains(err.Error(), "16384 unread ranges") {
		t.Errorf("got %v", err)
	}
	wantLoad(t, s, Snapshot{Found: true, Watermark: at(1)})
	mustCommit(t, s, Change{Watermark: at(3), Unread: unread[:1000]})
	wantLoad(t, s, Snapshot{Found: true, Watermark: at(3), Unread: unread[:1000]})
}

// smallDisk is a directory on a disk of so many megabytes, which only this thread sees.
func smallDisk(t *testing.T, megabytes int) (dir string) {
	t.Helper()
	dir = t.TempDir()
	runtime.LockOSThread() // it ends with the test, and the mount with it
	err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS)
	if err == nil {
		err = unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
	}
	if err == nil {
		err = unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%dm", megabytes))
	}
	if err != nil {
		t.Skipf("no small disk can be mounted here (root can): %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

// fill writes a file until its disk is full.
func fill(t *testing.T, path string) {
	t.Helper()
	fd, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer fd.Close()
	if _, err := io.Copy(fd, zeros{}); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("filling the disk: %v", err)
	}
}

func TestAFullDiskKeepsTheState(t *testing.T) {
	dir := smallDisk(t, 8)
	filler := filepath.Join(dir, "filler")
	fails(t, filepath.Join(dir, "state.db"),
		func() { fill(t, filler) },
		func() {
			if err := os.Remove(filler); err != nil {
				t.Fatal(err)
			}
		})
}

// A first start on a full disk says so, and leaves nothing that the next start would take for a damaged file.
func TestAFirstStartOnAFullDisk(t *testing.T) {
	for room := range 6 { // pages
		t.Run(fmt.Sprint(room), func(t *testing.T) {
			dir := smallDisk(t, 1)
			path, filler, key := filepath.Join(dir, "state.db"), filepath.Join(dir, "filler"), newKey(t)
			fill(t, filler)
			info, err := os.Stat(filler)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Truncate(filler, info.Size()-int64(room*os.Getpagesize())); err != nil {
				t.Fatal(err)
			}
			s, err := OpenFile(path, key, nil)
			switch {
			case err == nil && room >= 4: // it may be begun, and its commits fail
				mustClose(t, s)
			case err == nil:
				t.Fatal("a state file of four pages in less room")
			case !errors.Is(err, ErrNoRoom):
				t.Errorf("got %v", err)
			}
			if err := os.Remove(filler); err != nil {
				t.Fatal(err)
			}
			s = mustOpen(t, path, key)
			mustCommit(t, s, Change{Watermark: at(1)})
			if others, _ := filepath.Glob(path + ".*"); len(others) > 0 {
				t.Errorf("left behind: %v", others)
			}
			mustClose(t, s)
		})
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// A map that cannot grow leaves bbolt without any map: the file has to be opened again.
func TestAMapThatCannotGrowIsMadeAnew(t *testing.T) {
	path := filepath.Join(tempDir(t), "state.db")
	flags := boltOptions.MmapFlags
	t.Cleanup(func() { boltOptions.MmapFlags = flags })
	set := func(s *fileStore, flags int) {
		s.file.mu.Lock()
		defer s.file.mu.Unlock()
		if s.file.db != nil {
			s.file.db.MmapFlags = flags
		}
	}
	key, other := newKey(t), newKey(t)
	s, o := mustOpen(t, path, key), mustOpen(t, path, other)
	mustCommit(t, s, Change{Watermark: at(1), Add: entries(0, 100)})
	set(s.(*fileStore), unix.MAP_HUGETLB) // which no ordinary file can have
	if err := s.Commit(Change{Watermark: at(2), Add: entries(100, 20_000)}); err == nil ||
		!strings.Contains(err.Error(), "mmap") {
		t.Fatalf("the commit gave %v", err)
	}
	boltOptions.MmapFlags = unix.MAP_HUGETLB // nor is it mapped again
	if _, err := s.Load(); err == nil {
		t.Fatal("the file was loaded without a map")
	}
	boltOptions.MmapFlags = flags
	mustCommit(t, o, Change{Watermark: at(3)})
	wantLoad(t, s, Snapshot{Found: true, Watermark: at(1), IDs: entries(0, 100)})
	mustCommit(t, s, Change{Watermark: at(4), Add: entries(100, 20_000)})
	wantLoad(t, s, Snapshot{Found: true, Watermark: at(4), IDs: entries(0, 20_000)})
	if _, err := openLocked(path, 0, 0); !errors.Is(err, ErrLocked) {
		t.Errorf("the lock was lost: %v", err)
	}
}

func TestAPanicInATransactionIsAnError(t *testing.T) {
	path := filepath.Join(tempDir(t), "state.db")
	s := mustOpen(t, path, newKey(t)).(*fileStore)
	mustCommit(t, s, Change{Watermark: at(1), Add: entries(0, 100)})
	for name, transaction := range map[string]func(*bbolt.DB) error{
		"with bbolt's write lock held": func(db *bbolt.DB) error { _, _ = db.Begin(true); panic("on purpose") },
		"with bbolt's read lock held":  func(db *bbolt.DB) error { _, _ = db.Begin(false); panic("on purpose") },
		"fault on mapped memory": func(*bbolt.DB) error {
			hole, err := unix.Mmap(-1, 0, 4096, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANON)
			if err != nil {
				return err
			}
			defer unix.Munmap(hole)
			return fmt.Errorf("read %d from memory that cannot be read", hole[0])
		},
	} {
		err := s.file.do(transaction)
		if err == nil || !strings.Contains(err.Error(), "panic") {
			t.Errorf("%s: %v", name, err)
		}
		mustCommit(t, s, Change{Watermark: at(2), Add: entries(0, 100)})
		wantLoad(t, s, Snapshot{Found: true, Watermark: at(2), IDs: entries(0, 100)})
	}
}
