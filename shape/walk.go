package shape

import (
	"bytes"
	"encoding/binary"

	"fluent-bit-defender/record"
)

// met is a field that was met at some place of an object. Objects at one path mostly have their fields in the same
// order.
type met struct {
	words, masks [2]uint64 // the key's first 16 bytes, and their bits that count
	size         int       // of the key
	field        *field    // nil: no row names it
	rest, more   [2]uint64 // as words and masks, of the next 16 bytes
}

const longestMet = 32 // bytes of a key that is remembered

// stands tells whether the key stands at the beginning of b.
func (m *met) stands(b *[longestMet]byte) bool {
	return (binary.LittleEndian.Uint64(b[:])^m.words[0])&m.masks[0]|
		(binary.LittleEndian.Uint64(b[8:])^m.words[1])&m.masks[1] == 0 && (m.size <= 16 ||
		(binary.LittleEndian.Uint64(b[16:])^m.rest[0])&m.more[0]|
			(binary.LittleEndian.Uint64(b[24:])^m.rest[1])&m.more[1] == 0)
}

// newMet is of a key, a MessagePack string; one that is too long stands nowhere.
func newMet(key []byte, f *field) met {
	var text [longestMet]byte
	m := met{size: len(key), field: f}
	if copy(text[:], key) < len(key) {
		text = [longestMet]byte{} // no string begins so
	}
	for i := range 2 {
		m.words[i], m.masks[i] = binary.LittleEndian.Uint64(text[8*i:]), firstBytes(m.size-8*i)
		m.rest[i], m.more[i] = binary.LittleEndian.Uint64(text[16+8*i:]), firstBytes(m.size-16-8*i)
	}
	return m
}

// firstBytes has the bits of the first n bytes of eight.
func firstBytes(n int) uint64 { return ^uint64(0) >> (64 - 8*max(0, min(8, n))) }

// object goes through the fields of the object that stands at i in the native record, and returns where it ends.
func (e *encoder) object(src *source, i int, root bool) int {
	b := e.alert.Native
	n, i := open(b, i)
	seen := e.seen[src.id]
	kept := -1 // where a run of fields without a place begins
	for k := range n {
		at := i
		var f *field
		if k < len(seen) && cap(b)-i >= longestMet && seen[k].stands((*[longestMet]byte)(b[i:i+longestMet])) {
			f = seen[k].field
			i += seen[k].size
		} else {
			i = after(b, i)
			f = e.meet(src, k, b[at:i])
			seen = e.seen[src.id]
		}
		taken, from := true, i
		switch c := b[i]; {
		case c == msgNil || c == msgEmpty:
			i++
			taken = f != nil
		case f != nil && f.inner:
			i = e.inside(f, i)
		default:
			switch { // as after does
			case c == 0xd9:
				i += 2 + int(b[i+1])
			case sizes[c] != 0:
				i += int(sizes[c])
			default:
				i = afterOther(b, i)
			}
			switch v := b[from:i]; { // with what follows within its capacity: see appendBytes
			case f == nil:
				taken = false
			case f.plain && isText(v):
				taken = e.putTo(f.rules[0].puts, v)
			default:
				taken = e.give(f.rules, v)
			}
		}
		if !root {
			continue
		}
		if !taken || f.keep {
			e.restN++
			if kept < 0 {
				kept = at
			}
		} else if kept >= 0 {
			e.rest = append(e.rest, b[kept:at])
			kept = -1
		}
	}
	if kept >= 0 {
		e.rest = append(e.rest, b[kept:i])
	}
	return i
}

// maxMet is the most fields of an object that are remembered.
const maxMet = 256

// meet looks the field at place k of an object up by its key, a MessagePack string, and remembers it.
func (e *encoder) meet(src *source, k int, key []byte) *field {
	known := e.known[src.id]
	m, found := known[string(key)]
	if !found {
		m = newMet(key, src.fields[string(textIn(key))])
		if len(known) < maxMet && len(key) <= longestMet {
			if known == nil {
				known = map[string]met{}
				e.known[src.id] = known
			}
			known[string(key)] = m
		}
	}
	if seen := e.seen[src.id]; k < len(seen) {
		seen[k] = m
	} else if k < maxMet { // places come one after the other
		e.seen[src.id] = append(seen, m)
	}
	return m.field
}

// open goes into a map or array.
func open(b []byte, i int) (n, at int) {
	if c := b[i]; c == 0xde || c == 0xdc {
		return int(b[i+1])<<8 | int(b[i+2]), i + 3
	}
	c := record.NewCursor(b[i:])
	n = c.Open()
	return n, i + c.Offset()
}

