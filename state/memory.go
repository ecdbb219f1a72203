package state

import (
	"fmt"
	"slices"
	"sort"
	"sync"
	"time"
)

const (
	// A hot reload closes all sources and opens them again within seconds. What none took up again for a day
	// belongs to none.
	memoryUnusedFor = 24 * time.Hour
	// maxUnused bounds the buckets that wait for their source.
	maxUnused = 10_000
)

// memory holds the state of all sources without a file. It is as old as the process, so that a hot reload finds it.
var memory = table{tenants: map[Key]map[Key]*memoryBucket{}}

type table struct {
	mu      sync.Mutex                    // held for the work of one call
	tenants map[Key]map[Key]*memoryBucket // by tenantOf, so that neighbours are found among any number of sources
	unused  int                           // buckets that wait
	evicted time.Time                     // the last time that evict looked at all
}

// tenantOf is what the Keys of a tenant have in common.
func tenantOf(key Key) Key { return Key{API: key.API, Tenant: key.Tenant} }

// bucket returns the bucket of key, a new one if need be. t.mu is held.
func (t *table) bucket(key Key) *memoryBucket {
	of := t.tenants[tenantOf(key)]
	if of == nil {
		of = map[Key]*memoryBucket{}
		t.tenants[tenantOf(key)] = of
	}
	if of[key] == nil {
		of[key] = &memoryBucket{open: true}
	}
	return of[key]
}

// drop takes a bucket out that waits. t.mu is held.
func (t *table) drop(key Key) {
	of := t.tenants[tenantOf(key)]
	delete(of, key)
	t.unused--
	if len(of) == 0 {
		delete(t.tenants, tenantOf(key))
	}
}

type memoryBucket struct {
	found     bool
	watermark time.Time
	unread    []UnreadRange
	succeeded time.Time
	ids       idSet
	open      bool
	closed    time.Time // when it was closed last
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
	b := memory.bucket(key)
	if !b.open {
		b.open = true
		memory.unused--
	}
	return &memoryStore{key: key, bucket: b}, nil
}

