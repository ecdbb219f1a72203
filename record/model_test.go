package record

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/vmihailenco/msgpack/v5"
	"pgregory.net/rapid"
)

// What a record should hold, made with encoding/json, and what it does hold, read with a MessagePack library.
// Integers are int64, or uint64 beyond; the order of fields counts.

type object []field1

type field1 struct {
	Name  string
	Value any
}

// model turns the text of a valid JSON value into what becomes of it. fffd counts the U+FFFD in all its strings, also
// in those that a later duplicate replaces.
func model(text []byte, dropNull bool) (value any, fffd int) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	return modelValue(d, dropNull, &fffd), fffd
}

func modelValue(d *json.Decoder, dropNull bool, fffd *int) any {
	token, err := d.Token()
	if err != nil {
		panic(err)
	}
	switch v := token.(type) {
	case json.Delim:
		if v == '[' {
			list := []any{}
			for d.More() {
				list = append(list, modelValue(d, dropNull, fffd))
			}
			d.Token()
			return list
		}
		all := object{}
		for d.More() {
			name, _ := d.Token()
			*fffd += strings.Count(name.(string), "\uFFFD")
			all = append(all, field1{name.(string), modelValue(d, dropNull, fffd)})
		}
		d.Token()
		last := map[string]int{}
		for i, f := range all {
			last[f.Name] = i
		}
		kept := object{}
		for i, f := range all {
			if last[f.Name] == i && !(dropNull && f.Value == nil) {
				kept = append(kept, f)
			}
		}
		return kept
	case json.Number:
		return modelNumber(string(v))
	case string:
		*fffd += strings.Count(v, "\uFFFD")
		return v
	default:
		return v
	}
}

func modelNumber(s string) any {
	if !strings.ContainsAny(s, ".eE") {
		if n, err := strconv.ParseInt(s, 10, 64); err == nil {
			return n
		}
		if n, err := strconv.ParseUint(s, 10, 64); err == nil {
			return n
		}
		return s
	}
	f, err := strconv.ParseFloat(s, 64)
	mantissa, _, _ := strings.Cut(strings.ToLower(s), "e")
	if err != nil || f == 0 && strings.ContainsAny(mantissa, "123456789") {
		return s
	}
	return f
}

// literalFFFD counts the U+FFFD that stand in the text of a valid JSON value as such or as an escape.
func literalFFFD(text []byte) (n int) {
	for i := 0; i < len(text); i++ {
		switch {
		case text[i] == '\\':
			if i+5 < len(text) && strings.EqualFold(string(text[i+1:i+6]), "ufffd") {
				n++
			}
			i++
		case bytes.HasPrefix(text[i:], []byte("\uFFFD")):
			n++
		}
	}
	return n
}

// decode reads one record, which must fill data.
func decode(data []byte) (at time.Time, fields any, err error) {
	r := bytes.NewReader(data)
	d := msgpack.NewDecoder(r)
	if n, err := d.DecodeArrayLen(); err != nil || n != 2 {
		return at, nil, fmt.Errorf("no array of two: %d, %v", n, err)
	}
	ext, n, err := d.DecodeExtHeader()
	if err != nil || ext != 0 || n != 8 || data[1] != 0xd7 {
		return at, nil, fmt.Errorf("no EventTime: type %d, %d bytes, %v", ext, n, err)
	}
	var stamp [8]byte
	if err := d.ReadFull(stamp[:]); err != nil {
		return at, nil, err
	}
	sec, nsec := binary.BigEndian.Uint32(stamp[:]), binary.BigEndian.Uint32(stamp[4:])
	if nsec >= 1e9 || sec >= 0xFFFFFFFE {
		return at, nil, fmt.Errorf("EventTime %d, %d", sec, nsec)
	}
	fields, err = decodeValue(d)
	if _, end := d.PeekCode(); err == nil && end != io.EOF {
		err = errors.New("bytes behind the record")
	}
	return time.Unix(int64(sec), int64(nsec)).UTC(), fields, err
}

func decodeValue(d *msgpack.Decoder) (any, error) {
	code, err := d.PeekCode()
	if err != nil {
		return nil, err
	}
	switch {
	case code>>4 == 0x8 || code == 0xde || code == 0xdf:
		n, err := d.DecodeMapLen()
		o := object{}
		for i := 0; i < n && err == nil; i++ {
			var f field1
			if f.Name, err = d.DecodeString(); err == nil {
				f.Value, err = decodeValue(d)
			}
			o = append(o, f)
		}
		return o, err
	case code>>4 == 0x9 || code == 0xdc || code == 0xdd:
		n, err := d.DecodeArrayLen()
		list := []any{}
		for i := 0; i < n && err == nil; i++ {
			var v any
			v, err = decodeValue(d)
			list = append(list, v)
		}
		return list, err
	}
	v, err := d.DecodeInterfaceLoose() // int64, uint64, float64, string, bool, nil
	if n, ok := v.(uint64); ok && n < 1<<63 {
		return int64(n), err
	}
	return v, err
}

// got is what a Reader made of a row.
type got struct {
	Row
	Data []byte
	End  int64 // Reader.Offset behind it
}

func (g got) fields(t rapid.TB) object {
	t.Helper()
	_, v, err := decode(g.Data)
	if err != nil {
		t.Fatalf("decode %x: %v", g.Data, err)
	}
	return v.(object)
}

func (g got) time(t rapid.TB) time.Time {
	t.Helper()
	at, _, err := decode(g.Data)
	if err != nil {
		t.Fatalf("decode %x: %v", g.Data, err)
	}
	return at
}

// raw returns the text and the reason of a raw row.
func (g got) raw(t rapid.TB) (text, reason string) {
	t.Helper()
	o := g.fields(t)
	if !g.Raw || len(o) < 2 || o[0].Name != "raw" || o[1].Name != "error" || o[1].Value != g.Reason {
		t.Fatalf("no raw row: %+v, %v", g.Row, o)
	}
	return o[0].Value.(string), o[1].Value.(string)
}

var pulled = time.Date(2024, 5, 6, 7, 8, 9, 123, time.UTC)

func clock() time.Time { return pulled }

// readAll reads an answer to its end. The error is nil for io.EOF.
func readAll(r *Reader, body io.Reader) (rows []got, err error) {
	r.Reset(body, clock)
	for {
		data, row, err := r.Next(nil)
		if err == io.EOF {
			return rows, nil
		}
		if err != nil {
			if _, _, again := r.Next(nil); again != err {
				return rows, fmt.Errorf("Next returned %v and then %v", err, again)
			}
			return rows, err
		}
		rows = append(rows, got{row, data, r.Offset()})
	}
}

func siemOptions() Options { return Options{Schema: SIEM, TimeKey: "AlertTime"} }

// one reads an answer of one row.
func one(t rapid.TB, opt Options, body string) got {
	t.Helper()
	rows, err := readAll(NewReader(opt), strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if len(rows) != 1 {
		t.Fatalf("%d rows", len(rows))
	}
	return rows[0]
}
