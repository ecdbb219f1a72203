package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/vmihailenco/msgpack/v5"
	"github.com/vmihailenco/msgpack/v5/msgpcode"
)

// lines turns records as Fluent Bit gets them into lines of JSON: the fields in their order, integers to the last digit, other
// numbers as the shortest text of the same double.
type lines struct {
	field        string    // the one that holds the row's own time, when the service last touched it
	since, until time.Time // rows of before since, or not of before until, are left out; zero: no bound
	out          io.Writer
	written      int

	line    bytes.Buffer
	encoder *json.Encoder // of scalars, into line
	updated string        // the row's own time, as it stands
}

func newLines(out io.Writer, field string, since, until time.Time) *lines {
	l := &lines{field: field, since: since, until: until, out: out}
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
		l.updated = ""
		if err := l.value(d, 0); err != nil {
			return fmt.Errorf("a record that cannot be read: %w", err)
		}
		if l.outside() {
			continue
		}
		l.line.WriteByte('\n')
		if _, err := l.out.Write(l.line.Bytes()); err != nil {
			return err
		}
		l.written++
	}
}

// outside tells whether the row's own time is not what was asked for. One without a usable time is inside.
func (l *lines) outside() bool {
	t, err := time.Parse(time.RFC3339Nano, l.updated)
	if err != nil {
		return false
	}
	return !l.since.IsZero() && t.Before(l.since) || !l.until.IsZero() && !t.Before(l.until)
}

func (l *lines) value(d *msgpack.Decoder, depth int) error {
	c, err := d.PeekCode()
	if err != nil {
		return err
	}
	switch {
	case msgpcode.IsFixedMap(c), c == msgpcode.Map16, c == msgpcode.Map32:
		return l.object(d, depth)
	case msgpcode.IsFixedArray(c), c == msgpcode.Array16, c == msgpcode.Array32:
		n, err := d.DecodeArrayLen()
		if err != nil {
			return err
		}
		return l.list('[', ']', n, func() error { return l.value(d, depth+1) })
	case c == msgpcode.Uint64:
		n, err := d.DecodeUint64()
		return l.scalar(n, err)
	}
	v, err := d.DecodeInterface()
	return l.scalar(v, err)
}

func (l *lines) object(d *msgpack.Decoder, depth int) error {
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
		if depth == 0 && key == l.field {
			if c, err := d.PeekCode(); err == nil && msgpcode.IsString(c) {
				l.updated, err = d.DecodeString()
				return l.scalar(l.updated, err)
			}
		}
		return l.value(d, depth+1)
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