// after returns the index behind the value at i.
func after(b []byte, i int) int {
	switch c := b[i]; {
	case c == 0xd9:
		return i + 2 + int(b[i+1])
	case sizes[c] != 0:
		return i + int(sizes[c])
	}
	return afterOther(b, i)
}

// sizes are those of values that their first byte tells: short texts, numbers, what is empty.
var sizes = func() (n [256]uint8) {
	for c := range n {
		switch {
		case c < 0x80, c == 0x80, c == 0x90, c >= 0xe0, c == msgNil, c == 0xc2, c == 0xc3:
			n[c] = 1
		case c >= 0xa0 && c < 0xc0:
			n[c] = uint8(1 + c - 0xa0)
		case c >= 0xcc && c <= 0xcf:
			n[c] = 1 + 1<<(c-0xcc)
		case c >= 0xd0 && c <= 0xd3:
			n[c] = 1 + 1<<(c-0xd0)
		case c == 0xcb:
			n[c] = 9
		}
	}
	return n
}()

func afterOther(b []byte, i int) int {
	c := record.NewCursor(b[i:])
	c.Pass()
	return i + c.Offset()
}

// give puts a value, or each of a list, and tells whether a rule took it.
func (e *encoder) give(rules []rule, v []byte) bool {
	taken := false
	for i := range rules {
		r := &rules[i]
		if r.plain && isText(v) {
			taken = e.put(r, v) || taken
			continue
		}
		if !r.list || !isArray(v) {
			taken = r.fn(e, r, v) || taken
			continue
		}
		e.inList = true
		all := true
		c := record.NewCursor(v)
		for n := c.Open(); n > 0; n-- {
			if item := c.Skip(); !isEmpty(item) && !r.fn(e, r, item) {
				all = false
			}
		}
		e.inList = false
		taken = all || taken
	}
	return taken
}

// inside goes into the object at i, or each of a list, and returns where it ends.
func (e *encoder) inside(f *field, i int) int {
	b, from, n := e.alert.Native, i, 1
	if isArray(b[i:]) {
		n, i = open(b, i)
	}
	for ; n > 0; n-- {
		switch {
		case f.kinds != nil:
			i = e.onePiece(f, i)
		case isObject(b[i]):
			i = e.object(f.into, i, false)
		default:
			i = after(b, i)
		}
	}
	if len(f.rules) > 0 {
		e.give(f.rules, b[from:i:i])
	}
	return i
}

// onePiece goes into a piece of evidence.
func (e *encoder) onePiece(f *field, i int) int {
	b, src, from := e.alert.Native, f.any, i
	if isObject(b[i]) {
		if known := f.kinds[string(pieceKindOf(record.NewCursor(b[i:])))]; known != nil {
			src = known
		}
	}
	e.pieces++
	e.filled.without(&e.pieceHas)
	for k := range src.consts {
		e.put(&src.consts[k], src.consts[k].fixed)
	}
	if isObject(b[i]) {
		i = e.object(src, i, false)
	} else {
		i = after(b, i)
	}
	for k := range src.whole {
		r := &src.whole[k]
		r.fn(e, r, b[from:i:i])
	}
	e.endPiece()
	return i
}

// endPiece makes an element of what was put for a piece of evidence, in shapes that have a list of them.
func (e *encoder) endPiece() {
	if !e.filled.meets(&e.pieceHas) {
		return
	}
	e.derive(e.derivedIn)
	at := len(e.scratch)
	var n int
	if e.scratch, n = e.fields(beginGroup(e.scratch), e.pieceNodes); n == 0 {
		e.scratch = e.scratch[:at]
		return
	}
	endGroup(e.scratch, at, n)
	e.putTo(e.pieceList, e.made(at))
}

const (
	typeKey    = "@odata.type"
	typePrefix = "#microsoft.graph.security."
	typeSuffix = "Evidence"
)

// pieceKindOf returns the kind of a piece of evidence: process for #microsoft.graph.security.processEvidence. It
// mostly stands first.
func pieceKindOf(c record.Cursor) []byte {
	for n := c.Open(); n > 0; n-- {
		if string(c.Text()) == typeKey && c.Kind() == record.Text {
			return bytes.TrimSuffix(bytes.TrimPrefix(c.Text(), []byte(typePrefix)), []byte(typeSuffix))
		}
		c.Pass()
	}
	return nil
}
