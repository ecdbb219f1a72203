package state

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"go.etcd.io/bbolt"
)

type fileStore struct {
	file   *boltFile
	key    Key
	log    *slog.Logger
	closed bool
}

// OpenFile opens the state of key in the file at path, which is created (mode 0600) in a directory that has to be
// there. Stores of different keys share one file within this process; another process that has it open gives
// ErrLocked after 5 s. A damaged file is moved aside to <path>.damaged-<UTC time> (the newest three are kept), which
// log is told, and a new one is begun; one of a newer version or of another program is refused.
//
// The first Store of a file reads all of it, about 0.1 s for a million rows, and no part is mapped into memory before
// it was found sound. Each further Store costs the same, however many there are. None writes.
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
	return &fileStore{file: f, key: key, log: log}, nil
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
	one := []Pending{{Store: s, Change: c}}
	CommitAll(one)
	return one[0].Err
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

// Pending is what one Store has to commit.
type Pending struct {
	Store  Store
	Change Change
	Err    error // set by CommitAll: what Store.Commit would have returned
}

// CommitAll commits each Change to its Store and sets its Err. The Stores that share a file do so in one transaction,
// with one write to the disk: when that fails, all of them fail. A Change that is itself to blame fails alone. It
// counts as a call to each Store.
func CommitAll(all []Pending) {
	shared := map[*boltFile][]*Pending{}
	var alone []func()
	for i := range all {
		p := &all[i]
		s, ok := p.Store.(*fileStore)
		if !ok {
			alone = append(alone, func() { p.Err = p.Store.Commit(p.Change) })
			continue
		}
		if s.closed {
			p.Err = fmt.Errorf("state file %s: commit: %w", s.file.path, ErrClosed)
			continue
		}
		p.Err = nil
		shared[s.file] = append(shared[s.file], p)
	}
	for f, group := range shared {
		f.commit(group)
	}
	sideBySide(alone)
}

// CloseAll closes Stores, and returns the first error. Those that are not files are closed side by side.
func CloseAll(all []Store) error {
	errs := make([]error, len(all))
	var alone []func()
	for i, s := range all {
		if _, ok := s.(*fileStore); ok {
			errs[i] = s.Close()
			continue
		}
		alone = append(alone, func() { errs[i] = s.Close() })
	}
	sideBySide(alone)
	return cmp.Or(errs...)
}

// sideBySide calls all, some at a time: Stores in a network take as long as an answer does.
func sideBySide(all []func()) {
	const most = 16
	if len(all) == 1 {
		all[0]()
		return
	}
	var running sync.WaitGroup
	slots := make(chan struct{}, most)
	for _, f := range all {
		slots <- struct{}{}
		running.Go(func() {
			defer func() { <-slots }()
			f()
		})
	}
	running.Wait()
}

// commit commits the changes of Stores of this file.
func (f *boltFile) commit(group []*Pending) {
	clean := make([]Change, 0, len(group))
	group = slices.DeleteFunc(group, func(p *Pending) bool {
		var c Change
		if c, p.Err = p.Change.Clean(maxReason); p.Err == nil {
			clean = append(clean, c)
		}
		return p.Err != nil
	})
	for len(group) > 0 {
		refused := -1
		err := f.do(func(db *bbolt.DB) error {
			if err := f.inPlace(); err != nil {
				return err
			}
			return db.Update(func(tx *bbolt.Tx) error {
				now := time.Now()
				for i, p := range group {
					if err := apply(tx, p.Store.(*fileStore).key, clean[i], now); err != nil {
						refused = i
						return err
					}
				}
				return nil
			})
		})
		if err == nil {
			f.tidy(group[0].Store.(*fileStore).log)
			return
		}
		err = fmt.Errorf("state file %s: commit: %w", f.path, err)
		if refused < 0 {
			for _, p := range group {
				p.Err = err
			}
			return
		}
		group[refused].Err = err // nothing was written: the others once more, without it
		group, clean = slices.Delete(group, refused, refused+1), slices.Delete(clean, refused, refused+1)
	}
}

// inPlace tells whether the open file is the one at its path. What goes to a file without a name is lost with the
// process, and nobody would know.
func (f *boltFile) inPlace() error {
	switch info, err := os.Stat(f.path); {
	case errors.Is(err, fs.ErrNotExist), err == nil && !os.SameFile(info, f.info):
		return ErrReplaced
	default:
		return err
	}
}

// tidy runs after a commit, the first time once every stanza had its turn to be opened and then daily.
func (f *boltFile) tidy(log *slog.Logger) {
	now := time.Now()
	var deleted []Key
	err := f.do(func(db *bbolt.DB) error {
		if now.Before(f.tidyAt) {
			return errUnchanged
		}
		f.tidyAt = now.Add(tidyEvery)
		return db.Update(func(tx *bbolt.Tx) (err error) {
			deleted, err = tidy(tx, now, f.newest, claimed)
			return err
		})
	})
	switch {
	case errors.Is(err, errUnchanged):
	case err != nil:
		log.Warn("state that nothing used for 90 days could not be deleted; this is tried again in a day", "file",
			f.path, "error", err)
	default:
		for _, key := range deleted {
			log.Info("deleted state that nothing used for 90 days", "file", f.path, "source", key.String())
		}
	}
}
