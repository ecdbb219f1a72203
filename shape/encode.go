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

	values []value // by slot
	filled slotSet // which of them are of this alert
	claims []claim // by group
	pieces int     // of evidence so far; 0: the alert's own fields
	inList bool    // the value at hand is one of a list

	rest    [][]byte // fields without a place, as they stand: key and value
	restN   int      // how many
	restEnd int      // where the last ends in the native record

	scratch []byte   // values that were made
	of      []*value // what a derived target is made of
	seen    [][]met  // by source: the fields in the order they came last
	known   []map[string]met
}

// value is what goes to one target, as MessagePack.
type value struct {
	one  []byte // nil where there is none
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
	return &encoder{program: p, native: native, values: make([]value, p.slots), claims: make([]claim, len(p.groups)),
		seen: make([][]met, p.sources), known: make([]map[string]met, p.sources)}
}

// fill reads the alert into the values.
func (e *encoder) fill(a *record.Alert) {
	e.alert = a
	e.filled = slotSet{}
	clear(e.claims)
	e.pieces, e.rest, e.restN, e.restEnd, e.scratch = 0, e.rest[:0], 0, -1, e.scratch[:0]
	for i := range e.lists {
		e.put1(&e.lists[i], e.items[i])
	}
	c := record.NewCursor(a.Native)
	e.object(e.root, &c, true)
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

// object goes through the fields of an object. The cursor stands in the native record.
func (e *encoder) object(src *source, c *record.Cursor, root bool) {
	n := c.Open()
	seen := e.seen[src.id]
	at := c.Offset()
	for k := range n {
		name := c.Text()
		var f *field
		if k < len(seen) && seen[k].name == string(name) {
			f = seen[k].field
		} else {
			m := e.meet(src, name)
			if f = m.field; k < len(seen) {
				seen[k] = m
			} else if k < maxMet {
				seen = append(seen, m)
				e.seen[src.id] = seen
			}
		}
		taken := false
		if f == nil {
			c.Pass()
		} else {
			taken = e.field(f, c)
		}
		end := c.Offset()
		if root && (!taken || f.keep) {
			e.keep(at, end)
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

// field gives a field's value to its targets, and tells whether one took it.
func (e *encoder) field(f *field, c *record.Cursor) bool {
	from := c.Offset()
	if e.alert.Native[from] == msgNil || e.alert.Native[from] == msgEmpty {
		c.Pass()
		return true
	}
	if f.into == nil && f.kinds == nil {
		return e.give(f.rules, c.Skip())
	}
	e.inside(f, c)
	if len(f.rules) > 0 {
		e.give(f.rules, e.alert.Native[from:c.Offset():c.Offset()])
	}
	return true
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

// inside goes into an object, or each of a list.
func (e *encoder) inside(f *field, c *record.Cursor) {
	n := 1
	if c.Kind() == record.Array {
		n = c.Open()
	}
	for ; n > 0; n-- {
		switch {
		case f.kinds != nil:
			e.onePiece(f, c)
		case c.Kind() == record.Object:
			e.object(f.into, c, false)
		default:
			c.Pass()
		}
	}
}

// onePiece goes into a piece of evidence.
func (e *encoder) onePiece(f *field, c *record.Cursor) {
	src, from := f.any, c.Offset()
	if c.Kind() == record.Object {
		if known := f.kinds[string(pieceKindOf(*c))]; known != nil {
			src = known
		}
	}
	e.pieces++
	for i := range e.pieceHas {
		e.filled[i] &^= e.pieceHas[i]
	}
	for i := range src.consts {
		e.put(&src.consts[i], src.consts[i].fixed)
	}
	if c.Kind() == record.Object {
		e.object(src, c, false)
	} else {
		c.Pass()
	}
	for i := range src.whole {
		r := &src.whole[i]
		r.fn(e, r, e.alert.Native[from:c.Offset():c.Offset()])
	}
	e.endPiece()
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
				v.set.reset()
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
		s.set.reset()
		s.many = append(s.many[:0], v)
	case p.list:
		if s.set.add(s.many, v) {
			s.many = append(s.many, v)
		}
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

// keep notes that the field that stands at at has no place.
func (e *encoder) keep(at, end int) {
	e.restN++
	if n := len(e.rest); n > 0 && e.restEnd == at {
		at -= len(e.rest[n-1])
		e.rest = e.rest[:n-1]
	}
	e.rest = append(e.rest, e.alert.Native[at:end:end])
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
