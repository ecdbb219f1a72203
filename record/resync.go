package record

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"io"
	"slices"
)

// Resync is for an answer that has the same syntax error again and again: what cannot be read is delivered raw, and
// the rows behind it are read as ever. Nothing of the text is lost but the separators between rows. What is invalid
// text and how it is cut depends on the text alone, not on where it stands or how it came in, so the raw rows have
// the same IDs every time.

// invalidText is what was found to be bad. It begins at the window's first untaken byte.
type invalidText struct {
	reason string
	// of the piece before: each piece's ID depends on all before, so that equal pieces of one text stay apart
	id     ID
	list   bool // it began among the rows of a list
	tail   bool // it began behind the list, in the rest of its object
	search int  // where to look for the next row
	last   byte // the last byte taken that is no white space; at first a comma where a row may begin
}

const (
	maxPiece  = windowSize // of invalid text in one raw row
	maxBroken = 1000

	// endRoom is for what may stand behind invalid text: separators, or the list's end, annotations and a link.
	endRoom = 2 * maxKeptText
)

// Resync sets the function that is asked at a syntax error with its Signature. On true the invalid text is delivered
// as one row or more of Row.Raw and reading goes on at the next object that is whole, is followed by a comma or the
// list's end, has one of Schema.Markers and stands behind a comma, or at the body's end. A body that ends before its
// list does, or the object around it, is a TruncatedError all the same: its last invalid text is not delivered, for
// more may belong to it. On false, or with no function, Next returns the SyntaxError. The function stays for all
// later answers.
//
// An error in a row beyond its first MaxAlert bytes, when those are no longer at hand, can be passed over only from
// its second time on: pass is asked, but Next returns the error. When a row begins the same again, pass is asked
// before it is read.
func (r *Reader) Resync(pass func(sig ID) bool) { r.pass = pass }

// signature returns the Signature for text that is bad in its last byte.
func (r *Reader) signature(text []byte) ID {
	return shortHash(sha256.Sum256(text[:min(len(text), r.t.opt.MaxAlert)]))
}

func (r *Reader) ask(signature ID) bool { return r.pass != nil && r.pass(signature) }

// broke deals with a syntax error k bytes behind what is taken.
func (r *Reader) broke(k int, msg string) {
	signature := r.signature(r.w.unread()[:k+1])
	offset := r.w.offset() + int64(k)
	switch {
	case k >= r.t.opt.MaxAlert: // the same as if those bytes were gone, for the reads' sizes must make no difference
		if !r.passLarge(signature) {
			r.brokeLarge(signature, msg, offset)
		}
	case r.ask(signature):
		r.startResync(msg, k == 0)
	default:
		r.err = &SyntaxError{Offset: offset, Msg: msg, Signature: signature}
	}
}

// brokeLarge deals with a syntax error beyond MaxAlert bytes of a row, after passLarge.
func (r *Reader) brokeLarge(signature ID, msg string, offset int64) {
	if _, known := r.broken[signature]; !known {
		if len(r.broken) >= maxBroken {
			clear(r.broken)
		}
		r.broken[signature] = msg
		r.ask(signature) // for the caller's count: nothing can be passed over this time
	}
	r.err = &SyntaxError{Offset: offset, Msg: msg, Signature: signature}
}

// passLarge asks, before a row larger than MaxAlert is read, whether to pass it over, if a row that began the same
// was broken before.
func (r *Reader) passLarge(signature ID) bool {
	msg, known := r.broken[signature]
	if !known || !r.ask(signature) {
		return false
	}
	r.startResync(msg, false)
	return true
}

// startResync begins with invalid text at the first untaken byte. comma: a row may begin there.
func (r *Reader) startResync(msg string, comma bool) {
	r.invalid = invalidText{reason: "no valid JSON: " + msg, list: r.state < atTail && !r.single,
		tail: r.state == atTail}
	if comma {
		r.invalid.last = ','
	}
	r.state, r.single, r.resynced = atInvalid, false, true
}

