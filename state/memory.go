package state

import (
	"fmt"
	"slices"
	"sync"
	"time"
)

// A hot reload closes all sources and opens them again within seconds. What none took up again for a day belongs to
// none.
const memoryUnusedFor = 24 * time.Hour

// memory holds the state of all sources without a file. It is as old as the process, so that a hot reload finds it.
var memory = struct {
	sync.Mutex                         // held for the work of one call
	tenants    map[Key][]*memoryBucket // by tenantOf, so that neighbours are found among any number of sources
	evicted    time.Time
}{tenants: map[Key][]*memoryBucket{}}

// tenantOf is what the Keys of a tenant have in common.
func tenantOf(key Key) Key { return Key{API: key.API, Tenant: key.Tenant} }

type memoryBucket struct {
	key    Key
	snap   Snapshot // without its neighbours
	open   bool
	closed time.Time // when it was closed last
}

type memoryStore struct {
	bucket *memoryBucket
	closed bool
}

// OpenMemory opens the state of key in the memory of this process. It outlives Close: the next OpenMemory of the key
// finds it, for a day at least, but no other process does. A key that is open already gives ErrKeyInUse.
func OpenMemory(key Key) (Store, error) {
	if err := claim(key); err != nil {
		return nil, err
	}
	memory.Lock()
	defer memory.Unlock()
	evict()
	tenant := tenantOf(key)
	var b *memoryBucket
	if i := slices.IndexFunc(memory.tenants[tenant], func(b *memoryBucket) bool { return b.key == key }); i >= 0 {
		b = memory.tenants[tenant][i]
	} else {
		b = &memoryBucket{key: key}
		memory.tenants[tenant] = append(memory.tenants[tenant], b)
	}
	b.open = true
	return &memoryStore{bucket: b}, nil
}

// evict takes out, at most once a minute, what no source took up for a day. memory is locked.
func evict() {
	if time.Since(memory.evicted).Abs() < time.Minute {
		return
	}
	memory.evicted = time.Now()
	for tenant := range memory.tenants {
		drop(tenant, func(b *memoryBucket) bool { return !b.open && time.Since(b.closed) > memoryUnusedFor })
	}
}

// drop takes out the buckets of a tenant that go. memory is locked.
func drop(tenant Key, goes func(*memoryBucket) bool) {
	left := slices.DeleteFunc(memory.tenants[tenant], goes)
	if memory.tenants[tenant] = left; len(left) == 0 {
		delete(memory.tenants, tenant)
	}
}

func (s *memoryStore) Load() (Snapshot, error) {
	memory.Lock()
	defer memory.Unlock()
	if s.closed {
		return Snapshot{}, fmt.Errorf("state in memory: load: %w", ErrClosed)
	}
	b := s.bucket
	snap := b.snap
	snap.IDs = append([]Entry(nil), snap.IDs...)
	snap.Unread = append([]UnreadRange(nil), snap.Unread...)
	for _, other := range memory.tenants[tenantOf(b.key)] {
		if other != b {
			snap.Meet(other.snap.Watermark, other.snap.Unread)
		}
	}
	return snap, nil
}

func (s *memoryStore) Commit(c Change) error {
	c, err := c.Clean(maxReason)
	if err != nil {
		return err
	}
	memory.Lock()
	defer memory.Unlock()
	if s.closed {
		return fmt.Errorf("state in memory: commit: %w", ErrClosed)
	}
	snap := &s.bucket.snap
	snap.Found = true
	if !c.Watermark.IsZero() {
		snap.Watermark = c.Watermark
	}
	snap.Unread = c.Unread
	if !c.Succeeded.IsZero() {
		snap.Succeeded = c.Succeeded
	}
	// Made anew each time, which is seldom: the engine gives all ids with its last commit, and none before (Release).
	if drop := ordered(c.Drop); len(drop) > 0 {
		snap.IDs = slices.DeleteFunc(snap.IDs, func(e Entry) bool {
			_, dropped := slices.BinarySearchFunc(drop, e, Entry.Compare)
			return dropped
		})
	}
	if len(c.Add) > 0 {
		ids := slices.Concat(snap.IDs, c.Add)
		slices.SortFunc(ids, Entry.Compare)
		snap.IDs = slices.Compact(ids)
	}
	return nil
}

// Release lets go of the ids that Load gave out: who holds them can bring them all back with the last Commit before
// Close, since nothing here outlives the process anyway. They would be held twice otherwise.
func (s *memoryStore) Release() {
	memory.Lock()
	defer memory.Unlock()
	s.bucket.snap.IDs = nil
}

func (s *memoryStore) Close() error {
	memory.Lock()
	defer memory.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	s.bucket.open, s.bucket.closed = false, time.Now()
	if !s.bucket.snap.Found { // as in a file: what was never committed leaves nothing behind
		drop(tenantOf(s.bucket.key), func(b *memoryBucket) bool { return b == s.bucket })
	}
	evict()
	unclaim(s.bucket.key)
	return nil
}
