package shape

import (
	"bytes"

	"fluent-bit-defender/record"
)

// encoder runs a program over one alert after the other. It belongs to one Reader and allocates nothing once it has met all fields.
type encoder struct {
	*program
	alert  *record.Alert
	native bool // keep_native

	slots, piece []slot
	claims       []claim // by group
	pieces       int     // of evidence so far; 0: the alert's own fields

	rest    [][]byte // fields without a place, as they stand: key and value
	restN   int      // how many
	restEnd int      // where the last ends in the native record

	scratch []byte  // values that were made
	of      []*slot // what a derived target is made of
	seen    [][]met // by source: the fields in the order they came last
	known   []map[string]met
}

// slot holds what goes to one target, as MessagePack.
type slot struct {
	one  []byte
	rank int
	many [][]byte
	set  set
}

// claim says which piece of evidence an object of the record is about.
type claim struct {
	piece int // from 1 on
	weak  bool
}

// met is a field that was met at some place of an object. Objects at one path mostly have their fields in the same order.
type met struct {
	name  string
	field *field // nil: no row names it
}

func newEncoder(p *program, native bool) *encoder {
	return &encoder{program: p, native: native, slots: make([]slot, p.slots), piece: make([]slot, p.pieceSlots), claims: make([]claim, len(p.groups)),
		seen: make([][]met, p.sources), known: make([]map[string]met, p.sources)}
}

// fill reads the alert into the slots.
func (e *encoder) fill(a *record.Alert) {
	e.alert = a
	clearSlots(e.slots)
	clear(e.claims)
	e.pieces, e.rest, e.restN, e.restEnd, e.scratch = 0, e.rest[:0], 0, -1, e.scratch[:0]
	for i := range e.consts {
		p := &e.consts[i]
		p.fn(e, p, nil)
	}
	e.object(e.root, a.Native, true)
	e.derive(false)
	e.extras()
}

// extras puts what is no field of the alert.
func (e *encoder) extras() {
	for i := range e.special {
		s := &e.special[i]
		switch {
		case s.from == theTenant && e.alert.Tenant != "":
			s.fn(e, &s.put, e.text(e.alert.Tenant))
		case s.from == theRecord && e.native:
			s.fn(e, &s.put, e.alert.Native)
		case s.from == theText && e.native, s.from == theTime, s.from == theID:
			s.fn(e, &s.put, nil)
		}
	}
}

func clearSlots(slots []slot) {
	for i := range slots {
		s := &slots[i]
		s.one = nil
		if len(s.many) > 0 {
			s.many = s.many[:0]
			s.set.reset()
		}
	}
}

// object goes through the fields of an object.
func (e *encoder) object(src *source, value []byte, root bool) {
	c := record.NewCursor(value)
	n := c.Open()
	seen := e.seen[src.id]
	at := c.Offset()
	for k := range n {
		name := c.Text()
		v := c.Skip()
		var f *field
		switch {
		case k < len(seen) && seen[k].name == string(name):
			f = seen[k].field
		default:
			m := e.meet(src, name)
			if f = m.field; k < len(seen) {
				seen[k] = m
			} else if k < maxMet {
				seen = append(seen, m)
				e.seen[src.id] = seen
			}
		}
		end := c.Offset()
		if taken := e.value(f, v); root && (!taken || f.keep) {
			e.keep(value, at, end)
		}
		at = end
	}
}

// maxMet is the most fields of an object that are remembered.
const maxMet = 256

// meet looks a field up.
func (e *encoder) meet(src *source, name []byte) met {
	known := e.known[src.id]
	if m, ok := known[string(name)]; ok {
		return m
	}
	m := met{field: src.fields[string(name)]}
	if m.field != nil {
		m.name = m.field.name
	}
	if len(known) < maxMet && len(name) <= maxName {
		if known == nil {
			known = map[string]met{}
			e.known[src.id] = known
		}
		m.name = string(name)
		known[m.name] = m
	}
	return m
}

const maxName = 128 // bytes of a field's name that is remembered

// value gives a field's value to its targets, and tells whether one took it. f may be nil.
func (e *encoder) value(f *field, v []byte) bool {
	if f == nil {
		return false
	}
	taken := isEmpty(v)
	if taken {
		return true
	}
	for i := range f.puts {
		if e.give(&f.puts[i], v) {
			taken = true
		}
	}
	if f.into != nil || f.kinds != nil {
		e.inside(f, v)
		taken = true
	}
	return taken
}

