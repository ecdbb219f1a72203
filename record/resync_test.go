package record

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
)

func always(ID) bool { return true }

func TestResync(t *testing.T) {
	cases := []struct{ name, body, want string }{
		{"a bad row between good ones", "[" + alertA + `,{"AlertId":"c","x":1 2} , ` + alertB + "]",
			`a raw({"AlertId":"c","x":1 2}) b`},
		{"the first row", `[{"AlertId":"c",} ,` + alertB + "]", `raw({"AlertId":"c",}) b`},
		{"the last row", "[" + alertA + `,{"AlertId":"c",} ] `, `a raw({"AlertId":"c",})`},
		{"the last row of an object's list", `{"value":[` + alertA + `,{"AlertId":"c",} ] } `,
			`a raw({"AlertId":"c",})`},
		{"two bad rows", `[{"AlertId":"c",},{"AlertId":"d",},` + alertA + "]",
			`raw({"AlertId":"c",},{"AlertId":"d",}) a`},
		{"two bad rows apart", `[{"AlertId":"c",},` + alertA + `,{"AlertId":"d",},` + alertB + "]",
			`raw({"AlertId":"c",}) a raw({"AlertId":"d",}) b`},
		{"no comma between rows", "[" + alertA + alertB + "]", "a b"},
		{"two commas", "[" + alertA + ",, " + alertB + "]", "a b"},
		{"comma behind the last row", "[" + alertA + ",]", "a"},
		{"text between rows", "[" + alertA + "<!-- --> ," + alertB + "]", "a raw(<!-- -->) b"},
		{"no closing quote", `[{"AlertId":"c","x":"},` + alertA + "," + alertB + "]", `raw({"AlertId":"c","x":"}) a b`},
		{"no closing brace", `[{"AlertId":"c","x":1,` + alertA + "," + alertB + "]", `raw({"AlertId":"c","x":1) a b`},
		{"nested objects are no rows", `[{"AlertId":"c",,"x":[{"y":1},{"y":2}],"z":3},` + alertB + "]",
			`raw({"AlertId":"c",,"x":[{"y":1},{"y":2}],"z":3}) b`},
		{"rows in a string are no rows", `[{"AlertId":"c",,"x":"\"},{\"AlertId\":\"z\"},{}"},` + alertB + "]",
			`raw({"AlertId":"c",,"x":"\"},{\"AlertId\":\"z\"},{}"}) b`},
		{"what looks like a row but is followed by something else", `[{"AlertId":"c",,{"AlertId":"d"}x},` + alertB +
			"]", `raw({"AlertId":"c",,{"AlertId":"d"}x}) b`},
		{"a row too deep to go on with", `[{"AlertId":"c",},{"AlertId":"d","x":` + strings.Repeat("[", 40) +
			strings.Repeat("]", 40) + "}," + alertB + "]",
			`raw({"AlertId":"c",},{"AlertId":"d","x":` + strings.Repeat("[", 40) + strings.Repeat("]", 40) + "}) b"},
		{"the list's end inside invalid text", `[{"AlertId":"c",},` + alertA + `],"more":1}`,
			`raw({"AlertId":"c",}) a raw(,"more":1})`},
		{"a body that ends there", `[{"AlertId":"c",`, ""},    // truncated, not bad
		{"bad and then cut", `[{"AlertId":"c",},{"Alert`, ""}, // rows behind it may be missing
		{"a single alert", `{"AlertId":"c",}`, `raw({"AlertId":"c",})`},
		{"the rest of an object", `{"value":[` + alertA + `],,"x":[]}`, `a raw(,"x":[]})`},
		{"garbage without an end", "[" + alertA + ", garbage { } , {", "a"},
		{"garbage", "[" + alertA + ", garbage { } , {]", "a raw(garbage { } , {)"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			for _, wrap := range []func(io.Reader) io.Reader{func(r io.Reader) io.Reader { return r },
				iotest.OneByteReader} {
				r := NewReader(siemOptions())
				r.Resync(always)
				rows, err := readAll(r, wrap(strings.NewReader(c.body)))
				if truncated := new(TruncatedError); errors.As(err, &truncated) != unclosed(c.body) || err != nil &&
					!unclosed(c.body) {
					t.Fatal(err)
				}
				if ids(rows) != c.want {
					t.Errorf("rows %s\nwant %s", ids(rows), c.want)
				}
				for _, row := range rows {
					if row.Raw && !strings.HasPrefix(row.Reason, "no valid JSON: ") {
						t.Errorf("reason %q", row.Reason)
					}
				}
			}
		})
	}
}

