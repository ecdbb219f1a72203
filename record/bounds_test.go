package record

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"fluent-bit-defender/internal/sample"
)

func TestNoAllocationPerRow(t *testing.T) {
	const rows = 300
	alerts := make([]string, rows)
	for i := range alerts { // pieces of evidence of six kinds in other turns each time
		alerts[i] = graphAlertOf(strconv.Itoa(i), graphTime, 1+i%9)
	}
	siem, graph := sample.Alerts(rows), []byte(graphPageOf("", "", alerts...))
	for name, c := range map[string]struct {
		opt  Options
		body []byte
	}{
		"plain": {siemOptions(), siem},
		"event id, without null": {Options{Schema: SIEM, TimeKey: "AlertTime", EventIDKey: "event_id", DropNull: true},
			siem},
		"Graph":            {graphOptions(), graph},
		"copied by Encode": {Options{Schema: Graph, TimeKey: "createdDateTime", Encode: verbatim}, graph},
	} {
		r, body := NewReader(c.opt), c.body
		dst := make([]byte, 0, 1<<16)
		in := bytes.NewReader(body)
		pass := func() {
			in.Reset(body)
			r.Reset(in, clock)
			for {
				_, _, err := r.Next(dst)
				if err == io.EOF {
					return
				}
				if err != nil {
					t.Fatal(err)
				}
			}
		}
		pass()
		// the keys of the object around a list are a few for each answer
		if n := testing.AllocsPerRun(5, pass); n > 10 || n > 0 && c.body[0] == '[' {
			t.Errorf("%s: %v allocations for %d rows", name, n, rows)
		}
	}
}

// stream makes a body piece by piece, so that no test holds it.
type stream struct {
	parts []part
	at    int
}

type part struct {
	text  string
	times int
}

