package record

import (
	"hash"
	"time"
)

// transcoder turns the text of one row into a record. It belongs to one Reader and is used by its goroutine only.
//
// src is a window with the row in it and pad bytes behind its end, the first of them 0; out is the record's buffer up
// to its capacity. Functions take and return indices into both; a negative index into src means that they could not
// go on: the text ends too early, is wrong, or is not for us. The scanner then says which.
type transcoder struct {
	opt      Options
	eventKey []byte // EventIDKey as a MessagePack string
	tenantID string // see Reader.SetTenant
	// tenantKey is TenantKey as a MessagePack string, tenant what is added to each record: that and the tenant, or
	// nothing.
	tenantKey, tenant []byte
	src               []byte
	out               []byte
	keys              *keys // nil before the first row

	// careful: every key is looked up in table, because one came twice or is added, or because keys does not hold
	// one. The first pass only finds out that it is so; such rows are read a second time. Without blocks each row is
	// read so at once.
	careful bool
	table   keyTable
	objects uint32 // counts the objects of the row
	dirty   bool   // an object of the row may hold fields that must go

	again    bool // came out of the first pass: read the row carefully
	deep     bool // nested deeper than maxDepth
	repaired bool // U+FFFD stands for what was no UTF-8
	found    found

	native  []byte // with Options.Encode: the native record
	alertOf Alert
	rawText []byte // with Options.EncodeRaw: a raw row's text, repaired

	idText []byte    // what an ID is the hash of
	hash   hash.Hash // of an ID
}

type outcome byte

const (
	stuck   outcome = iota // no JSON object, or one that is not whole yet
	whole                  // the row became a record
	tooDeep                // it is nested deeper than maxDepth
)

const (
	slack    = 2 * pad // what a key and a short value need of out: see room
	keptText = 64 << 10
	mapHead  = 3 // a map's or array's header is as wide as this until its end is known: see endGroup
)

// row appends the record of the row that begins at src[i], a '{', to dst. If the outcome is not whole, dst comes back
// as long as it was, perhaps with more room. Row.Size tells how long the row's text is.
func (t *transcoder) row(dst, src []byte, i int, now func() time.Time) (_ []byte, row Row, _ outcome) {
	base := len(dst)
	t.src, t.out = src, dst[:cap(dst)]
	if t.opt.Encode != nil {
		base, t.out = 0, t.native[:cap(t.native)]
	}
	var end, o, count int
	t.careful, t.again = false, !haveBlocks
	if haveBlocks {
		end, o, count = t.alert(i, base)
	}
	if t.again {
		t.careful = true
		t.table.reset()
		end, o, count = t.alert(i, base)
	}
	endBlocks()
	if end < 0 {
		t.table.giveBack()
		if t.opt.Encode == nil {
			dst = t.out[:base] // which may have grown
		} else {
			t.native = t.out
		}
		if t.deep {
			return dst, row, tooDeep
		}
		return dst, row, stuck
	}
	row.ID = t.identity(src[i:end])
	if len(t.opt.Alerts) > 0 {
		row.Alerts = t.alerts()
	}
	row.Size = end - i
	row.Repaired = t.repaired
	if sec, nsec, ok := parseTime(t.text(t.found.updated)); ok {
		row.Updated = sec*1e9 + int64(nsec)
	}
	sec, nsec, ok := parseTime(t.text(t.found.time))
	if !ok {
		sec, nsec = inRange(now())
	}
	head := base + headSize
	if t.careful {
		if t.dirty { // only now, for what was found stands in out
			o, count = t.compact(head+mapHead, o, 1)
		}
		t.table.giveBack()
	}
	if t.opt.Encode != nil {
		o = t.endGroup(head, o, count, mapGroup)
		o, count = t.encode(dst, t.out[head:o], row, src[i:end], sec, nsec)
		base = len(dst)
		head = base + headSize
	}
	if len(t.tenant) > 0 {
		t.roomFor(o, len(t.tenant))
		o += copy(t.out[o:], t.tenant)
		count++
	}
	if len(t.eventKey) > 0 {
		t.roomFor(o, len(t.eventKey)+eventIDSize)
		o = putEventID(t.out, o, t.eventKey, row.ID)
		count++
	}
	putHead(t.out, base, sec, nsec)
	o = t.endGroup(head, o, count, mapGroup)
	return t.out[:o], row, whole
}

