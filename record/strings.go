package record

import (
	"encoding/binary"
	"math/bits"
	"unicode/utf16"
	"unicode/utf8"
)

// pad is how many bytes may be read beyond a window's end, so that eight, sixteen and thirty-two bytes can be looked
// at without asking whether they are there. The byte at the end is 0, which is good in no JSON token: whatever runs
// over the end stops there.
const pad = 64

func isSpace(c byte) bool { return c == ' ' || c == '\n' || c == '\r' || c == '\t' }
func isDigit(c byte) bool { return c-'0' <= 9 }

// unhex holds the value of each hex digit, 0xff for all other bytes.
var unhex = func() (t [256]byte) {
	for i := range t {
		t[i] = 0xff
	}
	for i, c := range "0123456789abcdef" {
		t[c] = byte(i)
	}
	for i, c := range "ABCDEF" {
		t[c] = byte(10 + i)
	}
	return t
}()

// hex4 returns the value of the four hex digits at s[i], -1 if they are none.
func hex4(s []byte, i int) rune {
	a, b, c, d := unhex[s[i]], unhex[s[i+1]], unhex[s[i+2]], unhex[s[i+3]]
	if a|b|c|d > 15 {
		return -1
	}
	return rune(a)<<12 | rune(b)<<8 | rune(c)<<4 | rune(d)
}

// copyStr writes src[i:j] as it stands.
func (t *transcoder) copyStr(i, j, o int) int {
	n := j - i
	if o+n+pad > len(t.out) {
		t.grow(o, n+pad)
	}
	out, s := t.out, t.src
	o = putStrHeader(out, o, n)
	copyText(out, o, s, i, n)
	return o + n
}

// copyText copies n bytes, and up to pad more where that is faster.
func copyText(out []byte, o int, s []byte, i, n int) {
	if n >= 256 {
		copy(out[o:], s[i:i+n])
		return
	}
	for k := 0; k < n; k += 32 {
		copy32(out[o+k:o+k+32:o+k+32], s[i+k:i+k+32:i+k+32])
	}
}

// strUTF8 goes on with a string whose src[i:j] is ASCII, while src[j] is something else. As long as nothing is
// escaped and all is valid it is copied as it stands.
func (t *transcoder) strUTF8(i, j, o int) (int, int) {
	s := t.src
	if s[j] >= utf8.RuneSelf {
		end := j
		for {
			if m := stopsUTF8(load64(s, end)); m != 0 {
				end += bits.TrailingZeros64(m) >> 3
				break
			}
			end += 8
		}
		if s[end] == '"' && utf8.Valid(s[j:end]) {
			return end + 1, t.copyStr(i, end, o)
		}
	}
	return t.strEscaped(i, j, o)
}

// strEscaped goes on with a string of which src[i:j] stands for itself and what follows does not.
func (t *transcoder) strEscaped(i, j, o int) (int, int) {
	const guess = 2 // the header's length: right for 32 to 255 bytes, else the text is moved at the end
	if o+guess+j-i+pad > len(t.out) {
		t.grow(o, guess+j-i+pad)
	}
	at := o + guess
	s, out := t.src, t.out
	copyText(out, at, s, i, j-i)
	p := at + j - i
	for {
		if p+pad > len(out) {
			t.grow(p, pad)
			out = t.out
		}
		n, stopped := copyPlain(out, p, s, j)
		if j, p = j+n, p+n; !stopped {
			continue
		}
		switch c := s[j]; {
		case c == '"':
			return j + 1, t.endStr(o, at, p)
		case c == '\\':
			if e := unescape[s[j+1]]; e != 0 {
				out[p] = e
				j, p = j+2, p+1
			} else if j, p = t.escapeU(j+1, p); j < 0 {
				return -1, o
			}
		case c < ' ':
			return -1, o
		default:
			r, size := utf8.DecodeRune(s[j:])
			if r == utf8.RuneError && size == 1 {
				t.repaired = true
			}
			p += utf8.EncodeRune(out[p:], r)
			j += size
		}
	}
}

// unescape holds what the byte after a backslash stands for, 0 if it stands for nothing.
var unescape = [256]byte{'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t'}

// escapeU writes the character that is escaped as a 'u' at src[i] and four hex digits. out has room for it.
func (t *transcoder) escapeU(i, p int) (int, int) {
	s := t.src
	if s[i] != 'u' {
		return -1, p
	}
	r := hex4(s, i+1)
	if r < 0 {
		return -1, p
	}
	i += 5
	if utf16.IsSurrogate(r) {
		pair := rune(utf8.RuneError)
		if s[i] == '\\' && s[i+1] == 'u' {
			pair = utf16.DecodeRune(r, hex4(s, i+2))
		}
		if pair == utf8.RuneError { // alone; what follows is looked at again for itself
			t.repaired = true
		} else {
			i += 6
		}
		r = pair
	}
	return i, p + utf8.EncodeRune(t.out[p:], r)
}

