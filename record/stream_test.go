package record

import (
	"bytes"
	"errors"
	"fluent-bit-defender/internal/sample"
	"fmt"
	"io"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

const alertA, alertB = `{"AlertId":"a","AlertTime":"2024-01-01T00:00:00Z"}`, `{"AlertId":"b","x":[1,{"y":"]}"}]}`

func ids(rows []got) (s string) {
	for _, row := range rows {
		o := object{}
		if _, v, err := decode(row.Data); err == nil {
			o = v.(object)
		}
		switch {
		case row.Raw:
			s += fmt.Sprintf("raw(%v)", o[0].Value)
		case len(o) > 0:
			s += fmt.Sprint(o[0].Value)
		default:
			s += "{}"
		}
		s += " "
	}
	return strings.TrimSpace(s)
}

func TestBodies(t *testing.T) {
	cases := []struct{ name, body, want, next string }{
		{"array", "[" + alertA + "," + alertB + "]", "a b", ""},
		{"array with white space", " \r\n\t[ " + alertA + " ,\n" + alertB + " ] \n", "a b", ""},
		{"byte order mark", "\xef\xbb\xbf[" + alertA + "]", "a", ""},
		{"empty array", "[]", "", ""},
		{"empty array with white space", " [ \n] ", "", ""},
		{"rows without alert fields", `[{"z":"1"},{}]`, "1 {}", ""},
		{"object with a list", `{"value":[` + alertA + "," + alertB + "]}", "a b", ""},
		{"object with an empty list", `{"value":[]}`, "", ""},
		{"fields before the list", `{"@odata.context":"https://x/$metadata#alerts","n":{"value":[1]}, "value" : [ ` +
			alertA + "]}", "a", ""},
		{"fields behind the list", `{"value":[` + alertA +
			`],"@odata.nextLink":"https://x/?$skip=1\u0026y=%22","n":[{}],"AlertId":1}`, "a",
			`https://x/?$skip=1&y=%22`},
		{"next link before the list", `{"@odata.nextLink":"l","a":"b","value":[` + alertA + `]}`, "a", "l"},
		{"next link last", `{"value":[],"@odata.nextLink":"l"}`, "", "l"},
		{"next link that is no string", `{"@odata.nextLink":{"a":"x"},"value":[],"@odata.nextLink":null,"z":"y"}`, "",
			""},
		{"two lists", `{"value":[` + alertA + `],"x":1,"value":[` + alertB + `]}`, "a b", ""},
		{"escaped list key", `{"v\u0061lue":[` + alertA + `]}`, "a", ""},
		{"single alert", alertA, "a", ""},
		{"single alert with white space", "\n" + alertB + "\n", "b", ""},
		{"single alert with the marker late", `{"z":"1","value":{"a":2},"x":[1,2],"LastProcessedTimeUtc":null}`, "1",
			""},
		{"single alert with a list behind its marker", `{"AlertId":"a","value":[{"AlertId":"b"}]}`, "a", ""},
		{"escaped marker", `{"\u0041lertId":"a"}`, "a", ""},
	}
	for _, c := range cases {
		for name, wrap := range map[string]func(io.Reader) io.Reader{
			"whole": func(r io.Reader) io.Reader { return r }, "byte by byte": iotest.OneByteReader,
			"data with EOF": iotest.DataErrReader,
		} {
			t.Run(c.name+"/"+name, func(t *testing.T) {
				r := NewReader(siemOptions())
				rows, err := readAll(r, wrap(strings.NewReader(c.body)))
				if err != nil {
					t.Fatal(err)
				}
				if ids(rows) != c.want || r.NextLink() != c.next {
					t.Errorf("rows %q, next link %q; want %q, %q", ids(rows), r.NextLink(), c.want, c.next)
				}
				if r.Offset() != int64(len(strings.TrimRight(c.body, " \r\n\t"))) && r.Offset() != int64(len(c.body)) {
					t.Errorf("%d of %d bytes taken", r.Offset(), len(c.body))
				}
			})
		}
	}
}

func TestBodiesThatAreNoAlerts(t *testing.T) {
	cases := []struct{ name, body, rows, want string }{
		{"empty", "", "", "an empty body"},
		{"white space", " \n", "", "an empty body"},
		{"byte order mark alone", "\xef\xbb\xbf", "", "an empty body"},
		{"HTML", "\n<html>\n <body>Sign \"in\" ä \x00 " + strings.Repeat("x", 100), "",
			`HTML or XML: "<html> <body>Sign .in. .. . xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"`},
		{"a word", "null", "", `neither an array nor an object: "null"`},
		{"a control byte", " \x01[]", "", `neither an array nor an object: byte 0x01 before "[]"`},
		{"a word beyond ASCII", "äh", "", `neither an array nor an object: byte 0xc3 before ".h"`},
		{"an error", `{"error":{"code":"x","AlertId":1}}`, "",
			`an object without alert fields: "{.error.:{.code.:.x.,.AlertId.:1}}"`},
		{"empty object", "{}", "", `an object without alert fields: "{}"`},
		{"a value that is no list", `{"value":{"AlertId":1}}`, "",
			`an object without alert fields: "{.value.:{.AlertId.:1}}"`},
		{"an object that is no JSON", `{"a" 1}`, "", `an object without alert fields that is no JSON: "{.a. 1}"`},
		{"text behind an array", "[" + alertA + "] x", "a", `text behind the end: "x"`},
		{"a second array", "[" + alertA + "][]", "a", `text behind the end: "[]"`},
		{"a control byte behind an array", "[" + alertA + "]\x1b", "a", `text behind the end: byte 0x1b before ""`},
		{"text behind an object", `{"value":[` + alertA + `]}}`, "a", `text behind the end: "}"`},
		{"text behind an alert", alertA + ",", "a", `text behind the end: ","`},
	}
	for _, c := range cases {
		rows, err := readAll(NewReader(siemOptions()), strings.NewReader(c.body))
		var no *NotAlertsError
		if !errors.As(err, &no) || no.What != c.want || ids(rows) != c.rows {
			t.Errorf("%s: rows %q, %v", c.name, ids(rows), err)
		}
		if _, err = readAll(NewReader(siemOptions()), iotest.OneByteReader(strings.NewReader(c.body))); !errors.As(err,
			&no) {
			t.Errorf("%s, byte by byte: %v", c.name, err)
		}
	}
}

func TestSyntaxErrors(t *testing.T) {
	cases := []struct {
		name, body, rows string
		offset           int64
		msg              string
	}{
		{"in a row", `[{"a":1},{"a":x}]`, "1", 14, "'x' where a value must stand"},
		{"no key", `[{a:1}]`, "", 2, "'a' where a key must stand"},
		{"comma before a brace", `[{"a":1,}]`, "", 8, "'}' where a key must stand"},
		{"comma before a bracket", `[{"a":[1,]}]`, "", 9, "']' where a value must stand"},
		{"no colon", `[{"a" 1}]`, "", 6, "'1' where the colon after a key must stand"},
		{"no comma between fields", `[{"a":1 "b":2}]`, "", 8, "'\"' after a value"},
		{"no comma between rows", `[{"a":1} {"a":2}]`, "1", 9, "'{' where a comma must stand between rows"},
		{"comma behind the last row", `[{"a":1},]`, "1", 9, "']' where a value must stand"},
		{"two commas", `[{"a":1},,{"a":2}]`, "1", 9, "',' where a value must stand"},
		{"wrong bracket", `[{"a":[1}]`, "", 8, "a closing bracket of the other kind"},
		{"wrong end", `[{"a":1}}`, "1", 8, "'}' where a comma must stand between rows"},
		{"leading zero", `[{"a":01}]`, "", 7, "'1' after a value"},
		{"plus sign", `[{"a":+1}]`, "", 6, "'+' where a value must stand"},
		{"minus alone", `[{"a":-}]`, "", 7, "'}' after a minus sign"},
		{"no digit behind the point", `[{"a":1.}]`, "", 8, "'}' after a decimal point"},
		{"no digit in the exponent", `[{"a":1e+}]`, "", 9, "'}' in an exponent"},
		{"bad word", `[{"a":nul}]`, "", 9, "'}' in true, false or null"},
		{"bad escape", `[{"a":"\x"}]`, "", 8, "'x' after a backslash"},
		{"bad hex digit", `[{"a":"\u12g4"}]`, "", 11, `'g' in the four hex digits of \u`},
		{"line break in a string", "[{\"a\":\"x\ny\"}]", "", 8, "byte 0x0a in a string, where it must be escaped"},
		{"NUL byte in a string", "[{\"a\":\"x\x00y\"}]", "", 8, "byte 0x00 in a string, where it must be escaped"},
		{"NUL byte between tokens", "[{\"a\":\x001}]", "", 6, "byte 0x00 where a value must stand"},
		{"NUL byte between rows", "[{\"a\":1}\x00,{}]", "1", 8, "byte 0x00 where a comma must stand between rows"},
		{"beyond ASCII outside a string", "[{\"a\":\u00e4}]", "", 6, "byte 0xc3 where a value must stand"},
		{"form feed as white space", "[{\"a\":\f1}]", "", 6, "byte 0x0c where a value must stand"},
		{"comment", `[{"a":1}/**/]`, "1", 8, "'/' where a comma must stand between rows"},
		{"in the object's rest", `{"value":[{"a":1}],"b" 2}`, "1", 23, "'2' where the colon after a key must stand"},
		{"in a single alert", `{"AlertId":"a","b":}`, "", 19, "'}' where a value must stand"},
		{"in a row that is no object", `[[1,2}]`, "", 5, "a closing bracket of the other kind"},
	}
	for _, c := range cases {
		for _, wrap := range []func(io.Reader) io.Reader{func(r io.Reader) io.Reader { return r },
			iotest.OneByteReader} {
			r := NewReader(siemOptions())
			rows, err := readAll(r, wrap(strings.NewReader(c.body)))
			var syntax *SyntaxError
			if !errors.As(err, &syntax) {
				t.Errorf("%s: rows %q, %v", c.name, ids(rows), err)
				continue
			}
			if ids(rows) != c.rows || syntax.Offset != c.offset || syntax.Msg != c.msg {
				t.Errorf("%s: rows %q, byte %d, %s", c.name, ids(rows), syntax.Offset, syntax.Msg)
			}
		}
	}
}

func TestSignatureIsOfTheInvalidTextAlone(t *testing.T) {
	signature := func(body string) ID {
		_, err := readAll(NewReader(siemOptions()), iotest.HalfReader(strings.NewReader(body)))
		var syntax *SyntaxError
		if !errors.As(err, &syntax) {
			t.Fatal(err)
		}
		return syntax.Signature
	}
	bad := `{"AlertId":"c","x":1 2}`
	one := signature("[" + bad + "]")
	for _, body := range []string{"[" + alertA + "," + bad + "," + alertB + "]", "[" + alertA + " ,\n" + bad,
		`{"value":[` + bad + "]}", bad} {
		if signature(body) != one {
			t.Errorf("another signature in %s", body)
		}
	}
	for _, body := range []string{`[{"AlertId":"d","x":1 2}]`, `[{"AlertId":"c","x":1 3}]`,
		`[{"AlertId":"c","x": 1 2}]`} {
		if signature(body) == one {
			t.Errorf("the same signature for other invalid text: %s", body)
		}
	}
}

func TestBodyEndsTooEarly(t *testing.T) {
	bodies := []string{
		"[" + alertA + "," + alertB + "]",
		`{"@odata.context":"c","value":[` + alertA + "," + alertB + `],"@odata.nextLink":"l"}`,
		alertB,
	}
	errReset := errors.New("connection reset")
	for _, body := range bodies {
		for cut := 1; cut < len(body); cut++ {
			r := NewReader(siemOptions())
			rows, err := readAll(r, strings.NewReader(body[:cut]))
			var short *TruncatedError
			if !errors.As(err, &short) || short.Offset != int64(cut) {
				t.Fatalf("%s: %v", body[:cut], err)
			}
			if whole := wholeRows(body[:cut]); ids(rows) != whole {
				t.Fatalf("%s: rows %q, want %q", body[:cut], ids(rows), whole)
			}
			for _, base := range []error{errReset, io.ErrUnexpectedEOF} {
				broken := io.MultiReader(strings.NewReader(body[:cut]), iotest.ErrReader(base))
				again, err := readAll(r, broken)
				if !errors.Is(err, base) || ids(again) != ids(rows) {
					t.Fatalf("%s: rows %q, %v", body[:cut], ids(again), err)
				}
			}
		}
		// also behind the end an error is an error: the body may have been longer
		if _, err := readAll(NewReader(siemOptions()), io.MultiReader(strings.NewReader(body),
			iotest.ErrReader(errReset))); !errors.Is(err, errReset) {
			t.Errorf("%s and then a reset: %v", body, err)
		}
	}
}

// wholeRows tells which of the two alerts of a test body are whole in text.
func wholeRows(text string) string {
	var whole []string
	for name, alert := range map[string]string{"a": alertA, "b": alertB} {
		if strings.Contains(text, alert) {
			whole = append(whole, name)
		}
	}
	if len(whole) == 2 {
		return "a b"
	}
	return strings.Join(whole, "")
}

func TestReaderThatGivesNothing(t *testing.T) {
	if _, err := readAll(NewReader(siemOptions()), silentReader{}); !errors.Is(err, io.ErrNoProgress) {
		t.Error(err)
	}
}

type silentReader struct{}

func (silentReader) Read([]byte) (int, error) { return 0, nil }

// chunks reads body in pieces of random sizes.
type chunks struct {
	body []byte
	rand *rand.Rand
	most int
}

func (c *chunks) Read(p []byte) (int, error) {
	if len(c.body) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), 1+c.rand.IntN(c.most))], c.body)
	c.body = c.body[n:]
	return n, nil
}

func TestRowsHoweverTheyComeIn(t *testing.T) {
	body := sample.Alerts(300) // several windows
	want, err := readAll(NewReader(siemOptions()), bytes.NewReader(body))
	if err != nil || len(want) != 300 {
		t.Fatal(len(want), err)
	}
	for i, row := range want {
		text := body[row.End-int64(row.Size) : row.End]
		if fields, _ := model(text, false); !reflect.DeepEqual(fields, any(row.fields(t))) {
			t.Fatalf("row %d: %s", i, cmp.Diff(fields, any(row.fields(t))))
		}
	}
	for i, most := range []int{1, 100, 5000, 300_000} {
		r := NewReader(siemOptions())
		if i%2 == 1 {
			r.w.size = 1000
		}
		rows, err := readAll(r, &chunks{body, rand.New(rand.NewPCG(1, uint64(most))), most})
		if err != nil {
			t.Fatal(most, err)
		}
		if !reflect.DeepEqual(rows, want) {
			t.Fatalf("pieces of up to %d bytes give other rows", most)
		}
	}
}
