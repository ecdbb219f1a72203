package record

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"pgregory.net/rapid"
)

// checkTranscode compares what becomes of a list of rows with what encoding/json makes of it: the same texts are
// JSON, and the records hold the same values but for what the package comment says about repairs, numbers, duplicates
// and raw rows.
func checkTranscode(t rapid.TB, list []byte, dropNull bool) {
	t.Helper()
	opt := siemOptions()
	opt.DropNull, opt.MaxAlert = dropNull, 1<<16
	body := append(append([]byte{'['}, list...), ']')
	rows, err := readAll(NewReader(opt), bytes.NewReader(body))
	var texts []json.RawMessage
	if valid := json.Unmarshal(body, &texts) == nil; valid != (err == nil) {
		var no *NotAlertsError // [1][2] is a list with text behind it: no error of the syntax
		if bytes.Count(body, []byte{'['})+bytes.Count(body, []byte{'{'}) > 9000 || errors.As(err, &no) && !valid {
			return // encoding/json stops at a depth of 10,000
		}
		t.Fatalf("encoding/json: %t, we: %v\n%q", valid, err, body)
	}
	if err != nil {
		return
	}
	if len(rows) != len(texts) {
		t.Fatalf("%d rows of %d", len(rows), len(texts))
	}
	checkEncode(t, opt, body)
	for i, row := range rows {
		checkRow(t, row, bytes.TrimSpace(texts[i]), opt)
	}
}

func checkRow(t rapid.TB, row got, text []byte, opt Options) {
	t.Helper()
	want, fffd := model(text, opt.DropNull)
	fields, isObject := want.(object)
	reason := ""
	switch {
	case len(text) > opt.MaxAlert:
		reason = NewReader(opt).reasonLarge
	case !isObject:
		reason = reasonNoObject
	case depthOf(text) > maxDepth:
		reason = NewReader(opt).reasonDeep
	case len(row.Data) <= opt.withDefaults().MaxRecord && row.Reason == NewReader(opt).reasonRecord:
		return
	}
	if row.Raw != (reason != "") || row.Reason != reason || row.Size != len(text) {
		t.Fatalf("%+v, want reason %q for %q", row.Row, reason, text)
	}
	if row.Raw {
		raw, _ := row.raw(t)
		if repaired := repair(text); raw != repaired && len(text) <= opt.MaxAlert {
			t.Fatalf("raw %q, want %q", raw, repaired)
		}
		return
	}
	if got := row.fields(t); !reflect.DeepEqual(got, fields) {
		t.Fatalf("%q:\n got %q\nwant %q", text, got, fields) // cmp.Diff of deep values takes for ever
	}
	if repaired := fffd != literalFFFD(text); row.Repaired != repaired {
		t.Fatalf("repaired: %t, want %t: %q", row.Repaired, repaired, text)
	}
	at := pulled
	updated := int64(0)
	for _, f := range modelFields(text) {
		s, ok := f.Value.(string)
		if f.Name == opt.TimeKey && ok {
			at = readTime(s, pulled)
		}
		if f.Name == opt.Schema.Updated && ok {
			if u := readTime(s, time.Time{}); !u.IsZero() {
				updated = u.UnixNano()
			}
		}
	}
	if !row.time(t).Equal(at) || row.Updated != updated {
		t.Fatalf("time %v, want %v; updated %d, want %d: %q", row.time(t), at, row.Updated, updated, text)
	}
}

func modelFields(text []byte) object {
	v, _ := model(text, false)
	return v.(object)
}

// repair is text with each byte that is no UTF-8 as U+FFFD.
func repair(text []byte) string { return string([]rune(string(text))) }

func depthOf(text []byte) (deepest int) {
	depth := 0
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	for {
		token, err := d.Token()
		if err != nil {
			return deepest
		}
		switch token {
		case json.Delim('{'), json.Delim('['):
			depth++
			deepest = max(deepest, depth)
		case json.Delim('}'), json.Delim(']'):
			depth--
		}
	}
}

func FuzzTranscode(f *testing.F) {
	f.Fuzz(func(t *testing.T, list []byte, dropNull bool) { checkTranscode(t, list, dropNull) })
}

// TestTranscodeProperty makes well-formed lists, and lists with one byte changed, of rows that repeat keys and shapes.
func TestTranscodeProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		list := []byte(strings.Join(rapid.SliceOfN(drawObject(3), 1, 5).Draw(t, "rows"), ","))
		if len(list) > 0 && rapid.IntRange(0, 3).Draw(t, "spoil") == 0 {
			list[rapid.IntRange(0, len(list)-1).Draw(t, "at")] = rapid.Byte().Draw(t, "byte")
		}
		checkTranscode(t, list, rapid.Bool().Draw(t, "dropNull"))
	})
}

