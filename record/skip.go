package record

import "math/bits"

// scanner checks one JSON value as its bytes come, in any pieces, and finds its end. It holds one bit per open
// bracket and nothing of the text, so a value of any size passes in bounded memory. It is the judge of what is JSON
// (RFC 8259), and of where and why a text is none; the transcoder, which is faster, only says that it could not go
// on.
type scanner struct {
	state byte
	isKey bool   // the string at hand is a key
	hex   byte   // hex digits still to come of a \u escape
	word  string // what is still to come of true, false or null
	msg   string // after scanBad: what is wrong

	depth    int
	maxDepth int
	brackets []uint64 // bit n is set: the open bracket at depth n+1 is an object's

	// With keys set, feed stops at the first byte of each value of the outermost object; key is then the raw text
	// between the key's quotes, cut after maxKeyText bytes.
	keys  bool
	atKey bool // feed has not stopped at the value to come
	key   []byte

	// With keep set, the raw text of the string that comes next is collected in kept, up to maxKeptText bytes.
	keep bool
	kept []byte
}

const (
	// scanDepth bounds the memory for open brackets to 128 KiB. Deeper nesting counts as a syntax error.
	scanDepth   = 1 << 20
	maxKeyText  = 256
	maxKeptText = 16 << 10
)

type scanEvent byte

const (
	scanMore scanEvent = iota // all bytes are taken and more must come
	scanEnd                   // the value ends before the byte at the returned index
	scanBad                   // the byte at the returned index cannot stand there: see msg
	scanKey                   // a value of the outermost object begins at the returned index: see key
)

const (
	// In these states white space may stand.
	wantValue  byte = iota
	wantFirst       // a value or the end of the array
	wantKey         // after a comma
	wantKeyEnd      // a key or the end of the object
	wantColon
	afterValue
	// In these it may not.
	inString
	inEscape
	inHex
	inWord
	afterMinus // and from here on in a number
	afterZero
	inInteger
	afterPoint
	inFraction
	afterE
	afterESign
	inExponent
)

// reset makes the scanner ready for a value that may nest as deep as maxDepth.
func (s *scanner) reset(maxDepth int) {
	*s = scanner{maxDepth: maxDepth, brackets: s.brackets[:0], key: s.key[:0], kept: s.kept[:0]}
}

// resumeObject makes the scanner ready for the rest of an object, after one of its values.
func (s *scanner) resumeObject() {
	s.reset(scanDepth)
	s.open(true)
	s.state = afterValue
}

// feed takes the next bytes of the value and returns how many it took and what it found.
func (s *scanner) feed(b []byte) (int, scanEvent) {
	for i := 0; i < len(b); i++ {
		c := b[i]
		if s.state == inString {
			if i = s.str(b, i); i == len(b) {
				break
			}
			c = b[i]
		} else if s.state <= afterValue && isSpace(c) {
			continue
		}
		if s.atKey && s.state == wantValue {
			s.atKey = false
			return i, scanKey
		}
		if s.state >= afterZero && s.numberEnds(c) {
			s.state = afterValue
			if s.depth == 0 {
				return i, scanEnd
			}
			if isSpace(c) {
				continue
			}
		}
		if !s.step(c) {
			return i, scanBad
		}
		if s.depth == 0 && s.state == afterValue {
			return i + 1, scanEnd
		}
	}
	return len(b), scanMore
}

// step takes one byte.
func (s *scanner) step(c byte) bool {
	switch s.state {
	case wantValue:
		return s.value(c)
	case wantFirst:
		if c == ']' {
			return s.close(false)
		}
		return s.value(c)
	case wantKey, wantKeyEnd:
		if c == '}' && s.state == wantKeyEnd {
			return s.close(true)
		}
		if c != '"' {
			return s.bad(c, "where a key must stand")
		}
		s.state, s.isKey = inString, true
		if s.keys && s.depth == 1 {
			s.key = s.key[:0]
		}
	case wantColon:
		if c != ':' {
			return s.bad(c, "where the colon after a key must stand")
		}
		s.state, s.atKey = wantValue, s.keys && s.depth == 1
	case afterValue:
		object := s.inObject()
		switch {
		case c == ',' && object:
			s.state = wantKey
		case c == ',':
			s.state = wantValue
		case c == '}' || c == ']':
			return s.close(c == '}')
		default:
			return s.bad(c, "after a value")
		}
	case inString:
		return s.stringStop(c)
	case inEscape:
		switch c {
		case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
			s.state = inString
		case 'u':
			s.state, s.hex = inHex, 4
		default:
			return s.bad(c, "after a backslash")
		}
		s.collect(c)
	case inHex:
		if unhex[c] > 15 {
			return s.bad(c, `in the four hex digits of \u`)
		}
		if s.hex--; s.hex == 0 {
			s.state = inString
		}
		s.collect(c)
	case inWord:
		if c != s.word[0] {
			return s.bad(c, "in true, false or null")
		}
		if s.word = s.word[1:]; s.word == "" {
			s.state = afterValue
		}
	default:
		return s.number(c)
	}
	return true
}

