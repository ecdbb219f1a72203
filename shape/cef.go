package shape

import (
	"encoding/binary"
	"unicode/utf8"

	"fluent-bit-defender/record"
)

// CEF, the Common Event Format of ArcSight: one line of text in the field message, with the keys of Microsoft's
// published mapping of the SIEM API's fields. A target of its tables is group.key: groups are only for the pieces of
// evidence, the key is what stands in the line.

// cefHead begins each line. The version names the mapping, as Microsoft's does.
const cefHead = `CEF:0|Microsoft|Windows Defender ATP|2.0|`

const (
	messageKey = "\xa7message"
	nativeKey  = "\xa6native"
)

// cefLabels name the keys that are free for each device to use.
var cefLabels = map[string]string{
	"c6a1": "Device IPv6 Address", "c6a2": "Source IPv6 Address", "c6a3": "Destination IPv6 Address",
	"cn1": "WasExecutingWhileDetected", "cn2": "RemediationIsSuccess",
	"cs1": "ThreatName", "cs2": "TenantId", "cs3": "CommandLine", "cs4": "Actor", "cs5": "Md5", "cs6": "Sha256",
	"deviceCustomDate1": "LastUpdate", "flexString1": "Link", "flexString2": "MitreTechniques",
}

// cefLabel is the label of a key; empty: it needs none. An address that is none has a place with the SIEM API only.
func cefLabel(api, key string) string {
	if api == siem && key == "flexString2" {
		return "IpAddress"
	}
	return cefLabels[key]
}

// cefMost is the most characters of a value, where ArcSight's schema has fewer than for most (1023). externalId, for
// which it has 40, is never cut: an id that is cut is none.
var cefMost = map[string]int{
	"name": 512, "act": 63, "dvchost": 100, "sntdom": 255, "sourceDnsDomain": 255, "fileHash": 255,
	"deviceExternalId": 255, "cs1": 4000, "cs2": 4000, "cs3": 4000,
	"cs4": 4000, "cs5": 4000, "cs6": 4000, "externalId": 1 << 20,
}

const cefMostUsual = 1023

// cefField is a key of the extension.
type cefField struct {
	slot  slot
	key   string // with = behind it
	label string // " cs1Label=ThreatName"
	most  int
}

// cefLayout is the line of one table.
type cefLayout struct {
	id, name, severity slot
	fields             []cefField
}

func newCEFLayout(p *program, api string) *cefLayout {
	l := &cefLayout{id: p.target("header.id").slot, name: p.target("header.name").slot,
		severity: p.target("header.severity").slot}
	for _, group := range p.targets {
		if group.name == "header" {
			continue
		}
		for _, t := range group.kids {
			f := cefField{slot: t.slot, key: t.name + "=", most: cefMostUsual}
			if label := cefLabel(api, t.name); label != "" {
				f.label = " " + t.name + "Label=" + label
			}
			if most := cefMost[t.name]; most > 0 {
				f.most = most
			}
			l.fields = append(l.fields, f)
		}
	}
	return l
}

// line writes the record.
func (l *cefLayout) line(e *encoder, dst []byte) ([]byte, int) {
	dst, at := beginMessage(dst)
	dst = append(dst, cefHead...)
	dst = append(e.header(dst, l.id, "alert", cefMostUsual), '|')
	dst = append(e.header(dst, l.name, "Alert", cefMost["name"]), '|')
	dst = append(e.header(dst, l.severity, "0", 2), '|')
	first := true
	for i := range l.fields {
		f := &l.fields[i]
		if !e.filled.has(f.slot) {
			continue
		}
		if !first {
			dst = append(dst, ' ')
		}
		first = false
		dst = append(dst, f.key...)
		v := &e.values[f.slot]
		if v.one != nil {
			dst = appendCEFValue(dst, v.one, f.most)
		}
		for k, item := range v.many {
			if k > 0 {
				dst = append(dst, ',')
			}
			dst = appendCEFValue(dst, item.v, f.most)
		}
		dst = append(dst, f.label...)
	}
	endMessage(dst, at)
	if !e.native {
		return dst, 1
	}
	return append(append(dst, nativeKey...), e.alert.Native...), 2
}

func beginMessage(dst []byte) ([]byte, int) {
	dst = append(dst, messageKey...)
	return append(dst, 0xdb, 0, 0, 0, 0), len(dst)
}

func endMessage(dst []byte, at int) { binary.BigEndian.PutUint32(dst[at+1:], uint32(len(dst)-at-5)) }

// header appends a part of the header.
func (e *encoder) header(dst []byte, k slot, none string, most int) []byte {
	if !e.filled.has(k) {
		return append(dst, none...)
	}
	v := e.values[k].one
	if s := textIn(v); s != nil {
		return appendCEFHeader(dst, s, most)
	}
	n, _ := numberIn(v)
	return appendDigits(dst, n)
}

// cefSpecial are bytes that a line may not show as they are: control characters, what CEF escapes, and the beginnings
// of the line breaks of Unicode.
var cefSpecial = func() (t [256]bool) {
	for c := range 0x20 {
		t[c] = true
	}
	for _, c := range []byte{'\\', '|', '=', 0x7f, 0xc2, 0xe2} {
		t[c] = true
	}
	return t
}()