func (s *memoryStore) Load() (Snapshot, error) {
	memory.mu.Lock()
	defer memory.mu.Unlock()
	if s.closed {
		return Snapshot{}, fmt.Errorf("state in memory: load: %w", ErrClosed)
	}
	b := s.bucket
	snap := Snapshot{Found: b.found, Watermark: b.watermark, IDs: b.ids.all(), Succeeded: b.succeeded}
	snap.Unread = append(snap.Unread, b.unread...)
	for key, other := range memory.tenants[tenantOf(s.key)] {
		if key != s.key {
			snap.meet(other.watermark, other.unread)
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
		b.watermark = c.Watermark
	}
	b.unread = c.Unread
	if !c.Succeeded.IsZero() {
		b.succeeded = c.Succeeded
	}
	for _, e := range c.Drop {
		b.ids.drop(e)
	}
	for _, e := range c.Add {
		b.ids.add(e)
	}
	return nil
}

// Release lets go of the ids that Load gave out: who holds them can bring them all back with the last Commit before
// Close, since nothing here outlives the process anyway. They would be held twice otherwise.
func (s *memoryStore) Release() {
	memory.mu.Lock()
	defer memory.mu.Unlock()
	s.bucket.ids = idSet{}
}

func (s *memoryStore) Close() error {
	memory.mu.Lock()
	defer memory.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	s.bucket.open = false
	memory.unused++
	s.bucket.closed = time.Now()
	if !s.bucket.found { // as in a file: what was never committed leaves nothing behind
		memory.drop(s.key)
	}
	memory.evict(s.bucket.closed)
	unclaim(s.key)
	return nil
}

// evict takes out what no source took up for a day, and the longest unused beyond maxUnused with a tenth more, so
// that it has to look at all only now and then. t.mu is held.
func (t *table) evict(now time.Time) {
	if since := now.Sub(t.evicted); since >= 0 && since < time.Minute && t.unused <= maxUnused {
		return
	}
	t.evicted = now
	type waiting struct {
		key    Key
		closed time.Time
	}
	var unused []waiting
	for _, of := range t.tenants {
		for key, b := range of {
			switch {
			case b.open:
			case now.Sub(b.closed) > memoryUnusedFor:
				t.drop(key)
			default:
				unused = append(unused, waiting{key, b.closed})
			}
		}
	}
	if len(unused) <= maxUnused {
		return
	}
	slices.SortFunc(unused, func(a, b waiting) int { return a.closed.Compare(b.closed) })
	for _, w := range unused[:len(unused)-maxUnused*9/10] {
		t.drop(w.key)
	}
}

// chunkLen entries of 24 bytes fill an allocation class of Go exactly (12 KiB).
const chunkLen = 512

// idSet is an ordered set of entries: sorted chunks in order. It exists because a map takes two to three times the
// memory (52 to 83 bytes an entry, not 24), and gives no order: with 600,000 rows that would be 27 MB of the 64 MB
// that the whole plugin may add. A change moves at most one chunk's entries and the list of chunks, whatever is held.
type idSet struct {
	chunks [][]Entry // none empty
	n      int
}

// find returns where e is, or where it belongs: the last chunk when it comes after all.
func (s *idSet) find(e Entry) (chunk, at int, held bool) {
	chunk = sort.Search(len(s.chunks), func(i int) bool {
		c := s.chunks[i]
		return c[len(c)-1].compare(e) >= 0
	})
	chunk = min(chunk, len(s.chunks)-1)
	at, held = slices.BinarySearchFunc(s.chunks[chunk], e, Entry.compare)
	return chunk, at, held
}

func (s *idSet) add(e Entry) {
	if len(s.chunks) == 0 {
		s.chunks = append(s.chunks, append(newChunk(), e))
		s.n++
		return
	}
	i, at, held := s.find(e)
	if held {
		return
	}
	s.n++
	c := s.chunks[i]
	switch {
	case len(c) < chunkLen:
		s.chunks[i] = slices.Insert(c, at, e)
	case at == len(c): // past the end of the last chunk: rows come in about the order of their age, so leave it full
		s.chunks = append(s.chunks, append(newChunk(), e))
	default:
		const half = chunkLen / 2
		upper := append(newChunk(), c[half:]...)
		lower := c[:half]
		if at <= half {
			lower = slices.Insert(lower, at, e)
		} else {
			upper = slices.Insert(upper, at-half, e)
		}
		s.chunks[i] = lower
		s.chunks = slices.Insert(s.chunks, i+1, upper)
	}
}

func (s *idSet) drop(e Entry) {
	if len(s.chunks) == 0 {
		return
	}
	i, at, held := s.find(e)
	if !held {
		return
	}
	s.n--
	s.chunks[i] = slices.Delete(s.chunks[i], at, at+1)
	// Keep neighbours together more than half full, so that scattered drops give memory back.
	switch c := s.chunks; {
	case len(c[i]) == 0:
		s.chunks = slices.Delete(c, i, i+1)
	case i+1 < len(c) && len(c[i])+len(c[i+1]) <= chunkLen/2:
		c[i] = append(c[i], c[i+1]...)
		s.chunks = slices.Delete(c, i+1, i+2)
	case i > 0 && len(c[i-1])+len(c[i]) <= chunkLen/2:
		c[i-1] = append(c[i-1], c[i]...)
		s.chunks = slices.Delete(c, i, i+1)
	}
}

// all returns a copy of the entries in order, nil when there are none.
func (s *idSet) all() []Entry {
	if s.n == 0 {
		return nil
	}
	out := make([]Entry, 0, s.n)
	for _, c := range s.chunks {
		out = append(out, c...)
	}
	return out
}

func newChunk() []Entry { return make([]Entry, 0, chunkLen) }
