package shape

import (
	"fmt"
	"slices"
	"strings"
)

// compile makes a program of a table. A table that contradicts itself is a fault of the code: it panics.
func compile(t table) *program {
	p := &program{single: map[slot][]claimant{}, names: map[string]*target{}, inPiece: map[*target]bool{},
		groupN: map[string]int{}, groups: make([]slotSet, 1)}
	p.root = p.newSource()
	for i, r := range t.rows {
		p.addRow(i, r)
	}
	for _, d := range t.derived {
		p.addDerived(d, len(t.rows))
	}
	if t.vendor != "" {
		p.target(t.vendor).rest, p.vendor = true, true
	}
	for path, needs := range t.needs {
		g := p.group(path)
		g.picky = true
		for _, of := range strings.Fields(needs) {
			if p.names[of] != nil {
				g.needs.add(p.names[of].slot)
			}
		}
	}
	spread(p.root)
	p.nodes, p.pieceNodes = nodes(p.targets), nodes(p.pieceTargets)
	for t := range p.inPiece {
		p.pieceHas.add(t.slot)
	}
	if p.vendor {
		p.rank()
	}
	return p
}

// addDerived leaves out what is the same in each record of the table.
func (p *program) addDerived(d derived, rank int) {
	if t := p.names[d.to]; t != nil && t.value != nil {
		return
	}
	dv := derivation{rule: rule{puts: []put{p.newPut(d.to, rank, false)}}, fn: d.make}
	inPiece := p.inPiece[p.names[d.to]]
	for _, of := range d.of {
		k := p.target(of).slot
		dv.of = append(dv.of, k)
		dv.any.add(k)
		inPiece = inPiece || p.inPiece[p.names[of]]
	}
	if inPiece {
		p.derivedIn = append(p.derivedIn, dv)
	} else {
		p.derived = append(p.derived, dv)
	}
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

// nodes makes them of targets; one of neighbours that are the same in each record.
func nodes(targets []*target) (out []node) {
	for _, t := range targets {
		n := t.node()
		if last := len(out) - 1; last >= 0 && n.kind == kindText && out[last].kind == kindText {
			before := out[last].branch
			out[last].branch = &branch{always: true, fields: before.fields + n.fields,
				text: padded(slices.Concat(before.text, n.text))}
			continue
		}
		out = append(out, n)
	}
	return out
}

func (t *target) node() node {
	key := appendText(nil, t.name)
	n := node{slot: t.slot, size: uint8(len(key)), branch: &branch{}}
	if copy(n.key[:], key) < len(key) {
		panic("shape: the name " + t.name + " is too long")
	}
	switch {
	case t.value != nil:
		n.kind, n.always, n.fields, n.text = kindText, true, 1, padded(append(key, t.value...))
		return n
	case t.rest:
		n.kind, n.anyRest = kindRest, true
		return n
	case t.leaf:
		if n.kind = kindLeaf; t.list {
			n.kind = kindList
		}
		n.has.add(t.slot)
		return n
	}
	n.kids, n.picky, n.needs = nodes(t.kids), t.picky, t.needs
	for _, k := range n.kids {
		n.has.join(&k.has)
		n.anyRest, n.always = n.anyRest || k.anyRest, n.always || k.always
	}
	if len(n.kids) == 1 && n.kids[0].kind == kindText && !n.picky {
		only := n.kids[0]
		n.kind, n.fields, n.text = kindText, 1, padded(append(appendMapHead(key, only.fields), only.text...))
	}
	return n
}

func (p *program) newSource() *source {
	p.sources++
	return &source{id: p.sources - 1, fields: map[string]*field{}}
}

func (p *program) addRow(rank int, w row) {
	inPiece := strings.HasPrefix(w.from, pieceKind+"[")
	r := rule{fn: w.as.fn, fixed: padded(w.as.fixed), plain: w.as.plain}
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
			p.single[put.slot] = append(p.single[put.slot], claimant{put, inPiece || keep || len(r.puts) > 1})
		}
	}
	switch {
	case w.from == "" && r.list:
		p.lists = append(p.lists, r.puts...)
		p.items = append(p.items, r.fixed)
	case w.from == "":
		for _, to := range strings.Fields(w.to) {
			p.names[to].value = w.as.fixed
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
				if last && w.as.fixed != nil {
					at.consts = append(at.consts, r)
				} else if last {
					at.whole = append(at.whole, r)
				}
			case last:
				f.rules, f.keep = append(f.rules, r), f.keep || keep
				f.plain = len(f.rules) == 1 && r.plain
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
var lone = map[string]bool{"related": true, "event": true, "threat": true, "observables": true, "resources": true,
	"finding_info": true, "malware": true}

func (p *program) newPut(to string, rank int, inPiece bool) put {
	weak := strings.HasPrefix(to, "~")
	to = strings.TrimPrefix(to, "~")
	t := p.target(to)
	out := put{slot: t.slot, list: t.list, weak: weak, rank: uint16(rank)}
	if group, _, _ := strings.Cut(strings.TrimPrefix(to, "("), "."); inPiece && !p.inPiece[t] &&
		!lone[strings.TrimSuffix(group, "[]")] {
		n := p.groupN[group]
		if n == 0 {
			n = len(p.groups)
			p.groupN[group] = n
			p.groups = append(p.groups, slotSet{})
		}
		out.group = uint8(n)
		p.groups[n].add(t.slot)
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
	kids, piece := &p.targets, false
	if around, inner, ok := strings.Cut(name, "[]."); ok && path[0] != '(' {
		p.pieceList = []put{p.newPut(around+"[]", 0, false)}
		kids, piece, name = &p.pieceTargets, true, inner
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
	if p.slots == maxSlots {
		panic("shape: too many targets")
	}
	t.leaf, t.list, t.slot = true, list, slot(p.slots)
	p.slots++
	if piece {
		p.inPiece[t] = true
	}
	p.names[path] = t
	return t
}

// group returns the object at a path, and makes it where it is new.
func (p *program) group(path string) *target {
	kids := &p.targets
	if _, inner, ok := strings.Cut(path, "[]."); ok {
		kids, path = &p.pieceTargets, inner
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
	k := &target{name: name}
	*kids = append(*kids, k)
	return k
}
