package shape

import (
	"fmt"
	"slices"
	"strings"
)

// row is one line of a table: a field of the alert, where its value goes, and what it becomes on the way. A field that is null or an empty text
// says nothing and is left out; one whose value fits none of its targets stays under the vendor's name, as fields without a row do.
//
// from is the field's path. Lists are gone through without a word about it. evidence[process] is a piece of evidence of that kind, evidence[*] one of
// any. What is no field stands in parentheses: see the constants. Empty: the value is as's.
//
// to are targets, separated by blanks. One that ends in [] takes all values, each once; any other the first that comes, but of several rows of
// the table that name it the upper row's, if what the others say stands elsewhere too. One in parentheses is only a part of a derived one. x[].y is a field y of what becomes of each piece of evidence in the list x. ~ before a target: only
// where no row without ~ has filled that object (the first part of the target). * alone: the field stays under the vendor's name as well.
type row struct {
	from, to string
	as       conv
}

// What a row may take beside fields of the alert.
const (
	theTenant = "(tenant)" // tenant_id of the stanza
	theText   = "(text)"   // the alert's JSON; only with keep_native
	theRecord = "(native)" // the native record; only with keep_native
	theTime   = "(time)"   // the record's time
	theID     = "(id)"     // the id that event_id_key gives
)

// derived is a target that is made of others, once all of them are known.
type derived struct {
	to   string
	of   []string
	make func(e *encoder, r *rule, of []*value)
	doc  string
}

// table is the mapping of one API's alerts to one shape.
type table struct {
	rows    []row
	derived []derived
	needs   map[string]string // by object: targets, any one of which must be there for it to be written
	vendor  string            // the target of what has no row; empty: it is left out
}

// conv makes of a field's value what a target takes. It puts what it made, and tells whether the value fits.
type conv struct {
	doc   string
	fn    func(e *encoder, r *rule, v []byte) bool
	fixed []byte // what it puts, if that is always the same
	plain bool   // it takes each text as it is
}

// rule is a row, ready to run. Rules, puts and values are small, for each is looked at for each alert.
type rule struct {
	fn    func(e *encoder, r *rule, v []byte) bool // of conv
	puts  []put
	fixed []byte // of conv
	list  bool   // one of the targets is a list
	plain bool   // of conv
}

// put is a target of a rule.
type put struct {
	slot
	list  bool
	weak  bool
	group uint8  // the object that all fields from one piece of evidence go to; 0: none
	rank  uint16 // the lower goes first
}

// slot is the number of a target: a bit of a set.
type slot struct {
	bit  uint64
	n    uint16
	word uint8
}

// field is what the rows say of one field.
type field struct {
	name  string
	rules []rule
	keep  bool
	inner bool               // it has into or kinds
	into  *source            // for values that are objects, or lists of them
	kinds map[string]*source // for the list of evidence
	any   *source            // for pieces of kinds that no row names
}

// source is an object at one path of the alert.
type source struct {
	id     int
	fields map[string]*field
	consts []rule // what each such piece of evidence says
	whole  []rule // of the object itself
}

// targetKind is how a target is written.
type targetKind byte

const (
	kindGroup targetKind = iota
	kindLeaf
	kindList
	kindText // always the same
	kindRest // what has no row
)

// target is one field of the record, or of what becomes of a piece of evidence.
type target struct {
	kind    targetKind
	texts   int // fields in text
	name    string
	key     []byte   // MessagePack
	block   [32]byte // key, where it fits
	slot    slot
	leaf    bool
	list    bool
	rest    bool // takes what has no row
	kids    []*target
	picky   bool // a group that is left out without any of needs
	needs   slotSet
	has     slotSet // its slots
	anyRest bool    // it or one within it takes what has no row
	text    []byte  // key and value, where that is the same in each record
	always  bool    // it or one within it has text
}

// program is a table, ready to run. It is not changed once it is made.
type program struct {
	root      *source
	lists     []put // which begin with these items
	items     [][]byte
	special   []special
	out       []*target
	piece     []*target // fields of an element of the list that pieces of evidence become
	pieceList put       // that list; its elements are objects
	pieceHas  slotSet
	derived   []derivation // of the record, and of each piece of evidence
	derivedIn []derivation
	slots     int
	groups    [][]slot // by group
	sources   int

	single  map[uint16][]claimant // by slot
	names   map[string]*target
	inPiece map[*target]bool
	groupN  map[string]int
}

// claimant is a row that names a single target.
type claimant struct {
	put   *put
	other bool // what it says stands elsewhere too
}

// special is a target of what is no field of the alert.
type special struct {
	from string
	rule
}

type derivation struct {
	rule rule
	of   []slot
	fn   func(e *encoder, r *rule, of []*value)
}

// maxSlots is the most targets of a table.
const maxSlots = 256

// slotSet is a set of slots.
type slotSet [maxSlots / 64]uint64

