package record

import (
	"errors"
	"io"
)

const (
	windowSize = 256 << 10
	maxEmpty   = 100 // reads in a row that bring nothing and no error
)

// window is the piece of the body that is at hand: buf[pos:end], then a 0 and room for pad bytes in all. It starts small, grows to a
// limit when a row asks for it, and is as small as before at the next body.
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

// more reads more of the body behind what is at hand, which stays, but may move. It tells whether anything came; if not, err
// says why. The caller bounds what it leaves untaken.
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

// makeRoom moves what is at hand to the front, or doubles the buffer when it stands there already. It cannot beyond the limit.
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
