package record

import (
	"encoding/binary"
	"time"
	"unicode/utf8"
)

// A raw record is {"raw": text, "error": reason}, and the tenant and event id where they are asked for.

// rawFrame is the room that it needs beside text, reason and event id.
const rawFrame = headSize + 1 + len(rawKey) + 5 + len(errorKey) + 3

const (
	rawKey   = "\xa3raw" // as MessagePack strings
	errorKey = "\xa5error"
)

// rawRoom is the most text that fits into a raw record.
func (t *transcoder) rawRoom(reason string) int {
	room := t.opt.MaxRecord - rawFrame - len(reason)
	room -= len(t.tenant)
	if len(t.eventKey) > 0 {
		room -= len(t.eventKey) + eventIDSize
	}
	return room
}

// raw appends the raw record of text, repaired and cut to fit, but for the event id: see endRaw.
func (t *transcoder) raw(dst, text []byte, reason string, now time.Time) (_ []byte, repaired bool) {
	var head [headSize]byte
	sec, nsec := inRange(now)
	putHead(head[:], 0, sec, nsec)
	dst = append(dst, head[:]...)
	fields := byte(2)
	if len(t.eventKey) > 0 {
		fields++
	}
	if len(t.tenant) > 0 {
		fields++
	}
	dst = append(dst, mapGroup.empty|fields)
	dst = append(dst, rawKey...)
	at := len(dst)
	dst = append(dst, 0xdb, 0, 0, 0, 0) // the widest string header, for the text's length is not known before it is repaired
	dst, repaired = appendRepaired(dst, text, t.rawRoom(reason))
	binary.BigEndian.PutUint32(dst[at+1:], uint32(len(dst)-at-5))
	dst = append(dst, errorKey...)
	dst = append(dst, 0xda, byte(len(reason)>>8), byte(len(reason)))
	dst = append(dst, reason...)
	return append(dst, t.tenant...), repaired
}

// endRaw appends the event id to a raw record.
func (t *transcoder) endRaw(dst []byte, id ID) []byte {
	if len(t.eventKey) == 0 {
		return dst
	}
	n := len(dst)
	dst = append(dst, make([]byte, len(t.eventKey)+eventIDSize)...)
	putEventID(dst, n, t.eventKey, id)
	return dst
}

// appendRepaired appends text as valid UTF-8, as far as room bytes hold it, and tells whether U+FFFD had to stand in.
func appendRepaired(dst, text []byte, room int) (_ []byte, repaired bool) {
	for len(text) > 0 {
		r, size := utf8.DecodeRune(text)
		if room -= utf8.RuneLen(r); room < 0 {
			break
		}
		if r == utf8.RuneError && size == 1 {
			repaired = true
		}
		dst = utf8.AppendRune(dst, r)
		text = text[size:]
	}
	return dst, repaired
}

// wholeRunes returns the length of text without a character that its end cuts.
func wholeRunes(text []byte) int {
	for k := 1; k < utf8.UTFMax && k <= len(text); k++ {
		if tail := text[len(text)-k:]; utf8.RuneStart(tail[0]) {
			if !utf8.FullRune(tail) {
				return len(text) - k
			}
			break
		}
	}
	return len(text)
}
