package shape

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"fluent-bit-defender/internal/cefline"
)

// cefKeys are those of CEF's dictionary that may come, and whether their value is a number.
var cefKeys = map[string]bool{
	"rt": true, "deviceCustomDate1": true, "start": true, "end": true, "cn1": true, "cn2": true, "spid": true,
	"fsize":      true,
	"externalId": false, "cat": false, "sourceServiceName": false, "msg": false, "act": false, "flexString1": false,
	"flexString2": false, "outcome": false,
	"cs1": false, "cs2": false, "cs3": false, "cs4": false, "cs5": false, "cs6": false, "shost": false,
	"dvchost": false, "sourceDnsDomain": false,
	"deviceExternalId": false, "dvc": false, "suser": false, "sntdom": false, "suid": false, "duser": false,
	"sproc": false, "fname": false,
	"filePath": false, "fileHash": false, "src": false, "dst": false, "c6a1": false, "c6a2": false, "c6a3": false,
	"request": false, "spt": true, "dpt": true, "proto": false,
}

// checkCEF holds a record's line against the format, and returns what it says.
func checkCEF(t testing.TB, r *encoded) cefline.Event {
	t.Helper()
	line, _ := r.fields(t)["message"].(string)
	for _, c := range line {
		if c < ' ' || c == 0x7f || c == 0x85 || c == 0x2028 || c == 0x2029 || c == utf8.RuneError && !r.row.Repaired &&
			!strings.Contains(line, "\uFFFD") {
			t.Fatalf("the line holds %q: %q", c, line)
		}
	}
	e, err := cefline.Parse(line)
	if err != nil {
		t.Fatalf("%v: %s", err, line)
	}
	severity, err := strconv.Atoi(e.Header[6])
	if want := []string{"0", "Microsoft", "Windows Defender ATP", "2.0"}; !slices.Equal(e.Header[:4], want) ||
		err != nil || severity < 0 || severity > 10 ||
		e.Header[4] == "" || e.Header[5] == "" {
		t.Errorf("the header is %q", e.Header)
	}
	for key, value := range e.Extension {
		base, isLabel := strings.CutSuffix(key, "Label")
		number, known := cefKeys[base]
		switch _, err := strconv.ParseInt(value, 10, 64); {
		case !known:
			t.Errorf("%s is no key that may come: %s", key, line)
		case isLabel:
			if _, has := e.Extension[base]; !has {
				t.Errorf("%s labels nothing", key)
			}
		case number && err != nil:
			t.Errorf("%s is %q, and no number", key, value)
		case (cefLabels[base] != "") && e.Extension[base+"Label"] == "":
			t.Errorf("%s has no label", key)
		}
	}
	return e
}

func TestCEFLinesAreValid(t *testing.T) {
	for _, api := range []string{siem, graph} {
		records := readAll(t, optionsOf(t, CEF, api, true),
			list(append(sampleRows(t, api, thousand), []byte(`"no object"`), []byte(`[[]]`))...))
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
		if e.Header[5] != header || e.Extension["msg"] != value || e.Extension["externalId"] != value ||
			len(e.Extension) != 4 {
			t.Errorf("%q: name %q, msg %q, of %v", title, e.Header[5], e.Extension["msg"], e.Extension)
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
	r := readAll(t, optionsOf(t, CEF, siem, false),
		list([]byte(`{"AlertId":"`+long+`","AlertTitle":"`+long+`","Description":"`+long+`","CommandLine":"`+long+
			`"}`)))
	e := checkCEF(t, &r[0])
	for _, c := range []struct {
		text string
		want int
	}{{e.Header[5], 512}, {e.Extension["msg"], 1023}, {e.Extension["cs3"], 4000}, {e.Extension["externalId"], 5000}} {
		if n := utf8.RuneCountInString(c.text); n != c.want {
			t.Errorf("%d characters, want %d", n, c.want)
		}
	}
}

func FuzzCEF(f *testing.F) {
	f.Add("title", "value")
	f.Add(`a|b\`, "x=y \\\r\n\u2028")
	f.Add("\u0085", "\xc2\xe2\x80\xa8")
	f.Add("x|10|src=1.2.3.4", "a\nCEF:0|Microsoft|Windows Defender ATP|2.0|1|forged|10|src=1.2.3.4")
	f.Add("\\|", "\\\\= dst=5.6.7.8 \\n")
	f.Fuzz(func(t *testing.T, title, value string) {
		if !utf8.ValidString(title+value) || title == "" || value == "" {
			return
		}
		row, err := json.Marshal(map[string]any{"id": value, "title": title, "createdDateTime": value,
			"description": value, "severity": title,
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
		if got := e.Extension["externalId"]; got != want {
			t.Errorf("%q became %q, want %q", value, got, want)
		}
	})
}
