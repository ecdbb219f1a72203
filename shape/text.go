package shape

import (
	"bytes"
	"encoding/binary"
	"strings"
)

// What texts of alerts are made of: these look at bytes and take no memory.

func isIP(s []byte) bool { return len(s) >= 2 && len(s) <= 45 && (isIPv4(s) || isIPv6(s)) }

// isIPv6 takes what net/netip does, without a zone: eight groups, or fewer around one ::, the last two perhaps as an
// address of version 4. Two addresses come with most alerts, and net/netip takes twice the time.
func isIPv6(s []byte) bool {
	groups, short := 0, false
	if s[0] == ':' {
		if s[1] != ':' {
			return false
		}
		short = true
		s = s[2:]
	}
	for len(s) > 0 {
		digits := 0
		for digits < len(s) && digits < 5 && unhex(s[digits]) {
			digits++
		}
		switch {
		case digits < len(s) && s[digits] == '.' && (groups == 6 && !short || short && groups < 6):
			return isIPv4(s)
		case digits == 0 || digits > 4:
			return false
		}
		groups++
		if s = s[digits:]; len(s) == 0 {
			break
		}
		if s[0] != ':' || len(s) == 1 {
			return false
		}
		if s = s[1:]; s[0] == ':' {
			if short {
				return false
			}
			short = true
			s = s[1:]
		}
	}
	return groups == 8 && !short || groups < 8 && short
}

func unhex(c byte) bool { return notHex[c] == 0 }

func isIPv4(s []byte) bool {
	part, digits, dots := 0, 0, 0
	for _, c := range s {
		switch {
		case c-'0' <= 9:
			if digits == 1 && part == 0 { // no leading zeros
				return false
			}
			part = part*10 + int(c-'0')
			if digits++; part > 255 {
				return false
			}
		case c == '.' && digits > 0:
			dots++
			part, digits = 0, 0
		default:
			return false
		}
	}
	return dots == 3 && digits > 0
}

// trim leaves out blanks around a text.
func trim(s []byte) []byte {
	for len(s) > 0 && s[0] == ' ' {
		s = s[1:]
	}
	for len(s) > 0 && s[len(s)-1] == ' ' {
		s = s[:len(s)-1]
	}
	return s
}

// indexAny returns where one of two bytes stands, the length where none does.
func indexAny(s []byte, a, b byte) int {
	for i, c := range s {
		if c == a || c == b {
			return i
		}
	}
	return len(s)
}

// The parts of a URL that has a scheme and a host.
func splitURL(s []byte) (scheme, host []byte) {
	k := bytes.Index(s, []byte("://"))
	if k <= 0 {
		return nil, nil
	}
	scheme, host = s[:k], s[k+3:]
	if k := bytes.IndexAny(host, `/?#\`); k >= 0 {
		host = host[:k]
	}
	if k := bytes.LastIndexByte(host, '@'); k >= 0 {
		host = host[k+1:]
	}
	if len(host) > 0 && host[0] == '[' {
		if k := bytes.IndexByte(host, ']'); k > 0 {
			return scheme, host[1:k]
		}
		return nil, nil
	}
	if k := bytes.LastIndexByte(host, ':'); k >= 0 {
		host = host[:k]
	}
	return scheme, host
}

func isAnyHash(s []byte) bool { return isHex(s, 32) || isHex(s, 40) || isHex(s, 64) }

// notHex is 1 for each byte that is no hex digit.
var notHex = func() (t [256]byte) {
	for c := range t {
		if !strings.ContainsRune("0123456789abcdefABCDEF", rune(c)) {
			t[c] = 1
		}
	}
	return t
}()

// isHex tells whether text has so many hex digits, a multiple of eight, and nothing else. It looks at eight bytes at
// a time: each is at least the first of the digits or letters and less than what follows their last, so that the one
// sum sets its highest bit and the other does not.
func isHex(s []byte, digits int) bool {
	if len(s) != digits {
		return false
	}
	const ones, high = 0x0101010101010101, 0x8080808080808080
	good := uint64(high)
	for ; len(s) >= 8; s = s[8:] {
		w := binary.LittleEndian.Uint64(s)
		l := w | 0x20*ones // lower case
		digit := (w + (0x80-'0')*ones) &^ (w + (0x80-'9'-1)*ones)
		letter := (l + (0x80-'a')*ones) &^ (l + (0x80-'f'-1)*ones)
		good &= (digit | letter) &^ w
	}
	return good == high
}

func isSeparator(c byte) bool { return c == '\\' || c == '/' }

func isMail(s []byte) bool {
	k := bytes.LastIndexByte(s, '@')
	if k <= 0 || bytes.LastIndexByte(s, '.') < k+2 {
		return false
	}
	for i, c := range s {
		letter := c-'0' < 10 || c|0x20-'a' < 26
		if !letter && c != '-' && c != '.' && (i > k || bytes.IndexByte([]byte("!#$%&'*+/=?^_`{|}~"), c) < 0) &&
			i != k {
			return false
		}
	}
	return true
}