// give puts a value, or each of a list.
func (e *encoder) give(p *put, v []byte) bool {
	if !p.list || kindOf(v) != record.Array {
		return p.fn(e, p, v)
	}
	all := true
	c := record.NewCursor(v)
	for n := c.Open(); n > 0; n-- {
		if item := c.Skip(); !isEmpty(item) && !p.fn(e, p, item) {
			all = false
		}
	}
	return all
}

// inside goes into an object, or each of a list.
func (e *encoder) inside(f *field, v []byte) {
	switch kindOf(v) {
	case record.Object:
		if f.kinds != nil {
			e.onePiece(f, v)
		} else {
			e.object(f.into, v, false)
		}
	case record.Array:
		c := record.NewCursor(v)
		for n := c.Open(); n > 0; n-- {
			item := c.Skip()
			switch {
			case kindOf(item) != record.Object && f.kinds == nil:
			case f.kinds != nil:
				e.onePiece(f, item)
			default:
				e.object(f.into, item, false)
			}
		}
	}
}

// onePiece goes into a piece of evidence.
func (e *encoder) onePiece(f *field, v []byte) {
	src := f.any
	object := kindOf(v) == record.Object
	if object {
		if known := f.kinds[string(pieceKindOf(v))]; known != nil {
			src = known
		}
	}
	e.pieces++
	clearSlots(e.piece)
	for i := range src.whole {
		p := &src.whole[i]
		p.fn(e, p, v)
	}
	if object {
		e.object(src, v, false)
	}
	if len(e.program.piece) == 0 {
		return
	}
	e.derive(true)
	from := len(e.scratch)
	var n int
	e.scratch, n = e.fields(append(e.scratch, groupHead...), e.program.piece)
	if n == 0 {
		e.scratch = e.scratch[:from]
		return
	}
	endGroup(e.scratch, from, n)
	s := &e.slots[e.pieceList.slot]
	s.many = append(s.many, e.scratch[from:len(e.scratch):len(e.scratch)])
}

const (
	typeKey    = "@odata.type"
	typePrefix = "#microsoft.graph.security."
	typeSuffix = "Evidence"
)

// pieceKindOf returns the kind of a piece of evidence: process for #microsoft.graph.security.processEvidence. It mostly stands first.
func pieceKindOf(v []byte) []byte {
	c := record.NewCursor(v)
	for n := c.Open(); n > 0; n-- {
		if string(c.Text()) == typeKey && c.Kind() == record.Text {
			return bytes.TrimSuffix(bytes.TrimPrefix(c.Text(), []byte(typePrefix)), []byte(typeSuffix))
		}
		c.Skip()
	}
	return nil
}

// derive makes what is made of other targets.
func (e *encoder) derive(piece bool) {
	for i := range e.derived {
		d := &e.derived[i]
		if d.put.piece != piece {
			continue
		}
		e.of = e.of[:0]
		for k := range d.of {
			e.of = append(e.of, e.slotOf(&d.of[k]))
		}
		d.fn(e, &d.put, e.of)
	}
}

func (e *encoder) slotOf(p *put) *slot {
	if p.piece {
		return &e.piece[p.slot]
	}
	return &e.slots[p.slot]
}

// put puts a value that fits, and tells whether there was room: a single target may hold another already.
func (e *encoder) put(p *put, v []byte) bool {
	if p.group != 0 && !e.claim(p) {
		return false
	}
	s := e.slotOf(p)
	switch {
	case p.list:
		if s.set.add(s.many, v) {
			s.many = append(s.many, v)
		}
	case s.one == nil || p.rank < s.rank:
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
		for _, slot := range e.groups[p.group] {
			s := &e.slots[slot]
			s.one, s.many = nil, s.many[:0]
			s.set.reset()
		}
	}
	*c = claim{e.pieces, p.weak}
	return true
}

// keep notes that the field at value[at:end] has no place.
func (e *encoder) keep(value []byte, at, end int) {
	e.restN++
	if n := len(e.rest); n > 0 && e.restEnd == at {
		last := e.rest[n-1]
		e.rest[n-1] = value[at-len(last) : end : end]
	} else {
		e.rest = append(e.rest, value[at:end:end])
	}
	e.restEnd = end
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
