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
)

const (
	tidyFirst = 10 * time.Minute // after a file was opened
	tidyEvery = 24 * time.Hour
)

// boltOptions are those of every open. The free list is kept in the file: without it bbolt finds the free pages at
// open and after each failed commit by reading the whole map in a goroutine of its own, where neither a panic nor a
// fault can be recovered from.
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
		if attempt > 0 || !errors.Is(err, ErrDamaged) {
			return f, err
		}
	}
}

// tryAcquire returns ErrDamaged when it moved a damaged file aside: the next try begins a new one.
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
	if !errors.Is(err, ErrDamaged) {
		return nil, fmt.Errorf("state file %s: %w", resolved, openError(err))
	}
	err = fmt.Errorf("state file %s: %w", resolved, err)
	aside, moveErr := moveAside(resolved, time.Now())
	if moveErr != nil {
		return nil, fmt.Errorf("%v, and it could not be moved aside: %w", err, moveErr)
	}
	log.Warn("the state file is damaged: it was moved aside, and every stanza that it served starts anew from "+
		"initial_lookback; "+
		"older alerts that were not pulled yet are not pulled, and those of the lookback come again; look at the "+
		"disk, and for the older alerts use defenderctl state --reset-to",
		"file", resolved, "moved_to", aside, "damage", err)
	return nil, err
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
