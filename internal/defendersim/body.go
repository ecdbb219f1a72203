package defendersim

import (
	"bufio"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/klauspost/compress/gzip"
)

var (
	errBroken = io.ErrUnexpectedEOF
	errReset  = error(syscall.ECONNRESET)
	// errEnded tells the writer of a body that nothing more is wanted: a cut that ends cleanly was reached.
	errEnded = errors.New("the body was cut")
)

var (
	gzipPool   = sync.Pool{New: func() any { z, _ := gzip.NewWriterLevel(io.Discard, gzip.BestSpeed); return z }}
	bufferPool = sync.Pool{New: func() any { return bufio.NewWriterSize(nil, 32<<10) }}
)

// body writes the text of an answer. On the way: garbage and cut (counted in text), gzip, a buffer, the rate. A
// connection that breaks, here or at the client, ends the exchange by a panic of http.ErrAbortHandler, which both
// wires know.
type body struct {
	x    *exchange
	buf  *bufio.Writer
	gz   *gzip.Writer // nil: not compressed
	off  int64        // text written so far
	cut  int64        // -1: none
	how  CutHow
	junk int64 // where garbage goes; -1: nowhere
}

// open sends the header and returns the body's writer. length is the text's length, -1 when it is not known.
func (x *exchange) open(status int, contentType string, length int64) *body {
	b := &body{x: x, cut: -1, junk: -1}
	text := length
	if f := x.fault; f != nil {
		place := func(at int64, of float64) int64 {
			if of > 0 && length >= 0 {
				return int64(of * float64(length))
			}
			return at
		}
		if f.Cut != nil {
			b.cut, b.how = place(f.Cut.At, f.Cut.Of), f.Cut.How
			if b.how == CutText || b.how == CutWire {
				text = min(text, b.cut)
			}
		}
		if f.Garble != nil {
			if b.junk = place(f.Garble.At, f.Garble.Of); b.junk < text {
				text += int64(len(f.Garble.Text))
			}
		}
	}
	h := x.w.Header()
	h.Set("Content-Type", contentType)
	encoded := x.fault != nil && x.fault.Encoded && x.fault.Page != nil && status == http.StatusOK
	accepts := strings.Contains(strings.ToLower(x.r.Header.Get("Accept-Encoding")), "gzip")
	compress := x.modes.Gzip && accepts && !encoded
	switch {
	case encoded || compress:
		h.Set("Content-Encoding", "gzip")
	case x.modes.ContentLength && text >= 0:
		h.Set("Content-Length", strconv.FormatInt(text, 10))
	}
	x.header(status)
	b.buf = bufferPool.Get().(*bufio.Writer)
	b.buf.Reset(wireOut{x})
	if compress {
		b.gz = gzipPool.Get().(*gzip.Writer)
		b.gz.Reset(b.buf)
	}
	return b
}

// Write takes text. It fails with errEnded after a clean cut; on a broken connection it does not return.
func (b *body) Write(p []byte) (int, error) {
	size := len(p)
	if b.junk >= b.off && b.junk < b.off+int64(size) {
		before := p[:b.junk-b.off]
		if err := b.text(before); err != nil {
			return 0, err
		}
		b.junk, p = -1, p[len(before):]
		io.WriteString(b.under(), b.x.fault.Garble.Text) // not counted: places are those of the text as it would be
	}
	if err := b.text(p); err != nil {
		return 0, err
	}
	return size, nil
}

func (b *body) text(p []byte) error {
	if b.cut >= 0 && b.off+int64(len(p)) > b.cut {
		b.put(p[:b.cut-b.off])
		return b.end()
	}
	b.put(p)
	return nil
}

func (b *body) under() io.Writer {
	if b.gz != nil {
		return b.gz
	}
	return b.buf
}

func (b *body) put(p []byte) {
	b.under().Write(p) // errors cannot come: the wire panics
	b.off += int64(len(p))
	b.x.entry.Bytes += int64(len(p))
}

// end is reached at the cut.
func (b *body) end() error {
	if b.how == CutBroken || b.how == CutReset {
		b.Flush()
		why := errBroken
		if b.how == CutReset {
			why = errReset
		}
		b.x.breakOff(why)
	}
	if b.gz != nil {
		if b.how == CutText {
			b.gz.Close()
		} else {
			b.gz.Flush()
		}
	}
	b.release()
	b.x.entry.Whole = true
	return errEnded
}

// finish ends the answer in good order, unless the cut is just here.
func (b *body) finish() {
	if b.cut >= 0 && b.off == b.cut {
		b.end()
		return
	}
	if b.gz != nil {
		b.gz.Close()
	}
	b.release()
	b.x.entry.Whole = true
}

func (b *body) release() {
	b.buf.Flush()
	b.buf.Reset(nil)
	bufferPool.Put(b.buf)
	if b.gz != nil {
		gzipPool.Put(b.gz)
	}
}

// Flush sends what was written so far; pages that trickle use it as an http.Flusher.
func (b *body) Flush() {
	if b.gz != nil {
		b.gz.Flush()
	}
	b.buf.Flush()
	http.NewResponseController(b.x.w).Flush()
}

// wireOut is the way to the wire: it keeps the rate and breaks the exchange off when the client is gone or takes
// nothing.
type wireOut struct{ x *exchange }

func (o wireOut) Write(p []byte) (int, error) {
	x := o.x
	rate := x.modes.Rate
	if x.fault != nil && x.fault.Rate > 0 {
		rate = x.fault.Rate
	}
	if rate <= 0 {
		return len(p), o.send(p)
	}
	step := max(1, rate/10) // ten times a second, or byte by byte
	for rest := p; len(rest) > 0; {
		n := min(step, len(rest))
		o.send(rest[:n])
		http.NewResponseController(x.w).Flush()
		rest = rest[n:]
		if !x.wait(time.Duration(n) * time.Second / time.Duration(rate)) {
			panic(http.ErrAbortHandler)
		}
	}
	return len(p), nil
}

func (o wireOut) send(p []byte) error {
	x := o.x
	if x.modes.StallCut > 0 {
		http.NewResponseController(x.w).SetWriteDeadline(time.Now().Add(x.modes.StallCut))
	}
	if _, err := x.w.Write(p); err != nil {
		panic(http.ErrAbortHandler)
	}
	return nil
}
