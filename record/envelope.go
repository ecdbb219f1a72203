package record

import (
	"bytes"
	"encoding/json"
	"io"
	"slices"
)

// What stands around the rows: the body's beginning, the object that may hold the list, and the end.

const (
	listKey = "value"           // of OData: the list
	linkKey = "@odata.nextLink" // of OData: where the next page is
)

var byteOrderMark = []byte("\xef\xbb\xbf")

// begin looks at the body's first byte.
func (r *Reader) begin() {
	for len(r.w.unread()) < len(byteOrderMark) && bytes.HasPrefix(byteOrderMark, r.w.unread()) && r.w.more() {
	}
	if bytes.HasPrefix(r.w.unread(), byteOrderMark) {
		r.w.pos += len(byteOrderMark)
	}
	c, ok := r.w.peek()
	switch {
	case !ok && r.w.err == io.EOF:
		r.err = &NotAlertsError{What: "an empty body"}
	case !ok:
		r.err = r.w.cut()
	case c == '[':
		r.w.pos++
		r.state = atFirst
	case c == '{':
		r.state = atObject
	case c == '<':
		r.notAlerts("HTML or XML", r.w.unread())
	default:
		r.notAlerts("neither an array nor an object", r.w.unread())
	}
}

// decide finds out from its keys whether the object at hand holds a list or is an alert. Up to MaxAlert bytes of it
// are kept: should it turn out to be an alert when more have passed, then it is one that is delivered raw and cut
// anyway.
func (r *Reader) decide(dst []byte) ([]byte, Row, bool) {
	r.scan.reset(scanDepth)
	r.scan.keys = true
	for k := 0; ; {
		n, event := r.scan.feed(r.w.unread()[k:])
		k += n
		switch {
		case k > r.t.opt.MaxAlert:
			return r.largeRow(dst, k, event)
		case event == scanKey:
			if r.kind(k) != isOpen {
				return dst, Row{}, false
			}
			continue
		case event == scanEnd:
			r.notAlerts("an object without alert fields", r.w.unread())
			return dst, Row{}, false
		case event == scanBad:
			r.notAlerts("an object without alert fields that is no JSON", r.w.unread())
			return dst, Row{}, false
		}
		if !r.more() {
			return dst, Row{}, false
		}
	}
}

// kind is what an object may turn out to be.
type kind byte

const (
	isOpen  kind = iota // not known yet
	isList              // a list begins: its '[' is taken
	isAlert             // nothing is taken
)

// kind looks at a field of the outermost object: its key is scan.key, its value begins k bytes behind what is taken.
func (r *Reader) kind(k int) kind {
	r.takeLink()
	key := unquote(r.scan.key)
	first := r.w.unread()[k]
	switch {
	case key == listKey && first == '[':
		r.w.pos += k + 1
		r.object = true
		r.state = atFirst
		return isList
	case !r.object && slices.Contains(r.t.opt.Schema.Markers, key):
		r.single = true
		r.state = atRow
		return isAlert
	case key == linkKey && first == '"':
		r.scan.keep, r.link = true, true
	}
	return isOpen
}

// takeLink takes the next link from scan if it just passed.
func (r *Reader) takeLink() {
	if r.link {
		r.next = unquote(r.scan.kept)
		if r.next == "" { // cut within an escape: still, more is there
			r.next = string(r.scan.kept)
		}
	}
	r.link = false
}

// unquote returns what the raw text of a string stands for.
func unquote(text []byte) (s string) {
	if bytes.IndexByte(text, '\\') < 0 {
		return string(text)
	}
	if json.Unmarshal(slices.Concat([]byte{'"'}, text, []byte{'"'}), &s) != nil {
		return "" // cut because it is too long to be one of ours
	}
	return s
}

// tail reads the rest of the object around a list. It may hold a second list of the same name, whose rows are rows
// too: nothing is lost.
func (r *Reader) tail() {
	r.scan.resumeObject()
	r.scan.keys = true
	for {
		n, event := r.scan.feed(r.w.unread())
		r.w.pos += n
		switch event {
		case scanKey:
			if r.kind(0) == isList {
				return
			}
			continue
		case scanEnd:
			r.takeLink()
			r.state = atEnd
			return
		case scanBad:
			broken := r.link && r.scan.keep
			if r.takeLink(); broken && r.next == "" { // its first byte is the bad one
				r.next = string(r.w.unread()[:1])
			}
			r.broke(0, r.scan.msg)
			return
		}
		if !r.more() {
			return
		}
	}
}

// end makes sure that only white space follows.
func (r *Reader) end() {
	_, ok := r.w.peek()
	switch {
	case ok && r.resynced: // what was taken for the end may have been the end of something within invalid text
		r.broke(0, "text behind the end of the list")
	case ok:
		r.notAlerts("text behind the end", r.w.unread())
	case r.w.err == io.EOF:
		r.err = io.EOF
	default:
		r.err = r.w.cut()
	}
}

// notAlerts gives the body up. A first byte that a snippet cannot show is named.
func (r *Reader) notAlerts(what string, text []byte) {
	if len(text) > 0 && (text[0] < ' ' || text[0] >= 0x7f) {
		what += ": " + quoteByte(text[0]) + " before " + snippet(text[1:])
	} else if len(text) > 0 {
		what += ": " + snippet(text)
	}
	r.err = &NotAlertsError{What: what}
}
