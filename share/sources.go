package share

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"fluent-bit-defender/state"
)

// Sources are the states of one NAME as one process takes them.
type Sources struct {
	API      API
	Name     string
	Identity string
	Overlap  time.Duration    // takeover_overlap
	Clock    func() time.Time // wall clock; nil: time.Now
	Log      *slog.Logger

	away atomic.Bool // the API does not answer
}

// Verdict is what a pod knows of the owner of a source.
type Verdict struct {
	Dead bool
	// Renewed is when it renewed its Lease last, by its own clock. Zero: not known, so it may have died right after it
	// wrote the state.
	Renewed time.Time
}

// ErrOwned: a pod that lives owns the source.
var ErrOwned = errors.New("another pod owns it")

// Take makes this process the owner of a source, unless judge says that its owner is alive: then it returns ErrOwned.
// judge is not asked for an empty owner, nor for this process itself. from is the dead owner that the source was
// taken over from, if there was one. Other errors are ErrNewer, ErrEdited and ErrForeign, and those of the API.
func (s *Sources) Take(
	ctx context.Context, key state.Key, judge func(owner string) Verdict,
) (st *Store, from string, err error) {
	st = &Store{sources: s, rec: record{key: key}, object: Object{Name: objectName(s.Name, key)},
		turn: make(chan struct{}, 1)}
	st.snap, from, err = st.take(ctx, judge)
	if err != nil {
		return nil, "", fmt.Errorf("ConfigMap %s: %w", st.object.Name, err)
	}
	return st, from, nil
}

func (st *Store) take(ctx context.Context, judge func(string) Verdict) (snap state.Snapshot, from string, err error) {
	s := st.sources
	object, err := s.API.Get(ctx, st.object.Name)
	var m image
	switch {
	case errors.Is(err, ErrNotFound):
	case err != nil:
		return snap, "", err
	default:
		rec, err := decodeRecord(object)
		if err == nil && rec.key != st.rec.key {
			err = ErrForeign
		}
		if err != nil {
			return snap, "", err
		}
		m = rec.image
		if rec.owner != "" && rec.owner != s.Identity {
			v := judge(rec.owner)
			if !v.Dead {
				return snap, "", ErrOwned
			}
			from = rec.owner
			alive := slices.MaxFunc([]time.Time{rec.written, v.Renewed}, time.Time.Compare)
			m = m.before(alive.Add(-s.Overlap))
		}
		st.object, st.rec = object, rec
	}
	if !m.found() { // before the write: a refusal after it would leave a source owned that is not pulled
		if snap, err = st.neighbours(ctx); err != nil {
			return snap, "", err
		}
	}
	if err := st.write(ctx, m.base(), s.Identity); err != nil {
		return snap, "", err
	}
	if m.found() {
		snap = st.rec.image.snapshot()
	}
	return snap, from, nil
}

// neighbours is the Snapshot of a source without state: what is known of others of its tenant.
func (st *Store) neighbours(ctx context.Context) (snap state.Snapshot, err error) {
	objects, err := st.sources.API.OfTenant(ctx, tenantLabel(st.rec.key))
	if err != nil {
		return snap, err
	}
	for _, o := range objects {
		rec, err := decodeRecord(o)
		if err != nil || rec.key == st.rec.key || rec.key.API != st.rec.key.API || rec.key.Tenant != st.rec.key.Tenant {
			continue // what cannot be read says nothing
		}
		other := rec.image.snapshot()
		snap.Meet(other.Watermark, other.Unread)
	}
	return snap, nil
}

// Release gives back a source that this process owns without knowing, because the answer to Take was lost. It does
// nothing when the owner is another.
func (s *Sources) Release(ctx context.Context, key state.Key) error {
	object, err := s.API.Get(ctx, objectName(s.Name, key))
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	rec, err := decodeRecord(object)
	if err != nil || rec.owner != s.Identity {
		return err
	}
	st := &Store{sources: s, object: object, rec: rec}
	return st.named(st.write(ctx, rec.image, ""))
}

func (s *Sources) now() time.Time {
	if s.Clock != nil {
		return s.Clock()
	}
	return time.Now()
}
