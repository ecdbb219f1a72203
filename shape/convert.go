package shape

import (
	"bytes"
	"strconv"

	"fluent-bit-defender/record"
)

// What becomes of values, for all shapes.

var text = conv{plain: true, fn: func(e *encoder, r *rule, v []byte) bool { return isText(v) && e.put(r, v) }}

// anyValue keeps the type.
var anyValue = conv{doc: "as it is", fn: func(e *encoder, r *rule, v []byte) bool { return e.put(r, v) }}

// literal is a text that stands in each record, or in each with such a piece of evidence.
func literal(s string) conv { return fixed("`"+s+"`", appendText(nil, s)) }

func literalInt(n int64) conv { return fixed("`"+strconv.FormatInt(n, 10)+"`", appendInt(nil, n)) }

func fixed(doc string, v []byte) conv {
	return conv{doc: doc, fixed: v, fn: func(e *encoder, r *rule, _ []byte) bool { return e.put(r, v) }}
}

// long takes whole numbers that a signed integer of 64 bits holds, also from text.
var long = conv{doc: "number", fn: func(e *encoder, r *rule, v []byte) bool {
	n, ok := numberIn(v)
	return ok && e.put(r, e.number(n))
}}

// boolean takes true and false.
var boolean = conv{doc: "", fn: func(e *encoder, r *rule, v []byte) bool {
	return kindOf(v) == record.Bool && e.put(r, v)
}}

// numeral makes text of a whole number.
var numeral = conv{doc: "as text", fn: func(e *encoder, r *rule, v []byte) bool {
	n, ok := numberIn(v)
	var buf [20]byte
	return ok && e.put(r, e.textOf(strconv.AppendInt(buf[:0], n, 10)))
}}

// port takes the numbers of ports.
var port = conv{doc: "number", fn: func(e *encoder, r *rule, v []byte) bool {
	n, ok := numberIn(v)
	return ok && n == int64(uint16(n)) && e.put(r, e.number(n))
}}

// integer is long for numbers that 32 bits hold, as OCSF wants them.
var integer = conv{doc: "number", fn: func(e *encoder, r *rule, v []byte) bool {
	n, ok := numberIn(v)
	return ok && n == int64(int32(n)) && e.put(r, e.number(n))
}}

func numberIn(v []byte) (int64, bool) {
	c := record.NewCursor(v)
	switch c.Kind() {
	case record.Int:
		n, big := c.Int()
		return n, !big
	case record.Text:
		digits := c.Text()
		if len(digits) == 0 || len(digits) > 18 {
			return 0, false
		}
		n := int64(0)
		for _, d := range digits {
			if d-'0' > 9 {
				return 0, false
			}
			n = n*10 + int64(d-'0')
		}
		return n, true
	}
	return 0, false
}

// date takes times, and writes those that some reader of ISO 8601 does not take (a blank for the T, no zone) in the
// usual form.
var date = conv{doc: "time", fn: func(e *encoder, r *rule, v []byte) bool {
	s := textIn(v)
	sec, nsec, ok := record.ParseTime(s)
	if !ok {
		return false
	}
	if len(s) > 35 || s[10] != 'T' || s[len(s)-1] != 'Z' && (len(s) < 25 || s[len(s)-3] != ':' || s[len(s)-6] == ':') ||
		len(s) > 19 && s[19] == ',' {
		v = e.timeText(sec, nsec)
	}
	return e.put(r, v)
}}

// ip takes addresses, without a zone.
var ip = conv{doc: "address", fn: func(e *encoder, r *rule, v []byte) bool { return isIP(textIn(v)) && e.put(r, v) }}

// listed takes a text of items separated by semicolons or commas, or a list of such texts.
func listed(item conv) conv {
	return conv{doc: "each of a list", fn: func(e *encoder, r *rule, v []byte) bool {
		s := textIn(v)
		all := len(s) > 0
		for len(s) > 0 {
			k := indexAny(s, ';', ',')
			if one := trim(s[:k]); len(one) > 0 && !item.fn(e, r, e.textOf(one)) {
				all = false
			}
			s = s[min(k+1, len(s)):]
		}
		return all
	}}
}