// endStr writes the header at o for the text in out[at:p], and moves the text behind it.
func (t *transcoder) endStr(o, at, p int) int {
	n := p - at
	var head [5]byte
	h := putStrHeader(head[:], 0, n)
	switch {
	case n < 32:
		copy32(t.out[o+1:o+33:o+33], t.out[at:at+32:at+32])
	case o+h != at:
		copy(t.out[o+h:], t.out[at:p]) // out has room: see strEscaped
	}
	copy(t.out[o:], head[:h])
	return o + h + n
}

// putStrHeader writes the MessagePack header of a string of n bytes at out[o] and returns the index behind it.
func putStrHeader(out []byte, o, n int) int {
	switch {
	case n < 32:
		out[o] = 0xa0 | byte(n)
		return o + 1
	case n < 1<<8:
		out[o], out[o+1] = 0xd9, byte(n)
		return o + 2
	case n < 1<<16:
		out[o], out[o+1], out[o+2] = 0xda, byte(n>>8), byte(n)
		return o + 3
	}
	out[o] = 0xdb
	binary.BigEndian.PutUint32(out[o+1:], uint32(n))
	return o + 5
}

// strText returns where the text of the string that was written at out[o] begins.
func strText(out []byte, o int) int {
	switch c := out[o]; c {
	case 0xd9:
		return o + 2
	case 0xda:
		return o + 3
	case 0xdb:
		return o + 5
	}
	return o + 1
}

const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

func load64(b []byte, i int) uint64 { return binary.LittleEndian.Uint64(b[i : i+8]) }

// stops marks, among eight bytes, those that do not stand for themselves in a JSON string: quote, backslash, control
// characters and all beyond ASCII. The mark is the byte's highest bit; marks above the lowest one may be wrong, for a
// borrow may have run into them. c^0x02 moves the quote below 0x21, beside the control characters, and keeps all else
// above, so one subtraction finds both. Against looking at single bytes this takes 30 % off a row's time.
func stops(w uint64) uint64 {
	quote, backslash := (w^0x02*ones)-0x21*ones, (w^'\\'*ones)-ones
	return (quote | backslash | w) & highs
}

// stopsUTF8 is stops without the bytes beyond ASCII.
func stopsUTF8(w uint64) uint64 {
	quote, backslash := (w^0x02*ones)-0x21*ones, (w^'\\'*ones)-ones
	return (quote | backslash) &^ w & highs
}

// copy32 copies 32 bytes. An assignment of arrays would do the same by a call of memmove, which adds 3 % to a row's
// time.
func copy32(dst, src []byte) {
	d, s := (*[32]byte)(dst), (*[32]byte)(src)
	a, b := binary.LittleEndian.Uint64(s[0:]), binary.LittleEndian.Uint64(s[8:])
	c, e := binary.LittleEndian.Uint64(s[16:]), binary.LittleEndian.Uint64(s[24:])
	binary.LittleEndian.PutUint64(d[0:], a)
	binary.LittleEndian.PutUint64(d[8:], b)
	binary.LittleEndian.PutUint64(d[16:], c)
	binary.LittleEndian.PutUint64(d[24:], e)
}

// copyPlain8 is copyPlain in words of eight bytes.
func copyPlain8(out []byte, p int, s []byte, j int) (n int, stopped bool) {
	w := load64(s, j)
	binary.LittleEndian.PutUint64(out[p:], w)
	if m := stops(w); m != 0 {
		return bits.TrailingZeros64(m) >> 3, true
	}
	return 8, false
}

// strWords is str in words of eight bytes.
func (t *transcoder) strWords(i, o int) (int, int) {
	s := t.src
	j := i
	for {
		if m := stops(load64(s, j)); m != 0 {
			j += bits.TrailingZeros64(m) >> 3
			break
		}
		j += 8
	}
	if s[j] != '"' {
		return t.strUTF8(i, j, o)
	}
	if n := j - i; n < 32 {
		out := t.out
		out[o] = 0xa0 | byte(n)
		copy32(out[o+1:o+33:o+33], s[i:i+32:i+32])
		return j + 1, o + 1 + n
	}
	return j + 1, t.copyStr(i, j, o)
}
