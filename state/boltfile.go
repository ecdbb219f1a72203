package state

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
	"golang.org/x/sys/unix"
)

const (
	lockWait = 5 * time.Second
	lockPoll = 50 * time.Millisecond

	tidyFirst = 10 * time.Minute // after a file was opened
	tidyEvery = 24 * time.Hour
)

// boltOptions are those of every open. The free list is kept in the file: without it bbolt finds the free pages at open
// and after each failed commit by reading the whole map in a goroutine of its own, where neither a panic nor a fault can
// be recovered from.
var boltOptions = bbolt.Options{
	Timeout:      lockWait, // never waited for: the lock is ours already
	NoStatistics: true,
}

// boltFile is a state file that this process has open, shared by the Stores of its sources.
type boltFile struct {
	path string      // absolute, without symbolic links
	info os.FileInfo // of the open file: says which inode it is

	refs int // guarded by files.mu

	// mu is held for one transaction at a time, reading ones too: after a panic inside bbolt its own locks may stay
	// held for ever, and nobody may be waiting for them then.
	mu sync.Mutex
	db *bbolt.DB // nil: to be opened again before the next transaction
	fd *os.File  // what db reads, writes and has locked

	newest time.Time // the latest use of any source as this process found the file
	tidyAt time.Time // when tidy is due, guarded by mu
}

// files are the open files of this process.
var files struct {
	opening sync.Mutex // held by acquire, up to lockWait and longer
	mu      sync.Mutex // guards list and refs
	list    []*boltFile
}

// acquire returns the file at path for one more Store. A damaged file is moved aside, and a new one begun.
func acquire(path string, log *slog.Logger) (*boltFile, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	files.opening.Lock()
	defer files.opening.Unlock()
	for attempt := 0; ; attempt++ {
		f, err := tryAcquire(path, log)
		if attempt > 0 || !errors.Is(err, errDamaged) {
			return f, err
		}
	}
}

// tryAcquire returns errDamaged when it moved a damaged file aside: the next try begins a new one.
func tryAcquire(path string, log *slog.Logger) (*boltFile, error) {
	resolved, err := create(path, log)
	if err != nil {
		return nil, err
	}
	if f := shared(resolved); f != nil {
		return f, nil
	}
	fd, err := openLocked(resolved, os.O_CREATE, lockWait)
	if err != nil {
		return nil, fmt.Errorf("state file %s: %w", resolved, err)
	}
	f := &boltFile{path: resolved, fd: fd, refs: 1, tidyAt: time.Now().Add(tidyFirst)}
	if f.info, err = fd.Stat(); err == nil && f.info.Size() == 0 {
		err = reserve(fd)
	}
	if err == nil {
		f.db, err = openBolt(fd, f.info.Size())
	}
	if err == nil {
		err = f.do(func(db *bbolt.DB) error {
			return db.View(func(tx *bbolt.Tx) (err error) {
				f.newest, err = newestUse(tx)
				return err
			})
		})
	}
	if err == nil {
		files.mu.Lock()
		files.list = append(files.list, f)
		files.mu.Unlock()
		return f, nil
	}
	defer unlock(fd) // after the file was moved
	if !errors.Is(err, errDamaged) {
		return nil, fmt.Errorf("state file %s: %w", resolved, openError(err))
	}
	err = fmt.Errorf("state file %s: %w", resolved, err)
	aside, moveErr := moveAside(resolved, time.Now())
	if moveErr != nil {
		return nil, fmt.Errorf("%v, and it could not be moved aside: %w", err, moveErr)
	}
	log.Warn("the state file is damaged: it was moved aside, and every stanza that it served starts anew from initial_lookback; "+
		"older alerts that were not pulled yet are not pulled, and those of the lookback come again; look at the disk, and for the older alerts use defenderctl state --reset-to",
		"file", resolved, "moved_to", aside, "damage", err)
	return nil, err
}

// create makes sure that path is a regular file of mode 0600 in a directory that can be written, and returns it without
// symbolic links.
func create(path string, log *slog.Logger) (string, error) {
	if info, err := os.Stat(filepath.Dir(path)); errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("state directory %s: %w", filepath.Dir(path), ErrNoDirectory)
	} else if err == nil && !info.IsDir() {
		return "", fmt.Errorf("state directory %s is not a directory: set db to another place", filepath.Dir(path))
	}
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() { // before it is opened: a FIFO might hang
		return "", fmt.Errorf("state file %s is not a regular file: set db to another place", path)
	}
	fd, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return "", fmt.Errorf("state file %s: %w", path, openError(err))
	}
	defer fd.Close()
	info, err := fd.Stat()
	if err != nil {
		return "", fmt.Errorf("state file %s: %w", path, err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		if err := fd.Chmod(0o600); err != nil {
			log.Warn("the state file can be read by others and its mode cannot be changed; chmod 600 it as its owner", "file", path, "mode", mode, "error", err)
		}
	}
	resolved, err := filepath.EvalSymlinks(path)
	if err != nil {
		return "", fmt.Errorf("state file %s: %w", path, err)
	}
	dir := filepath.Dir(resolved)
	if err := unix.Faccessat(unix.AT_FDCWD, dir, unix.W_OK|unix.X_OK, unix.AT_EACCESS); err != nil {
		// A damaged file could not be moved aside in it, nor a new one begun.
		return "", fmt.Errorf("state directory %s: %w (%w)", dir, ErrReadOnly, err)
	}
	if info.Size() == 0 {
		syncDir(dir)
	}
	return resolved, nil
}

