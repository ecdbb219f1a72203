package record

import "encoding/binary"

// value writes the value that begins at src[i]; depth is that of what it stands in, f the field (nil
// if read carefully). out has room for a short one.
func (t *transcoder) value(i, o, depth int, f *field) (int, int) {
	s := t.src
	switch s[i] {
	case '"':
		return t.str(i+1, o)
	case 'n':
		if isNull(s, i) {
			t.out[o] = msgNil
			return i + 4, o + 1
		}
	case 't':
		if s[i+1] == 'r' && s[i+2] == 'u' && s[i+3] == 'e' {
			t.out[o] = msgTrue
			return i + 4, o + 1
		}
	case 'f':
		if s[i+1] == 'a' && s[i+2] == 'l' && s[i+3] == 's' && s[i+4] == 'e' {
			t.out[o] = msgFalse
			return i + 5, o + 1
		}
	case '{', '[':
		if depth == maxDepth {
			t.deep = true
			return -1, o
		}
		if s[i] == '[' {
			return t.array(i+1, o, depth+1, f)
		}
		return t.object(i+1, o, depth+1, f)
	case '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
		return t.number(i, o)
	}
	return -1, o
}

func (t *transcoder) object(i, o, depth int, f *field) (int, int) {
	head := o
	t.objects++
	object := t.objects
	var in *objects
	if f != nil {
		in = t.keys.objectsOf(f)
	}
	i, o, count := t.fields(i, o+mapHead, depth, in, object)
	if i < 0 {
		return -1, o
	}
	if t.dirty {
		o, count = t.compact(head+mapHead, o, object)
	}
	return i, t.endGroup(head, o, count, mapGroup)
}

func (t *transcoder) array(i, o, depth int, f *field) (int, int) {
	s := t.src
	head := o
	o += mapHead
	if i = skipSpace(s, i); s[i] == ']' {
		return i + 1, t.endGroup(head, o, 0, arrayGroup)
	}
	for count := 1; ; count++ {
		t.room(o)
		if s[i] == '"' {
			i, o = t.str(i+1, o)
		} else {
			i, o = t.value(i, o, depth, f)
		}
		if i < 0 {
			return -1, o
		}
		if i = skipSpace(s, i); s[i] == ']' {
			return i + 1, t.endGroup(head, o, count, arrayGroup)
		}
		if s[i] != ',' {
			return -1, o
		}
		i = skipSpace(s, i+1)
	}
}

// group holds the bytes that begin the headers of a map or an array.
type group struct{ empty, of16, of32 byte }

var (
	mapGroup   = group{0x80, 0xde, 0xdf}
	arrayGroup = group{0x90, 0xdc, 0xdd}
)

// endGroup writes the header of a map or array whose contents end at o. Its length is not known before, so it has the
// width of most; only an empty one is shorter, and one of more than 65535 is moved by two bytes.
func (t *transcoder) endGroup(head, o, count int, g group) int {
	switch {
	case o == head+mapHead:
		t.out[head] = g.empty
		return head + 1
	case count < 1<<16:
		t.out[head], t.out[head+1], t.out[head+2] = g.of16, byte(count>>8), byte(count)
		return o
	}
	t.room(o)
	copy(t.out[head+5:], t.out[head+mapHead:o])
	t.out[head] = g.of32
	binary.BigEndian.PutUint32(t.out[head+1:], uint32(count))
	return o + 2
}

func skipSpace(s []byte, i int) int {
	for isSpace(s[i]) {
		i++
	}
	return i
}

func isNull(s []byte, i int) bool {
	return binary.LittleEndian.Uint32(s[i:]) == 'n'|'u'<<8|'l'<<16|'l'<<24
}
