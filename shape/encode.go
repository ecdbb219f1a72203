package shape

import (
	"bytes"
	"encoding/binary"

	"fluent-bit-defender/record"
)

// encoder runs a program over one alert after the other. It belongs to one Reader and allocates nothing once it has met all fields.
type encoder struct {
	*program
	alert  *record.Alert
	native bool // keep_native

	values []value // by slot
	filled slotSet // which of them are of this alert
	claims []claim // by group
	pieces int     // of evidence so far; 0: the alert's own fields
	inList bool    // the value at hand is one of a list

	rest  [][]byte // fields without a place, as they stand: key and value
	restN int      // how many

	scratch  []byte   // values that were made
	of       []*value // what a derived target is made of
	seen     [][]met  // by source: the fields in the order they came last
	known    []map[string]*met
	stranger met // a field that is not remembered
}

// value is what goes to one target, as MessagePack.
type value struct {
	one  []byte // nil where there is none
	many [][]byte
	set  *set // of a long list; nil before the first
	rank uint16
}

// claim says which piece of evidence an object of the record is about.
type claim struct {
	piece int // from 1 on
	weak  bool
}

// met is a field that was met at some place of an object. Objects at one path mostly have their fields in the same order.
type met struct {
	words [4]uint64 // the key
	masks [4]uint64 // of the bits that count
	size  int       // of the key; 0: too long to be compared so
	key   string    // the name as a MessagePack string; empty: not remembered
	field *field    // nil: no row names it
}

// stands tells whether the key stands at b[i].
func (m *met) stands(b []byte, i int) bool {
	if m.size == 0 || len(b)-i < 32 {
		return m.key != "" && len(b)-i > len(m.key) && string(b[i:i+len(m.key)]) == m.key
	}
	w := (*[32]byte)(b[i:])
	return (binary.LittleEndian.Uint64(w[:])^m.words[0])&m.masks[0]|(binary.LittleEndian.Uint64(w[8:])^m.words[1])&m.masks[1]|
		(binary.LittleEndian.Uint64(w[16:])^m.words[2])&m.masks[2]|(binary.LittleEndian.Uint64(w[24:])^m.words[3])&m.masks[3] == 0
}

func (m *met) remember(key []byte) {
	m.key = string(key)
	if len(key) > 32 {
		return
	}
	var text [32]byte
	m.size = copy(text[:], key)
	for i := range m.words {
		m.words[i] = binary.LittleEndian.Uint64(text[8*i:])
		m.masks[i] = ^uint64(0) >> (64 - 8*max(0, min(8, m.size-8*i)))
	}
}

func newEncoder(p *program, native bool) *encoder {
	return &encoder{program: p, native: native, values: make([]value, p.slots), claims: make([]claim, len(p.groups)),
		seen: make([][]met, p.sources), known: make([]map[string]*met, p.sources)}
}

// fill reads the alert into the values.
func (e *encoder) fill(a *record.Alert) {
	e.alert = a
	e.filled = slotSet{}
	clear(e.claims)
	e.pieces, e.rest, e.restN, e.scratch = 0, e.rest[:0], 0, e.scratch[:0]
	for i := range e.lists {
		e.put1(&e.lists[i], e.items[i])
	}
	e.object(e.root, 0, true)
	if e.pieces == 0 { // the alert itself is one
		e.endPiece()
	}
	e.extras()
	e.derive(e.derived)
}

// extras puts what is no field of the alert.
func (e *encoder) extras() {
	for i := range e.special {
		s := &e.special[i]
		switch {
		case s.from == theTenant && e.alert.Tenant != "":
			s.fn(e, &s.rule, e.text(e.alert.Tenant))
		case s.from == theRecord && e.native:
			s.fn(e, &s.rule, e.alert.Native)
		case s.from == theText && e.native, s.from == theTime, s.from == theID:
			s.fn(e, &s.rule, nil)
		}
	}
}