func openError(err error) error {
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EROFS) {
		return fmt.Errorf("%w (%w)", ErrReadOnly, err)
	}
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) || errors.Is(err, unix.EFBIG) {
		return fmt.Errorf("%w (%w)", ErrNoRoom, err)
	}
	return err
}

// reserve takes the room of a new database: one that bbolt could write in part only would look damaged at the next start. A file system
// that cannot do that is trusted.
func reserve(fd *os.File) error {
	err := unix.Fallocate(int(fd.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, int64(4*os.Getpagesize()))
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return err
	}
	return nil
}

// shared returns the open file that path leads to, by whatever name it was opened, with one more reference.
func shared(path string) *boltFile {
	info, err := os.Stat(path)
	if err != nil {
		return nil
	}
	files.mu.Lock()
	defer files.mu.Unlock()
	for _, f := range files.list {
		if os.SameFile(info, f.info) {
			f.refs++
			return f
		}
	}
	return nil
}

// openLocked opens and locks the file at path; flags may have O_CREATE. The lock is bbolt's own (flock), so it is
// held before bbolt maps anything, and other programs that use bbolt keep to it.
func openLocked(path string, flags int, wait time.Duration) (*os.File, error) {
	for start := time.Now(); ; {
		fd, err := os.OpenFile(path, os.O_RDWR|flags, 0o600)
		if err != nil {
			return nil, openError(err)
		}
		if err := lock(fd, start.Add(wait)); err != nil {
			_ = fd.Close() // nothing was written
			return nil, err
		}
		// Who held the lock may have moved the file aside: then ours is not the one at path any more.
		if same(fd, path) {
			return fd, nil
		}
		_ = fd.Close()
	}
}

func lock(fd *os.File, until time.Time) error {
	for {
		err := unix.Flock(int(fd.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case err == nil:
			return nil
		case !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR):
			return err
		case !time.Now().Before(until):
			return fmt.Errorf("locked: %w", ErrLocked)
		}
		time.Sleep(lockPoll) // flock has no form with a time limit
	}
}

// unlock gives the lock back and closes the file. To close it is not enough where bbolt left its map behind: a map holds
// the open file, and that the lock. On a file that bbolt closed it does nothing.
func unlock(fd *os.File) {
	_ = unix.Flock(int(fd.Fd()), unix.LOCK_UN)
	_ = fd.Close()
}

func same(fd *os.File, path string) bool {
	mine, err := fd.Stat()
	if err != nil {
		return false
	}
	there, err := os.Stat(path)
	return err == nil && os.SameFile(mine, there)
}

// openBolt checks the locked file and hands it to bbolt, which closes it at DB.Close.
func openBolt(fd *os.File, size int64) (db *bbolt.DB, err error) {
	if err := check(fd, size); err != nil {
		return nil, err
	}
	opts := boltOptions
	opts.OpenFile = func(string, int, os.FileMode) (*os.File, error) { return fd, nil }
	panicked, err := guard(func() (err error) {
		db, err = bbolt.Open(fd.Name(), 0o600, &opts)
		return err
	})
	if panicked {
		return nil, damaged("bbolt: %v", err)
	}
	return db, err
}

// guard calls do and makes an error of a panic, and of a fault on mapped memory as far as Go is told of it.
func guard(do func() error) (panicked bool, err error) {
	old := debug.SetPanicOnFault(true)
	defer debug.SetPanicOnFault(old)
	defer func() {
		if p := recover(); p != nil {
			panicked, err = true, fmt.Errorf("panic: %v", p)
		}
	}()
	return false, do()
}

// do runs a transaction. Where bbolt lost its map or panicked before, the file is checked and opened again first.
func (f *boltFile) do(transaction func(*bbolt.DB) error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for attempt := 0; ; attempt++ {
		if f.db == nil {
			if err := f.reopen(); err != nil {
				return err
			}
		}
		panicked, err := guard(func() error { return transaction(f.db) })
		switch {
		case panicked:
			f.db = nil // its own locks may be held: it can only be left behind, map and all
			unlock(f.fd)
		case errors.Is(err, bolterrors.ErrInvalidMapping) && attempt == 0:
			// The commit before could not map a file that it had to grow.
			_ = f.db.Close() // the map is gone already, and the file was synced by each commit
			f.db = nil
			continue
		}
		return err
	}
}

// reopen does not wait for a lock that another process took meanwhile: the next transaction tries again.
func (f *boltFile) reopen() error {
	fd, err := openLocked(f.path, 0, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return ErrReplaced
	}
	if err != nil {
		return err
	}
	info, err := fd.Stat()
	switch {
	case err != nil:
	case !os.SameFile(info, f.info):
		err = ErrReplaced
	default:
		f.db, err = openBolt(fd, info.Size())
	}
	if err != nil {
		unlock(fd)
		return err
	}
	f.fd = fd
	return nil
}

// release gives one reference back. The last closes the file.
func (f *boltFile) release() error {
	files.mu.Lock()
	f.refs--
	last := f.refs == 0
	if last {
		files.list = slices.DeleteFunc(files.list, func(o *boltFile) bool { return o == f })
	}
	files.mu.Unlock()
	if !last {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.db == nil {
		return nil
	}
	db := f.db
	f.db = nil
	_, err := guard(db.Close)
	return err
}
