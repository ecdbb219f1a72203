package shape

import (
	"bytes"

	"github.com/zeebo/xxh3"
)

// set finds a value in a list of a slot in time that does not grow with the list. Short lists, which are nearly all,
// are compared one by one.
type set struct {
	at []int32 // a hash table of places in the list, from 1 on; its size is a power of two
	n  int     // values in it
}

const shortList = 16

// reset empties the list.
func (v *value) reset() {
	v.many = v.many[:0]
	if v.set != nil && v.set.n > 0 {
		clear(v.set.at)
		v.set.n = 0
	}
}

// add appends an item unless it is there.
func (v *value) add(head, x []byte) {
	if len(v.many) < shortList {
		for i := range v.many {
			// Digests are of one length and begin alike.
			have := &v.many[i]
			if n := len(have.v) - 1; n == len(x)-1 && have.v[n] == x[n] && have.is(head, x) {
				return
			}
		}
	} else {
		if v.set == nil {
			v.set = &set{}
		}
		if v.set.has(v.many, item{head, x}) {
			return
		}
	}
	v.many = append(v.many, item{}) // set word by word: a copy of all at once would wait for the words' stores
	last := &v.many[len(v.many)-1]
	last.head, last.v = head, x
}

func (x *item) is(head, v []byte) bool { return bytes.Equal(x.v, v) && bytes.Equal(x.head, head) }

// has tells whether v is in list, and takes it for so from now on: it is appended there next.
func (s *set) has(list []item, v item) bool {
	if 2*(len(list)+1) > len(s.at) || s.n < len(list) {
		s.grow(list)
	}
	place := s.find(list, v)
	if s.at[place] != 0 {
		return true
	}
	s.n++
	s.at[place] = int32(s.n)
	return false
}

func (s *set) grow(list []item) {
	size := max(64, len(s.at))
	for size < 4*(len(list)+1) {
		size *= 2
	}
	if size > len(s.at) {
		s.at = make([]int32, size)
	} else {
		clear(s.at)
	}
	for s.n = 0; s.n < len(list); {
		place := s.find(list, list[s.n])
		s.n++
		s.at[place] = int32(s.n)
	}
}

// find returns the place of v, or the free one where it goes.
func (s *set) find(list []item, v item) int {
	mask := len(s.at) - 1
	for place := int(xxh3.Hash(v.v)) & mask; ; place = (place + 1) & mask {
		if k := s.at[place]; k == 0 || list[k-1].is(v.head, v.v) {
			return place
		}
	}
}
