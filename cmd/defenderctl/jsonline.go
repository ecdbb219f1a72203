package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/vmihailenco/msgpack/v5"
	"github.com/vmihailenco/msgpack/v5/msgpcode"
)

// lines turns records as Fluent Bit gets them into lines of JSON: the fields in their order, integers to the last
// digit, other numbers as the shortest text of the same double.
type lines struct {
	out     io.Writer
	written int

	line    bytes.Buffer
	encoder *json.Encoder // of scalars, into line
}

func newLines(out io.Writer) *lines {
	l := &lines{out: out}
	l.encoder = json.NewEncoder(&l.line)
	l.encoder.SetEscapeHTML(false)
	return l
}

// write takes whole records, one after the other.
func (l *lines) write(records []byte) error {
	d := msgpack.NewDecoder(bytes.NewReader(records))
	for {
		n, err := d.DecodeArrayLen()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("a record that cannot be read: %w", err)
		case n != 2:
			return fmt.Errorf("a record of %d parts", n)
		}
		if err := d.Skip(); err != nil { // its time
			return fmt.Errorf("a record that cannot be read: %w", err)
		}
		l.line.Reset()
		if err := l.value(d); err != nil {
			return fmt.Errorf("a record that cannot be read: %w", err)
		}
		l.line.WriteByte('\n')
		if _, err := l.out.Write(l.line.Bytes()); err != nil {
			return err
		}
		l.written++
	}
}

func (l *lines) value(d *msgpack.Decoder) error {
	c, err := d.PeekCode()
	if err != nil {
		return err
	}
	switch {
	case msgpcode.IsFixedMap(c), c == msgpcode.Map16, c == msgpcode.Map32:
		return l.object(d)
	case msgpcode.IsFixedArray(c), c == msgpcode.Array16, c == msgpcode.Array32:
		n, err := d.DecodeArrayLen()
		if err != nil {
			return err
		}
		return l.list('[', ']', n, func() error { return l.value(d) })
	case c == msgpcode.Uint64:
		n, err := d.DecodeUint64()
		return l.scalar(n, err)
	}
	v, err := d.DecodeInterface()
	return l.scalar(v, err)
}

func (l *lines) object(d *msgpack.Decoder) error {
	n, err := d.DecodeMapLen()
	if err != nil {
		return err
	}
	return l.list('{', '}', n, func() error {
		key, err := d.DecodeString()
		if err := l.scalar(key, err); err != nil {
			return err
		}
		l.line.WriteByte(':')
		return l.value(d)
	})
}

func (l *lines) list(begin, end byte, n int, item func() error) error {
	l.line.WriteByte(begin)
	for i := range n {
		if i > 0 {
			l.line.WriteByte(',')
		}
		if err := item(); err != nil {
			return err
		}
	}
	l.line.WriteByte(end)
	return nil
}

func (l *lines) scalar(v any, err error) error {
	if err != nil {
		return err
	}
	if err := l.encoder.Encode(v); err != nil {
		return err
	}
	l.line.Truncate(l.line.Len() - 1) // the encoder ends with a new line
	return nil
}
