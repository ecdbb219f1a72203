package record

import (
	"crypto/sha256"
	"errors"
	"io"
	"time"
)

// Reader reads the alerts of one answer after the other, each answer as a stream. An answer is an array of rows; an
// object whose "value" is one, with any other fields around it; or a single alert: an object with one of
// Schema.Markers before any such "value". White space may stand around it, and a byte order mark before it.
//
// A Reader belongs to one goroutine. It holds a window of 256 KiB, which grows while a row is larger, to no more than
// Options.MaxAlert and 320 KiB, and is given back at the next Reset. A well-formed row costs no allocation once the
// Reader has met its keys and dst has room for it.
type Reader struct {
	w    window
	t    transcoder
	scan scanner
	now  func() time.Time
	pass func(ID) bool

	state  state
	single bool   // the answer is one alert
	object bool   // the list is an object's value
	link   bool   // scan keeps the next link
	next   string // the next link
	err    error

	invalid  invalidText
	resynced bool          // something of this answer was resynced
	broken   map[ID]string // the messages of rows that broke beyond MaxAlert bytes, by signature

	reasonLarge, reasonDeep, reasonRecord string
}

type state byte

const (
	atStart   state = iota
	atObject        // the body is an object: which one?
	atFirst         // behind the '[': a row or the list's end
	atRow           // a row must come
	atNext          // behind a row: a comma or the list's end
	atTail          // behind the list, in the rest of its object
	atEnd           // behind all
	atInvalid       // see invalidText
)

// readAhead is the least that the window has room for beside a row and a piece of invalid text.
const readAhead = 64 << 10

// NewReader returns a Reader. It needs a Reset before its first Next.
func NewReader(opt Options) *Reader {
	opt = opt.withDefaults()
	r := &Reader{
		err: io.EOF, broken: map[ID]string{},
		reasonLarge: opt.reasonLarge(), reasonDeep: opt.reasonDeep(), reasonRecord: opt.reasonRecord(),
	}
	r.t.opt, r.t.hash = opt, sha256.New()
	r.t.eventKey, r.t.tenantKey = appendStr(nil, opt.EventIDKey), appendStr(nil, opt.TenantKey)
	r.w.size = windowSize
	r.w.limit = opt.MaxAlert + maxPiece + readAhead
	return r
}

// SetTenant sets the tenant that Options.TenantKey adds, and Encode gets, from now on; of an empty one nothing is
// added.
func (r *Reader) SetTenant(id string) {
	r.t.tenantID = id[:min(len(id), maxTenant)]
	r.t.tenant = r.t.tenant[:0]
	if id != "" && len(r.t.tenantKey) > 0 {
		r.t.tenant = appendStr(append(r.t.tenant, r.t.tenantKey...), id[:min(len(id), maxTenant)])
	}
}

// appendStr appends a MessagePack string; of an empty text nothing.
func appendStr(dst []byte, text string) []byte {
	if text == "" {
		return dst
	}
	var head [5]byte
	dst = append(dst, head[:putStrHeader(head[:], 0, len(text))]...)
	return append(dst, text...)
}

// Reset begins with another answer; the Reader never closes body. now is asked for the time of rows that have none of
// their own.
func (r *Reader) Reset(body io.Reader, now func() time.Time) {
	r.w.reset(body)
	r.t.shrink()
	r.now = now
	r.state, r.single, r.object, r.resynced = atStart, false, false, false
	r.link, r.next, r.err = false, "", nil
}

// Offset returns how many bytes of the body are taken: up to the end of the row that Next returned last.
func (r *Reader) Offset() int64 { return r.w.offset() }

// NextLink returns the string that stood as "@odata.nextLink" beside the list, "" if none did. It is known for sure
// after io.EOF. One of more than 16 KiB comes cut: it leads nowhere, but tells that there is more.
func (r *Reader) NextLink() string { return r.next }

// Next appends the record of the next row to dst, and may use the rest of dst's capacity as a scratch pad. io.EOF:
// the answer was read to its end and was well-formed (or resynced). The other errors are *SyntaxError,
// *NotAlertsError, *TruncatedError, or a wrapped error of the body's Read; they come after all whole rows that stood
// before, and every later Next returns them again. With an error dst comes back as long as it was.
func (r *Reader) Next(dst []byte) ([]byte, Row, error) {
	for r.err == nil {
		var row Row
		ok := false
		switch r.state {
		case atStart:
			r.begin()
		case atObject:
			dst, row, ok = r.decide(dst)
		case atFirst:
			if c, some := r.peek(); some && c == ']' {
				r.endList()
			} else {
				r.state = atRow
			}
		case atRow:
			dst, row, ok = r.row(dst)
		case atNext:
			r.separator()
		case atTail:
			r.tail()
		case atEnd:
			r.end()
		case atInvalid:
			dst, row, ok = r.resync(dst)
		}
		if ok {
			return dst, row, nil
		}
	}
	return dst, Row{}, r.err
}