func drawString() *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		parts := rapid.SliceOfN(rapid.SampledFrom([]string{
			"a", "AlertTime", strings.Repeat("x", 30), strings.Repeat("y", 256), "ä", "不", "😀", "\xff", "\xe4\xb8",
			`\n`, `\\`, `\"`, `\u00e9`, `\ud83d\ude00`, `\ud800`, "\uFFFD", `\uFFFD`, `\u0000`,
		}), 0, 6).Draw(t, "parts")
		return `"` + strings.Join(parts, "") + `"`
	})
}

func drawValue(depth int) *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		switch kind := rapid.IntRange(0, 9).Draw(t, "kind"); {
		case kind < 3:
			return drawString().Draw(t, "string")
		case kind < 5:
			return rapid.SampledFrom([]string{
				"0", "-0", "1", "-1", "255", "-129", "70000", "4294967296", "-9223372036854775808",
				"18446744073709551615", "18446744073709551616",
				"1.5", "-2e10", "1e400", "1e-400", "0.1e1", "123456789012345678901234567890",
				`"2017-01-23T07:32:54.1861171Z"`, `"0001-01-01T00:00:00"`,
			}).Draw(t, "number")
		case kind < 7 || depth == 0:
			return rapid.SampledFrom([]string{"null", "true", "false"}).Draw(t, "word")
		case kind == 7:
			return "[" + strings.Join(rapid.SliceOfN(drawValue(depth-1), 0, 4).Draw(t, "list"), " ,") + "]"
		case kind == 8:
			return strings.Repeat("[", 27) + drawString().Draw(t, "deep") + strings.Repeat("]", 27)
		}
		return drawObject(depth-1).Draw(t, "object")
	})
}

func drawObject(depth int) *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		fields := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) string {
			key := rapid.SampledFrom([]string{`"AlertId"`, `"AlertTime"`, `"LastProcessedTimeUtc"`, `"FullId"`,
				`"AlertPart"`, `"a"`, `"b"`, `"c"`, `"\u0061"`, `""`}).Draw(t, "key")
			if rapid.IntRange(0, 9).Draw(t, "odd key") == 0 {
				key = drawString().Draw(t, "key")
			}
			return key + rapid.SampledFrom([]string{":", ": ", " :\n"}).Draw(t, "colon") + drawValue(depth).Draw(t,
				"value")
		}), 0, 8).Draw(t, "fields")
		return "{" + strings.Join(fields, rapid.SampledFrom([]string{",", ", ", ",\n"}).Draw(t, "comma")) + "}"
	})
}

// outcomeOf is all that a Reader says about a body.
func outcomeOf(r *Reader, body io.Reader) (rows []got, err string) {
	rows, e := readAll(r, body)
	if e != nil {
		err = e.Error()
	}
	return rows, err
}

func FuzzReader(f *testing.F) {
	f.Fuzz(func(t *testing.T, body []byte, seed uint64, maxAlert uint16, resync bool) {
		opt := siemOptions()
		opt.MaxAlert = int(maxAlert)
		newReader := func() *Reader {
			r := NewReader(opt)
			if resync {
				r.Resync(always)
			}
			return r
		}
		whole, pieces := newReader(), newReader()
		pieces.w.size = 16 + int(seed%1000) // so that short bodies make the window move and grow, too
		// a few times, as an engine asks: a bad row may be resynced only the second time
		for range 8 {
			want, err := outcomeOf(whole, bytes.NewReader(body))
			rows, errPieces := outcomeOf(pieces, &chunks{bytes.Clone(body), rand.New(rand.NewPCG(seed, 1)),
				1 + int(seed%97)})
			if !reflect.DeepEqual(rows, want) || errPieces != err && !strings.Contains(err, "no list of alerts") {
				t.Fatalf("reads make a difference: %s, %q\n%s, %q\n%q", ids(want), err, ids(rows), errPieces, body)
			}
			if whole.NextLink() != pieces.NextLink() {
				t.Fatalf("reads make a difference: links %q and %q", whole.NextLink(), pieces.NextLink())
			}
			if err == "" && pieces.Offset() != whole.Offset() {
				t.Fatalf("%d bytes taken of pieces, %d of the whole", pieces.Offset(), whole.Offset())
			}
			checkNothingLost(t, body, want, err == "")
			if err == "" || !resync {
				break
			}
		}
		// whole rows before an error of the body come all the same
		cut := 0
		if len(body) > 0 {
			cut = int(seed % uint64(len(body)+1))
		}
		if !resync {
			want, _ := outcomeOf(newReader(), bytes.NewReader(body[:cut]))
			r := newReader()
			rows, err := readAll(r, io.MultiReader(bytes.NewReader(body[:cut]), iotest.ErrReader(errReset)))
			var syntax *SyntaxError
			var no *NotAlertsError
			if !reflect.DeepEqual(rows, want) || !errors.Is(err, errReset) && !errors.As(err, &syntax) &&
				!errors.As(err, &no) {
				t.Fatalf("%s, %v; want %s", ids(rows), err, ids(want))
			}
		}
	})
}