// unclosed tells whether the body of a case ends before its list does.
func unclosed(body string) bool {
	return body[0] == '[' && !strings.HasSuffix(strings.TrimSpace(body), "]") && !strings.HasSuffix(body, "}")
}

func TestResyncIsAskedEachTime(t *testing.T) {
	body := `[{"AlertId":"c",},` + alertA + `,{"AlertId":"d",},` + alertB + "]"
	var asked []ID
	r := NewReader(siemOptions())
	r.Resync(func(sig ID) bool {
		asked = append(asked, sig)
		return len(asked) == 2
	})
	rows, err := readAll(r, strings.NewReader(body))
	var syntax *SyntaxError
	if len(rows) != 0 || !errors.As(err, &syntax) || syntax.Signature != asked[0] {
		t.Fatal(ids(rows), err)
	}
	rows, err = readAll(r, strings.NewReader(body))
	if ids(rows) != `raw({"AlertId":"c",}) a` || !errors.As(err, &syntax) || syntax.Signature != asked[2] {
		t.Fatal(ids(rows), err)
	}
	if asked[0] != asked[1] || asked[1] == asked[2] || len(asked) != 3 {
		t.Errorf("asked for %v", asked)
	}
}

func TestResyncdRowsHaveTheSameIDsEverywhere(t *testing.T) {
	bad := `{"AlertId":"c","x":1 2,"y":[{"z":1},{"z":2}]}`
	var want ID
	for i, body := range []string{
		"[" + bad + "]", "[" + alertA + "," + bad + "," + alertB + "]", `{"value":[` + bad + " ]\n}",
		"[" + bad + " , " + alertA + "]", bad,
	} {
		r := NewReader(siemOptions())
		r.Resync(always)
		rows, err := readAll(r, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		for _, row := range rows {
			if !row.Raw {
				continue
			}
			if i == 0 {
				want = row.ID
			}
			if row.ID != want {
				t.Errorf("another ID in %s", body)
			}
		}
	}
}

func TestResyncInPieces(t *testing.T) {
	opt := siemOptions()
	opt.MaxAlert, opt.EventIDKey = 1000, "event_id"
	random := rand.New(rand.NewPCG(3, 4))
	bad := []byte(`{"AlertId":"c",,`)
	for len(bad) < 25_000 { // characters of every length and bytes that are none, so that pieces end anywhere
		bad = append(bad, []string{"x", "é", "不", "😀", "{", "},{", ", {", "\xff", " "}[random.IntN(9)]...)
	}
	body := []byte("[" + alertA + "," + string(bad) + "," + alertB + "]")
	var first []got
	for _, most := range []int{1, 50, 5000, 100_000} {
		r := NewReader(opt)
		r.Resync(always)
		rows, err := readAll(r, &chunks{body, random, most})
		if err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = rows
		}
		if !reflect.DeepEqual(rows, first) {
			t.Fatalf("reads of up to %d bytes give other rows", most)
		}
	}
	var text strings.Builder
	seen := map[ID]bool{}
	for _, row := range first[1 : len(first)-1] {
		raw, _ := row.raw(t)
		text.WriteString(raw)
		if row.Size > opt.MaxAlert || seen[row.ID] {
			t.Errorf("%+v", row.Row)
		}
		seen[row.ID] = true
	}
	if want := strings.ToValidUTF8(strings.ReplaceAll(string(bad), "\xff", "\uFFFD"), "?"); text.String() != want {
		t.Error("the pieces are not the invalid text")
	}
}

func TestResyncOfEqualPieces(t *testing.T) {
	opt := siemOptions()
	opt.MaxAlert = 100
	r := NewReader(opt)
	r.Resync(always)
	rows, err := readAll(r, strings.NewReader("["+alertA+strings.Repeat("x", 1000)+"]"))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[ID]bool{}
	for _, row := range rows {
		seen[row.ID] = true
	}
	if len(rows) != 11 || len(seen) != 11 {
		t.Errorf("%d rows with %d IDs", len(rows), len(seen))
	}
}

func TestResyncEndsWithTheBodysError(t *testing.T) {
	errReset := errors.New("connection reset")
	r := NewReader(siemOptions())
	r.Resync(always)
	rows, err := readAll(r, io.MultiReader(strings.NewReader("["+alertA+`,{"AlertId":"c",},`),
		iotest.ErrReader(errReset)))
	if !errors.Is(err, errReset) || ids(rows) != "a" {
		t.Errorf("rows %q, %v", ids(rows), err)
	}
}

