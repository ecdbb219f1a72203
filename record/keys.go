package record

import (
	"bytes"
	"hash/maphash"
)

// Rows of one answer repeat their keys in much the same order. So the transcoder keeps each key it met, by the path
// of keys that leads to it, with those that followed it lately. These predicted keys are compared with the text in a
// few instructions each (see fields), instead of being scanned, looked up and encoded. After a miss the key is looked
// up.

const (
	maxPredicted = 29      // bytes of a name that can be predicted: `"name":` fills 32
	maxName      = 128     // bytes of a name that is kept
	maxFields    = 2 << 10 // keys that are kept
	slots        = 2 * maxFields
	followers    = 8 // keys that are kept as those that follow one
)

// field is a key that was met in the objects at one path. The pieces of evidence of an alert are objects at one path;
// their details are objects at another.
type field struct {
	words [4]uint64 // `"name":`
	masks [4]uint64 // of the bits that count
	head  byte      // of the name as a MessagePack string, which is as long as `"name`
	size  int       // of that; 0: the key cannot be predicted, so it follows none
	role  role
	stamp uint64 // the last object in which the key stood
	next  follow
	coded string // the name as a MessagePack string
	in    *objects
	value *objects // its values that are objects, or lists of them; nil before the first
}

// follow holds the keys that followed a key, the likeliest first, and keys.none in the places that are left.
type follow [followers]*field

// objects are those at one path.
type objects struct {
	id    uint64 // for the hash
	count uint64 // the stamp of the one at hand
	start follow // the first keys
}

var hashSeed = maphash.MakeSeed() // so that nobody can know which keys collide

// keys holds all keys of a Reader that can be predicted.
type keys struct {
	fields [slots]*field // a hash table
	count  int           // of the fields in it
	paths  uint64        // of all objects ever made
	root   *objects      // the alerts
	none   *field        // no key: it matches eight NULs, behind which there is no value
}

// reset forgets all keys.
func (k *keys) reset() {
	*k = keys{paths: k.paths, none: &field{masks: [4]uint64{^uint64(0)}}}
	k.root = k.newObjects()
}

func (k *keys) newObjects() *objects {
	k.paths++
	return &objects{id: k.paths, start: k.noFollow()}
}

func (k *keys) noFollow() (n follow) {
	for i := range n {
		n[i] = k.none
	}
	return n
}

// objectsOf returns the objects that are values of f.
func (k *keys) objectsOf(f *field) *objects {
	if f.value == nil {
		f.value = k.newObjects()
	}
	return f.value
}

// another returns the key that x begins with if it is one of those that followed, but not the first of them; nil
// otherwise. What is found moves up by one.
func (x block) another(n *follow) *field {
	for k := 1; k < followers; k++ {
		if f := n[k]; x.is(f) {
			n[k], n[k-1] = n[k-1], f
			return f
		}
	}
	return nil
}

// add notes that f followed, in the place of the one that did so least.
func (k *keys) add(n *follow, f *field) {
	free := 0
	for free < followers-1 && n[free] != k.none {
		free++
	}
	n[free] = f
}

// missedKey writes the key that begins at src[i], which was not predicted, and takes its colon.
func (t *transcoder) missedKey(i, o int, in *objects) (int, int, *field) {
	at := o
	if i, o = t.key(i, o); i < 0 {
		return -1, o, nil
	}
	k := t.keys
	coded := t.out[at:o]
	slot := (maphash.Bytes(hashSeed, coded) ^ in.id*0x9E3779B97F4A7C15) % slots
	for ; k.fields[slot] != nil; slot = (slot + 1) % slots {
		if f := k.fields[slot]; f.in == in && f.coded == string(coded) {
			return i, o, f
		}
	}
	name := t.out[strText(t.out, at):o]
	if k.count == maxFields { // begin anew with the next row
		k.reset()
		t.again = true
		return -1, o, nil
	}
	if len(name) > maxName {
		t.again = true
		return -1, o, nil
	}
	f := k.newField(name, coded)
	f.in = in
	if in == k.root {
		f.role = t.roleOf(name)
	}
	k.fields[slot] = f
	k.count++
	return i, o, f
}

func (k *keys) newField(name, coded []byte) *field {
	f := &field{coded: string(coded), next: k.noFollow()}
	// which cannot stand in the text as they are
	escaped := func(r rune) bool { return r < ' ' || r == '"' || r == '\\' }
	if len(name) > maxPredicted || bytes.ContainsFunc(name, escaped) {
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