// object goes through the fields of the object that stands at i in the native record, and returns where it ends.
func (e *encoder) object(src *source, i int, root bool) int {
	b := e.alert.Native
	n, i := open(b, i)
	seen := e.seen[src.id]
	kept := -1 // where a run of fields without a place begins
	for k := range n {
		at := i
		var f *field
		if k < len(seen) && seen[k].stands(b, i) {
			f = seen[k].field
			i += len(seen[k].key)
		} else {
			i = after(b, i)
			m := e.meet(src, b[at:i])
			if f = m.field; k < len(seen) {
				seen[k] = *m
			} else if k < maxMet {
				seen = append(seen, *m)
				e.seen[src.id] = seen
			}
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
			case c-0xa0 < 0x20:
				i += 1 + int(c-0xa0)
			case c == 0xd9:
				i += 2 + int(b[i+1])
			default:
				i = after(b, i)
			}
			taken = f != nil && e.give(f.rules, b[from:i]) // with what follows within its capacity: see appendValue
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

// meet looks a field up by its key, a MessagePack string. What it returns is good until the next call.
func (e *encoder) meet(src *source, key []byte) *met {
	known := e.known[src.id]
	if m := known[string(key)]; m != nil {
		return m
	}
	m := &e.stranger
	*m = met{field: src.fields[string(textIn(key))]}
	if len(known) < maxMet && len(key) <= maxKey {
		if known == nil {
			known = map[string]*met{}
			e.known[src.id] = known
		}
		m = &met{field: m.field}
		m.remember(key)
		known[m.key] = m
	}
	return m
}

const maxKey = 128 // bytes of a field's key that is remembered

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
	case c-0xa0 < 0x20:
		return i + 1 + int(c-0xa0)
	case c == 0xd9:
		return i + 2 + int(b[i+1])
	case c == msgNil:
		return i + 1
	}
	return afterOther(b, i)
}

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
	for k := range e.pieceHas {
		e.filled[k] &^= e.pieceHas[k]
	}
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
	if e.scratch, n = e.fields(append(e.scratch, groupHead...), e.piece); n == 0 {
		e.scratch = e.scratch[:at]
		return
	}
	endGroup(e.scratch, at, n)
	e.put1(&e.pieceList, e.made(at))
}

const (
	typeKey    = "@odata.type"
	typePrefix = "#microsoft.graph.security."
	typeSuffix = "Evidence"
)

// pieceKindOf returns the kind of a piece of evidence: process for #microsoft.graph.security.processEvidence. It mostly stands first.
func pieceKindOf(c record.Cursor) []byte {
	for n := c.Open(); n > 0; n-- {
		if string(c.Text()) == typeKey && c.Kind() == record.Text {
			return bytes.TrimSuffix(bytes.TrimPrefix(c.Text(), []byte(typePrefix)), []byte(typeSuffix))
		}
		c.Pass()
	}
	return nil
}

// derive makes what is made of other targets.
func (e *encoder) derive(all []derivation) {
	for i := range all {
		d := &all[i]
		e.of = e.of[:0]
		for k := range d.of {
			of := &d.of[k]
			v := &e.values[of.n]
			if !e.filled.has(of) {
				v.one, v.many = nil, v.many[:0]
				v.reset()
			}
			e.of = append(e.of, v)
		}
		d.fn(e, &d.rule, e.of)
	}
}

// put puts a value that fits to the rule's targets, and tells whether there was room: a single target may hold another already.
func (e *encoder) put(r *rule, v []byte) bool {
	taken := false
	for i := range r.puts {
		p := &r.puts[i]
		if !e.inList || p.list {
			taken = e.put1(p, v) || taken
		}
	}
	return taken
}

func (e *encoder) put1(p *put, v []byte) bool {
	if p.group != 0 && !e.claim(p) {
		return false
	}
	s := &e.values[p.n]
	fresh := !e.filled.has(&p.slot)
	if fresh {
		e.filled.add(&p.slot)
	}
	switch {
	case p.list && fresh:
		s.reset()
		s.many = append(s.many[:0], v)
	case p.list:
		s.add(v)
	case fresh || p.rank < s.rank:
		s.one, s.rank = v, p.rank
	default:
		return bytes.Equal(s.one, v)
	}
	return true
}

// claim tells whether the piece of evidence at hand may fill an object of the record: the first may, and one for which the object is made
// takes it from one that merely had something for it.
func (e *encoder) claim(p *put) bool {
	c := &e.claims[p.group]
	if c.piece == e.pieces && c.weak == p.weak {
		return true
	}
	if c.piece != 0 && (p.weak || !c.weak) {
		return false
	}
	if c.piece != 0 {
		for i := range e.groups[p.group] {
			e.filled.remove(&e.groups[p.group][i])
		}
	}
	*c = claim{e.pieces, p.weak}
	return true
}

// shrink gives back what a large alert left behind.
func (e *encoder) shrink() {
	e.alert = nil
	if cap(e.scratch) > maxScratch {
		e.scratch = nil
	}
}

const maxScratch = 64 << 10

// lower returns text in lower case, for look-ups; of a long one nil.
func lower(buf *[64]byte, text []byte) []byte {
	if len(text) > len(buf) {
		return nil
	}
	for i, c := range text {
		if c-'A' < 26 {
			c |= 0x20
		}
		buf[i] = c
	}
	return buf[:len(text)]
}