func (s *stream) Read(p []byte) (n int, err error) {
	for n < len(p) && len(s.parts) > 0 {
		head := &s.parts[0]
		if head.times == 0 {
			s.parts = s.parts[1:]
			continue
		}
		k := copy(p[n:], head.text[s.at:])
		n += k
		if s.at += k; s.at == len(head.text) {
			s.at = 0
			head.times--
		}
	}
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

// bounded reads an answer and checks what the Reader holds after each row.
func bounded(t *testing.T, opt Options, resync bool, body io.Reader) (rows int, raw []got, err error) {
	t.Helper()
	r := NewReader(opt)
	if resync {
		r.Resync(always)
	}
	r.Reset(body, clock)
	opt = opt.withDefaults()
	dst := make([]byte, 0, opt.MaxRecord+4096)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for {
		data, row, err := r.Next(dst[:0])
		if most := opt.MaxAlert + maxPiece + readAhead + pad; len(r.w.buf) > most {
			t.Fatalf("a window of %d bytes, more than %d", len(r.w.buf), most)
		}
		if len(data) > opt.MaxRecord {
			t.Fatalf("a record of %d bytes, more than %d", len(data), opt.MaxRecord)
		}
		if err != nil {
			runtime.GC()
			runtime.ReadMemStats(&after)
			if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 16<<20 {
				t.Errorf("%d bytes held at the end", grown)
			}
			r.Reset(strings.NewReader("[]"), clock)
			if len(r.w.buf) != windowSize+pad || len(r.t.table.slots) > keptTable || cap(r.t.idText) > keptText {
				t.Errorf("after a Reset: window %d, table %d, text %d", len(r.w.buf), len(r.t.table.slots),
					cap(r.t.idText))
			}
			if err == io.EOF {
				err = nil
			}
			return rows, raw, err
		}
		rows++
		if row.Raw {
			g := got{Row: row, End: r.Offset()}
			if len(raw) == 0 {
				g.Data = bytes.Clone(data)
			}
			raw = append(raw, g)
		} else if _, _, err := decode(data); err != nil {
			t.Fatal(err)
		}
	}
}

// sparse is n in make test and 1 in make soak: the step of a test that goes through every size.
func sparse(n int) int {
	if os.Getenv("SOAK") != "" {
		return 1
	}
	return n
}

func TestHostileRows(t *testing.T) {
	scale := sparse(4) // make test does it with a fourth of the sizes
	mega := 1 << 20 / scale
	opt := siemOptions()
	opt.MaxAlert = mega
	large, record := fmt.Sprintf("larger than %d bytes", mega), fmt.Sprintf("its record would be larger than %d bytes",
		2*mega)
	keys := make([]string, 1_000_000/scale)
	for i := range keys {
		keys[i] = `"` + strconv.Itoa(i) + `":0`
	}
	million := strings.Join(keys, ",")
	cases := []struct {
		name   string
		row    []part
		reason string // "": a record
	}{
		{"200 MB in one string", []part{{`{"AlertId":"x","s":"`, 1}, {strings.Repeat("abcdefgh", 1024),
			200 * 128 / scale / scale}, {`"}`, 1}}, large},
		{"4 MB of escapes", []part{{`{"AlertId":"x","s":"`, 1}, {`\ud83d\ude00\\`, 4 * mega / 14}, {`"}`, 1}}, large},
		{"4 MB of numbers", []part{{`{"AlertId":"x","s":[1`, 1}, {`,-1.5e3`, 4 * mega / 7}, {`]}`, 1}}, large},
		{"a number of 4 MB", []part{{`{"AlertId":"x","s":`, 1}, {`7`, 4 * mega}, {`}`, 1}}, large},
		{"4 MB of white space", []part{{`{"AlertId":"x"`, 1}, {" \n", 2 * mega}, {`}`, 1}}, large},
		{"a million keys, too large", []part{{`{"AlertId":"x",` + million + `}`, 1}}, large},
		{"100,000 keys", []part{{`{"AlertId":"x",` + strings.Join(keys[:100_000/scale], ",") + `}`, 1}}, ""},
		{"one key 200,000 times", []part{{`{"AlertId":"x"`, 1}, {`,"":0`, 200_000 / scale}, {`}`, 1}}, ""},
		{"100,000 objects with duplicates", []part{{`{"AlertId":"x","AlertId":"x","l":[0`, 1},
			{`,{"":0}`, 100_000 / scale}, {`]}`, 1}}, ""},
		{"deep", []part{{`{"AlertId":"x","d":`, 1}, {`[`, 100_000 / scale}, {`]`, 100_000 / scale}, {`}`, 1}},
			"nested deeper than 28 levels"},
		{"deep and large", []part{{`{"AlertId":"x","d":`, 1}, {`[`, 1_000_000 / scale}, {`]`, 1_000_000 / scale},
			{`}`, 1}}, large},
		{"numbers of 400 digits", []part{{`{"AlertId":"x","d":[0`, 1}, {"," + strings.Repeat("9", 400), 2000 / scale},
			{`]}`, 1}}, ""},
		{"lone surrogates", []part{{`{"AlertId":"x","d":"`, 1}, {`\udc00`, 100_000 / scale}, {`"}`, 1}}, ""},
		{"invalid UTF-8", []part{{`{"AlertId":"x","d":"`, 1}, {"\xff", 600_000 / scale}, {`"}`, 1}}, ""},
		{"more invalid UTF-8 than the record holds", []part{{`{"AlertId":"x","d":"`, 1}, {"\xff", 900_000 / scale},
			{`"}`, 1}}, record},
		{"more doubles than the record holds", []part{{`{"AlertId":"x","d":[0`, 1}, {",1e1", 260_000 / scale},
			{`]}`, 1}}, record},
		{"NUL as escapes", []part{{`{"AlertId":"x","d":"`, 1}, {`\u0000`, 100_000 / scale}, {`"}`, 1}}, ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			size := 0
			for _, p := range c.row {
				size += len(p.text) * p.times
			}
			bodies := [][2]string{{"[" + alertA + ",", "," + alertB + "]"}, {`{"value":[` + alertA + ",", "," + alertB +
				"]}"}, {"", ""}}
			if size > mega {
				bodies = bodies[:1]
			}
			for _, around := range bodies {
				parts := append([]part{{around[0], 1}}, c.row...)
				body := &stream{parts: append(parts, part{around[1], 1})}
				rows, raw, err := bounded(t, opt, false, body)
				if err != nil {
					t.Fatal(err)
				}
				if want := 1 + 2*min(1, len(around[0])); rows != want || len(raw) != min(1, len(c.reason)) {
					t.Fatalf("%d rows, %d of them raw", rows, len(raw))
				}
				if c.reason == "" {
					continue
				}
				text, reason := raw[0].raw(t)
				if reason != c.reason || raw[0].Size != size || !strings.HasPrefix(text, `{"AlertId":"x"`) ||
					len(text) < mega/2 && c.reason[0] != 'n' {
					t.Errorf("%s; %d of %d bytes; %.20q, %d bytes", reason, raw[0].Size, size, text, len(text))
				}
			}
		})
	}
}