// resync delivers invalid text up to the next row, up to the body's end, or as much as one raw row holds.
func (r *Reader) resync(dst []byte) ([]byte, Row, bool) {
	// so that even text of bad bytes alone, each of which becomes three, is not cut
	most := max(16, min(maxPiece, r.t.opt.MaxAlert, r.t.rawRoom(r.invalid.reason)/3))
	for b := &r.invalid; r.err == nil; {
		text := r.w.unread()
		if i := bytes.IndexByte(text[b.search:], '{'); i >= 0 {
			b.search += i
		} else {
			b.search = len(text)
		}
		// What fits into one raw row becomes one, whatever separators stand behind it: so much is read that they show
		// themselves as such.
		brace := b.search < min(len(text), most+endRoom)
		switch {
		case brace && (b.search <= most || len(trimComma(text[:b.search])) <= most):
			at := b.search
			b.search++
			if b.behindComma(text[:at]) && r.rowAt(at) {
				r.state = atRow
				return r.invalidPiece(dst, len(trimComma(r.w.unread()[:at])), at)
			}
		case brace || len(text) >= most+endRoom:
			n := r.pieceEnd(text[:most])
			return r.invalidPiece(dst, n, n)
		case r.w.more():
		default:
			return r.lastPieces(dst, most)
		}
	}
	return dst, Row{}, false
}

// lastPieces delivers invalid text of which no more comes.
func (r *Reader) lastPieces(dst []byte, most int) ([]byte, Row, bool) {
	text := r.w.unread()
	if r.w.err != io.EOF || r.unclosed(text) {
		r.err = r.w.cut()
		return dst, Row{}, false
	}
	n := len(r.invalidEnd(text))
	if n > most {
		n = r.pieceEnd(text[:most])
		return r.invalidPiece(dst, n, n)
	}
	r.state = atEnd
	return r.invalidPiece(dst, n, len(text))
}

// pieceEnd tells where to end a piece of invalid text, of which text is the most that fits: before a link, so that
// findLink finds it.
func (r *Reader) pieceEnd(text []byte) int {
	if !r.object {
		return wholeRunes(text)
	}
	if i := bytes.LastIndex(text[1:], quotedLinkKey); i >= 0 {
		return 1 + i
	}
	for k := len(quotedLinkKey) - 1; k > 0; k-- {
		if bytes.HasSuffix(text[1:], quotedLinkKey[:k]) {
			return len(text) - k
		}
	}
	return wholeRunes(text)
}

// invalidPiece takes bytes of invalid text and delivers the first n of them; there may be none.
func (r *Reader) invalidPiece(dst []byte, n, take int) ([]byte, Row, bool) {
	b := &r.invalid
	text := r.w.unread()[:n]
	b.last = b.end(r.w.unread()[:take])
	if link, ok := findLink(r.w.unread()[:take]); ok && r.object {
		r.next = link.to
	}
	b.search = max(b.search-take, 0)
	r.w.pos += take
	if len(trimSpace(text)) == 0 {
		return dst, Row{}, false
	}
	r.t.beginHash()
	r.t.hash.Write(b.id[:])
	r.t.hash.Write(text)
	b.id = r.t.endHash()
	row := Row{ID: b.id, Raw: true, Reason: b.reason, Size: n}
	dst, row.Repaired = r.t.raw(dst, text, b.reason, r.now())
	return r.t.endRaw(dst, row.ID), row, true
}

// behindComma tells whether text, from the beginning of the piece at hand, ends with a comma.
func (b *invalidText) behindComma(text []byte) bool {
	return b.end(text) == ','
}

// end is the last byte of text that is no white space, or of what was taken before it.
func (b *invalidText) end(text []byte) byte {
	if text = trimSpace(text); len(text) > 0 {
		return text[len(text)-1]
	}
	return b.last
}

// unclosed tells whether the body ends with text before its list does, or the object around it: rows behind the
// invalid text, or a next link, may be missing.
func (r *Reader) unclosed(text []byte) bool {
	end := byte(']')
	if r.object {
		end = '}'
	}
	return (r.invalid.list || r.invalid.tail) && r.invalid.end(text) != end
}