// peek returns the next byte that is no white space. Without one it sets err.
func (r *Reader) peek() (byte, bool) {
	c, ok := r.w.peek()
	if !ok {
		r.err = r.w.cut()
	}
	return c, ok
}

// more reads more of the body. When nothing comes it sets err.
func (r *Reader) more() bool {
	if !r.w.more() {
		r.err = r.w.cut()
		return false
	}
	return true
}

// separator takes what stands behind a row.
func (r *Reader) separator() {
	switch c, ok := r.peek(); {
	case !ok:
	case c == ',':
		r.w.pos++
		r.state = atRow
	case c == ']':
		r.endList()
	default:
		r.broke(0, quoteByte(c)+" where a comma must stand between rows")
	}
}

// took takes a row of n bytes.
func (r *Reader) took(n int) bool {
	r.w.pos += n
	r.state = atNext
	if r.single {
		r.state = atEnd
	}
	return true
}

// endList takes the ']' at hand.
func (r *Reader) endList() {
	r.w.pos++
	r.state = atEnd
	if r.object {
		r.state = atTail
	}
}

const (
	windowSize = 256 << 10
	maxEmpty   = 100 // reads in a row that bring nothing and no error
)

// window is the piece of the body that is at hand: buf[pos:end], then a 0 and room for pad bytes in all. It starts
// small, grows to a limit when a row asks for it, and is as small as before at the next body.
type window struct {
	body  io.Reader
	size  int // bytes of a new buffer
	limit int // most bytes at hand
	buf   []byte
	pos   int   // everything before is taken
	end   int   // nothing is read from here on
	start int64 // where buf[0] stands in the body
	err   error // how the body ended; io.EOF: well
}

func (w *window) reset(body io.Reader) {
	if len(w.buf) != w.size+pad {
		w.buf = make([]byte, w.size+pad)
	}
	w.body, w.pos, w.end, w.start, w.err = body, 0, 0, 0, nil
	w.buf[0] = 0
}

// unread returns what is at hand.
func (w *window) unread() []byte { return w.buf[w.pos:w.end] }

// src returns the buffer up to the pad bytes behind its end: what a transcoder works on.
func (w *window) src() []byte { return w.buf[:w.end+pad] }

// offset returns how many bytes of the body are taken.
func (w *window) offset() int64 { return w.start + int64(w.pos) }

// more reads more of the body behind what is at hand, which stays, but may move. It tells whether anything came; if
// not, err says why. The caller bounds what it leaves untaken.
func (w *window) more() bool {
	if w.err != nil {
		return false
	}
	if (w.pos == w.end || w.end+pad == len(w.buf)) && !w.makeRoom() {
		w.err = errWindow
		return false
	}
	for range maxEmpty {
		n, err := w.body.Read(w.buf[w.end : len(w.buf)-pad])
		if n < 0 || n > len(w.buf)-pad-w.end {
			n, err = 0, errors.New("the body's reader returned an impossible count")
		}
		w.end += n
		w.buf[w.end] = 0
		w.err = err
		if n > 0 {
			return true
		}
		if err != nil {
			return false
		}
	}
	w.err = io.ErrNoProgress
	return false
}

// errWindow cannot happen: what waits for more bytes never waits for more than the limit.
var errWindow = errors.New("a row outgrew the reader's window")

// makeRoom moves what is at hand to the front, or doubles the buffer when it stands there already. It cannot beyond
// the limit.
func (w *window) makeRoom() bool {
	buf := w.buf
	if w.pos == 0 && w.end > 0 {
		size := min(2*(len(w.buf)-pad), w.limit)
		if size <= w.end {
			return false
		}
		buf = make([]byte, size+pad)
	}
	copy(buf, w.unread())
	w.buf = buf
	w.start += int64(w.pos)
	w.end -= w.pos
	w.pos = 0
	w.buf[w.end] = 0
	return true
}

// peek skips white space and returns the byte behind it; false if there is none.
func (w *window) peek() (byte, bool) {
	for {
		w.pos = skipSpace(w.buf, w.pos)
		if w.pos < w.end {
			return w.buf[w.pos], true
		}
		if !w.more() {
			return 0, false
		}
	}
}

// cut returns the error for a body that ended too early.
func (w *window) cut() error {
	if w.err == io.EOF {
		return &TruncatedError{Offset: w.start + int64(w.end)}
	}
	return w.err
}
