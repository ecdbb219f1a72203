package record

import (
	"bytes"
	"encoding/json"
	"slices"
)

// The end of bad text: separators, the list's end, and a next link, without which the pages that follow would be missed.

const spaces = " \t\r\n"

func trimSpace(text []byte) []byte { return bytes.TrimRight(text, spaces) }

// trimComma takes away the comma that stands between bad text and the next row.
func trimComma(text []byte) []byte { return trimSpace(bytes.TrimSuffix(trimSpace(text), []byte{','})) }

// badLink is a next link within bad text.
type badLink struct {
	to           string
	before, rest []byte // the text before its key and behind its value; no rest: it is broken
}

var quotedLinkKey = []byte(`"` + linkKey + `"`)

// findLink finds the last next link in text. Of one that is broken itself the raw text stands for it: it leads nowhere, but tells that there
// is more.
func findLink(text []byte) (link badLink, ok bool) {
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

// badEnd returns what of the body's end is to be handed over. A next link is not if nothing but the object's end follows it and nothing but
// the list's end and annotations stand before it: with it the raw row would be another one each time.
func (r *Reader) badEnd(text []byte) []byte {
	link, ok := findLink(text)
	if !ok || !r.object || string(bytes.Trim(link.rest, spaces)) != "}" {
		return r.trimEnd(text)
	}
	before := trimComma(link.before)
	if r.bad.list && len(before) > 0 {
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

// trimEnd takes away the list's end, and that of the object around it, so that a bad row has the same ID as the last of a list.
func (r *Reader) trimEnd(text []byte) []byte {
	rest := trimSpace(text)
	if !r.bad.list {
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
