package hostile

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"fluent-bit-defender/internal/defendersim"
	"fluent-bit-defender/internal/flbhost"
)

// These rows are small, but each has values that others choke on. Each comes with good ones around it, poll after poll.
func TestHostileValues(t *testing.T) {
	t.Parallel()
	f := func(name, value string, want any, words ...string) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, defendersim.Config{})
			h, got := w.run(options(w.config("info", "")))
			before := w.add()
			w.arrive(h, got, before)
			g := newGauge(t, h)
			a := w.gen.Alert(w.svc.Now().Add(-time.Second))
			a.Text = []byte(strings.Replace(string(a.Text), "{", `{"Hostile":`+value+`,`, 1))
			beside := []defendersim.Alert{w.add(), w.add()}
			w.svc.Add(a)
			w.arrive(h, got, a)
			after := w.add()
			w.arrive(h, got, after)
			if len(words) > 0 {
				if err := h.Await(20*time.Second, "a line",
					func(v *flbhost.View) bool { return says(v, words...) }); err != nil {
					t.Errorf("%v with %q", err, words)
				}
			}
			g.note(name)
			h.MustStop(t, limit)
			quiet(t, h)
			for _, b := range append(beside, before, after) {
				got.whole(t, b)
			}
			if n := got.count[a.Key()]; n != 1 || len(got.raw) > 0 {
				t.Errorf("the hostile row came %d times, and %d raw records", n, len(got.raw))
			}
			var values []any
			for _, field := range got.body[a.Key()] {
				if strings.HasPrefix(field.Key, "Hostile") {
					values = append(values, field.Value)
				}
			}
			if len(values) != 1 || !reflect.DeepEqual(values[0], want) {
				t.Errorf("the value became %.300q, want %.300q", values, want)
			}
		})
	}
	digits := strings.Repeat("7", 400)
	f("an integer of 400 digits", digits, digits)
	f("a negative integer of 400 digits", "-"+digits, "-"+digits)
	f("a number with 400 decimals", "0."+digits, 0.7777777777777778)
	f("an exponent of 400 digits", "1e"+digits, "1e"+digits)
	f("numbers at the edge", "[18446744073709551615,18446744073709551616,"+
		"-9223372036854775808,-9223372036854775809,1e308,1e309]",
		[]any{uint64(18446744073709551615), "18446744073709551616", int64(-9223372036854775808), "-9223372036854775809",
			1e308, "1e309"})
	f("lone surrogates", `"a\ud800b\udc00c\udc00\ud800d"`, "a\ufffdb\ufffdc\ufffd\ufffdd", "repaired")
	f("invalid UTF-8", "\"a\xffb\xc3(c\xf0\x9f\x92d\"", "a\ufffdb\ufffd(c\ufffd\ufffd\ufffdd", "repaired")
	f("duplicate keys", `1,"Hostile":{"a":1,"a":2,"b":{"c":1,"c":[3]}},"Hostile":{"a":4,"a":5}`,
		flbhost.Map{{Key: "a", Value: int64(5)}})
	f("NUL in an escape", `"a\u0000b"`, "a\x00b")
	f("an empty key", `{"":{"":[[],{}]}}`,
		flbhost.Map{{Key: "", Value: flbhost.Map{{Key: "", Value: []any{[]any{}, flbhost.Map{}}}}}})
	f("line breaks and terminal escapes", `"\r\n\u001b[31m\u2028"`, "\r\n\x1b[31m\u2028")
}

// These rows can be no records: they come as they are, once, and do not harm those beside them.
func TestHostileTexts(t *testing.T) {
	t.Parallel()
	f := func(name, row, why string, words ...string) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, defendersim.Config{})
			h, got := w.run(options(w.config("info", "")))
			w.arrive(h, got, w.add())
			g := newGauge(t, h)
			beside := []defendersim.Alert{w.add()}
			w.addRow(row)
			beside = append(beside, w.add())
			h.MustAwait(t, limit, "a raw record", func(*flbhost.View) bool { return got.rawWith("") > 0 })
			for _, b := range beside {
				w.arrive(h, got, b)
			}
			if err := h.Await(20*time.Second, "a line",
				func(v *flbhost.View) bool { return says(v, words...) }); err != nil {
				t.Errorf("%v with %q", err, words)
			}
			w.arrive(h, got, w.add())
			asked := w.svc.Stats().Alerts
			await(t, h, "some more polls", func() bool { return w.svc.Stats().Alerts >= asked+2 })
			g.note(name)
			h.MustStop(t, limit)
			quiet(t, h)
			for _, b := range beside {
				got.whole(t, b)
			}
			if len(got.raw) != 1 {
				t.Fatalf("%d raw records came", len(got.raw))
			}
			// a byte that is no UTF-8 becomes one U+FFFD
			if raw, want := got.raw[0].String("raw"), string([]rune(row)); raw != want {
				t.Errorf("it came as %.600q, want %.600q", raw, want)
			}
			if got := got.raw[0].String("error"); !strings.Contains(got, why) {
				t.Errorf("its error is %q, want %q", got, why)
			}
		})
	}
	deep := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	f("a row that is no object", `"just a text"`, "not an object", "raw", "not an object")
	f("a row that is null", `null`, "not an object", "raw", "not an object")
	f("a row at depth 40", `{"AlertId":"deep","Deep":`+deep(39)+`}`, "nested deeper than 28 levels", "raw",
		"nested deeper than 28 levels")
	f("NUL bytes in a text", "{\"AlertId\":\"nul\",\"Title\":\"a\x00\x00b\"}", "byte 0x00", "same syntax error", "raw")
	f("NUL bytes between fields", "{\"AlertId\":\"nul\",\x00\"Title\":\"b\"}", "byte 0x00", "same syntax error", "raw")
	f("a row that never ends", `{"AlertId":"open","Title":"`+strings.Repeat("x", 1000), "no valid JSON",
		"same syntax error", "raw")
	f("NaN", `{"AlertId":"nan","Value":NaN}`, "'N'", "same syntax error", "raw")
	f("a row of all bytes", func() string {
		var all []byte
		for i := range 256 {
			all = append(all, byte(i))
		}
		return fmt.Sprintf(`{"AlertId":"all","Title":"%s"}`, all)
	}(), "no valid JSON", "same syntax error", "raw")
}
