//go:build !(goexperiment.simd && amd64 && !go1.27)

package record

import "encoding/binary"

// See vectors.go: here are words in their place.

const haveBlocks = true

type block struct{ a, b, c, d uint64 }

func loadBlock(s []byte, i int) block {
	p := (*[32]byte)(s[i : i+32 : i+32])
	return block{
		binary.LittleEndian.Uint64(p[0:]), binary.LittleEndian.Uint64(p[8:]),
		binary.LittleEndian.Uint64(p[16:]), binary.LittleEndian.Uint64(p[24:]),
	}
}

func (x block) store(out []byte, o int) {
	p := (*[32]byte)(out[o : o+32 : o+32])
	binary.LittleEndian.PutUint64(p[0:], x.a)
	binary.LittleEndian.PutUint64(p[8:], x.b)
	binary.LittleEndian.PutUint64(p[16:], x.c)
	binary.LittleEndian.PutUint64(p[24:], x.d)
}

func (x block) is(f *field) bool {
	return (x.a^f.words[0])&f.masks[0]|(x.b^f.words[1])&f.masks[1]|
		(x.c^f.words[2])&f.masks[2]|(x.d^f.words[3])&f.masks[3] == 0
}

// str writes the string whose text begins at src[i], behind the quote. It returns the indices behind both, i < 0 if
// it cannot.
func (t *transcoder) str(i, o int) (int, int) { return t.strWords(i, o) }

func copyPlain(out []byte, p int, s []byte, j int) (n int, stopped bool) {
	return copyPlain8(out, p, s, j)
}

func endBlocks() {}