func TestHostileBodies(t *testing.T) {
	mega := 1 << 20 / sparse(4)
	opt := siemOptions()
	opt.MaxAlert = mega
	cases := []struct {
		name   string
		body   []part
		resync bool
		want   string // the beginning of the error
	}{
		{"depth without end", []part{{"[", 2 << 20}}, false, "the answer is no valid JSON at byte 1048577: brackets " +
			"nested too deep"},
		{"an object without alert fields", []part{{`{"a":[0`, 1}, {",0", 4 * mega}, {"]}", 1}}, false,
			"the answer is no list of alerts: an object without alert fields"},
		{"many fields without alert fields", []part{{`{"a":0`, 1}, {`,"b":{}`, mega / 2}, {"}", 1}}, false,
			"the answer is no list of alerts: an object without alert fields"},
		{"a broken object without alert fields", []part{{`{"a":0`, 1}, {`,"b":{}`, mega / 2}, {"]", 1}}, false,
			"the answer is no list of alerts: an object without alert fields that is no JSON"},
		{"a key without end", []part{{`{"`, 1}, {"value", 2 * mega}}, false,
			fmt.Sprintf("the answer ends at byte %d before", 10*mega+2)},
		{"a next link without end", []part{{`{"value":[],"@odata.nextLink":"`, 1}, {"x", 4 * mega}}, false,
			fmt.Sprintf("the answer ends at byte %d before", 4*mega+31)},
		{"white space without end", []part{{" ", 8 * mega}}, false, "the answer is no list of alerts: an empty body"},
		{"resync of garbage", []part{{"[{},x", 1}, {"garbage ", mega / 2}, {"]", 1}}, true, ""},
		{"resync of braces", []part{{"[{},x", 1}, {`,{`, mega / 2}, {"]", 1}}, true, ""},
		{"resync of rows without alert fields", []part{{"[{},x", 1}, {`,{"a":1}`, mega / 2}, {"]", 1}}, true, ""},
		{"resync of nested rows", []part{{"[{},x", 1}, {`,{"AlertId":[0`, mega / 16}, {"]", 1}}, true, ""},
		{"resync of nested rows far from the bound",
			[]part{{"[{},x", 1}, {strings.Repeat(`,{"AlertId":[0`, 12) + strings.Repeat(",0", mega/10), 8}, {"]", 1}},
			true, ""},
		{"resync of rows with much white space", []part{{"[{},x", 1}, {`,{"AlertId":0}` + strings.Repeat(" ", 100_000),
			50}, {"x]", 1}}, true, ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			size := 0
			for _, p := range c.body {
				size += len(p.text) * p.times
			}
			_, raw, err := bounded(t, opt, c.resync, &stream{parts: c.body})
			if got := fmt.Sprint(err); c.want != "" && !strings.HasPrefix(got, c.want) || c.want == "" && err != nil {
				t.Error(err)
			}
			if c.resync && len(raw) == 0 {
				t.Error("nothing was delivered raw")
			}
			for _, row := range raw {
				size -= row.Size
			}
			if c.resync && (size < 0 || size > 100) && !strings.Contains(c.name, "rows with much") {
				t.Errorf("%d bytes are missing", size)
			}
		})
	}
}

// A large object may turn out to be a list or an alert after more than is kept of it.
func TestLateDecision(t *testing.T) {
	const mega = 1 << 20
	filler := part{`"x":[1,{"value":[2],"AlertId":3}],`, 3 * mega / 33}
	rows, raw, err := bounded(t, siemOptions(), false,
		&stream{parts: []part{{"{", 1}, filler, {`"value":[` + alertA + "," + alertB + "]}", 1}}})
	if err != nil || rows != 2 || len(raw) != 0 {
		t.Errorf("a list: %d rows, %d raw, %v", rows, len(raw), err)
	}
	rows, raw, err = bounded(t, siemOptions(), false, &stream{parts: []part{{"{", 1}, filler, {`"AlertId":"a"}`, 1}}})
	if err != nil || rows != 1 || len(raw) != 1 || raw[0].Size != 1+len(filler.text)*filler.times+14 {
		t.Errorf("an alert: %d rows, %d raw, %v", rows, len(raw), err)
	}
}

// A row with very many keys leaves no large table behind, whether it became a record or not.
func TestATableOfManyKeysGoesWithItsRow(t *testing.T) {
	var all strings.Builder
	all.WriteString(`{"a":0,"a":0`)
	for i := range 2 * keptTable {
		fmt.Fprintf(&all, `,"%d":0`, i)
	}
	keys := all.String()
	for name, row := range map[string]string{"a record": keys + "}", "too deep": keys + `,"d":` + strings.Repeat("[",
		30) + strings.Repeat("]", 30) + "}"} {
		r := NewReader(siemOptions())
		r.Reset(strings.NewReader("["+row+","+alertB+"]"), clock)
		_, got, err := r.Next(nil)
		if err != nil || got.Raw != (name == "too deep") || len(r.t.table.slots) > keptTable {
			t.Errorf("%s: %+v, %v, %d slots", name, got, err, len(r.t.table.slots))
		}
		if dst, row, err := r.Next(nil); err != nil || row.Raw || len(dst) == 0 {
			t.Errorf("the row behind %s: %+v, %v", name, row, err)
		}
	}
}
