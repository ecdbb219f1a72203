package shape

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

// cefEvent is a line as a reader takes it apart that knows nothing of how it was made.
type cefEvent struct {
	header     []string // version, vendor, product, version, id, name, severity
	extensions map[string]string
	keys       []string
}

var cefKey = regexp.MustCompile(`(?:^| )([A-Za-z0-9_.]+)=`)

// parseCEF takes a line apart by the rules of the format: seven parts up to bars that no backslash stands before,
// then keys up to =, their values up to the blank before the next key.
func parseCEF(line string) (e cefEvent, err error) {
	rest, found := strings.CutPrefix(line, "CEF:")
	if !found {
		return e, fmt.Errorf("it begins with %.10q", line)
	}
	for len(e.header) < 7 {
		var part strings.Builder
		i := 0
		for ; i < len(rest) && rest[i] != '|'; i++ {
			if rest[i] == '\\' {
				if i++; i == len(rest) || rest[i] != '\\' && rest[i] != '|' {
					return e, fmt.Errorf("a lone backslash in the header")
				}
			}
			part.WriteByte(rest[i])
		}
		if i == len(rest) {
			return e, fmt.Errorf("a header of %d parts", len(e.header))
		}
		e.header, rest = append(e.header, part.String()), rest[i+1:]
	}
	e.extensions = map[string]string{}
	at := cefKey.FindAllStringSubmatchIndex(rest, -1)
	if len(at) == 0 && rest != "" || len(at) > 0 && at[0][0] != 0 {
		return e, fmt.Errorf("text before the first key: %q", rest)
	}
	for i, m := range at {
		end := len(rest)
		if i+1 < len(at) {
			end = at[i+1][0]
		}
		key, raw := rest[m[2]:m[3]], rest[m[1]:end]
		value, err := unescapeCEF(raw)
		if err != nil {
			return e, fmt.Errorf("%s: %w", key, err)
		}
		if _, twice := e.extensions[key]; twice {
			return e, fmt.Errorf("%s stands there twice", key)
		}
		e.extensions[key], e.keys = value, append(e.keys, key)
	}
	return e, nil
}

