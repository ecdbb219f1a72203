package record

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// A link behind invalid text that takes several raw rows is found wherever it stands, and is no part of them: it is
// another one each time.
func TestALinkBehindLongInvalidText(t *testing.T) {
	opt := graphOptions()
	opt.MaxAlert = 1000
	r := NewReader(opt)
	r.Resync(always)
	read := func(size int, link string) []got {
		bad := `{"id":"b","x":"` + strings.Repeat("y", size) + "\x01\"}"
		body := graphPageOf("", ` ,  "@odata.nextLink":"`+link+`"`, graphAlertOf("a", graphTime, 0), bad)
		rows, err := readAll(r, strings.NewReader(body))
		if err != nil { // an error beyond MaxAlert bytes of a row is passed over from the second time on
			rows, err = readAll(r, strings.NewReader(body))
		}
		if err != nil {
			t.Fatal(size, err)
		}
		return rows
	}
	for size := 1; size < 2200; size += sparse(7) {
		one, other := strings.Repeat("1", 100), strings.Repeat("2", 100)
		rows := read(size, one)
		if r.NextLink() != one {
			t.Fatalf("%d bytes: the link is %q", size, r.NextLink())
		}
		again := read(size, other)
		if len(again) != len(rows) {
			t.Fatalf("%d bytes: %d rows, with another link %d", size, len(rows), len(again))
		}
		for i := range rows {
			if rows[i].ID != again[i].ID {
				t.Fatalf("%d bytes: raw row %d is another with another link", size, i)
			}
		}
	}
}

// What stands behind a link is delivered, alerts of a second list among it: only a link that is the body's last is
// left out.
func TestWhatStandsBehindALinkInInvalidTextIsHandedOver(t *testing.T) {
	for body, link := range map[string]string{
		`{"value":[{"AlertId":"1" x}],"@odata.nextLink":"l","value":[{"AlertId":"here"}]}`:                    "l",
		`{"value":[{"AlertId":"1","a":[1],"@odata.nextLink":"l" x,"b":"here"}]}`:                              "l",
		`{"value":[{"AlertId":"1" x,"list":[],"@odata.nextLink":"l","b":"here"}]}`:                            "l",
		`{"value":[{"AlertId":"1" x,"list":[],"b":"here","@odata.nextLink":"l"}`:                              "l",
		`{"value":[{"AlertId":"1"}],"a":NaN,"@odata.nextLink":"l","value":[{"AlertId":"here"}]}`:              "l",
		`{"value":[{"AlertId":"1" x}],"@odata.nextLink":"l","value":[{"AlertId":"2"},{"AlertId":"here"}]}`:    "l",
		`{"value":[{"AlertId":"1" x}],"@a":"here]","@odata.nextLink":"l"}`:                                    "l",
		`{"value":[{"AlertId":"1" x}],"@a":{"b":"here"},"@odata.nextLink":"l"}`:                               "l",
		`{"value":[{"AlertId":"1" x}],"@odata.nextLink":null,"a":"here"}`:                                     "",
		`{"value":[{"AlertId":"1" x, "@odata.nextLink":"m"},{"AlertId":"here"}],"@odata.nextLink":"l\u0026"}`: "l&",
	} {
		r := NewReader(siemOptions())
		r.Resync(always)
		rows, err := readAll(r, strings.NewReader(body))
		found := false
		for _, row := range rows {
			found = found || bytes.Contains(row.Data, []byte("here"))
		}
		if err != nil || !found || r.NextLink() != link {
			t.Errorf("%s became %s, link %q, %v", body, ids(rows), r.NextLink(), err)
		}
	}
}