func newSlot(n int) slot { return slot{1 << (n % 64), uint16(n), uint8(n / 64)} }

func (s *slotSet) has(k *slot) bool { return s[k.word&3]&k.bit != 0 }
func (s *slotSet) add(k *slot)      { s[k.word&3] |= k.bit }
func (s *slotSet) remove(k *slot)   { s[k.word&3] &^= k.bit }

func (s *slotSet) join(o slotSet) {
	for i := range s {
		s[i] |= o[i]
	}
}

func (s *slotSet) meets(o *slotSet) bool {
	return s[0]&o[0]|s[1]&o[1]|s[2]&o[2]|s[3]&o[3] != 0
}

const pieceKind = "evidence"

// compile makes a program of a table. A table that contradicts itself is a fault of the code: it panics.
func compile(t table) *program {
	p := &program{single: map[uint16][]claimant{}, names: map[string]*target{}, inPiece: map[*target]bool{}, groupN: map[string]int{}, groups: make([][]slot, 1)}
	p.root = p.newSource()
	for i, r := range t.rows {
		p.addRow(i, r)
	}
	for _, d := range t.derived {
		dv := derivation{rule: rule{puts: []put{p.newPut(d.to, len(t.rows), false)}}, fn: d.make}
		for _, of := range d.of {
			dv.of = append(dv.of, p.target(of).slot)
		}
		inPiece := p.inPiece[p.names[d.to]]
		for _, of := range d.of {
			inPiece = inPiece || p.inPiece[p.names[of]]
		}
		if inPiece {
			p.derivedIn = append(p.derivedIn, dv)
		} else {
			p.derived = append(p.derived, dv)
		}
	}
	if t.vendor != "" {
		p.target(t.vendor).rest = true
	}
	for path, needs := range t.needs {
		g := p.group(path)
		g.picky = true
		for _, of := range strings.Fields(needs) {
			if p.names[of] != nil {
				g.needs.add(&p.names[of].slot)
			}
		}
	}
	spread(p.root)
	for _, t := range append(p.out, p.piece...) {
		t.finish()
	}
	p.out, p.piece = merged(p.out), merged(p.piece)
	for t := range p.inPiece {
		p.pieceHas.add(&t.slot)
	}
	if t.vendor != "" {
		p.rank()
	}
	if p.slots > maxSlots {
		panic("shape: too many targets")
	}
	return p
}

// rank lets an upper row take a single target from a lower one only where nothing is lost by that. Else the first that comes has it, and the other
// stays under the vendor's name.
func (p *program) rank() {
	for _, rows := range p.single {
		lost := false
		for _, r := range rows[1:] {
			lost = lost || !r.other
		}
		for _, r := range rows {
			if lost {
				r.put.rank = 0
			}
		}
	}
}

// finish finds out what a target covers and how it is written.
func (t *target) finish() {
	t.always = t.text != nil
	switch {
	case t.always:
		t.kind, t.texts = kindText, 1
		return
	case t.rest:
		t.kind, t.anyRest = kindRest, true
		return
	case t.leaf:
		t.has.add(&t.slot)
		if t.kind = kindLeaf; t.list {
			t.kind = kindList
		}
		return
	}
	t.kind = kindGroup
	for _, k := range t.kids {
		k.finish()
		t.has.join(k.has)
		t.anyRest, t.always = t.anyRest || k.anyRest, t.always || k.always
	}
	t.kids = merged(t.kids)
	if len(t.kids) == 1 && t.kids[0].kind == kindText && !t.picky {
		k := t.kids[0]
		t.kind, t.texts, t.text = kindText, 1, append(appendMapHead(slices.Clone(t.key), k.texts), k.text...)
	}
}

// merged makes one of neighbours that are the same in each record.
func merged(all []*target) (out []*target) {
	for _, t := range all {
		if n := len(out) - 1; n >= 0 && t.kind == kindText && out[n].kind == kindText {
			both := *out[n]
			both.text, both.texts = slices.Concat(both.text, t.text), both.texts+t.texts
			out[n] = &both
			continue
		}
		out = append(out, t)
	}
	return out
}

func (p *program) newSource() *source {
	p.sources++
	return &source{id: p.sources - 1, fields: map[string]*field{}}
}

