package record

import (
	"bytes"
	"hash/maphash"
)

// Rows of one answer repeat their keys in the same order. So for each level of nesting the transcoder keeps the keys it met there, each
// with its MessagePack form and the key that followed it last time. That one is compared with the text in a few
// instructions, instead of being scanned, looked up and encoded; a wrong guess costs one look-up.

const (
	maxName   = 61  // of a key that is kept: `"name":` fills 64 bytes
	maxFields = 512 // of a level
	slots     = 2 * maxFields
	noField   = 0 // the first place is of no key: what follows it comes first in an object
)

// field is a key that was met.
type field struct {
	text  string   // `"name":`
	coded [64]byte // the name as a MessagePack string
	size  int      // of coded
	role  role
	next  int    // the place of the key that followed last time
	stamp uint64 // the last object in which the key stood
}

// shape holds the keys of the objects at one level of nesting.
type shape struct {
	fields []field
	index  [slots]uint16 // hash table of places in fields
	object uint64        // counts the level's objects: the stamp of the one at hand
}

var hashSeed = maphash.MakeSeed() // so that nobody can know which keys collide

// shape returns the shape of the objects at a depth.
func (t *transcoder) shape(depth int) *shape {
	if t.shapes[depth] == nil {
		t.shapes[depth] = &shape{fields: make([]field, 1, 64)}
	}
	return t.shapes[depth]
}

// put writes the key at out[o]; what stands behind it up to pad bytes is lost.
func (f *field) put(out []byte, o int) int {
	copy32(out[o:], f.coded[:])
	if f.size > 32 {
		copy32(out[o+32:], f.coded[32:])
	}
	return o + f.size
}

// unforeseenKey writes the key that begins at src[i], takes its colon, and returns its place in sh.
func (t *transcoder) unforeseenKey(i, o int, sh *shape, depth int) (_, _, place int) {
	at := o
	if i, o = t.key(i, o); i < 0 {
		return -1, o, noField
	}
	coded := t.out[at:o]
	h := maphash.Bytes(hashSeed, coded) % slots
	for ; sh.index[h] != noField; h = (h + 1) % slots {
		if f := &sh.fields[sh.index[h]]; bytes.Equal(f.coded[:f.size], coded) {
			return i, o, int(sh.index[h])
		}
	}
	name := t.out[strText(t.out, at):o]
	if len(name) > maxName {
		t.again = true
		return -1, o, noField
	}
	if len(sh.fields) == maxFields { // begin anew with the next object
		sh.fields = sh.fields[:1]
		sh.fields[0].next = noField
		clear(sh.index[:])
		t.again = true
		return -1, o, noField
	}
	f := newField(name, coded)
	if depth == 1 {
		f.role = t.roleOf(name)
	}
	sh.index[h] = uint16(len(sh.fields))
	sh.fields = append(sh.fields, f)
	return i, o, int(sh.index[h])
}

// key writes the key that begins at src[i] and takes its colon.
func (t *transcoder) key(i, o int) (int, int) {
	s := t.src
	if s[i] != '"' {
		return -1, o
	}
	if i, o = t.str(i+1, o); i < 0 {
		return -1, o
	}
	t.room(o)
	if i = skipSpace(s, i); s[i] != ':' {
		return -1, o
	}
	return i + 1, o
}

func newField(name, coded []byte) field {
	f := field{text: `"` + string(name) + `":`, size: len(coded)}
	copy(f.coded[:], coded)
	return f
}
