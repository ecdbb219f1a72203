package shape

import (
	"bytes"

	"fluent-bit-defender/record"
)

// encoder runs a program over one alert after the other. It belongs to one Reader and allocates nothing once it has
// met all fields.
type encoder struct {
	*program
	alert  *record.Alert
	native bool // keep_native

	values [maxSlots]value // by slot
	filled slotSet         // which of them are of this alert
	claims []claim         // by group
	pieces int             // of evidence so far; 0: the alert's own fields
	inList bool            // the value at hand is one of a list

	rest  [][]byte // fields without a place, as they stand: key and value
	restN int      // how many

	scratch []byte   // values that were made
	of      []*value // what a derived target is made of
	seen    [][]met  // by source: the fields in the order they came last
	known   []map[string]met
}

// value is what goes to one target, as MessagePack.
type value struct {
	one  []byte // nil where there is none
	many []item
	set  *set // of a long list; nil before the first
	rank uint16
}

// item is one of a list. Where it is an object, head is all of it but its last value, so that none is made before it is
// written.
type item struct{ head, v []byte }

// claim says which piece of evidence an object of the record is about.
type claim struct {
	piece int // from 1 on
	weak  bool
}

func newEncoder(p *program, native bool) *encoder {
	return &encoder{program: p, native: native, claims: make([]claim, len(p.groups)), seen: make([][]met, p.sources),
		known: make([]map[string]met, p.sources)}
}

// fill reads the alert into the values.
func (e *encoder) fill(a *record.Alert) {
	e.alert = a
	e.filled = slotSet{}
	clear(e.claims)
	e.pieces, e.rest, e.restN, e.scratch = 0, e.rest[:0], 0, e.scratch[:0]
	for i := range e.lists {
		e.putTo(e.lists[i:i+1], e.items[i])
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
		case !e.wanted(&s.rule):
		case s.from == theTenant:
			if e.alert.Tenant != "" {
				s.fn(e, &s.rule, e.text(e.alert.Tenant))
			}
		case s.from == theRecord:
			if e.native {
				s.fn(e, &s.rule, e.alert.Native)
			}
		case e.native || s.from != theText:
			s.fn(e, &s.rule, nil)
		}
	}
}

// wanted tells whether a rule that comes after all others can still put something.
func (e *encoder) wanted(r *rule) bool {
	for i := range r.puts {
		if p := &r.puts[i]; p.list || !e.filled.has(p.slot) {
			return true
		}
	}
	return false
}

// derive makes what is made of other targets, of which at least one is there.
func (e *encoder) derive(all []derivation) {
	for i := range all {
		d := &all[i]
		if len(d.of) > 0 && !e.filled.meets(&d.any) || !e.wanted(&d.rule) {
			continue
		}
		e.of = e.of[:0]
		for _, of := range d.of {
			v := &e.values[of]
			if !e.filled.has(of) {
				v.one = nil
				v.reset()
			}
			e.of = append(e.of, v)
		}
		d.fn(e, &d.rule, e.of)
	}
}

// put puts a value that fits to the rule's targets, and tells whether there was room: a single target may hold
// another already.
func (e *encoder) put(r *rule, v []byte) bool { return e.putTo(r.puts, v) }

func (e *encoder) putTo(puts []put, v []byte) bool {
	taken := false
	for i := range puts {
		p := &puts[i]
		if e.inList && !p.list || p.group != 0 && !e.claim(p) {
			continue
		}
		s := &e.values[p.slot]
		fresh := !e.filled.has(p.slot)
		e.filled.add(p.slot)
		switch {
		case p.list:
			if fresh {
				s.reset()
			}
			s.add(nil, v)
		case fresh || p.rank < s.rank:
			s.one, s.rank = v, p.rank
		case !bytes.Equal(s.one, v):
			continue
		}
		taken = true
	}
	return taken
}

// putItem puts an object, which is head and then v, to a target that is a list.
func (e *encoder) putItem(p *put, head, v []byte) {
	s := &e.values[p.slot]
	if !e.filled.has(p.slot) {
		e.filled.add(p.slot)
		s.reset()
	}
	s.add(head, v)
}

// claim tells whether the piece of evidence at hand may fill an object of the record: the first may, and one for
// which the object is made takes it from one that merely had something for it.
func (e *encoder) claim(p *put) bool {
	c := &e.claims[p.group]
	if c.piece == e.pieces && c.weak == p.weak {
		return true
	}
	if c.piece != 0 && (p.weak || !c.weak) {
		return false
	}
	if c.piece != 0 {
		e.filled.without(&e.groups[p.group])
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
