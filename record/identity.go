package record

import (
	"crypto/sha256"
	"encoding/hex"

	"github.com/zeebo/xxh3"
)

// role tells what a field of the alert is to us, beside a field. It is a set of bits.
type role uint16

const (
	roleTime role = 1 << iota
	roleUpdated
	rolePart
	roleAdded // a field of this name is added: the alert's own goes
	roleID    // the first of Schema.ID; the next is the next bit

	maxIDs    = 8
	roleAlert = roleID << maxIDs // the first of Options.Alerts, and so on
	maxAlerts = 2
)

// roleOf returns the role of a field of the alert itself.
func (t *transcoder) roleOf(name []byte) (r role) {
	set := func(key string, bit role) {
		if key != "" && string(name) == key {
			r |= bit
		}
	}
	set(t.opt.TimeKey, roleTime)
	set(t.opt.Schema.Updated, roleUpdated)
	set(t.opt.Schema.Part, rolePart)
	if t.opt.Encode == nil {
		set(t.opt.EventIDKey, roleAdded)
		set(t.opt.TenantKey, roleAdded)
	}
	for i, key := range t.opt.Schema.ID {
		set(key, roleID<<i)
	}
	for i, key := range t.opt.Alerts {
		set(key, roleAlert<<i)
	}
	return r
}

// span is where a value's text stands: a string's in out, unescaped and repaired; a number's or boolean's in src.
type span struct {
	from, to int
	inSrc    bool
	vague    bool // another value has the same text: it was repaired, or is an object or array
}

// found is what was picked up of a row's identity and time. Absent, null, objects and arrays are all empty.
type found struct {
	ids                 [maxIDs]span
	alerts              [maxAlerts]span
	part, updated, time span
}

// keep picks up the value of a field with a role: src[i:end], which became out[o:oEnd].
func (t *transcoder) keep(r role, i, end, o, oEnd int) {
	var sp span
	switch t.src[i] {
	case '"':
		sp = span{from: strText(t.out, o), to: oEnd, vague: t.repaired}
	case '{', '[':
		sp.vague = true
	case 'n':
	default:
		sp = span{from: i, to: end, inSrc: true}
	}
	if r&roleTime != 0 {
		t.found.time = sp
	}
	if r&roleUpdated != 0 {
		t.found.updated = sp
	}
	if r&rolePart != 0 {
		t.found.part = sp
	}
	for k := range t.opt.Schema.ID {
		if r&(roleID<<k) != 0 {
			t.found.ids[k] = sp
		}
	}
	for k := range t.opt.Alerts {
		if r&(roleAlert<<k) != 0 {
			t.found.alerts[k] = sp
		}
	}
}

// text returns the text of a span.
func (t *transcoder) text(sp span) []byte {
	if sp.inSrc {
		return t.src[sp.from:sp.to]
	}
	return t.out[sp.from:sp.to]
}

// identity returns a row's ID: by its own fields, or by the whole row if it has none of them, or if one had to be
// repaired or is an object or array (two alerts may look the same then).
func (t *transcoder) identity(row []byte) ID {
	f := &t.found
	for _, id := range f.ids[:len(t.opt.Schema.ID)] {
		if id.from == id.to {
			continue
		}
		first := t.opt.Schema.FirstOnly
		if id.vague || f.part.vague || f.updated.vague && !first {
			break
		}
		// 0xff stands in no valid text, so that no two identities make the same bytes
		b := append(t.idText[:0], t.text(id)...)
		b = append(b, 0xff)
		b = append(b, t.text(f.part)...)
		if !first {
			b = append(b, 0xff)
			b = append(b, t.text(f.updated)...)
		}
		t.idText = b
		return xxh3.Hash128(b).Bytes()
	}
	t.beginHash()
	t.hash.Write(row)
	return t.endHash()
}

// alerts returns the IDs of the alerts that a row names. One that had to be repaired, or is an object or array, is
// none. The first byte begins no other identity.
func (t *transcoder) alerts() (ids [maxAlerts]ID) {
	for k := range t.opt.Alerts {
		if sp := t.found.alerts[k]; sp.from < sp.to && !sp.vague {
			t.idText = append(append(t.idText[:0], 0xfe), t.text(sp)...)
			ids[k] = xxh3.Hash128(t.idText).Bytes()
		}
	}
	return ids
}

// beginHash and endHash make the ID of a whole row: write its text to hash between them. The first byte begins no
// other identity.
func (t *transcoder) beginHash() {
	t.hash.Reset()
	t.idText = append(t.idText[:0], 0xff)
	t.hash.Write(t.idText)
}

func (t *transcoder) endHash() ID {
	t.idText = t.hash.Sum(t.idText[:0])
	return ID(t.idText[:len(ID{})])
}

func shortHash(sum [sha256.Size]byte) ID { return ID(sum[:len(ID{})]) }

// putEventID writes the field with a row's ID at out[o]. Its length is eventIDSize and the key's.
func putEventID(out []byte, o int, key []byte, id ID) int {
	o += copy(out[o:], key)
	out[o], out[o+1] = 0xd9, 2*byte(len(id))
	o += 2
	return o + hex.Encode(out[o:], id[:])
}

const eventIDSize = 2 + 2*len(ID{})