// rowAt tells whether a row begins at the '{' that stands there in the window: an object with one of Schema.Markers,
// no larger or deeper than a record may be, with a comma or the list's end behind it. Without the marker the objects
// nested in a bad row would be taken for rows. The bound on the depth bounds how many rows a byte is read for in
// vain.
func (r *Reader) rowAt(at int) bool {
	r.scan.reset(maxDepth)
	r.scan.keys = len(r.t.opt.Schema.Markers) > 0
	for k, ended := at, false; ; {
		if !ended {
			n, event := r.scan.feed(r.w.unread()[k:])
			k += n
			switch event {
			case scanKey:
				r.scan.keys = !slices.Contains(r.t.opt.Schema.Markers, unquote(r.scan.key))
				continue
			case scanBad:
				return false
			case scanEnd:
				ended = true
			}
		}
		for rest := r.w.unread()[k:]; ended && len(rest) > 0 && isSpace(rest[0]); rest = rest[1:] {
			k++
		}
		if k-at > r.t.opt.MaxAlert || ended && r.scan.keys {
			return false
		}
		if k < len(r.w.unread()) {
			c := r.w.unread()[k]
			return c == ',' || c == ']'
		}
		if !r.w.more() {
			if r.w.err != io.EOF {
				r.err = r.w.cut()
			}
			return false
		}
	}
}

// The end of invalid text: separators, the list's end, and a next link, without which the pages that follow would be
// missed.

const spaces = " \t\r\n"

func trimSpace(text []byte) []byte { return bytes.TrimRight(text, spaces) }

// trimComma takes away the comma that stands between invalid text and the next row.
func trimComma(text []byte) []byte { return trimSpace(bytes.TrimSuffix(trimSpace(text), []byte{','})) }

// textLink is a next link within invalid text.
type textLink struct {
	to           string
	before, rest []byte // the text before its key and behind its value; no rest: it is broken
}

var quotedLinkKey = []byte(`"` + linkKey + `"`)

// findLink finds the last next link in text. Of one that is broken itself the raw text stands for it: it leads
// nowhere, but tells that there is more.
func findLink(text []byte) (link textLink, ok bool) {
	i := bytes.LastIndex(text, quotedLinkKey)
	if i < 0 {
		return link, false
	}
	value, ok := bytes.CutPrefix(bytes.TrimLeft(text[i+len(quotedLinkKey):], spaces), []byte{':'})
	value = bytes.TrimLeft(value, spaces)
	if !ok || len(value) == 0 || value[0] != '"' {
		return link, false
	}
	var s scanner
	s.reset(maxDepth)
	n, event := s.feed(value)
	link.before = text[:i]
	if event == scanEnd {
		link.to, link.rest = unquote(value[1:n-1]), value[n:]
		return link, true
	}
	if k := bytes.IndexByte(value[n:], '"'); k >= 0 {
		value = value[:n+k]
	}
	link.to = string(value[1:min(len(value), maxKeptText)])
	return link, true
}

// invalidEnd returns what of the body's end is to be delivered. A next link is not if nothing but the object's end
// follows it and nothing but the list's end and annotations stand before it: with it the raw row would be another one
// each time.
func (r *Reader) invalidEnd(text []byte) []byte {
	link, ok := findLink(text)
	if !ok || !r.object || string(bytes.Trim(link.rest, spaces)) != "}" {
		return r.trimEnd(text)
	}
	before := trimComma(link.before)
	if r.invalid.list && len(before) > 0 {
		if before, ok = trimAnnotations(link.before); !ok {
			return r.trimEnd(text)
		}
	}
	return before
}

// trimAnnotations takes away the list's end and the annotations behind it from what stands before a key.
func trimAnnotations(text []byte) (list []byte, ok bool) {
	i := bytes.LastIndexByte(text, ']')
	fields, ok := bytes.CutPrefix(bytes.TrimLeft(text[i+1:], spaces), []byte{','})
	if i < 0 || !ok || bytes.IndexByte(fields, '{') >= 0 {
		return nil, false
	}
	var all map[string]json.RawMessage
	if json.Unmarshal(slices.Concat([]byte{'{'}, fields, []byte(`"@":0}`)), &all) != nil {
		return nil, false
	}
	for key := range all {
		if key == "" || key[0] != '@' { // not what OData says of the list: perhaps a part of a row
			return nil, false
		}
	}
	return trimSpace(text[:i]), true
}

// trimEnd takes away the list's end, and that of the object around it, so that a bad row has the same ID as the last
// of a list.
func (r *Reader) trimEnd(text []byte) []byte {
	rest := trimSpace(text)
	if !r.invalid.list {
		return rest
	}
	if r.object {
		rest = trimSpace(bytes.TrimSuffix(rest, []byte{'}'}))
	}
	if list := bytes.TrimSuffix(rest, []byte{']'}); len(list) < len(rest) {
		return trimSpace(list)
	}
	return trimSpace(text)
}
