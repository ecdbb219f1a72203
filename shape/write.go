package shape

import (
	"encoding/binary"
	"time"

	"fluent-bit-defender/record"
)

// beginGroup begins an object whose number of fields is not known yet: endGroup fills it in.
func beginGroup(dst []byte) []byte { return append(dst, 0xde, 0, 0) }

func endGroup(b []byte, at, n int) { binary.BigEndian.PutUint16(b[at+1:], uint16(n)) }

// fields appends those nodes that have a value, and tells how many fields they are.
func (e *encoder) fields(dst []byte, nodes []node) ([]byte, int) {
	count := 0
	for i := range nodes {
		n := &nodes[i]
		switch n.kind {
		case kindText:
			dst = appendBytes(dst, n.text)
			count += n.fields
			continue
		case kindLeaf:
			if !e.filled.has(n.slot) {
				continue
			}
			dst = appendBytes(n.appendKey(dst), e.values[n.slot].one)
		case kindList:
			if !e.filled.has(n.slot) {
				continue
			}
			many := e.values[n.slot].many
			dst = appendArrayHead(n.appendKey(dst), len(many))
			for i := range many {
				if it := &many[i]; len(it.head) == 0 {
					dst = appendBytes(dst, it.v)
				} else {
					dst = appendBytes(appendBytes(dst, it.head), it.v)
				}
			}
		case kindRest:
			if e.restN == 0 {
				continue
			}
			dst = appendMapHead(n.appendKey(dst), e.restN)
			for _, part := range e.rest {
				dst = appendBytes(dst, part)
			}
		default:
			if n.picky && !e.filled.meets(&n.needs) || !e.filled.meets(&n.has) && !n.always &&
				(!n.anyRest || e.restN == 0) {
				continue
			}
			from := len(dst)
			dst = n.appendKey(dst)
			at := len(dst)
			var inner int
			if dst, inner = e.fields(beginGroup(dst), n.kids); inner == 0 {
				dst = dst[:from]
				continue
			}
			endGroup(dst, at, inner)
		}
		count++
	}
	return dst, count
}

const block = 32 // bytes that are copied at once, whatever the length

// appendBytes is append for what is mostly short, by a block where there is room around both: with the length always
// the same, its branches are predicted.
func appendBytes(dst, v []byte) []byte {
	n := len(dst)
	if len(v) > block || cap(v) < block || cap(dst)-n < block {
		return append(dst, v...)
	}
	*(*[block]byte)(dst[n : n+block]) = *(*[block]byte)(v[:block])
	return dst[:n+len(v)]
}

func (n *node) appendKey(dst []byte) []byte {
	k := len(dst)
	if cap(dst)-k < block {
		return append(dst, n.key[:n.size]...)
	}
	*(*[block]byte)(dst[k : k+block]) = n.key
	return dst[:k+int(n.size)]
}

// padded returns v with room behind it, for appendBytes.
func padded(v []byte) []byte { return append(make([]byte, 0, len(v)+block), v...) }

// What follows appends MessagePack.

func appendMapHead(dst []byte, n int) []byte {
	switch {
	case n < 16:
		return append(dst, 0x80|byte(n))
	case n < 1<<16:
		return append(dst, 0xde, byte(n>>8), byte(n))
	}
	return binary.BigEndian.AppendUint32(append(dst, 0xdf), uint32(n))
}

func appendArrayHead(dst []byte, n int) []byte {
	switch {
	case n < 16:
		return append(dst, 0x90|byte(n))
	case n < 1<<16:
		return append(dst, 0xdc, byte(n>>8), byte(n))
	}
	return binary.BigEndian.AppendUint32(append(dst, 0xdd), uint32(n))
}

func appendTextHead(dst []byte, n int) []byte {
	switch {
	case n < 32:
		return append(dst, 0xa0|byte(n))
	case n < 1<<8:
		return append(dst, 0xd9, byte(n))
	case n < 1<<16:
		return append(dst, 0xda, byte(n>>8), byte(n))
	}
	return binary.BigEndian.AppendUint32(append(dst, 0xdb), uint32(n))
}

func appendText[T string | []byte](dst []byte, text T) []byte {
	return append(appendTextHead(dst, len(text)), text...)
}

func appendInt(dst []byte, n int64) []byte {
	switch {
	case n >= 0 && n < 128, n < 0 && n >= -32:
		return append(dst, byte(n))
	case n >= 0 && n < 1<<32:
		return binary.BigEndian.AppendUint32(append(dst, 0xce), uint32(n))
	}
	return binary.BigEndian.AppendUint64(append(dst, 0xd3), uint64(n))
}

// text and number make values that live until the next alert.

func (e *encoder) text(s string) []byte {
	from := len(e.scratch)
	e.scratch = appendText(e.scratch, s)
	return e.made(from)
}

func (e *encoder) textOf(s []byte) []byte {
	from := len(e.scratch)
	e.scratch = appendBytes(appendTextHead(e.scratch, len(s)), s)
	return e.made(from)
}

func (e *encoder) number(n int64) []byte {
	from := len(e.scratch)
	e.scratch = appendInt(e.scratch, n)
	return e.made(from)
}

func (e *encoder) timeText(sec int64, nsec uint32) []byte {
	from := len(e.scratch)
	var buf [40]byte
	e.scratch = appendText(e.scratch, time.Unix(sec, int64(nsec)).UTC().AppendFormat(buf[:0], time.RFC3339Nano))
	return e.made(from)
}

// made is what was appended to scratch from from on. It is only read, so what comes behind it may lie within its
// capacity: see appendBytes.
func (e *encoder) made(from int) []byte { return e.scratch[from:] }

func kindOf(v []byte) record.Kind {
	c := record.NewCursor(v)
	return c.Kind()
}

// textIn returns the text of a value, nil where it is none.
func textIn(v []byte) []byte {
	switch b := v[0]; {
	case b-0xa0 < 0x20:
		return v[1:]
	case b == 0xd9:
		return v[2:]
	case b == 0xda:
		return v[3:]
	case b == 0xdb:
		return v[5:]
	}
	return nil
}

func isText(v []byte) bool { return v[0]-0xa0 < 0x20 || v[0]-0xd9 < 3 }

// isEmpty tells whether a value says nothing: null or an empty text.
func isEmpty(v []byte) bool { return v[0] == msgNil || v[0] == msgEmpty }

const (
	msgNil   = 0xc0
	msgEmpty = 0xa0 // an empty text
)

func isObject(c byte) bool { return c&0xf0 == 0x80 || c == 0xde || c == 0xdf }

func isArray(v []byte) bool { return v[0]&0xf0 == 0x90 || v[0] == 0xdc || v[0] == 0xdd }
