package flbhost

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/vmihailenco/msgpack/v5"
	"github.com/vmihailenco/msgpack/v5/msgpcode"
)

// Record is one log record as it left the ring buffer.
type Record struct {
	Instance string // alias, else defender.N
	Tag      string
	Time     time.Time // UTC, to the nanosecond
	Body     Map
}

// Map keeps its fields in the order received.
type Map []Field

// Field is one entry of a Map. Value is nil, bool, int64, uint64 (only above the range of int64), float64, string,
// []byte, []any or Map.
type Field struct {
	Key   string
	Value any
}

// Get returns the value of the first field named key.
func (m Map) Get(key string) (any, bool) {
	for _, f := range m {
		if f.Key == key {
			return f.Value, true
		}
	}
	return nil, false
}

// String returns the text of a field, "" when it is missing or no string.
func (m Map) String(key string) string {
	v, _ := m.Get(key)
	s, _ := v.(string)
	return s
}

// MarshalJSON writes the fields in order.
func (m Map) MarshalJSON() ([]byte, error) {
	b := []byte{'{'}
	for i, f := range m {
		if i > 0 {
			b = append(b, ',')
		}
		key, err := marshal(f.Key)
		if err != nil {
			return nil, err
		}
		value, err := marshal(f.Value)
		if err != nil {
			return nil, fmt.Errorf("field %q: %w", f.Key, err)
		}
		b = append(append(append(b, key...), ':'), value...)
	}
	return append(b, '}'), nil
}

// JSON is the record as the stdout output of Fluent Bit writes it with json_date_format iso8601: the time under "date",
// then the fields.
func (r Record) JSON() ([]byte, error) {
	return marshal(append(Map{{Key: "date", Value: r.Time.Format(time.RFC3339Nano)}}, r.Body...))
}

func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte{'\n'}), nil
}

// Decode reads the records of a chunk, one after the other.
func Decode(instance, tag string, chunk []byte) ([]Record, error) {
	d := msgpack.NewDecoder(bytes.NewReader(chunk))
	var records []Record
	for {
		r, err := decodeRecord(d)
		if errors.Is(err, io.EOF) {
			return records, nil
		}
		if err != nil {
			return records, fmt.Errorf("record %d of %s: %w", len(records), instance, err)
		}
		r.Instance, r.Tag = instance, tag
		records = append(records, r)
	}
}

func decodeRecord(d *msgpack.Decoder) (Record, error) {
	n, err := d.DecodeArrayLen()
	if err != nil {
		return Record{}, err // io.EOF: the chunk is read
	}
	if n != 2 {
		return Record{}, fmt.Errorf("an array of %d instead of 2", n)
	}
	id, size, err := d.DecodeExtHeader()
	if err != nil || id != 0 || size != 8 {
		return Record{}, fmt.Errorf("no EventTime: ext type %d of %d bytes: %v", id, size, err)
	}
	var b [8]byte
	if err := d.ReadFull(b[:]); err != nil {
		return Record{}, noEOF(err)
	}
	at := time.Unix(int64(binary.BigEndian.Uint32(b[:4])), int64(binary.BigEndian.Uint32(b[4:]))).UTC()
	body, err := decodeValue(d)
	if err != nil {
		return Record{}, noEOF(err)
	}
	m, ok := body.(Map)
	if !ok {
		return Record{}, fmt.Errorf("the body is a %T", body)
	}
	return Record{Time: at, Body: m}, nil
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

func decodeValue(d *msgpack.Decoder) (any, error) {
	c, err := d.PeekCode()
	if err != nil {
		return nil, err
	}
	switch {
	case msgpcode.IsFixedMap(c), c == msgpcode.Map16, c == msgpcode.Map32:
		return decodeMap(d)
	case msgpcode.IsFixedArray(c), c == msgpcode.Array16, c == msgpcode.Array32:
		n, err := d.DecodeArrayLen()
		if err != nil {
			return nil, err
		}
		list := make([]any, 0, min(n, 1024))
		for range n {
			v, err := decodeValue(d)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		return list, nil
	case msgpcode.IsFixedNum(c):
		return d.DecodeInt64()
	case c == msgpcode.Uint64:
		u, err := d.DecodeUint64()
		if err == nil && u <= 1<<63-1 {
			return int64(u), nil
		}
		return u, err
	}
	v, err := d.DecodeInterfaceLoose() // integers come as int64, floats as float64
	if u, ok := v.(uint64); ok {
		return int64(u), err // loose decoding gives every unsigned type as uint64; those of 64 bits are handled above
	}
	return v, err
}

func decodeMap(d *msgpack.Decoder) (Map, error) {
	n, err := d.DecodeMapLen()
	if err != nil {
		return nil, err
	}
	m := make(Map, 0, min(n, 1024))
	for range n {
		key, err := d.DecodeString()
		if err != nil {
			return nil, err
		}
		value, err := decodeValue(d)
		if err != nil {
			return nil, err
		}
		m = append(m, Field{key, value})
	}
	return m, nil
}