// A link is found whatever is bad beside it; one that is broken itself still tells that there is more.
func TestALinkIsFoundWhateverIsBad(t *testing.T) {
	for _, c := range []struct{ body, rows, link string }{
		{`{"value":[{"AlertId":"1" x}],"@odata.count":1,"@odata.nextLink":"l"}`, `raw({"AlertId":"1" x})`, "l"},
		{`{"value":[{"AlertId":"1" x} ] , "@odata.count":1 , "@a":"b" ,"@odata.nextLink" : "l" } `,
			`raw({"AlertId":"1" x})`, "l"},
		{`{"value":[{"AlertId":"1"}],"@odata.count":NaN,"@odata.nextLink":"l"}`, `1 raw(NaN)`, "l"},
		{`{"value":[{"AlertId":"1"}],,"@odata.nextLink":"l"}`, `1`, "l"},
		{`{"value":[{"AlertId":"1"}],"@odata.nextLink":"l" x}`, `1 raw(x})`, "l"},
		{`{"value":[{"AlertId":"1"}],"@odata.nextLink":"l\x"}`, `1 raw(x"})`, `l\`},
		{"{\"value\":[{\"AlertId\":\"1\"}],\"@odata.nextLink\":\"\x01\"}", "1 raw(\x01\"})", "\x01"},
		{`{"value":[{"AlertId":"1" x}],"@odata.nextLink":"l\x"}`, `raw({"AlertId":"1" x}],"@odata.nextLink":"l\x"})`,
			`l\x`},
		{"{\"value\":[{\"AlertId\":\"1\" x}],\"@odata.nextLink\":\"\x01\"}", "raw({\"AlertId\":\"1\" " +
			"x}],\"@odata.nextLink\":\"\x01\"})", "\x01"},
	} {
		for name, wrap := range map[string]func(io.Reader) io.Reader{"whole": func(r io.Reader) io.Reader { return r },
			"byte by byte": iotest.OneByteReader} {
			r := NewReader(siemOptions())
			r.Resync(always)
			rows, err := readAll(r, wrap(strings.NewReader(c.body)))
			if err != nil || ids(rows) != c.rows || r.NextLink() != c.link {
				t.Errorf("%s, %s: %s, link %q, %v", c.body, name, ids(rows), r.NextLink(), err)
			}
		}
	}
}

// A link in the midst of text that is bad to its end is found wherever the pieces of that text end.
func TestALinkWithinPiecesOfInvalidText(t *testing.T) {
	opt := graphOptions()
	opt.MaxAlert = 200
	for size := range 500 {
		for _, behind := range []string{"}", `,"a":NaN}`, `,"a":"` + strings.Repeat("z", 300) + `"}`} {
			body := `{"value":[],"a":"` + strings.Repeat("y", size) + "\x01\",\"@odata.nextLink\" : \"the link\"" +
				behind
			r := NewReader(opt)
			r.Resync(always)
			if _, err := readAll(r, strings.NewReader(body)); err != nil || r.NextLink() != "the link" {
				t.Fatalf("%d bytes: link %q, %v", size, r.NextLink(), err)
			}
		}
	}
}

// Behind a list invalid text may end where the body was cut, too: then a link may be missing.
func TestInvalidTextCutBehindTheList(t *testing.T) {
	body := `{"value":[` + alertA + `],"@odata.count":NaN,"@odata.nextLink":"l"}`
	for cut := strings.Index(body, "NaN") + 1; cut < len(body); cut++ {
		r := NewReader(siemOptions())
		r.Resync(always)
		rows, err := readAll(r, strings.NewReader(body[:cut]))
		var short *TruncatedError
		if !errors.As(err, &short) || ids(rows) != "a" {
			t.Errorf("%s: %s, %v", body[:cut], ids(rows), err)
		}
	}
}

// Invalid text of every length, also of just as much as a raw row holds, has the same raw rows wherever it stands.
func TestInvalidTextIsTheSameWhereverItStands(t *testing.T) {
	opt := siemOptions()
	opt.MaxAlert = 100
	r := NewReader(opt)
	r.Resync(always)
	for size := 0; size < 230; size += sparse(3) {
		for _, end := range []string{"", "}", "]", "[1]}", "]}]}", " }", ",", `"@odata.nextLink":"l"`} {
			bad := `{"AlertId":"c",,"` + strings.Repeat("y", size) + end
			seen := map[string]string{}
			for _, around := range [][2]string{
				{"[" + alertA + ",", "]"}, {"[" + alertA + ",", "," + alertB + "]"}, {"[", "]"},
				{"[", " \n\t , " + alertB + "]"}, {"", "\n"},
				{`{"value":[`, "]}"}, {`{"value":[`, " ] } \n"}, {`{"value":[` + alertA + ",", "," + alertB + "]}"},
				{`{"value":[` + alertA + ",", `],"@odata.count":12345,"@odata.nextLink":"https://x/?` +
					strings.Repeat("z", 150) + `"}`},
			} {
				if strings.HasSuffix(end, "l\"") && !strings.HasPrefix(around[0], `{"value":[`) {
					continue // only in an object it may be a link
				}
				body := around[0] + bad + around[1]
				rows, err := readAll(r, strings.NewReader(body))
				if err != nil { // an error beyond MaxAlert bytes of a row is passed over from the second time on
					rows, err = readAll(r, strings.NewReader(body))
				}
				if err != nil {
					t.Fatal(size, err)
				}
				came := ""
				for _, row := range rows {
					if row.Raw {
						came += fmt.Sprintf("%d bytes %v, ", row.Size, row.ID)
					}
				}
				seen[came] = body
			}
			if len(seen) > 1 {
				t.Fatalf("%d bytes of invalid text have %d forms: %q", len(bad), len(seen), seen)
			}
		}
	}
}
