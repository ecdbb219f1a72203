package state

import (
	"slices"
	"sort"
)

// chunkLen entries of 24 bytes fill an allocation class of Go exactly (12 KiB).
const chunkLen = 512

// seenSet is an ordered set of entries: sorted chunks in order. It exists because a map takes two to three times the memory
// (52 to 83 bytes an entry, not 24), and gives no order: with 600,000 rows in the seen set that would be 27 MB of the 64 MB
// that the whole plugin may add. A change moves at most one chunk's entries and the list of chunks, whatever is held.
type seenSet struct {
	chunks [][]Entry // none empty
	n      int
}

// find returns where e is, or where it belongs: the last chunk when it comes after all.
func (s *seenSet) find(e Entry) (chunk, at int, held bool) {
	chunk = sort.Search(len(s.chunks), func(i int) bool {
		c := s.chunks[i]
		return c[len(c)-1].compare(e) >= 0
	})
	chunk = min(chunk, len(s.chunks)-1)
	at, held = slices.BinarySearchFunc(s.chunks[chunk], e, Entry.compare)
	return chunk, at, held
}

func (s *seenSet) add(e Entry) {
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
	case at == len(c): // only past the end of the last chunk: rows come in about the order of their age, so leave it full
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

func (s *seenSet) drop(e Entry) {
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
func (s *seenSet) all() []Entry {
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
