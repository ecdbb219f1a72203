package record

import (
	"encoding/binary"
	"math"
	"math/bits"
	"strconv"
)

// number writes the number that begins at src[i]. It returns the indices behind both, i < 0 if it is none; what may
// follow a number is for the caller to check.
func (t *transcoder) number(i, o int) (int, int) {
	s := t.src
	start := i
	neg := s[i] == '-'
	if neg {
		i++
	}
	first := i
	v := uint64(0)
	for ; isDigit(s[i]); i++ {
		v = v*10 + uint64(s[i]-'0') // wrong from the 20th digit on: see below
	}
	digits := i - first
	if digits == 0 || s[first] == '0' && digits > 1 {
		return -1, o
	}
	if c := s[i]; c == '.' || c|0x20 == 'e' {
		return t.double(start, i, o)
	}
	if digits > 19 {
		if digits > 20 {
			return i, t.numberText(start, i, o)
		}
		v = 0
		for _, c := range s[first:i] {
			hi, lo := bits.Mul64(v, 10)
			sum, carry := bits.Add64(lo, uint64(c-'0'), 0)
			if hi|carry != 0 {
				return i, t.numberText(start, i, o)
			}
			v = sum
		}
	}
	if t.room(o); neg && v != 0 {
		if v > 1<<63 {
			return i, t.numberText(start, i, o)
		}
		return i, putNegative(t.out, o, int64(-v))
	}
	return i, putUnsigned(t.out, o, v)
}

// double goes on with a number whose integer part is src[start:i].
func (t *transcoder) double(start, i, o int) (int, int) {
	s := t.src
	if s[i] == '.' {
		i++
		from := i
		for ; isDigit(s[i]); i++ {
		}
		if i == from {
			return -1, o
		}
	}
	mantissa := i
	if s[i]|0x20 == 'e' {
		i++
		if s[i] == '+' || s[i] == '-' {
			i++
		}
		from := i
		for ; isDigit(s[i]); i++ {
		}
		if i == from {
			return -1, o
		}
	}
	f, err := strconv.ParseFloat(string(s[start:i]), 64)
	if err != nil || f == 0 && !isZero(s[start:mantissa]) {
		return i, t.numberText(start, i, o)
	}
	t.room(o)
	t.out[o] = 0xcb
	binary.BigEndian.PutUint64(t.out[o+1:], math.Float64bits(f))
	return i, o + 9
}

// isZero tells whether a mantissa holds no digit but 0.
func isZero(mantissa []byte) bool {
	for _, c := range mantissa {
		if c >= '1' && c <= '9' {
			return false
		}
	}
	return true
}

// numberText writes a number that neither 64 bits nor a double hold, as a string.
func (t *transcoder) numberText(i, j, o int) int { return t.copyStr(i, j, o) }

// putUnsigned writes v at out[o] in its shortest form and returns the index behind it.
func putUnsigned(out []byte, o int, v uint64) int {
	switch {
	case v < 1<<7:
		out[o] = byte(v)
		return o + 1
	case v < 1<<8:
		out[o], out[o+1] = 0xcc, byte(v)
		return o + 2
	case v < 1<<16:
		out[o] = 0xcd
		binary.BigEndian.PutUint16(out[o+1:], uint16(v))
		return o + 3
	case v < 1<<32:
		out[o] = 0xce
		binary.BigEndian.PutUint32(out[o+1:], uint32(v))
		return o + 5
	}
	out[o] = 0xcf
	binary.BigEndian.PutUint64(out[o+1:], v)
	return o + 9
}

// putNegative writes v, which is less than 0, at out[o] in its shortest form and returns the index behind it.
func putNegative(out []byte, o int, v int64) int {
	switch {
	case v >= -1<<5:
		out[o] = byte(v)
		return o + 1
	case v >= math.MinInt8:
		out[o], out[o+1] = 0xd0, byte(v)
		return o + 2
	case v >= math.MinInt16:
		out[o] = 0xd1
		binary.BigEndian.PutUint16(out[o+1:], uint16(v))
		return o + 3
	case v >= math.MinInt32:
		out[o] = 0xd2
		binary.BigEndian.PutUint32(out[o+1:], uint32(v))
		return o + 5
	}
	out[o] = 0xd3
	binary.BigEndian.PutUint64(out[o+1:], uint64(v))
	return o + 9
}
