package record

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"fluent-bit-defender/internal/sample"
)

// verbatim is an Encode that copies the fields of the native record.
func verbatim(dst []byte, a *Alert) ([]byte, int) {
	c := NewCursor(a.Native)
	n := c.Open()
	for range n {
		dst = append(dst, c.Skip()...)
		dst = append(dst, c.Skip()...)
	}
	return dst, n
}

// walk reads the value at the cursor as decodeValue reads it.
func walk(c *Cursor) any {
	switch c.Kind() {
	case Object:
		o := object{}
		for n := c.Open(); n > 0; n-- {
			o = append(o, field1{string(c.Text()), nil})
			o[len(o)-1].Value = walk(c)
		}
		return o
	case Array:
		list := []any{}
		for n := c.Open(); n > 0; n-- {
			list = append(list, walk(c))
		}
		return list
	case Text:
		return string(c.Text())
	case Int:
		if v, big := c.Int(); big {
			return uint64(v)
		} else {
			return v
		}
	case Float:
		return c.Float()
	case Bool:
		return c.Bool()
	}
	c.Skip()
	return nil
}

// checkEncode compares the records of an Encode that copies with those without one, and what a Cursor finds with what
// another decoder does.
func checkEncode(t rapid.TB, opt Options, body []byte) {
	t.Helper()
	want, wantErr := readAll(NewReader(opt), bytes.NewReader(body))
	var alerts []Alert // with a time and a native record as in want
	opt.Encode = func(dst []byte, a *Alert) ([]byte, int) {
		alerts = append(alerts, Alert{Row: a.Row, Time: a.Time, Text: bytes.Clone(a.Text),
			Native: bytes.Clone(a.Native)})
		return verbatim(dst, a)
	}
	got, err := readAll(NewReader(opt), bytes.NewReader(body))
	if fmt.Sprint(err) != fmt.Sprint(wantErr) || len(got) != len(want) {
		t.Fatalf("with Encode: %d rows, %v; without: %d rows, %v", len(got), err, len(want), wantErr)
	}
	for i, row := range got {
		if row.Row != want[i].Row || row.End != want[i].End || !bytes.Equal(row.Data, want[i].Data) {
			t.Fatalf("row %d of %q with Encode: %+v %x, want %+v %x", i, body, row.Row, row.Data, want[i].Row,
				want[i].Data)
		}
		if row.Raw {
			continue
		}
		k := slices.IndexFunc(alerts, func(a Alert) bool { return a.Row == row.Row })
		if k < 0 {
			t.Fatalf("row %d of %q never came to Encode", i, body)
		}
		a := alerts[k]
		alerts = alerts[k+1:]
		c, fields := NewCursor(a.Native), row.fields(t)
		if opt.EventIDKey != "" {
			fields = fields[:len(fields)-1]
		}
		if read := walk(&c).(object); !reflect.DeepEqual(fields, read) {
			t.Fatalf("row %d of %q: Cursor (-want +got):\n%s", i, body, cmp.Diff(fields, read))
		}
		if !a.Time.Equal(row.time(t)) || len(a.Text) != row.Size || !bytes.Contains(body, a.Text) {
			t.Fatalf("row %d of %q: %v, %q", i, body, a.Time, a.Text)
		}
	}
}

func TestEncode(t *testing.T) {
	checkEncode(t, siemOptions(), sample.Alerts(20))
	checkEncode(t, graphOptions(), []byte(graphPageOf("", "", graphAlertOf("a", graphTime, 8),
		graphAlertOf("b", graphTime, 3))))
	rows := []string{`{"AlertId":"a","AlertTime":"2024-01-01T00:00:00Z","n":[0,-1,-33,-129,-40000,-3000000000,200,60000,5000000000,18446744073709551615,1.5,1e400]}`,
		`{}`, `17`, `{"a":1,"a":{"b":null,"b":[true,false,null,{}]}}`, `{"x":` + strings.Repeat("[", 40) +
			strings.Repeat("]", 40) + `}`,
		"{\"\xff\":\"\xff\"}", `{"big":"` + strings.Repeat("x", 1<<16) + `"}`, `{"l":[` + strings.Repeat("1,", 70000) +
			`2]}`}
	for _, null := range []bool{false, true} {
		opt := siemOptions()
		opt.DropNull, opt.EventIDKey, opt.MaxRecord = null, "event_id", 1<<17
		checkEncode(t, opt, []byte("["+strings.Join(rows, ", ")+"]"))
	}
}

