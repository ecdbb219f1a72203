//go:build goexperiment.simd && amd64 && !go1.27

package record

import (
	"math/bits"
	"simd/archsimd"
)

// What touches every byte of a text comes in two forms: in words of eight bytes (strings.go, novectors.go), which every
// processor has, and in vectors of 32 here, with which a row takes a quarter less time. They are an experiment of Go
// 1.26 that the Makefile turns on (GOEXPERIMENT=simd) and none of Go's promises covers, hence the other form. Both
// read and write up to pad bytes beyond what they are asked for. The tests, the fuzz targets among them, run in both.

// haveBlocks tells whether the processor has vectors. If not, strings go by words and rows are read carefully, at a
// third of the speed.
var haveBlocks = archsimd.X86.AVX2()

// block is 32 bytes.
type block struct{ archsimd.Uint8x32 }

func loadBlock(s []byte, i int) block {
	// The third index saves the compiler what it does for slices that begin at their capacity.
	return block{archsimd.LoadUint8x32((*[32]byte)(s[i : i+32 : i+32]))}
}

func (x block) store(out []byte, o int) { x.Store((*[32]byte)(out[o : o+32 : o+32])) }

// is tells whether x begins with the key f.
func (x block) is(f *field) bool {
	return x.AsUint64x4().Xor(archsimd.LoadUint64x4(&f.words)).And(archsimd.LoadUint64x4(&f.masks)).IsZero()
}

// stops marks the bytes that do not stand for themselves in a JSON string. Those beyond ASCII are negative here, and
// so below 0x21 as control characters are; the quote is moved there.
func (x block) stops() uint32 {
	two, low, backslash := archsimd.LoadInt8x32(&all2), archsimd.LoadInt8x32(&all21),
		archsimd.LoadInt8x32(&allBackslash)
	c := x.AsInt8x32()
	return low.Greater(c.Xor(two)).Or(c.Equal(backslash)).ToBits()
}

// Variables, because Broadcast takes an instruction of AVX-512.
var all2, all21, allBackslash = vectorOf(0x02), vectorOf(0x21), vectorOf('\\')

func vectorOf(c int8) (v [32]int8) {
	for i := range v {
		v[i] = c
	}
	return v
}

// str writes the string whose text begins at src[i], behind the quote. It returns the indices behind both, i < 0 if
// it cannot.
func (t *transcoder) str(i, o int) (int, int) {
	if !haveBlocks {
		return t.strWords(i, o)
	}
	s, out := t.src, t.out
	x := loadBlock(s, i)
	x.store(out, o+1)
	if m := x.stops(); m != 0 {
		n := bits.TrailingZeros32(m)
		if s[i+n] != '"' {
			return t.strUTF8(i, i+n, o)
		}
		out[o] = 0xa0 | byte(n)
		return i + n + 1, o + 1 + n
	}
	// most others have 32 to 255 bytes, behind a header of two
	if o+256+pad > len(out) {
		t.grow(o, 256+pad)
		out = t.out
	}
	x.store(out, o+2)
	for n := 32; n < 256; n += 32 {
		x = loadBlock(s, i+n)
		x.store(out, o+2+n)
		if m := x.stops(); m != 0 {
			n += bits.TrailingZeros32(m)
			if s[i+n] != '"' {
				return t.strUTF8(i, i+n, o)
			}
			out[o], out[o+1] = 0xd9, byte(n)
			return i + n + 1, o + 2 + n
		}
	}
	for j := i + 256; ; j += 32 {
		if m := loadBlock(s, j).stops(); m != 0 {
			j += bits.TrailingZeros32(m)
			if s[j] != '"' {
				return t.strUTF8(i, j, o)
			}
			return j + 1, t.copyStr(i, j, o)
		}
	}
}

// copyPlain copies what stands for itself at src[j] to out[p], of the next bytes that it looks at once, and tells how
// much that is and whether something else follows.
func copyPlain(out []byte, p int, s []byte, j int) (n int, stopped bool) {
	if !haveBlocks {
		return copyPlain8(out, p, s, j)
	}
	x := loadBlock(s, j)
	x.store(out, p)
	if m := x.stops(); m != 0 {
		return bits.TrailingZeros32(m), true
	}
	return 32, false
}

// endBlocks ends the use of vectors: on some processors what follows would be slower.
func endBlocks() {
	if haveBlocks {
		archsimd.ClearAVXUpperBits()
	}
}
