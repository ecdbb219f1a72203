package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/fluent/fluent-bit-go/input"
	"github.com/tinylib/msgp/msgp"
	"github.com/valyala/fastjson"

	"fluent-bit-defender/record"
)

// ours reads the whole answer into records, with time and identity, as the plugin does.
func ours(a answer) func(*testing.B) {
	return func(b *testing.B) {
		r := record.NewReader(record.Options{Schema: a.schema, TimeKey: a.timeKey, MaxAlert: 1 << 20,
			MaxRecord: 1 << 20})
		now := func() time.Time { return time.Unix(1700000000, 0) }
		var dst []byte
		b.SetBytes(int64(len(a.body)))
		b.ReportAllocs()
		for b.Loop() {
			r.Reset(bytes.NewReader(a.body), now)
			for {
				var err error
				if dst, _, err = r.Next(dst); errors.Is(err, io.EOF) {
					break
				} else if err != nil {
					b.Fatal(err)
				}
				if len(dst) > 1<<20 {
					dst = dst[:0]
				}
			}
		}
	}
}

// plain is what a Go plugin is usually made of: encoding/json into maps, a row at a time off the body, then
// fluent-bit-go's encoder. It finds out no identity.
func plain(a answer) func(*testing.B) {
	return func(b *testing.B) {
		b.SetBytes(int64(len(a.body)))
		b.ReportAllocs()
		for b.Loop() {
			dec := json.NewDecoder(bytes.NewReader(a.body))
			if _, err := dec.Token(); err != nil {
				b.Fatal(err)
			}
			for dec.More() {
				var fields map[string]any
				if err := dec.Decode(&fields); err != nil {
					b.Fatal(err)
				}
				encode(b, fields, a.timeKey)
			}
		}
	}
}

// plainRows is plain with the rows given apart, which spares it the search for their ends.
func plainRows(a answer) func(*testing.B) {
	return func(b *testing.B) {
		b.SetBytes(int64(len(a.body)))
		b.ReportAllocs()
		for b.Loop() {
			for _, row := range a.rows {
				var fields map[string]any
				if err := json.Unmarshal(row, &fields); err != nil {
					b.Fatal(err)
				}
				encode(b, fields, a.timeKey)
			}
		}
	}
}

// plainList is plain for a whole body in memory.
func plainList(a answer) func(*testing.B) {
	return func(b *testing.B) {
		b.SetBytes(int64(len(a.body)))
		b.ReportAllocs()
		for b.Loop() {
			var list []map[string]any
			if err := json.Unmarshal(a.body, &list); err != nil {
				b.Fatal(err)
			}
			for _, fields := range list {
				encode(b, fields, a.timeKey)
			}
		}
	}
}

func encode(b *testing.B, fields map[string]any, timeKey string) {
	at, _ := time.Parse(time.RFC3339Nano, fmt.Sprint(fields[timeKey]))
	if _, err := input.NewEncoder().Encode([]any{&input.FLBTime{Time: at}, fields}); err != nil {
		b.Fatal(err)
	}
}

// fast is valyala/fastjson with tinylib/msgp's appending writer, the rows given apart. It checks neither UTF-8 nor
// identity.
func fast(a answer) func(*testing.B) {
	return func(b *testing.B) {
		b.SetBytes(int64(len(a.body)))
		b.ReportAllocs()
		var p fastjson.Parser
		var dst []byte
		for b.Loop() {
			for _, row := range a.rows {
				v, err := p.ParseBytes(row)
				if err != nil {
					b.Fatal(err)
				}
				at, _ := time.Parse(time.RFC3339Nano, string(v.GetStringBytes(a.timeKey)))
				dst = msgp.AppendArrayHeader(dst[:0], 2)
				dst = append(dst, 0xd7, 0, byte(at.Unix()>>24), byte(at.Unix()>>16), byte(at.Unix()>>8),
					byte(at.Unix()), 0, 0, 0, 0)
				dst = appendValue(dst, v)
			}
		}
	}
}

func appendValue(dst []byte, v *fastjson.Value) []byte {
	switch v.Type() {
	case fastjson.TypeObject:
		o := v.GetObject()
		dst = msgp.AppendMapHeader(dst, uint32(o.Len()))
		o.Visit(func(key []byte, v *fastjson.Value) {
			dst = msgp.AppendStringFromBytes(dst, key)
			dst = appendValue(dst, v)
		})
		return dst
	case fastjson.TypeArray:
		items := v.GetArray()
		dst = msgp.AppendArrayHeader(dst, uint32(len(items)))
		for _, item := range items {
			dst = appendValue(dst, item)
		}
		return dst
	case fastjson.TypeString:
		return msgp.AppendStringFromBytes(dst, v.GetStringBytes())
	case fastjson.TypeNumber:
		if n, err := v.Int64(); err == nil {
			return msgp.AppendInt64(dst, n)
		}
		return msgp.AppendFloat64(dst, v.GetFloat64())
	case fastjson.TypeTrue, fastjson.TypeFalse:
		return msgp.AppendBool(dst, v.GetBool())
	}
	return msgp.AppendNil(dst)
}
