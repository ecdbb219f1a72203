package record

import (
	"encoding/binary"
	"time"
	"unicode/utf8"
)

// row reads a row. Nearly all are whole in the window, or are once more has come, and become records at once. The
// others take the long way: the scanner looks for their end as they come in. However that may be, no byte is looked
// at more than five times.
func (r *Reader) row(dst []byte) ([]byte, Row, bool) {
	c, ok := r.peek()
	if !ok {
		return dst, Row{}, false
	}
	for c == '{' {
		base, tried := len(dst), len(r.w.unread())
		var row Row
		var out outcome
		dst, row, out = r.t.row(dst, r.w.src(), r.w.pos, r.now)
		if out == whole && row.Size <= r.t.opt.MaxAlert && len(dst)-base <= r.t.opt.MaxRecord {
			return dst, row, r.took(row.Size)
		}
		dst = dst[:base]
		if out != stuck || tried > r.t.opt.MaxAlert || !r.w.more() || len(r.w.unread()) < 2*tried {
			break
		}
	}
	r.scan.reset(scanDepth)
	for k := 0; ; {
		n, event := r.scan.feed(r.w.unread()[k:])
		k += n
		switch {
		case event == scanBad:
			r.broke(k, r.scan.msg)
			return dst, Row{}, false
		case k > r.t.opt.MaxAlert: // whole or not, for the reads' sizes must make no difference
			return r.largeRow(dst, k, event)
		case event == scanEnd:
			return r.wholeRow(dst, k)
		}
		if !r.more() {
			return dst, Row{}, false
		}
	}
}

// wholeRow reads a row of n bytes that is well-formed JSON, no larger than MaxAlert, and stands in the window.
func (r *Reader) wholeRow(dst []byte, n int) ([]byte, Row, bool) {
	text := r.w.unread()[:n]
	reason := reasonNoObject
	if text[0] == '{' {
		base := len(dst)
		var row Row
		var out outcome
		dst, row, out = r.t.row(dst, r.w.src(), r.w.pos, r.now)
		switch {
		case out == whole && len(dst)-base <= r.t.opt.MaxRecord:
			return dst, row, r.took(n)
		case out == whole:
			reason = r.reasonRecord
		case out == tooDeep:
			reason = r.reasonDeep
		default: // would mean that transcoder and scanner disagree; the fuzz tests look for that
			reason = reasonStuck
		}
		dst = dst[:base]
	}
	r.t.beginHash()
	r.t.hash.Write(text)
	row := Row{ID: r.t.endHash(), Raw: true, Reason: reason, Size: n}
	dst, row.Repaired = r.t.raw(dst, text, reason, r.now())
	return r.t.endRaw(dst, row.ID), row, r.took(n)
}

// largeRow reads a row that is larger than MaxAlert and of which n bytes stand in the window; event is what scan
// found behind them. Its beginning is delivered raw, its rest is checked and dropped. As long as scan.keys is set it
// may also be the object around a list: see decide.
func (r *Reader) largeRow(dst []byte, n int, event scanEvent) ([]byte, Row, bool) {
	base := len(dst)
	text := r.w.unread()[:n]
	signature := r.signature(text)
	single := r.single
	r.single = single || r.scan.keys // only an alert is ever known as broken
	if r.passLarge(signature) {
		return dst, Row{}, false
	}
	r.single = single
	row := Row{Raw: true, Reason: r.reasonLarge}
	dst, row.Repaired = r.t.raw(dst, cutText(text, r.t.opt.MaxAlert), row.Reason, r.now())
	r.t.beginHash()
	for {
		r.t.hash.Write(text)
		row.Size += n
		r.w.pos += n
		switch event {
		case scanKey:
			switch r.kind(0) {
			case isList:
				return dst[:base], Row{}, false
			case isAlert:
				r.scan.keys = false
			}
		case scanEnd:
			if r.scan.keys {
				r.notAlerts("an object without alert fields", nil)
				return dst[:base], Row{}, false
			}
			row.ID = r.t.endHash()
			return r.t.endRaw(dst, row.ID), row, r.took(0)
		case scanBad:
			if r.scan.keys {
				r.notAlerts("an object without alert fields that is no JSON", nil)
			} else {
				r.brokeLarge(signature, r.scan.msg, r.w.offset())
			}
			return dst[:base], Row{}, false
		}
		if len(r.w.unread()) == 0 && !r.more() {
			return dst[:base], Row{}, false
		}
		n, event = r.scan.feed(r.w.unread())
		text = r.w.unread()[:n]
	}
}

// cutText returns the first n bytes of text, less a character that this cuts.
func cutText(text []byte, n int) []byte {
	if len(text) <= n {
		return text
	}
	return text[:wholeRunes(text[:n])]
}

// A raw record is {"raw": text, "error": reason}, or what Options.EncodeRaw makes of that, and the tenant and event
// id where they are asked for.

// rawFrame is the room that it needs beside text, reason and event id.
const rawFrame = headSize + 1 + len(rawKey) + 5 + len(errorKey) + 3

const (
	rawKey   = "\xa3raw" // as MessagePack strings
	errorKey = "\xa5error"
)

// rawRoom is the most text that fits into a raw record.
func (t *transcoder) rawRoom(reason string) int {
	room := t.opt.MaxRecord - rawFrame - len(reason)
	if t.opt.EncodeRaw != nil {
		room -= RawFrame + len(t.tenantID)
	}
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
	group := len(dst)
	dst = append(dst, 0)
	fields := 2
	if t.opt.EncodeRaw != nil {
		t.rawText, repaired = appendRepaired(t.rawText[:0], text, t.rawRoom(reason))
		row := Raw{Time: time.Unix(sec, int64(nsec)).UTC(), Tenant: t.tenantID, Text: t.rawText, Reason: reason}
		dst, fields = t.opt.EncodeRaw(dst, &row)
	} else {
		dst = append(dst, rawKey...)
		at := len(dst)
		dst = append(dst, 0xdb, 0, 0, 0, 0) // the widest header: the length is known once the text is repaired
		dst, repaired = appendRepaired(dst, text, t.rawRoom(reason))
		binary.BigEndian.PutUint32(dst[at+1:], uint32(len(dst)-at-5))
		dst = append(dst, errorKey...)
		dst = append(dst, 0xda, byte(len(reason)>>8), byte(len(reason)))
		dst = append(dst, reason...)
	}
	if len(t.eventKey) > 0 {
		fields++
	}
	if len(t.tenant) > 0 {
		fields++
	}
	dst[group] = mapGroup.empty | byte(fields)
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
