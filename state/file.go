package state

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"time"

	"go.etcd.io/bbolt"
)

type fileStore struct {
	file   *boltFile
	key    Key
	closed bool
}

// OpenFile opens the state of key in the file at path, which is created (mode 0600) in a directory that has to be there.
// Stores of different keys share one file within this process; another process that has it open gives ErrLocked after
// 5 s. A damaged file is moved aside to <path>.damaged-<UTC time> (the newest three are kept), which log is told, and
// a new one is begun; one of a newer version or of another program is refused. No part of the file is mapped into
// memory before all of it was read and found sound, which takes about 0.1 s for a million rows.
func OpenFile(path string, key Key, log *slog.Logger) (Store, error) {
	if path == "" {
		return nil, errors.New("state file: no path was given")
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if err := claim(key); err != nil {
		return nil, err
	}
	f, err := acquire(path, log)
	if err != nil {
		unclaim(key)
		return nil, err
	}
	s := &fileStore{file: f, key: key}
	var deleted []Key
	err = f.do(func(db *bbolt.DB) error {
		return db.Update(func(tx *bbolt.Tx) error {
			var err error
			deleted, err = prepare(tx, key, time.Now(), &f.newest, claimed)
			return err
		})
	})
	switch {
	case errors.Is(err, errUnchanged):
	case err != nil:
		// It can be read, and a full disk may have room again at the next commit.
		log.Warn("the state file cannot be written now: pulling goes on, and each commit tries again; make room on the disk, or make it writable", "file", f.path, "error", err)
	default:
		for _, k := range deleted {
			log.Info("deleted state that no stanza used for 90 days", "file", f.path, "stanza", k.String())
		}
	}
	return s, nil
}

func (s *fileStore) Load() (Snapshot, error) {
	if s.closed {
		return Snapshot{}, fmt.Errorf("state file %s: load: %w", s.file.path, ErrClosed)
	}
	var snap Snapshot
	err := s.file.do(func(db *bbolt.DB) error {
		return db.View(func(tx *bbolt.Tx) error {
			var err error
			snap, err = load(tx, s.key)
			return err
		})
	})
	if err != nil {
		return Snapshot{}, fmt.Errorf("state file %s: load: %w", s.file.path, err)
	}
	return snap, nil
}

func (s *fileStore) Commit(c Change) error {
	if s.closed {
		return fmt.Errorf("state file %s: commit: %w", s.file.path, ErrClosed)
	}
	c, err := c.clean()
	if err != nil {
		return err
	}
	err = s.file.do(func(db *bbolt.DB) error {
		// What goes to a file without a name is lost with the process, and nobody would know.
		switch info, err := os.Stat(s.file.path); {
		case errors.Is(err, fs.ErrNotExist), err == nil && !os.SameFile(info, s.file.info):
			return ErrReplaced
		case err != nil:
			return err
		}
		return db.Update(func(tx *bbolt.Tx) error { return apply(tx, s.key, c, time.Now()) })
	})
	if err != nil {
		return fmt.Errorf("state file %s: commit: %w", s.file.path, err)
	}
	return nil
}

func (s *fileStore) Close() error {
	if s.closed {
		return nil
	}
	s.closed = true
	defer unclaim(s.key)
	if err := s.file.release(); err != nil {
		return fmt.Errorf("state file %s: close: %w", s.file.path, err)
	}
	return nil
}
