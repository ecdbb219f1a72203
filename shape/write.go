package shape

import (
	"encoding/binary"
	"time"

	"fluent-bit-defender/record"
)

// groupHead begins an object whose number of fields is not known yet: endGroup fills it in.
var groupHead = []byte{0xde, 0, 0}

func endGroup(b []byte, at, n int) { binary.BigEndian.PutUint16(b[at+1:], uint16(n)) }

// fields appends the targets that have a value and tells how many they are.
func (e *encoder) fields(dst []byte, targets []*target) ([]byte, int) {
	count := 0
	for _, t := range targets {
		switch t.kind {
		case kindText:
			dst = append(dst, t.text...)
			count += t.texts
			continue
		case kindLeaf:
			if !e.filled.has(&t.slot) {
				continue
			}
			dst = appendValue(t.appendKey(dst), e.values[t.slot.n].one)
		case kindList:
			if !e.filled.has(&t.slot) {
				continue
			}
			many := e.values[t.slot.n].many
			dst = appendArrayHead(t.appendKey(dst), len(many))
			for _, item := range many {
				dst = appendValue(dst, item)
			}
		case kindRest:
			if e.restN == 0 {
				continue
			}
			dst = appendMapHead(append(dst, t.key...), e.restN)
			for _, part := range e.rest {
				dst = append(dst, part...)
			}
		default:
			if t.picky && !e.filled.meets(&t.needs) || !e.filled.meets(&t.has) && !t.always && (!t.anyRest || e.restN == 0) {
				continue
			}
			from := len(dst)
			dst = t.appendKey(dst)
			at := len(dst)
			var n int
			if dst, n = e.fields(append(dst, groupHead...), t.kids); n == 0 {
				dst = dst[:from]
				continue
			}
			endGroup(dst, at, n)
		}
		count++
	}
	return dst, count
}

// appendValue is append for a short value, without a call where there is room around both.
func appendValue(dst, v []byte) []byte {
	n := len(dst)
	if len(v) > 32 || cap(v) < 32 || cap(dst)-n < 32 {
		return append(dst, v...)
	}
	*(*[32]byte)(dst[n : n+32]) = *(*[32]byte)(v[:32])
	return dst[:n+len(v)]
}

// appendKey is append for a short text, without a call where there is room.
func (t *target) appendKey(dst []byte) []byte {
	n := len(dst)
	if len(t.key) > len(t.block) || cap(dst)-n < len(t.block) {
		return append(dst, t.key...)
	}
	*(*[32]byte)(dst[n : n+32]) = t.block
	return dst[:n+len(t.key)]
}

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
	e.scratch = appendText(e.scratch, s)
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

// made is what was appended to scratch from from on.
func (e *encoder) made(from int) []byte { return e.scratch[from:len(e.scratch):len(e.scratch)] }

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
