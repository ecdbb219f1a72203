package transport

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/textproto"
	"strings"
	"sync"
	"time"

	"github.com/klauspost/compress/gzip"
)

// trickle is the least that must come in each read_timeout's worth of waiting.
const trickle = 1 << 10

// Why the guard ended a request whose head had come.
var (
	errStalled = errors.New("stalled")
	errEndless = errors.New("not whole in time")
	errDry     = errors.New("one empty member after the other")
)

// Body is an answer's body as it came over the wire. A Read that waits for
// read_timeout without a byte fails, and so do Reads that together waited as long
// for less than trickle. Time in which nobody reads does not count: a held
// download is no fault of the service. Read is for one goroutine, Close for any.
type Body struct {
	to      Target // what was asked, for errors
	raw     io.ReadCloser
	caller  context.Context // the one given to Exchange
	client  context.Context // ends with Network.Close
	request context.Context // ends raw, and with either of the others
	cancel  context.CancelCauseFunc
	release func() bool // undoes the link between the client's end and request
	detach  func() bool // undoes the link between request's end and raw
	limit   time.Duration
	timer   *time.Timer
	total   *time.Timer // of the whole body; nil: none

	waited time.Duration // in Reads since the last trickle bytes
	got    int           // bytes since then
	read   int64
	want   int64 // Content-Length; -1: unknown
	err    error // sticky
}

// guard puts the body of resp under the rules above. request must be the context
// that resp was asked with, a child of caller; Close cancels it.
func (n *Network) guard(
	to Target, caller, request context.Context, cancel context.CancelCauseFunc, resp *http.Response,
) *Body {
	b := &Body{
		to: to, raw: resp.Body, caller: caller, client: n.base, request: request, cancel: cancel,
		limit: n.ReadTimeout, want: resp.ContentLength,
	}
	b.timer = time.AfterFunc(b.limit, func() { cancel(errStalled) })
	b.timer.Stop()
	// Closing wakes a Read that does not know of the context.
	b.detach = context.AfterFunc(request, func() { b.raw.Close() })
	return b
}

// Within bounds each wait and the whole rest of the body, whatever its pace.
func (b *Body) Within(d time.Duration) {
	b.limit = min(b.limit, d)
	b.total = time.AfterFunc(b.limit, func() { b.cancel(errEndless) })
}

func (b *Body) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	if len(p) == 0 {
		return 0, nil
	}
	if err := b.request.Err(); err != nil { // not every transport tells
		b.err = b.failure(err)
		return 0, b.err
	}
	start := time.Now()
	b.timer.Reset(b.limit - b.waited)
	n, err := b.raw.Read(p)
	b.timer.Stop()
	b.read += int64(n)
	b.got += n
	if b.got >= trickle {
		b.got, b.waited = 0, 0
	} else {
		b.waited += time.Since(start)
	}
	if err != nil {
		b.err = b.failure(err)
	}
	return n, b.err
}

// failure says why a read ended.
func (b *Body) failure(err error) error {
	cause := context.Cause(b.request)
	var protocol textproto.ProtocolError
	switch {
	case err == io.EOF && b.want >= 0 && b.read < b.want:
		return b.broken(fmt.Sprintf("answer cut after %d of %d bytes: %v", b.read, b.want, io.ErrUnexpectedEOF),
			cutRemedy, io.ErrUnexpectedEOF)
	case err == io.EOF:
		return io.EOF
	case b.caller.Err() != nil:
		return fmt.Errorf("%s: reading the answer: %w", b.to.Name, b.caller.Err())
	case b.client.Err() != nil:
		return fmt.Errorf("%s: reading the answer: %w", b.to.Name, ErrClosed)
	case cause == errStalled && b.got == 0:
		return b.broken(fmt.Sprintf("answer silent for %v (read_timeout) after %d bytes", b.limit, b.read),
			"if it lasts, "+b.to.Slow, nil)
	case cause == errStalled:
		return b.broken(fmt.Sprintf("answer trickles: %d bytes in %v (read_timeout) of waiting, after %d bytes", b.got,
			b.limit, b.read),
			"if it lasts, "+b.to.Slow, nil)
	case cause == errEndless:
		return b.broken(fmt.Sprintf("answer not whole in time (read_timeout), after %d bytes", b.read),
			"if it lasts, "+b.to.Slow, nil)
	case errors.As(err, &protocol): // quotes the answer: not wrapped
		return b.broken(fmt.Sprintf("answer ends in a malformed trailer after %d bytes", b.read), recodeRemedy, nil)
	}
	return b.broken(fmt.Sprintf("answer cut after %d bytes: %s", b.read, Clean(err.Error(), 150)), cutRemedy, err)
}

