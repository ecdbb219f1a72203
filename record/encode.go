package record

import (
	"encoding/binary"
	"math"
	"time"
)

// Encode writes an alert in another shape than the native one: it appends the fields of a record, each a MessagePack
// string and a value, to dst and tells how many they are. It gets the native record, in which everything is checked,
// unescaped, repaired and freed of duplicates already, and copies or rewrites what it wants of it: the JSON is read
// once.
//
// Identity, time, repairs, DropNull, MaxAlert and MaxRecord are as without it. TenantKey and EventIDKey are
// added behind its fields; it must not write fields of these names itself. It is called once a row (once more for one
// whose record turns out to be too large) by the goroutine that calls Next, so it may keep state as long as each
// Reader has an Encode of its own. What it gets is valid until it returns.
type Encode func(dst []byte, a *Alert) (out []byte, fields int)

// Alert is what Encode gets.
type Alert struct {
	Row    Row
	Time   time.Time // the record's, in UTC
	Tenant string    // see Reader.SetTenant
	Text   []byte    // the alert's JSON as it came
	Native []byte    // the native record's fields: one MessagePack map, see Cursor
}

// EncodeRaw is Encode for a row that is delivered raw. At most 12 fields may be written, of no more than RawFrame
// bytes beside the text and the reason, each of which may stand there once.
type EncodeRaw func(dst []byte, r *Raw) (out []byte, fields int)

// RawFrame is the most that EncodeRaw may write beside a row's text and reason.
const RawFrame = 1 << 10

// Raw is a row that is delivered raw.
type Raw struct {
	Time   time.Time // the time of the pull, in UTC
	Tenant string    // see Reader.SetTenant
	Text   []byte    // as it came, but repaired and cut to fit; valid until EncodeRaw returns
	Reason string    // why it is raw
}

// ParseTime reads a time such as 2017-01-23T07:32:54.1861171Z as the record's time is read, into Unix seconds and
// nanoseconds: RFC 3339, also with a blank for the T, without a zone (UTC), with any number of digits of a fraction.
// Times before 1970 and after 2106 are not ok.
func ParseTime(text []byte) (sec int64, nsec uint32, ok bool) { return parseTime(text) }

// encode replaces the native record, which stands in t.out, by that of Options.Encode behind dst, and tells where its
// fields end.
func (t *transcoder) encode(dst []byte, native []byte, row Row, text []byte, sec int64, nsec uint32) (o, count int) {
	t.native = t.out
	t.alertOf = Alert{Row: row, Time: time.Unix(sec, int64(nsec)).UTC(), Tenant: t.tenantID, Text: text, Native: native}
	var head [headSize + mapHead]byte
	dst, count = t.opt.Encode(append(dst, head[:]...), &t.alertOf)
	t.out = dst[:cap(dst)]
	return len(dst), count
}

// Cursor walks over a value of a native record. The methods that read a value expect one of its Kind and go on behind
// it.
//
//	c := record.NewCursor(a.Native)
//	for n := c.Open(); n > 0; n-- {
//		key := c.Text()
//		value := c.Skip()
//	}
type Cursor struct {
	b []byte
	i int
}

// Kind is the kind of a value.
type Kind byte

// The kinds of values.
const (
	Null Kind = iota
	Bool
	Int
	Float
	Text
	Array
	Object
)

// NewCursor returns a cursor at the beginning of Alert.Native or of a value that Skip returned.
func NewCursor(value []byte) Cursor { return Cursor{b: value} }

// Offset tells how many bytes are gone over.
func (c *Cursor) Offset() int { return c.i }

// Kind tells the kind of the value at hand.
func (c *Cursor) Kind() Kind { return kinds[c.b[c.i]] }

// kinds holds the kind of a value by its first byte.
var kinds = func() (k [256]Kind) {
	for b := range k {
		switch {
		case b < 0x80, b >= 0xe0, b >= 0xd0 && b < 0xd4, b >= 0xcc && b < 0xd0:
			k[b] = Int
		case b < 0x90, b == 0xde, b == 0xdf:
			k[b] = Object
		case b < 0xa0, b == 0xdc, b == 0xdd:
			k[b] = Array
		case b < 0xc0, b >= 0xd9 && b < 0xdc:
			k[b] = Text
		case b == msgFalse, b == msgTrue:
			k[b] = Bool
		case b == 0xcb:
			k[b] = Float
		}
	}
	return k
}()

// Open goes into an Object or Array and returns how many fields, each a key and a value, or elements follow.
func (c *Cursor) Open() int {
	switch b := c.b[c.i]; b {
	case 0xdc, 0xde:
		c.i += 3
		return int(binary.BigEndian.Uint16(c.b[c.i-2:]))
	case 0xdd, 0xdf:
		c.i += 5
		return int(binary.BigEndian.Uint32(c.b[c.i-4:]))
	default:
		c.i++
		return int(b & 0xf)
	}
}

// Skip goes over a value and returns it as it stands, to be copied or walked over.
func (c *Cursor) Skip() []byte {
	from := c.i
	c.Pass()
	return c.b[from:c.i:c.i]
}

// Pass goes over a value: short strings and nulls are most of them.
func (c *Cursor) Pass() {
	switch b := c.b[c.i]; {
	case b-0xa0 < 0x20:
		c.i += 1 + int(b-0xa0)
	case b == msgNil:
		c.i++
	case b == 0xd9:
		c.i += 2 + int(c.b[c.i+1])
	default:
		c.i = skipMsg(c.b, c.i)
	}
}

// Text reads a Text, or the key of a field.
func (c *Cursor) Text() []byte {
	if b := c.b[c.i]; b-0xa0 < 0x20 {
		from := c.i + 1
		c.i = from + int(b-0xa0)
		return c.b[from:c.i:c.i]
	}
	from := strText(c.b, c.i)
	c.Pass()
	return c.b[from:c.i:c.i]
}

// Bool reads a Bool.
func (c *Cursor) Bool() bool {
	c.i++
	return c.b[c.i-1] == msgTrue
}

// Int reads an Int. big: only a uint64 holds it, and v has its bits.
func (c *Cursor) Int() (v int64, big bool) {
	b := c.b[c.i]
	at := c.i + 1
	c.i = skipMsg(c.b, c.i)
	switch b {
	case 0xcc:
		return int64(c.b[at]), false
	case 0xcd:
		return int64(binary.BigEndian.Uint16(c.b[at:])), false
	case 0xce:
		return int64(binary.BigEndian.Uint32(c.b[at:])), false
	case 0xcf:
		u := binary.BigEndian.Uint64(c.b[at:])
		return int64(u), u > math.MaxInt64
	case 0xd0:
		return int64(int8(c.b[at])), false
	case 0xd1:
		return int64(int16(binary.BigEndian.Uint16(c.b[at:]))), false
	case 0xd2:
		return int64(int32(binary.BigEndian.Uint32(c.b[at:]))), false
	case 0xd3:
		return int64(binary.BigEndian.Uint64(c.b[at:])), false
	}
	return int64(int8(b)), false
}

// Float reads a Float.
func (c *Cursor) Float() float64 {
	c.i += 9
	return math.Float64frombits(binary.BigEndian.Uint64(c.b[c.i-8:]))
}
