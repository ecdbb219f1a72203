package state

import (
	"fmt"
	"slices"
	"sync"
	"time"
)

const (
	// A hot reload closes all stanzas and opens them again within seconds. What no stanza took up again for a day
	// belongs to none.
	memoryUnusedFor = 24 * time.Hour
	// maxUnused bounds the buckets that wait for their stanza: far more than stanzas fit into one configuration.
	maxUnused = 1000
)

// memory holds the state of all stanzas without a file. It is as old as the process, so that a hot reload finds it.
var memory = table{buckets: make(map[Key]*memoryBucket)}

type table struct {
	mu      sync.Mutex // held for the work of one call
	buckets map[Key]*memoryBucket
}

type memoryBucket struct {
	found   bool
	settled time.Time
	gaps    []UnreadRange
	seen    seenSet
	open    bool
	closed  time.Time // when it was closed last
}

type memoryStore struct {
	key    Key
	bucket *memoryBucket
	closed bool
}

// OpenMemory opens the state of key in the memory of this process. It outlives Close: the next OpenMemory of the key
// finds it, for a day at least, but no other process does. A key that is open already gives ErrKeyInUse.
func OpenMemory(key Key) (Store, error) {
	if err := claim(key); err != nil {
		return nil, err
	}
	memory.mu.Lock()
	defer memory.mu.Unlock()
	memory.evict(time.Now())
	b := memory.buckets[key]
	if b == nil {
		b = &memoryBucket{}
		memory.buckets[key] = b
	}
	b.open = true
	return &memoryStore{key: key, bucket: b}, nil
}

func (s *memoryStore) Load() (Snapshot, error) {
	memory.mu.Lock()
	defer memory.mu.Unlock()
	if s.closed {
		return Snapshot{}, fmt.Errorf("state in memory: load: %w", ErrClosed)
	}
	b := s.bucket
	snap := Snapshot{Found: b.found, Watermark: b.settled, IDs: b.seen.all()}
	snap.Unread = append(snap.Unread, b.gaps...)
	for key, other := range memory.buckets {
		if key != s.key && key.API == s.key.API && key.Tenant == s.key.Tenant {
			snap.meet(other.settled, other.gaps)
		}
	}
	return snap, nil
}

func (s *memoryStore) Commit(c Change) error {
	c, err := c.clean()
	if err != nil {
		return err
	}
	memory.mu.Lock()
	defer memory.mu.Unlock()
	if s.closed {
		return fmt.Errorf("state in memory: commit: %w", ErrClosed)
	}
	b := s.bucket
	b.found = true
	if !c.Watermark.IsZero() {
		b.settled = c.Watermark
	}
	b.gaps = c.Unread
	for _, e := range c.Drop {
		b.seen.drop(e)
	}
	for _, e := range c.Add {
		b.seen.add(e)
	}
	return nil
}

// Release lets go of the hashes that Load gave out: who holds them can bring them all back with the last Commit before Close, since
// nothing here outlives the process anyway. They would be held twice otherwise.
func (s *memoryStore) Release() {
	memory.mu.Lock()
	defer memory.mu.Unlock()
	s.bucket.seen = seenSet{}
}

func (s *memoryStore) Close() error {
	memory.mu.Lock()
	defer memory.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	s.bucket.open = false
	s.bucket.closed = time.Now()
	if !s.bucket.found { // as in a file: what was never committed leaves nothing behind
		delete(memory.buckets, s.key)
	}
	memory.evict(s.bucket.closed)
	unclaim(s.key)
	return nil
}

// evict takes out what no stanza took up for a day, and the longest unused beyond maxUnused. t.mu is held.
func (t *table) evict(now time.Time) {
	var unused []Key
	for key, b := range t.buckets {
		switch {
		case b.open:
		case now.Sub(b.closed) > memoryUnusedFor:
			delete(t.buckets, key)
		default:
			unused = append(unused, key)
		}
	}
	if len(unused) <= maxUnused {
		return
	}
	slices.SortFunc(unused, func(a, b Key) int { return t.buckets[a].closed.Compare(t.buckets[b].closed) })
	for _, key := range unused[:len(unused)-maxUnused] {
		delete(t.buckets, key)
	}
}