const (
	cutRemedy    = "if it lasts, look for a proxy that cuts long answers, and lower max_window"
	recodeRemedy = "if it lasts, look for a proxy that re-encodes answers"
)

// BrokenAnswer is an answer whose head came and whose body did not, or not whole.
type BrokenAnswer struct {
	What       string
	op, remedy string
	err        error
}

func (e *BrokenAnswer) Error() string { return e.op + ": " + e.What + "; " + e.remedy }

func (e *BrokenAnswer) Unwrap() error { return e.err }

func (b *Body) broken(what, remedy string, err error) error {
	return &BrokenAnswer{what, b.to.Name, remedy, err}
}

// Close lets go of the answer. It never drains: a body read to its end gives its
// connection back, any other closes it.
func (b *Body) Close() error {
	b.timer.Stop()
	if b.total != nil {
		b.total.Stop()
	}
	b.detach()
	b.release()
	b.cancel(nil)
	return b.raw.Close()
}

// Decoded returns b without its Content-Encoding. We ask for gzip only; anything
// else is an error that names it, and so may hold what an answer echoes.
func Decoded(h http.Header, b *Body) (io.ReadCloser, error) {
	encoding := strings.TrimSpace(strings.Join(h.Values("Content-Encoding"), ", "))
	switch strings.ToLower(encoding) {
	case "", "identity":
		return b, nil
	case "gzip", "x-gzip":
		return &gunzip{Body: b}, nil
	}
	return nil, fmt.Errorf("the answer is encoded as %q, which was not asked for", Clean(encoding, 40))
}

// gunzip reads a gzip body as a stream: its memory is one window, whatever the
// ratio. Members are opened here, one by one, because the library takes a header
// that is cut inside its file name for the end of the stream.
type gunzip struct {
	*Body
	*inflater      // nil before the first Read and after the last
	in        bool // inside a member
	out       int64
	bad       error // sticky
	dry       int   // members in a row that held nothing
}

// inflater is what decompressing takes: some 80 kB, which answers use one after the other.
type inflater struct {
	src *bufio.Reader
	z   *gzip.Reader
}

var inflaters = sync.Pool{New: func() any {
	return &inflater{src: bufio.NewReaderSize(nil, 32<<10), z: new(gzip.Reader)}
}}

// mostDry bounds the empty members that may follow each other: without end, they would keep a reader busy for ever.
const mostDry = 2_000_000

func (g *gunzip) Read(p []byte) (int, error) {
	if g.bad != nil {
		return 0, g.bad
	}
	if len(p) == 0 {
		return 0, nil
	}
	if g.inflater == nil {
		g.inflater = inflaters.Get().(*inflater)
		g.src.Reset(g.Body)
	}
	n, err := g.read(p)
	if err != nil {
		g.bad = g.failure(err)
		// Not in Close, which may come while another goroutine reads.
		g.src.Reset(nil)
		inflaters.Put(g.inflater)
		g.inflater = nil
	}
	return n, g.bad
}

func (g *gunzip) read(p []byte) (int, error) {
	for {
		if !g.in {
			if err := g.open(); err != nil {
				return 0, err
			}
		}
		n, err := g.z.Read(p)
		g.out += int64(n)
		if n > 0 {
			g.dry = 0
		}
		if err == io.EOF {
			g.in, err = false, nil
			if g.dry++; g.dry > mostDry {
				err = errDry
			}
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

// open starts the next member; io.EOF means that there is none.
func (g *gunzip) open() error {
	if _, err := g.src.Peek(1); err != nil {
		return err
	}
	if err := g.z.Reset(g.src); err == io.EOF {
		return io.ErrUnexpectedEOF
	} else if err != nil {
		return err
	}
	g.z.Multistream(false)
	g.in = true
	return nil
}

// failure keeps the wire's own errors and names the others.
func (g *gunzip) failure(err error) error {
	if err == io.EOF || (g.Body.err != nil && g.Body.err != io.EOF) {
		return err
	}
	return g.broken(fmt.Sprintf("bad gzip after %d decompressed bytes: %s", g.out, Clean(err.Error(), 150)),
		recodeRemedy, err)
}
