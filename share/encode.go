package share

import (
	"encoding/binary"
	"errors"
	"slices"
	"time"

	"fluent-bit-defender/state"
)

// The binary form of an image, all numbers as Go's varints:
//
//	image:   number of steps, steps
//	step:    at (microseconds since 1970), watermark, succeeded (times), unread, added, dropped
//	time:    0 for none; else 1, seconds since 1970, nanoseconds
//	unread:  0 for the same as in the step before; else 1 + number, and for each: since, until (times), length of
//	         reason, reason
//	added:   number, and for each: age less the age before (nanoseconds), 16 bytes of id. dropped: the same
//
// An id takes about 21 bytes.

var errEncoding = errors.New("not in the form that this version writes")

func (m image) encode() []byte {
	b := make([]byte, 0, 64+24*m.added())
	b = binary.AppendUvarint(b, uint64(len(m.steps)))
	var unread []state.UnreadRange
	for _, s := range m.steps {
		b = binary.AppendVarint(b, s.at.UnixMicro())
		b = appendTime(appendTime(b, s.Watermark), s.Succeeded)
		if slices.Equal(s.Unread, unread) {
			b = binary.AppendUvarint(b, 0)
		} else {
			unread = s.Unread
			b = binary.AppendUvarint(b, 1+uint64(len(unread)))
			for _, u := range unread {
				b = appendTime(appendTime(b, u.Since), u.Until)
				b = append(binary.AppendUvarint(b, uint64(len(u.Reason))), u.Reason...)
			}
		}
		b = appendEntries(appendEntries(b, s.Add), s.Drop)
	}
	return b
}

func appendTime(b []byte, t time.Time) []byte {
	if t.IsZero() {
		return append(b, 0)
	}
	return binary.AppendUvarint(binary.AppendVarint(append(b, 1), t.Unix()), uint64(t.Nanosecond()))
}

func appendEntries(b []byte, entries []state.Entry) []byte {
	b = binary.AppendUvarint(b, uint64(len(entries)))
	age := int64(0)
	for _, e := range entries {
		b = append(binary.AppendVarint(b, e.Age-age), e.ID[:]...)
		age = e.Age
	}
	return b
}

// decode reads what encode wrote. Anything else is errEncoding.
func decode(b []byte) (image, error) {
	d := decoder{rest: b}
	var m image
	var unread []state.UnreadRange
	for n := d.count(5); n > 0 && !d.bad; n-- {
		s := step{at: time.UnixMicro(d.varint()).UTC()}
		s.Watermark, s.Succeeded = d.time(), d.time()
		if d.more(1) && d.rest[0] == 0 {
			d.rest = d.rest[1:]
		} else {
			unread = d.unread()
		}
		s.Unread = unread
		s.Add, s.Drop = d.entries(), d.entries()
		d.bad = d.bad || len(m.steps) > 0 && s.at.Before(m.last()) || len(m.steps) == 0 && s.Drop != nil
		m.steps = append(m.steps, s)
	}
	if d.bad || len(d.rest) > 0 {
		return image{}, errEncoding
	}
	return m, nil
}

// decoder takes values off rest. After something that cannot be it is bad, and gives zeros.
type decoder struct {
	rest []byte
	bad  bool
}

func (d *decoder) more(n int) bool {
	d.bad = d.bad || len(d.rest) < n
	return !d.bad
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.rest)
	if d.bad = d.bad || n <= 0; d.bad {
		return 0
	}
	d.rest = d.rest[n:]
	return v
}

func (d *decoder) varint() int64 {
	v, n := binary.Varint(d.rest)
	if d.bad = d.bad || n <= 0; d.bad {
		return 0
	}
	d.rest = d.rest[n:]
	return v
}

// count reads a number of things that take least bytes each.
func (d *decoder) count(least int) int {
	n := d.uvarint()
	if d.bad = d.bad || n > uint64(len(d.rest)/least); d.bad {
		return 0
	}
	return int(n)
}

func (d *decoder) bytes(n int) []byte {
	if !d.more(n) {
		return nil
	}
	b := d.rest[:n]
	d.rest = d.rest[n:]
	return b
}

func (d *decoder) time() time.Time {
	flag := d.bytes(1)
	if d.bad || flag[0] == 0 {
		return time.Time{}
	}
	sec, nsec := d.varint(), d.uvarint()
	t := time.Unix(sec, int64(min(nsec, 1e9))).UTC()
	if d.bad = d.bad || flag[0] != 1 || nsec >= 1e9 || t.IsZero() || t.Year() < 1 || t.Year() > 9999; d.bad {
		return time.Time{}
	}
	return t
}

func (d *decoder) unread() []state.UnreadRange {
	n := d.uvarint()
	if d.bad = d.bad || n == 0 || n-1 > uint64(len(d.rest)/3); d.bad {
		return nil
	}
	var out []state.UnreadRange
	for range n - 1 {
		u := state.UnreadRange{Since: d.time(), Until: d.time()}
		u.Reason = string(d.bytes(d.count(1)))
		if d.bad {
			return nil
		}
		out = append(out, u)
	}
	return out
}

func (d *decoder) entries() []state.Entry {
	n := d.count(17)
	if n == 0 {
		return nil
	}
	out := make([]state.Entry, 0, n)
	var e state.Entry
	for range n {
		before := e
		e.Age += d.varint()
		copy(e.ID[:], d.bytes(len(e.ID)))
		if d.bad = d.bad || len(out) > 0 && before.Compare(e) >= 0; d.bad {
			return nil
		}
		out = append(out, e)
	}
	return out
}