// words takes texts of a fixed set, in whatever case.
func words(doc string, of map[string]string) conv {
	coded := make(map[string][]byte, len(of))
	for from, to := range of {
		coded[from] = padded(appendText(nil, to))
	}
	return enum(doc, coded)
}

func numbers(doc string, of map[string]int64) conv {
	coded := make(map[string][]byte, len(of))
	for from, to := range of {
		coded[from] = padded(appendInt(nil, to))
	}
	return enum(doc, coded)
}

func enum(doc string, coded map[string][]byte) conv {
	of := newDictionary(coded)
	return conv{doc: doc, fn: func(e *encoder, r *rule, v []byte) bool {
		to := of.find(textIn(v))
		return to != nil && e.put(r, *to)
	}}
}

// dictionary finds what stands for words, whatever their case.
type dictionary[T any] [65][]word[T] // by length

type word[T any] struct {
	lower string
	to    T
}

func newDictionary[T any](words map[string]T) *dictionary[T] {
	d := &dictionary[T]{}
	for w, to := range words {
		d[len(w)] = append(d[len(w)], word[T]{w, to})
	}
	return d
}

// find returns nil where there is none.
func (d *dictionary[T]) find(text []byte) *T {
	if len(text) >= len(d) {
		return nil
	}
	same := d[len(text)]
	for i := range same {
		if w := &same[i]; isLower(text, w.lower) {
			return &w.to
		}
	}
	return nil
}

// isLower tells whether text in lower case is of, which is as long.
func isLower(text []byte, of string) bool {
	for i, c := range text {
		if c-'A' < 26 {
			c |= 0x20
		}
		if c != of[i] {
			return false
		}
	}
	return true
}

var urlScheme = conv{doc: "scheme", fn: func(e *encoder, r *rule, v []byte) bool {
	scheme, host := splitURL(textIn(v))
	return len(host) > 0 && e.put(r, e.textOf(scheme))
}}

var urlHost = conv{doc: "host", fn: func(e *encoder, r *rule, v []byte) bool {
	_, host := splitURL(textIn(v))
	return len(host) > 0 && e.put(r, e.textOf(host))
}}

// hash takes digests, by their length.
// digits is a multiple of eight.
func hash(digits int) conv {
	return conv{doc: "", fn: func(e *encoder, r *rule, v []byte) bool {
		return isHex(textIn(v), digits) && e.put(r, v)
	}}
}

var anyHash = conv{doc: "", fn: func(e *encoder, r *rule, v []byte) bool { return isAnyHash(textIn(v)) && e.put(r, v) }}

// joinPath makes the path of a file of its folder and its name. Some folders end in the name already.
func joinPath(e *encoder, r *rule, of []*value) {
	if of[0].one == nil || of[1].one == nil {
		return
	}
	dir, name := textIn(of[0].one), textIn(of[1].one)
	if len(dir) > len(name) && bytes.EqualFold(dir[len(dir)-len(name):], name) &&
		isSeparator(dir[len(dir)-len(name)-1]) {
		e.put(r, of[0].one)
		return
	}
	from := len(e.scratch)
	sep := byte('/')
	if bytes.IndexByte(dir, '\\') >= 0 || len(dir) == 2 && dir[1] == ':' {
		sep = '\\'
	}
	n := len(dir) + len(name)
	if !isSeparator(dir[len(dir)-1]) {
		n++
	}
	e.scratch = appendBytes(appendTextHead(e.scratch, n), dir)
	if !isSeparator(dir[len(dir)-1]) {
		e.scratch = append(e.scratch, sep)
	}
	e.scratch = appendBytes(e.scratch, name)
	e.put(r, e.made(from))
}
