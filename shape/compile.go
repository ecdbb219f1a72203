package shape

import (
	"fmt"
	"slices"
	"strings"
)

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

// rank lets an upper row take a single target from a lower one only where nothing is lost by that. Else the first
// that comes has it, and the other stays under the vendor's name.
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