// appendCEFHeader appends text in which nothing ends a part of the header: \ and | are escaped, a line break or other
// control character is a blank.
func appendCEFHeader(dst, s []byte, most int) []byte {
	return appendEscaped(dst, cut(s, most), '|', " ", " ")
}

// appendCEFText appends text in which nothing ends a value: \ and = are escaped, line breaks become \n and \r.
func appendCEFText(dst, s []byte, most int) []byte {
	return appendEscaped(dst, cut(s, most), '=', `\n`, `\r`)
}

func appendEscaped(dst, s []byte, also byte, newLine, carriageReturn string) []byte {
	from, i := 0, 0
	for {
		if i += plainCEF(s[i:], also); i == len(s) {
			return append(dst, s[from:]...)
		}
		n, to := 1, " "
		switch c := s[i]; {
		case c == '\\':
			to = `\\`
		case c == also && c == '|':
			to = `\|`
		case c == also:
			to = `\=`
		case c == '\n':
			to = newLine
		case c == '\r':
			to = carriageReturn
		case c >= 0x80:
			if n = unicodeBreak(s[i:]); n == 0 {
				i++
				continue
			}
			to = newLine
		}
		dst = append(append(dst, s[from:i]...), to...)
		i += n
		from = i
	}
}

// plainCEF returns how much of text may stand in a line as it is: all but control characters, \, what else CEF escapes
// here, and the beginnings of the line breaks of Unicode. It looks at eight bytes at a time.
func plainCEF(s []byte, also byte) int {
	const ones, high = 0x0101010101010101, 0x8080808080808080
	i := 0
	for ; len(s)-i >= 8; i += 8 {
		w := binary.LittleEndian.Uint64(s[i:])
		slash, other := w^'\\'*ones, w^uint64(also)*ones
		if (w|(w-' '*ones)|(w+ones)|(slash-ones)|(other-ones))&high != 0 { // beyond ASCII too
			break
		}
	}
	for ; i < len(s); i++ {
		if c := s[i]; cefSpecial[c] && c != '|' && c != '=' || c == also {
			break
		}
	}
	return i
}

// unicodeBreak returns the length of the line break of Unicode (next line, line or paragraph separator) that s begins
// with.
func unicodeBreak(s []byte) int {
	switch r, n := utf8.DecodeRune(s); r {
	case '\u0085', '\u2028', '\u2029':
		return n
	}
	return 0
}

// cut returns the first most characters of text.
func cut(s []byte, most int) []byte {
	if len(s) <= most {
		return s
	}
	i := 0
	for ; most > 0 && i < len(s); most-- {
		_, n := utf8.DecodeRune(s[i:])
		i += n
	}
	return s[:i]
}

func appendCEFValue(dst, v []byte, most int) []byte {
	if s := textIn(v); s != nil {
		return appendCEFText(dst, s, most)
	}
	n, _ := numberIn(v)
	return appendDigits(dst, n)
}

func appendDigits(dst []byte, n int64) []byte {
	if n < 0 {
		return appendDigits(append(dst, '-'), -n)
	}
	var buf [20]byte
	i := len(buf)
	for {
		i--
		buf[i] = '0' + byte(n%10)
		if n /= 10; n == 0 {
			return append(dst, buf[i:]...)
		}
	}
}

var (
	cefSeverity = numbers("1 informational, 3 low, 5 medium, 8 high, 10 critical; 0 for all else",
		map[string]int64{"informational": 1, "low": 3, "medium": 5, "high": 8, "critical": 10})
	oneOrZero = conv{doc: "1 for true, 0 for false", fn: func(e *encoder, r *rule, v []byte) bool {
		c := record.NewCursor(v)
		if c.Kind() != record.Bool {
			return false
		}
		n := int64(0)
		if c.Bool() {
			n = 1
		}
		return e.put(r, e.number(n))
	}}
	ipv4 = conv{doc: "of version 4", fn: func(e *encoder, r *rule, v []byte) bool {
		s := textIn(v)
		return isIP(s) && !hasColon(s) && e.put(r, v)
	}}
	ipv6 = conv{doc: "of version 6", fn: func(e *encoder, r *rule, v []byte) bool {
		s := textIn(v)
		return isIP(s) && hasColon(s) && e.put(r, v)
	}}
	noIP = conv{doc: "what is no address", fn: func(e *encoder, r *rule, v []byte) bool {
		s := textIn(v)
		return s != nil && !isIP(s) && e.put(r, v)
	}}
)

func hasColon(s []byte) bool {
	for _, c := range s {
		if c == ':' {
			return true
		}
	}
	return false
}

// cefRaw is the record of a row that could not be read: the line says that there is one, the row stands beside it.
func cefRaw(dst []byte, r *record.Raw) ([]byte, int) {
	dst, at := beginMessage(dst)
	dst = append(append(dst, cefHead...), "raw|A row that could not be read|0|rt="...)
	dst = append(appendDigits(dst, r.Time.UnixMilli()), " msg="...)
	dst = appendCEFText(dst, []byte(r.Reason), cefMostUsual)
	if r.Tenant != "" {
		dst = append(appendCEFText(append(dst, " cs2="...), []byte(r.Tenant), cefMostUsual), " cs2Label=TenantId"...)
	}
	endMessage(dst, at)
	dst = appendText(appendText(dst, "raw"), r.Text)
	return appendText(appendText(dst, "error"), r.Reason), 3
}