// value takes the first byte of a value.
func (s *scanner) value(c byte) bool {
	switch c {
	case '{':
		s.state = wantKeyEnd
		return s.open(true)
	case '[':
		s.state = wantFirst
		return s.open(false)
	case '"':
		s.state, s.isKey, s.kept = inString, false, s.kept[:0]
		return true
	case 't':
		s.state, s.word = inWord, "rue"
	case 'f':
		s.state, s.word = inWord, "alse"
	case 'n':
		s.state, s.word = inWord, "ull"
	case '-':
		s.state = afterMinus
	case '0':
		s.state = afterZero
	default:
		if c < '1' || c > '9' {
			return s.bad(c, "where a value must stand")
		}
		s.state = inInteger
	}
	s.keep = false
	return true
}

// numberEnds tells whether c, after a number that may end here, is not the number's.
func (s *scanner) numberEnds(c byte) bool {
	switch s.state {
	case afterZero, inInteger:
		return c != '.' && c|0x20 != 'e' && !(s.state == inInteger && isDigit(c))
	case inFraction:
		return c|0x20 != 'e' && !isDigit(c)
	case inExponent:
		return !isDigit(c)
	}
	return false
}

// number takes a byte of a number that does not end here.
func (s *scanner) number(c byte) bool {
	digit := isDigit(c)
	switch s.state {
	case afterMinus:
		if !digit {
			return s.bad(c, "after a minus sign")
		}
		return s.value(c)
	case afterZero, inInteger, inFraction:
		switch {
		case c == '.':
			s.state = afterPoint
		case !digit:
			s.state = afterE
		}
	case afterPoint:
		if !digit {
			return s.bad(c, "after a decimal point")
		}
		s.state = inFraction
	case afterE:
		if c == '+' || c == '-' {
			s.state = afterESign
			break
		}
		fallthrough
	case afterESign:
		if !digit {
			return s.bad(c, "in an exponent")
		}
		s.state = inExponent
	}
	return true
}

// str takes the bytes of a string from b[i] on and returns the index of the first that is not an ordinary one: a
// backslash, a quote or a control character; len(b) if there is none.
func (s *scanner) str(b []byte, i int) int {
	j := i
	for ; j+8 <= len(b); j += 8 {
		// eight bytes at a time: long strings pass three times as fast
		if m := stopsUTF8(load64(b, j)); m != 0 {
			j += bits.TrailingZeros64(m) >> 3
			break
		}
	}
	for j < len(b) && b[j] >= ' ' && b[j] != '"' && b[j] != '\\' {
		j++
	}
	s.collect(b[i:j]...)
	return j
}

// stringStop takes the byte that str found.
func (s *scanner) stringStop(c byte) bool {
	switch {
	case c == '\\':
		s.state = inEscape
		s.collect(c)
	case c != '"':
		return s.bad(c, "in a string, where it must be escaped")
	case s.isKey:
		s.state = wantColon
	default:
		s.state, s.keep = afterValue, false
	}
	return true
}

// collect keeps text of a string for key or kept.
func (s *scanner) collect(text ...byte) {
	if s.isKey && s.keys && s.depth == 1 {
		s.key = append(s.key, text[:min(len(text), maxKeyText-len(s.key))]...)
	} else if s.keep && !s.isKey {
		s.kept = append(s.kept, text[:min(len(text), maxKeptText-len(s.kept))]...)
	}
}

func (s *scanner) open(object bool) bool {
	if s.depth >= s.maxDepth {
		s.msg = "brackets nested too deep"
		return false
	}
	word, bit := s.depth>>6, uint64(1)<<(s.depth&63)
	if word == len(s.brackets) {
		s.brackets = append(s.brackets, 0)
	}
	s.brackets[word] &^= bit
	if object {
		s.brackets[word] |= bit
	}
	s.depth++
	s.keep = false
	return true
}

func (s *scanner) close(object bool) bool {
	if object != s.inObject() {
		s.msg = "a closing bracket of the other kind"
		return false
	}
	s.depth--
	s.state = afterValue
	return true
}

// inObject tells whether the innermost open bracket is an object's.
func (s *scanner) inObject() bool {
	d := s.depth - 1
	return s.brackets[d>>6]>>(d&63)&1 == 1
}

func (s *scanner) bad(c byte, where string) bool {
	s.msg = quoteByte(c) + " " + where
	return false
}