// alert writes the fields of the row that begins at src[i], leaving room before them for what is known at their end.
func (t *transcoder) alert(i, base int) (end, o, count int) {
	t.deep, t.repaired, t.dirty, t.objects, t.found = false, false, false, 1, found{}
	t.room(base)
	if t.keys == nil {
		t.keys = new(keys)
		t.keys.reset()
	}
	return t.fields(i+1, base+headSize+mapHead, 1, t.keys.root, 1)
}

// fields writes the fields of an object, from behind its '{' to behind its '}', and tells how many they are. in says
// where it stands; object is its number in the row.
func (t *transcoder) fields(i, o, depth int, in *objects, object uint32) (_, _, count int) {
	s := t.src
	if i = skipSpace(s, i); s[i] == '}' {
		return i + 1, o, 0
	}
	var next *follow // of the key before
	var stamp uint64
	if !t.careful {
		in.count++
		next, stamp = &in.start, in.count
	}
	for {
		t.room(o)
		at := o
		var r role
		var f *field
		if t.careful {
			if i, o, r = t.carefulKey(i, o, depth, object); i < 0 {
				return -1, o, 0
			}
		} else {
			x := loadBlock(s, i)
			if f = next[0]; !x.is(f) {
				f = x.another(next)
			}
			if f != nil {
				// The MessagePack string is the same but for its first byte, so it is written with what follows it
				// and without a branch for its length. Against string comparison and copy this takes 6 % off a row.
				x.store(t.out, o)
				t.out[o] = f.head
				i += f.size + len(`":`)
				o += f.size
			} else {
				if i, o, f = t.missedKey(i, o, in); i < 0 {
					return -1, o, 0
				}
				if f.size > 0 {
					t.keys.add(next, f)
				}
			}
			if f.stamp == stamp || f.role&roleAdded != 0 {
				t.again = true
				return -1, o, 0
			}
			f.stamp = stamp
			next, r = &f.next, f.role
		}
		if s[i] <= ' ' {
			i = skipSpace(s, i)
		}
		v := o
		switch {
		case r != 0:
			i, o = t.ownValue(r, i, o, depth, f)
		case s[i] == '"':
			i, o = t.str(i+1, o)
		case isNull(s, i):
			t.out[o] = msgNil
			i, o = i+4, o+1
		case s[i] == '[' && s[i+1] == ']':
			t.out[o] = arrayGroup.empty
			i, o = i+2, o+1
		default:
			i, o = t.value(i, o, depth, f)
		}
		if i < 0 {
			return -1, o, 0
		}
		count++
		if t.opt.DropNull && t.out[v] == msgNil {
			if t.careful { // it may be the last of its name, and then the others go too: see compact
				t.dirty = true
			} else {
				o = at
				count--
			}
		}
		if s[i] <= ' ' {
			i = skipSpace(s, i)
		}
		if s[i] != ',' {
			break
		}
		if i++; s[i] <= ' ' {
			i = skipSpace(s, i)
		}
	}
	if s[i] != '}' {
		return -1, o, 0
	}
	return i + 1, o, count
}

// ownValue writes the value of a field that has a role, and picks it up.
func (t *transcoder) ownValue(r role, i, o, depth int, f *field) (int, int) {
	before := t.repaired
	t.repaired = false
	end, oEnd := t.value(i, o, depth, f)
	if end >= 0 {
		t.keep(r, i, end, o, oEnd)
	}
	t.repaired = t.repaired || before
	return end, oEnd
}

// room makes sure that out has slack bytes from o on.
func (t *transcoder) room(o int) {
	if o+slack > len(t.out) {
		t.grow(o, slack)
	}
}

// roomFor makes sure that out has n bytes from o on.
func (t *transcoder) roomFor(o, n int) {
	if o+n > len(t.out) {
		t.grow(o, n)
	}
}

// grow gives out room for n bytes from o on; what stands before o stays.
func (t *transcoder) grow(o, n int) {
	size := o + n
	out := make([]byte, size+size/4+4<<10)
	copy(out, t.out[:o])
	t.out = out
}

// shrink gives back what a large row left behind.
func (t *transcoder) shrink() {
	t.src, t.out, t.alertOf = nil, nil, Alert{}
	if cap(t.native) > keptText {
		t.native = nil
	}
	if cap(t.rawText) > keptText {
		t.rawText = nil
	}
	t.table.reset()
	if cap(t.idText) > keptText {
		t.idText = nil
	}
}
