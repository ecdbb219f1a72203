package record

import (
	"bytes"
	"hash/maphash"
)

// Rows of one answer repeat their keys in the same order. So for each level of nesting the transcoder keeps the keys it met there and
// which followed which. The key that followed last time is compared with the text in a few instructions (see fields), instead
// of being scanned, looked up and encoded; a wrong guess costs one look-up.

const (
	maxForetold = 29  // bytes of a name that can be foretold: `"name":` fills 32
	maxName     = 128 // bytes of a name that is kept
	maxFields   = 512 // names of a level that are kept
	slots       = 2 * maxFields
)

// field is a key that was met.
type field struct {
	words [4]uint64 // `"name":`
	masks [4]uint64 // of the bits that count
	head  byte      // of the name as a MessagePack string, which is as long as `"name`
	size  int       // of that; 0: the key cannot be foretold, so it is no key's next
	role  role
	next  *field // the key that followed last time
	stamp uint64 // the last object in which the key stood
	coded string // the name as a MessagePack string
}

// shape holds the keys of the objects at one level of nesting.
type shape struct {
	fields [slots]*field // a hash table
	count  int           // of the keys in it
	start  field         // no key: what follows it comes first in an object
	none   field         // no key: the next of those whose next is not known. It matches eight NULs, behind which there is no value
	object uint64        // counts the level's objects: the stamp of the one at hand
}

// reset forgets all keys.
func (sh *shape) reset() {
	*sh = shape{object: sh.object, none: field{masks: [4]uint64{^uint64(0)}}}
	sh.start.next = &sh.none
}

var hashSeed = maphash.MakeSeed() // so that nobody can know which keys collide

// shape returns the shape of the objects at a depth.
func (t *transcoder) shape(depth int) *shape {
	if t.shapes[depth] == nil {
		t.shapes[depth] = new(shape)
		t.shapes[depth].reset()
	}
	return t.shapes[depth]
}

// unforeseenKey writes the key that begins at src[i] and takes its colon.
func (t *transcoder) unforeseenKey(i, o int, sh *shape, depth int) (int, int, *field) {
	at := o
	if i, o = t.key(i, o); i < 0 {
		return -1, o, nil
	}
	coded := t.out[at:o]
	slot := maphash.Bytes(hashSeed, coded) % slots
	for ; sh.fields[slot] != nil; slot = (slot + 1) % slots {
		if f := sh.fields[slot]; f.coded == string(coded) {
			return i, o, f
		}
	}
	name := t.out[strText(t.out, at):o]
	if sh.count == maxFields { // begin anew with the next object
		sh.reset()
		t.again = true
		return -1, o, nil
	}
	if len(name) > maxName {
		t.again = true
		return -1, o, nil
	}
	f := newField(name, coded)
	f.next = &sh.none
	if depth == 1 {
		f.role = t.roleOf(name)
	}
	sh.fields[slot] = f
	sh.count++
	return i, o, f
}

func newField(name, coded []byte) *field {
	f := &field{coded: string(coded)}
	escaped := func(r rune) bool { return r < ' ' || r == '"' || r == '\\' } // which cannot stand in the text as they are
	if len(name) > maxForetold || bytes.ContainsFunc(name, escaped) {
		return f
	}
	f.head, f.size = coded[0], len(coded)
	var text [32]byte
	n := copy(text[:], `"`+string(name)+`":`)
	for i := range f.words {
		f.words[i] = load64(text[:], 8*i)
		f.masks[i] = ^uint64(0) >> (64 - 8*max(0, min(8, n-8*i)))
	}
	return f
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