// What is added stands behind the fields of Encode; the alert's own field of the name is Encode's to see.
func TestWhatIsAddedToEncodedRecords(t *testing.T) {
	opt := siemOptions()
	opt.EventIDKey, opt.TenantKey = "id", "tenant"
	var native string
	opt.Encode = func(dst []byte, a *Alert) ([]byte, int) {
		native = string(a.Native)
		return appendStr(appendStr(dst, "shape"), "ecs"), 1
	}
	r := NewReader(opt)
	row := ofTenant(t, r, "t1", `[{"AlertId":"a","id":1,"tenant":2,"id":3}]`)
	want := object{{"shape", "ecs"}, {"tenant", "t1"}, {"id", row.ID.String()}}
	if diff := cmp.Diff(want, row.fields(t)); diff != "" {
		t.Error(diff)
	}
	c := NewCursor([]byte(native))
	if diff := cmp.Diff(object{{"AlertId", "a"}, {"tenant", int64(2)}, {"id", int64(3)}}, walk(&c)); diff != "" {
		t.Error(diff)
	}
	if raw := ofTenant(t, r, "t1", `[17]`).fields(t); len(raw) != 4 {
		t.Errorf("a raw row: %v", raw)
	}
}

func TestEncodeRaw(t *testing.T) {
	opt := siemOptions()
	opt.EventIDKey, opt.TenantKey, opt.MaxAlert, opt.MaxRecord = "id", "tenant", 4<<10, 1
	opt.Encode = verbatim
	opt.EncodeRaw = func(dst []byte, r *Raw) ([]byte, int) {
		dst = appendStr(appendStr(dst, "text"), string(r.Text))
		return appendStr(appendStr(dst, "why"), r.Tenant+": "+r.Reason), 2
	}
	r := NewReader(opt)
	row := ofTenant(t, r, "t1", "[\"\xff\"]")
	want := object{{"text", "\"\uFFFD\""}, {"why", "t1: not an object"}, {"tenant", "t1"}, {"id", row.ID.String()}}
	if diff := cmp.Diff(want, row.fields(t)); diff != "" || !row.Repaired {
		t.Error(diff)
	}
	if got := row.time(t); !got.Equal(pulled) {
		t.Errorf("its time is %v, want that of the pull", got)
	}
	row = ofTenant(t, r, "t1", `["`+strings.Repeat("x", 4000)+`"]`)
	if n := len(row.Data); n > r.t.opt.MaxRecord || n < r.t.opt.MaxRecord-2*RawFrame {
		t.Errorf("a cut raw row has %d bytes, at most %d are allowed", n, r.t.opt.MaxRecord)
	}
}

// However little room is left behind the fields, what is added finds its place.
func TestALongKeyIsAddedWhereverTheRecordEnds(t *testing.T) {
	opt := siemOptions()
	opt.EventIDKey = strings.Repeat("k", 400)
	r := NewReader(opt)
	for n := 3 << 10; n < 5<<10; n++ {
		rows, err := readAll(r, strings.NewReader(`{"AlertId":"a","x":"`+strings.Repeat("x", n)+`"}`))
		if err != nil || len(rows) != 1 || len(rows[0].fields(t)) != 3 {
			t.Fatalf("%d: %d rows, %v", n, len(rows), err)
		}
	}
}
