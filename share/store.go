package share

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"fluent-bit-defender/state"
)

const (
	writeEvery     = 5 * time.Second  // between two commits of a source that has something new
	watermarkEvery = 10 * time.Minute // between two that move nothing but the watermark
	callWithin     = 4 * time.Second  // of one request: less than a worker has until it must stop
	giveBackTries  = 3
	giveBackPause  = 200 * time.Millisecond
)

// Store is a state.Store in a ConfigMap that this process owns. It may be used concurrently.
type Store struct {
	sources *Sources
	snap    state.Snapshot // for Load
	object  Object         // as it is in the API: Name and Version
	rec     record         // as it is in the API
	// as it is to be: it holds also the changes that could not be written yet, each with the time of its Commit
	wanted image

	turn chan struct{} // holds one while a call goes on: touch comes from another goroutine, and must not wait for ever
	// tried are the sequence numbers of writes of which nobody knows whether they were done: the answer did not come.
	tried   []uint64
	written time.Time // local: the last write
	noted   time.Time // local: when wanted changed last while the API was away
	lost    error     // why it is not ours any more
	onLost  func()    // called once when that is noticed; may be nil
	closed  bool
	warned  bool
}

// Load returns what was stored when the source was taken.
func (st *Store) Load() (state.Snapshot, error) {
	st.turn <- struct{}{}
	defer st.done()
	if st.closed {
		return state.Snapshot{}, state.ErrClosed
	}
	snap := st.snap
	st.snap = state.Snapshot{} // the ids are in the engine now
	return snap, nil
}

// Ready tells whether it is time to commit a change: an API server is spared what can wait.
func (st *Store) Ready(c state.Change) bool {
	st.turn <- struct{}{}
	defer st.done()
	c, err := c.Clean(reasonMost)
	if err != nil {
		return true // Commit says so
	}
	if st.sources.away.Load() {
		// Noted for later, with the time at which it became durable here.
		if len(c.Add) > 0 && time.Since(st.noted) >= writeEvery && st.usable() == nil {
			st.noted = time.Now()
			st.wanted = st.wanted.with(st.sources.now(), c, st.sources.Overlap)
		}
		return false
	}
	wait := writeEvery
	if was := st.rec.image.newest(); len(c.Add) == 0 && slices.Equal(c.Unread, was.Unread) &&
		c.Succeeded.Equal(was.Succeeded) {
		wait = watermarkEvery
	}
	return time.Since(st.written) >= wait
}

// Commit stores a change. state.ErrTaken: another pod owns the source, or somebody wrote to its ConfigMap; nothing
// more is ever stored.
func (st *Store) Commit(c state.Change) error {
	st.turn <- struct{}{}
	defer st.done()
	if err := st.usable(); err != nil {
		return err
	}
	c, err := c.Clean(reasonMost)
	if err != nil {
		return st.named(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), callWithin)
	defer cancel()
	st.wanted = st.wanted.with(st.sources.now(), c, st.sources.Overlap)
	return st.named(st.write(ctx, st.wanted, st.sources.Identity))
}

// Close gives the source back: its ConfigMap has no owner then, and holds the last change also when its Commit
// failed. After an error it may still have this process as its owner (see giveBack).
func (st *Store) Close() error {
	st.turn <- struct{}{}
	closed := st.closed
	st.closed = true
	<-st.turn
	if closed {
		return nil
	}
	var err error
	for try := range giveBackTries {
		if try > 0 {
			time.Sleep(giveBackPause)
		}
		ctx, cancel := context.WithTimeout(context.Background(), callWithin)
		err = st.giveBack(ctx)
		cancel()
		if err == nil || errors.Is(err, state.ErrTaken) {
			break
		}
	}
	return err
}

// touch writes the ConfigMap as it is, to learn whether it is this process's. The error is that of a Commit.
func (st *Store) touch(ctx context.Context) error {
	select {
	case st.turn <- struct{}{}:
		defer st.done()
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := st.usable(); err != nil {
		return err
	}
	return st.named(st.write(ctx, st.wanted, st.sources.Identity))
}

// giveBack is what Close does, and what is to be tried again when Close failed.
func (st *Store) giveBack(ctx context.Context) error {
	st.turn <- struct{}{}
	defer st.done()
	if st.lost != nil {
		return nil // it is another's to give back
	}
	return st.named(st.write(ctx, st.wanted, ""))
}

func (st *Store) done() { <-st.turn }

func (st *Store) usable() error {
	if st.closed {
		return st.named(state.ErrClosed)
	}
	return st.named(st.lost)
}

func (st *Store) named(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("ConfigMap %s: %w", st.object.Name, err)
}

// write is the one place that writes a ConfigMap: from the version that was read when the source was taken, or that
// the last write gave.
func (st *Store) write(ctx context.Context, m image, owner string) error {
	rec := st.rec
	rec.image, rec.owner, rec.writer = m, owner, st.sources.Identity
	rec.sequence += 1 + uint64(len(st.tried))
	err := st.put(ctx, rec)
	if errors.Is(err, ErrConflict) && len(st.tried) > 0 {
		// It may be a write of our own whose answer did not come. Then nobody else has written since.
		if err = st.recognise(ctx); err == nil {
			err = st.put(ctx, rec)
		}
	}
	switch {
	case err == nil:
		st.tried = nil
	case errors.Is(err, ErrConflict):
		st.lost = state.ErrTaken
		if st.onLost != nil {
			st.onLost()
		}
		return fmt.Errorf("%w (%w)", state.ErrTaken, err)
	case !errors.Is(err, ErrRefused):
		st.tried = append(st.tried, rec.sequence)
	}
	return err
}

// put writes rec, and remembers it when that was done.
func (st *Store) put(ctx context.Context, rec record) error {
	rec.written = st.sources.now()
	object, dropped := rec.encode(st.object)
	write := st.sources.API.Update
	if object.Version == "" {
		write = st.sources.API.Create
	}
	done, err := write(ctx, object)
	if err != nil {
		return err
	}
	st.object.Version, st.rec, st.wanted, st.written = done.Version, rec, rec.image, time.Now()
	if dropped > 0 && !st.warned {
		st.warned = true
		st.sources.Log.Warn(fmt.Sprintf("the ConfigMap has no room for all ids of what was pulled: the oldest are "+
			"left out, so some alerts may come again when another "+
			"pod takes the source (none is lost); use filters or a shorter overlap or takeover_overlap"), "config_map",
			object.Name, "left_out", dropped)
	}
	return nil
}

// recognise reads the ConfigMap after a conflict. Where the last one to write it was this Store, it goes on from
// there. ErrConflict: it was not.
func (st *Store) recognise(ctx context.Context) error {
	object, err := st.sources.API.Get(ctx, st.object.Name)
	if errors.Is(err, ErrNotFound) {
		return ErrConflict
	}
	if err != nil {
		return err
	}
	rec, err := decodeRecord(object)
	mine := err == nil && rec.writer == st.sources.Identity && rec.key == st.rec.key &&
		slices.Contains(st.tried, rec.sequence)
	if !mine {
		return ErrConflict
	}
	st.object.Version = object.Version
	return nil
}