func unescapeCEF(raw string) (string, error) {
	var out strings.Builder
	for i := 0; i < len(raw); i++ {
		switch {
		case raw[i] == '=':
			return "", fmt.Errorf("an = that is not escaped in %q", raw)
		case raw[i] != '\\':
			out.WriteByte(raw[i])
		default:
			i++
			if i == len(raw) {
				return "", fmt.Errorf("a backslash at the end of %q", raw)
			}
			to, known := map[byte]string{'\\': `\`, '=': "=", 'n': "\n", 'r': "\r"}[raw[i]]
			if !known {
				return "", fmt.Errorf("\\%c in %q", raw[i], raw)
			}
			out.WriteString(to)
		}
	}
	return out.String(), nil
}

// cefKeys are those of CEF's dictionary that may come, and whether their value is a number.
var cefKeys = map[string]bool{
	"rt": true, "deviceCustomDate1": true, "start": true, "end": true, "cn1": true, "cn2": true, "spid": true, "fsize": true,
	"externalId": false, "cat": false, "sourceServiceName": false, "msg": false, "act": false, "flexString1": false, "flexString2": false, "outcome": false,
	"cs1": false, "cs2": false, "cs3": false, "cs4": false, "cs5": false, "cs6": false, "shost": false, "dvchost": false, "sourceDnsDomain": false,
	"deviceExternalId": false, "dvc": false, "suser": false, "sntdom": false, "suid": false, "duser": false, "sproc": false, "fname": false,
	"filePath": false, "fileHash": false, "src": false, "dst": false, "c6a1": false, "c6a2": false, "c6a3": false, "request": false,
}

// checkCEF holds a record's line against the format, and returns what it says.
func checkCEF(t testing.TB, r *encoded) cefEvent {
	t.Helper()
	line, _ := r.fields(t)["message"].(string)
	for _, c := range line {
		if c < ' ' || c == 0x7f || c == 0x85 || c == 0x2028 || c == 0x2029 || c == utf8.RuneError && !r.row.Repaired && !strings.Contains(line, "\uFFFD") {
			t.Fatalf("the line holds %q: %q", c, line)
		}
	}
	e, err := parseCEF(line)
	if err != nil {
		t.Fatalf("%v: %s", err, line)
	}
	severity, err := strconv.Atoi(e.header[6])
	if want := []string{"0", "Microsoft", "Windows Defender ATP", "2.0"}; !slices.Equal(e.header[:4], want) || err != nil || severity < 0 || severity > 10 ||
		e.header[4] == "" || e.header[5] == "" {
		t.Errorf("the header is %q", e.header)
	}
	for key, value := range e.extensions {
		base, isLabel := strings.CutSuffix(key, "Label")
		number, known := cefKeys[base]
		switch _, err := strconv.ParseInt(value, 10, 64); {
		case !known:
			t.Errorf("%s is no key that may come: %s", key, line)
		case isLabel:
			if _, has := e.extensions[base]; !has {
				t.Errorf("%s labels nothing", key)
			}
		case number && err != nil:
			t.Errorf("%s is %q, and no number", key, value)
		case (cefLabels[base] != "") && e.extensions[base+"Label"] == "":
			t.Errorf("%s has no label", key)
		}
	}
	return e
}

func TestCEFLinesAreValid(t *testing.T) {
	for _, api := range []string{siem, graph} {
		records := readAll(t, optionsOf(t, CEF, api, true), list(append(sampleRows(t, api, thousand), []byte(`"no object"`), []byte(`[[]]`))...))
		for i := range records {
			checkCEF(t, &records[i])
		}
	}
}

// What an alert says comes out of the line as it was, whatever it is made of.
func TestCEFValuesComeBack(t *testing.T) {
	f := func(title, header, value string) {
		t.Helper()
		row, err := json.Marshal(map[string]string{"AlertId": title, "AlertTitle": title, "Description": title})
		if err != nil {
			t.Fatal(err)
		}
		r := readAll(t, optionsOf(t, CEF, siem, false), list(row))
		e := checkCEF(t, &r[0])
		if e.header[5] != header || e.extensions["msg"] != value || e.extensions["externalId"] != value || len(e.extensions) != 4 {
			t.Errorf("%q: name %q, msg %q, of %v", title, e.header[5], e.extensions["msg"], e.extensions)
		}
	}
	f("plain", "plain", "plain")
	f(`a|b\c=d`, `a|b\c=d`, `a|b\c=d`)
	f("a\nb\r\nc", "a b  c", "a\nb\r\nc")
	f("x|9|src=1.2.3.4 dst=5.6.7.8", "x|9|src=1.2.3.4 dst=5.6.7.8", "x|9|src=1.2.3.4 dst=5.6.7.8")
	f("a\u2028CEF:0|x", "a CEF:0|x", "a\nCEF:0|x")
	f("a\u0085b\u2029c\tdé…", "a b c dé…", "a\nb\nc dé…")
	f(`ends in \`, `ends in \`, `ends in \`)
	f("\\n", "\\n", "\\n")
}

func TestCEFValuesAreCut(t *testing.T) {
	long := strings.Repeat("ü", 5000)
	r := readAll(t, optionsOf(t, CEF, siem, false), list([]byte(`{"AlertId":"`+long+`","AlertTitle":"`+long+`","Description":"`+long+`","CommandLine":"`+long+`"}`)))
	e := checkCEF(t, &r[0])
	for _, c := range []struct {
		text string
		want int
	}{{e.header[5], 512}, {e.extensions["msg"], 1023}, {e.extensions["cs3"], 4000}, {e.extensions["externalId"], 5000}} {
		if n := utf8.RuneCountInString(c.text); n != c.want {
			t.Errorf("%d characters, want %d", n, c.want)
		}
	}
}

func FuzzCEF(f *testing.F) {
	f.Add("title", "value")
	f.Add(`a|b\`, "x=y \\\r\n\u2028")
	f.Add("\u0085", "\xc2\xe2\x80\xa8")
	f.Fuzz(func(t *testing.T, title, value string) {
		if !utf8.ValidString(title+value) || title == "" || value == "" {
			return
		}
		row, err := json.Marshal(map[string]any{"id": value, "title": title, "createdDateTime": value, "description": value, "severity": title,
			"evidence": []any{map[string]any{"@odata.type": "#microsoft.graph.security.urlEvidence", "url": value}}})
		if err != nil {
			t.Fatal(err)
		}
		e := checkCEF(t, &readAll(t, optionsOf(t, CEF, graph, false), list(row))[0])
		want := strings.NewReplacer("\u0085", "\n", "\u2028", "\n", "\u2029", "\n").Replace(value)
		want = strings.Map(func(r rune) rune {
			if r < ' ' && r != '\n' && r != '\r' || r == 0x7f {
				return ' '
			}
			return r
		}, want)
		if got := e.extensions["externalId"]; got != want {
			t.Errorf("%q became %q, want %q", value, got, want)
		}
	})
}