func (p *program) addRow(rank int, w row) {
	inPiece := strings.HasPrefix(w.from, pieceKind+"[")
	r := rule{fn: w.as.fn, fixed: w.as.fixed, plain: w.as.plain}
	keep := false
	for _, to := range strings.Fields(w.to) {
		if to == "*" {
			keep = true
			continue
		}
		put := p.newPut(to, rank, inPiece)
		r.puts = append(r.puts, put)
		r.list = r.list || put.list
	}
	for i := range r.puts {
		if put := &r.puts[i]; !put.list {
			p.single[put.n] = append(p.single[put.n], claimant{put, inPiece || keep || len(r.puts) > 1})
		}
	}
	switch {
	case w.from == "" && r.list:
		p.lists = append(p.lists, r.puts...)
		p.items = append(p.items, r.fixed)
	case w.from == "":
		for _, to := range strings.Fields(w.to) {
			t := p.names[to]
			t.text = append(slices.Clone(t.key), r.fixed...)
		}
	case w.from[0] == '(':
		p.special = append(p.special, special{w.from, r})
	default:
		at := p.root
		parts := strings.Split(w.from, ".")
		for i, name := range parts {
			name, kind, isPiece := strings.Cut(strings.TrimSuffix(name, "]"), "[")
			f := at.fields[name]
			if f == nil {
				f = &field{name: name}
				at.fields[name] = f
			}
			switch last := i == len(parts)-1; {
			case isPiece:
				f.inner = true
				at = p.kind(f, kind)
				if last && r.fixed != nil {
					at.consts = append(at.consts, r)
				} else if last {
					at.whole = append(at.whole, r)
				}
			case last:
				f.rules, f.keep = append(f.rules, r), f.keep || keep
			default:
				if f.into == nil {
					f.into, f.inner = p.newSource(), true
				}
				at = f.into
			}
		}
	}
}

// kind returns the source of pieces of a kind.
func (p *program) kind(f *field, kind string) *source {
	if f.kinds == nil {
		f.kinds, f.any = map[string]*source{}, p.newSource()
	}
	if kind == "*" {
		return f.any
	}
	if f.kinds[kind] == nil {
		f.kinds[kind] = p.newSource()
	}
	return f.kinds[kind]
}

// spread gives what the rows say of pieces of any kind to each kind that they name.
func spread(root *source) {
	for _, f := range root.fields {
		for _, k := range f.kinds {
			k.whole = append(k.whole, f.any.whole...)
			k.consts = append(k.consts, f.any.consts...)
			for name, of := range f.any.fields {
				if k.fields[name] != nil {
					panic("shape: two rows for " + name + " of a kind and of any")
				}
				k.fields[name] = of
			}
		}
	}
}

// lone are the objects whose fields may come from several pieces of evidence.
var lone = map[string]bool{"related": true, "event": true, "threat": true, "observables": true, "resources": true, "finding_info": true, "malware": true}

func (p *program) newPut(to string, rank int, inPiece bool) put {
	weak := strings.HasPrefix(to, "~")
	to = strings.TrimPrefix(to, "~")
	t := p.target(to)
	out := put{slot: t.slot, list: t.list, weak: weak, rank: uint16(rank)}
	if group, _, _ := strings.Cut(strings.TrimPrefix(to, "("), "."); inPiece && !p.inPiece[t] && !lone[strings.TrimSuffix(group, "[]")] {
		n := p.groupN[group]
		if n == 0 {
			n = len(p.groups)
			p.groupN[group] = n
			p.groups = append(p.groups, nil)
		}
		out.group = uint8(n)
		p.groups[n] = append(p.groups[n], t.slot)
	}
	return out
}

// target returns the target of a path, and makes it and the objects around it where they are new.
func (p *program) target(path string) *target {
	if t := p.names[path]; t != nil {
		return t
	}
	list := strings.HasSuffix(path, "[]")
	name := strings.TrimSuffix(path, "[]")
	kids, piece := &p.out, false
	if around, inner, ok := strings.Cut(name, "[]."); ok && path[0] != '(' {
		p.pieceList = p.newPut(around+"[]", 0, false)
		kids, piece, name = &p.piece, true, inner
	}
	if path[0] == '(' { // for a derived target alone
		piece = strings.Contains(path, "[]")
		kids, name = new([]*target), "part"
	}
	parts := strings.Split(name, ".")
	for _, part := range parts[:len(parts)-1] {
		kids = &child(kids, part).kids
	}
	t := child(kids, parts[len(parts)-1])
	if t.leaf || t.kids != nil {
		panic(fmt.Sprintf("shape: %s is a list and none, or an object and none", path))
	}
	t.leaf, t.list, t.slot = true, list, newSlot(p.slots)
	p.slots++
	if piece {
		p.inPiece[t] = true
	}
	p.names[path] = t
	return t
}

// group returns the object at a path, and makes it where it is new.
func (p *program) group(path string) *target {
	kids := &p.out
	if _, inner, ok := strings.Cut(path, "[]."); ok {
		kids, path = &p.piece, inner
	}
	var g *target
	for _, part := range strings.Split(path, ".") {
		g = child(kids, part)
		kids = &g.kids
	}
	return g
}

func child(kids *[]*target, name string) *target {
	for _, k := range *kids {
		if k.name == name {
			return k
		}
	}
	k := &target{name: name, key: appendText(nil, name)}
	copy(k.block[:], k.key)
	*kids = append(*kids, k)
	return k
}