var errReset = errors.New("connection reset")

// checkNothingLost walks over a list: each row stands where the Reader says, and between the rows are only separators
// and other fields of the object around it.
func checkNothingLost(t *testing.T, body []byte, rows []got, atEnd bool) {
	t.Helper()
	start := len(body) - len(bytes.TrimLeft(bytes.TrimPrefix(body, byteOrderMark), " \t\r\n"))
	at, object := start+1, bytes.HasPrefix(body[start:], []byte{'{'})
	if object {
		var s scanner
		s.reset(scanDepth)
		k, event := toList(&s, body[start:], SIEM.Markers)
		if event != scanKey {
			return
		}
		at = start + k
	} else if !bytes.HasPrefix(body[start:], []byte{'['}) {
		return
	}
	nothing := func(text []byte) bool { return noRows(text, object) }
	separators := " \t\r\n,]"
	if object {
		separators += "}"
	}
	for _, row := range rows {
		if row.End < int64(at+row.Size) {
			t.Fatalf("a row of %d bytes in %q", row.Size, body[at:max(at, int(row.End))])
		}
		region := body[at:row.End]
		at = int(row.End)
		if !strings.HasPrefix(row.Reason, "no valid JSON") {
			before, text := region[:len(region)-row.Size], region[len(region)-row.Size:]
			if !nothing(before) || len(text) < 9000 && !json.Valid(text) {
				t.Fatalf("row %q behind %q", text, before)
			}
			continue
		}
		raw, _ := row.raw(t)
		found := false
		for k := 0; k+row.Size <= len(region) && (object || nothing(region[:k])) && !found; k++ {
			text, behind := region[k:k+row.Size], region[k+row.Size:]
			found = (text[0] == raw[0] || text[0] >= 0x80) && repair(text) == raw && nothing(region[:k]) &&
				(len(bytes.Trim(behind, separators)) == 0 || object && at == len(body) && onlyALink.Match(behind))
		}
		if !found {
			t.Fatalf("%q became %q", region, raw)
		}
	}
	if atEnd && !nothing(body[at:]) {
		t.Fatalf("%q is lost", body[at:])
	}
}

// onlyALink matches what is left out behind invalid text: the list's end, annotations, a link and the object's end.
var onlyALink = regexp.MustCompile(`(?s)^\s*(\]\s*)?,?\s*("@([^"\\]|\\.)*"\s*:\s*("([^"\\]|\\.)*"|[-+.\w]+)\s*,\s*)*"@odata\.nextLink"\s*:\s*"([^"\\]|\\.)*"\s*}\s*$`)

// noRows tells whether text, from within a list on, holds no rows but only separators and, behind the list's end,
// fields of the object.
func noRows(text []byte, object bool) bool {
	if !object {
		return len(bytes.Trim(text, " \t\r\n,]")) == 0
	}
	fields := bytes.TrimLeft(text, " \t\r\n,]}")
	if len(fields) == 0 {
		return true
	}
	var s scanner
	s.resumeObject()
	s.state = wantKey
	k, event := toList(&s, fields, nil)
	switch event {
	case scanKey:
		return noRows(fields[k:], true)
	case scanEnd:
		return len(bytes.Trim(fields[k:], " \t\r\n,]}")) == 0
	}
	return event == scanMore
}

// toList reads the text of an object up to behind the '[' of its list, and then returns scanKey; or to a marker,
// where it returns scanBad.
func toList(s *scanner, text []byte, markers []string) (k int, event scanEvent) {
	s.keys = true
	for {
		n, event := s.feed(text[k:])
		k += n
		switch key := unquote(s.key); {
		case event != scanKey:
			return k, event
		case slices.Contains(markers, key):
			return k, scanBad
		case key == listKey && text[k] == '[':
			return k + 1, event
		}
	}
}
