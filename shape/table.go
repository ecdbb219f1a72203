package shape

import (
	"fmt"
	"strings"
)

// row is one line of a table: a field of the alert, where its value goes, and what it becomes on the way. A field that is null or an empty text
// says nothing and is left out; one whose value fits none of its targets stays under the vendor's name, as fields without a row do.
//
// from is the field's path. Lists are gone through without a word about it. evidence[process] is a piece of evidence of that kind, evidence[*] one of
// any. What is no field stands in parentheses: see the constants. Empty: the value is as's.
//
// to are targets, separated by blanks. One that ends in [] takes all values, each once; any other the first that comes, but of several rows of
// the table that name it the upper row's. One in parentheses is only a part of a derived one. x[].y is a field y of what becomes of each piece of evidence in the list x. ~ before a target: only
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
	make func(e *encoder, p *put, of []*slot)
	doc  string
}

// table is the mapping of one API's alerts to one shape.
type table struct {
	rows    []row
	derived []derived
	vendor  string // the target of what has no row; empty: it is left out
}

// conv makes of a field's value what a target takes. It puts what it made, and tells whether the value fits.
type conv struct {
	doc string
	fn  func(e *encoder, p *put, v []byte) bool
}

// put is one target of one row.
type put struct {
	conv
	slot  int
	piece bool // the slot is one of a piece of evidence
	list  bool
	weak  bool
	rank  int // the lower goes first
	group int // the object that all fields from one piece of evidence go to; 0: none
}

// field is what the rows say of one field.
type field struct {
	name  string
	puts  []put
	keep  bool
	into  *source            // for values that are objects, or lists of them
	kinds map[string]*source // for the list of evidence
	any   *source            // for pieces of kinds that no row names
}

// source is an object at one path of the alert.
type source struct {
	id     int
	fields map[string]*field
	whole  []put // of the object itself
}

// target is one field of the record, or of what becomes of a piece of evidence.
type target struct {
	name  string
	key   []byte // MessagePack
	slot  int    // -1: an object
	list  bool
	rest  bool // takes what has no row
	kids  []*target
	piece bool
}

// program is a table, ready to run. It is not changed once it is made.
type program struct {
	root       *source
	consts     []put
	special    []special
	out        []*target
	piece      []*target // fields of an element of the list that pieces of evidence become
	pieceList  put       // that list; its elements are objects
	derived    []derivation
	slots      int
	pieceSlots int
	groups     [][]int // slots, by group
	sources    int
	vendor     *target

	names  map[string]*target
	groupN map[string]int
}

// special is a target of what is no field of the alert.
type special struct {
	from string
	put
}

type derivation struct {
	put put
	of  []put
	fn  func(e *encoder, p *put, of []*slot)
}

const pieceKind = "evidence"

// compile makes a program of a table. A table that contradicts itself is a fault of the code: it panics.
func compile(t table) *program {
	p := &program{names: map[string]*target{}, groupN: map[string]int{}, groups: make([][]int, 1)}
	p.root = p.newSource()
	for i, r := range t.rows {
		p.addRow(i, r)
	}
	for _, d := range t.derived {
		dv := derivation{put: p.newPut(d.to, len(t.rows), conv{doc: d.doc}, false), fn: d.make}
		for _, of := range d.of {
			dv.of = append(dv.of, p.newPut(of, 0, conv{}, false))
		}
		p.derived = append(p.derived, dv)
	}
	if t.vendor != "" {
		p.vendor = p.target(t.vendor)
		p.vendor.rest = true
	}
	spread(p.root)
	return p
}

func (p *program) newSource() *source {
	p.sources++
	return &source{id: p.sources - 1, fields: map[string]*field{}}
}

func (p *program) addRow(rank int, r row) {
	inPiece := strings.HasPrefix(r.from, pieceKind+"[")
	var puts []put
	keep := false
	for _, to := range strings.Fields(r.to) {
		if to == "*" {
			keep = true
			continue
		}
		puts = append(puts, p.newPut(to, rank, r.as, inPiece))
	}
	switch {
	case r.from == "":
		p.consts = append(p.consts, puts...)
	case r.from[0] == '(':
		for _, to := range puts {
			p.special = append(p.special, special{r.from, to})
		}
	default:
		at := p.root
		parts := strings.Split(r.from, ".")
		for i, name := range parts {
			name, kind, isPiece := strings.Cut(strings.TrimSuffix(name, "]"), "[")
			f := at.fields[name]
			if f == nil {
				f = &field{name: name}
				at.fields[name] = f
			}
			switch last := i == len(parts)-1; {
			case isPiece:
				f.keep = true
				at = p.kind(f, kind)
				if last {
					at.whole = append(at.whole, puts...)
				}
			case last:
				f.puts, f.keep = append(f.puts, puts...), f.keep || keep
			default:
				if f.into == nil {
					f.into = p.newSource()
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

func (p *program) newPut(to string, rank int, as conv, inPiece bool) put {
	weak := strings.HasPrefix(to, "~")
	to = strings.TrimPrefix(to, "~")
	t := p.target(to)
	if t.kids != nil {
		panic("shape: an object as a target: " + to)
	}
	out := put{conv: as, slot: t.slot, piece: t.piece, list: t.list, weak: weak, rank: rank}
	if group, _, _ := strings.Cut(strings.TrimPrefix(to, "("), "."); inPiece && !t.piece && !lone[strings.TrimSuffix(group, "[]")] {
		n := p.groupN[group]
		if n == 0 {
			n = len(p.groups)
			p.groupN[group] = n
			p.groups = append(p.groups, nil)
		}
		out.group = n
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
	if around, inner, ok := strings.Cut(name, "[]."); ok {
		p.pieceList = p.newPut(around+"[]", 0, conv{}, false)
		kids, piece, name = &p.piece, true, inner
	}
	if path[0] == '(' { // for a derived target alone
		kids, name = new([]*target), "part"
	}
	parts := strings.Split(name, ".")
	for _, part := range parts[:len(parts)-1] {
		kids = &child(kids, part).kids
	}
	t := child(kids, parts[len(parts)-1])
	if t.slot >= 0 || t.kids != nil {
		panic(fmt.Sprintf("shape: %s is a list and none, or an object and none", path))
	}
	t.list, t.piece = list, piece
	if piece {
		t.slot = p.pieceSlots
		p.pieceSlots++
	} else {
		t.slot = p.slots
		p.slots++
	}
	p.names[path] = t
	return t
}

func child(kids *[]*target, name string) *target {
	for _, k := range *kids {
		if k.name == name {
			return k
		}
	}
	k := &target{name: name, key: appendText(nil, name), slot: -1}
	*kids = append(*kids, k)
	return k
}