// A row may turn out to be bad when its beginning is gone. Then it can be resynced only the next time; but then whole.
func TestResyncOfALargeRow(t *testing.T) {
	opt := siemOptions()
	opt.MaxAlert = 1000
	for _, size := range []int{1000, 3000, 2 * windowSize} {
		bad := `{"AlertId":"c","x":"` + strings.Repeat("y", size) + `" 2}`
		body := []byte("[" + alertA + "," + bad + "," + alertB + "]")
		for _, most := range []int{1, 500, 1 << 20} {
			var asked []ID
			r := NewReader(opt)
			r.Resync(func(sig ID) bool {
				asked = append(asked, sig)
				return len(asked) >= 3
			})
			for try := 1; try <= 2; try++ {
				rows, err := readAll(r, &chunks{body, rand.New(rand.NewPCG(5, 6)), most})
				var syntax *SyntaxError
				if !errors.As(err, &syntax) || ids(rows) != "a" || len(asked) != try || asked[0] != syntax.Signature ||
					syntax.Offset != int64(bytes.Index(body, []byte(" 2}"))+1) {
					t.Fatal(size, most, try, ids(rows), err, asked)
				}
			}
			rows, err := readAll(r, &chunks{body, rand.New(rand.NewPCG(5, 6)), most})
			if err != nil || len(asked) != 3 || asked[2] != asked[0] {
				t.Fatal(size, most, err, asked)
			}
			var text strings.Builder
			for _, row := range rows[1 : len(rows)-1] {
				raw, _ := row.raw(t)
				text.WriteString(raw)
			}
			if text.String() != bad || ids(rows[len(rows)-1:]) != "b" {
				t.Errorf("%d bytes in reads of up to %d: the bad row is not whole", size, most)
			}
		}
	}
}

func TestLargeGoodRowsAreNotAskedFor(t *testing.T) {
	opt := siemOptions()
	opt.MaxAlert = 1000
	r := NewReader(opt)
	r.Resync(func(ID) bool { t.Error("asked"); return true })
	for range 4 {
		rows, err := readAll(r, iotest.HalfReader(strings.NewReader(`[{"AlertId":"`+strings.Repeat("x", windowSize)+
			`"},`+alertA+`]`)))
		if err != nil || len(rows) != 2 || !rows[0].Raw || rows[1].Raw {
			t.Fatal(len(rows), err)
		}
	}
}

// A row larger than MaxAlert that begins like one that was broken is invalid text however it comes in, and each try
// asks once.
func TestALargeRowThatBeginsLikeABrokenOne(t *testing.T) {
	opt := siemOptions()
	opt.MaxAlert = 64
	long := strings.Repeat("x", 200)
	for name, bodies := range map[string][]string{
		"in a list": {`[{"AlertId":"` + long + `" 2},` + alertA + "]", `[{"AlertId":"` + long +
			`"},` + alertA + "]"},
		"a single alert": {`{"AlertId":"` + long + `" 2}`, `{"AlertId":"` + long + `"}`},
		"a marker beyond MaxAlert": {`{"x":"` + long + `","AlertId":"1","y":"` + long + `" 2}`, `{"x":"` + long +
			`","AlertId":"1"}`},
		"a list that begins like it": {`{"x":"` + long + `","AlertId":"1","y":"` + long + `" 2}`, `{"x":"` + long +
			`","value":[` + alertA + "]}"},
		"no alert, but begins like one": {`{"x":"` + long + `","AlertId":"1","y":"` + long + `" 2}`, `{"x":"` + long +
			`"}`},
	} {
		for _, from := range []int{1, 2, 3} { // the ask at which text is passed over
			var asked [2][]ID
			var readers [2]*Reader
			for k := range readers {
				readers[k] = NewReader(opt)
				readers[k].Resync(func(sig ID) bool {
					asked[k] = append(asked[k], sig)
					return len(asked[k]) >= from
				})
			}
			for try, body := range append([]string{bodies[0], bodies[0], bodies[0]}, bodies...) {
				want, err := outcomeOf(readers[0], strings.NewReader(body))
				rows, errPieces := outcomeOf(readers[1], iotest.OneByteReader(strings.NewReader(body)))
				if !reflect.DeepEqual(rows, want) || errPieces != err || !reflect.DeepEqual(asked[0], asked[1]) {
					t.Errorf("%s, passed over from ask %d, try %d: whole %s, %q, %d asks; byte by byte %s, %q, %d asks",
						name, from, try, ids(want), err, len(asked[0]), ids(rows), errPieces, len(asked[1]))
				}
				if try == 3 && (err != "" || !want[0].Raw || !strings.HasPrefix(want[0].Reason, "no valid JSON")) {
					t.Errorf("%s, passed over from ask %d: %s, %q", name, from, ids(want), err)
				}
			}
		}
	}
}
