package state

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	lockWait = 5 * time.Second
	lockPoll = 50 * time.Millisecond

	// keepDamaged files that were moved aside stay for whoever wants to look into them, this one included.
	keepDamaged = 3

	asideMark = ".damaged-"
	asideTime = "20060102T150405Z" // sorts as text
)

// moveAside renames a damaged file to <path>.damaged-<UTC time>, deletes all but the newest keepDamaged of its kind,
// and returns the new name. The caller holds the file's lock.
func moveAside(path string, now time.Time) (string, error) {
	dir, base := filepath.Split(path)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", err
	}
	now = now.UTC().Truncate(time.Second)
	var old []string
	for _, e := range entries {
		stamp, ok := strings.CutPrefix(e.Name(), base+asideMark)
		when, err := time.Parse(asideTime, stamp)
		if !ok || err != nil || !e.Type().IsRegular() {
			continue // not ours
		}
		old = append(old, e.Name())
		now = latest(now, when.Add(time.Second)) // a name of its own, and the last in order
	}
	aside := path + asideMark + now.Format(asideTime)
	if err := os.Rename(path, aside); err != nil {
		return "", err
	}
	slices.Sort(old)
	for _, name := range old[:max(0, len(old)+1-keepDamaged)] {
		_ = os.Remove(filepath.Join(dir, name)) // one too many is better than no start
	}
	syncDir(dir)
	return aside, nil
}

// syncDir makes a new name in dir last over a power failure, where the file system can do that.
func syncDir(dir string) {
	if d, err := os.Open(dir); err == nil {
		_ = d.Sync() // some file systems cannot; the name is in use already
		_ = d.Close()
	}
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
			log.Warn("the state file can be read by others and its mode cannot be changed; chmod 600 it as its owner",
				"file", path, "mode", mode, "error", err)
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

// reserve takes the room of a new database: one that bbolt could write in part only would look damaged at the next
// start. A file system that cannot do that is trusted.
func reserve(fd *os.File) error {
	err := unix.Fallocate(int(fd.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, int64(4*os.Getpagesize()))
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return err
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

// unlock gives the lock back and closes the file. To close it is not enough where bbolt left its map behind: a map
// holds the open file, and that the lock. On a file that bbolt closed it does nothing.
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
