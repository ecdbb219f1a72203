package record

import (
	"bytes"
	"encoding/binary"
	"hash/maphash"
)

// Here is what the rare rows need in which a key comes twice, or one is the name of a field that is added, or an
// object has more keys than a shape holds: all keys are looked up in one hash table, and the fields that must go are
// taken out when their object ends. The time stays proportional to the row's length.

// keyTable holds the keys of all objects of one row. A key is found by its object's number and its text, which stands
// in the record.
type keyTable struct {
	slots []keySlot // their number is a power of two
	used  int
}

type keySlot struct {
	object uint32 // 0: free
	hash   uint32
	at     uint32 // where the key stands in out, the last time it came
}

const (
	minTable  = 1 << 10
	keptTable = 1 << 14 // slots that are kept from row to row
)

// reset forgets all keys.
func (k *keyTable) reset() {
	if k.giveBack(); k.used > 0 {
		clear(k.slots)
	}
	k.used = 0
}

// giveBack gives up a table that is too large to be kept behind its row.
func (k *keyTable) giveBack() {
	if len(k.slots) > keptTable {
		k.slots, k.used = nil, 0
	}
}

func hashKey(object uint32, key []byte) uint32 {
	return uint32(maphash.Bytes(hashSeed, key)) ^ object*0x9E3779B1
}

// put notes that the key out[at:end] of an object stands there, and tells whether it stood in the object before.
func (k *keyTable) put(out []byte, object uint32, at, end int) (twice bool) {
	if 2*(k.used+1) > len(k.slots) {
		k.grow()
	}
	key := out[at:end]
	hash := hashKey(object, key)
	for i := int(hash); ; i++ {
		s := &k.slots[i&(len(k.slots)-1)]
		if s.object == 0 {
			k.used++
			*s = keySlot{object, hash, uint32(at)}
			return false
		}
		// a prefix is enough: the key begins with its length
		if s.object == object && s.hash == hash && bytes.HasPrefix(out[s.at:], key) {
			s.at = uint32(at)
			return true
		}
	}
}

// isLast tells whether the key out[at:end] of an object is the last of its name there. It looks at the text of no
// other key: that may be moved already.
func (k *keyTable) isLast(out []byte, object uint32, at, end int) bool {
	for i := int(hashKey(object, out[at:end])); ; i++ {
		s := &k.slots[i&(len(k.slots)-1)]
		if s.object == 0 {
			return false
		}
		if s.object == object && s.at == uint32(at) {
			return true
		}
	}
}

func (k *keyTable) grow() {
	old := k.slots
	k.slots = make([]keySlot, max(minTable, 2*len(old)))
	for _, s := range old {
		if s.object == 0 {
			continue
		}
		i := int(s.hash)
		for k.slots[i&(len(k.slots)-1)].object != 0 {
			i++
		}
		k.slots[i&(len(k.slots)-1)] = s
	}
}

// carefulKey writes the key that begins at src[i], takes its colon, and notes it in the table.
func (t *transcoder) carefulKey(i, o, depth int, object uint32) (_, _ int, r role) {
	at := o
	if i, o = t.key(i, o); i < 0 {
		return -1, o, 0
	}
	if t.table.put(t.out, object, at, o) {
		t.dirty = true
	}
	if depth == 1 {
		if r = t.roleOf(t.out[strText(t.out, at):o]); r&roleAdded != 0 {
			t.dirty = true
		}
	}
	return i, o, r
}

// compact takes out of the object whose fields are out[from:end] those that must go: all but the last of a name, null
// fields under DropNull, and of the alert itself (object 1) those whose names EventIDKey and TenantKey take.
func (t *transcoder) compact(from, end int, object uint32) (o, count int) {
	out := t.out
	o = from
	for at := from; at < end; {
		v := skipMsg(out, at)
		next := skipMsg(out, v)
		if t.table.isLast(out, object, at, v) && !(t.opt.DropNull && out[v] == msgNil) &&
			!(object == 1 && t.isAdded(out[at:v])) {
			o += copy(out[o:], out[at:next])
			count++
		}
		at = next
	}
	return o, count
}

// isAdded tells whether a field of the alert is replaced by one of ours: key is a MessagePack string.
func (t *transcoder) isAdded(key []byte) bool {
	return t.opt.Encode == nil && (bytes.Equal(key, t.eventKey) || bytes.HasPrefix(t.tenant, key))
}

// The MessagePack bytes that stand for themselves.
const (
	msgNil   = 0xc0
	msgFalse = 0xc2
	msgTrue  = 0xc3
)

// skipMsg returns the index behind the value that stands at out[o], one of those that the transcoder writes.
func skipMsg(out []byte, o int) int {
	for open := 1; open > 0; open-- {
		c := out[o]
		o++
		switch c {
		case 0xcc, 0xd0:
			o++
		case 0xcd, 0xd1:
			o += 2
		case 0xce, 0xd2:
			o += 4
		case 0xcf, 0xd3, 0xcb:
			o += 8
		case 0xd9:
			o += 1 + int(out[o])
		case 0xda:
			o += 2 + int(binary.BigEndian.Uint16(out[o:]))
		case 0xdb:
			o += 4 + int(binary.BigEndian.Uint32(out[o:]))
		case 0xdc:
			open += int(binary.BigEndian.Uint16(out[o:]))
			o += 2
		case 0xde:
			open += 2 * int(binary.BigEndian.Uint16(out[o:]))
			o += 2
		case 0xdd:
			open += int(binary.BigEndian.Uint32(out[o:]))
			o += 4
		case 0xdf:
			open += 2 * int(binary.BigEndian.Uint32(out[o:]))
			o += 4
		default:
			if c >= 0xa0 && c < 0xc0 { // a short string; all else here is a small number, nil, a boolean, or empty
				o += int(c - 0xa0)
			}
		}
	}
	return o
}
