package defendersim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"sync"
	"time"
)

// wireBuffer is how much of an answer may be under way: about what a connection's buffers hold.
const wireBuffer = 64 << 10

var errBodyClosed = errors.New("http: read on closed response body")

// Transport is the in-memory wire to the service: no sockets, one goroutine for each request while its handler runs.
// An answer streams with back-pressure, and what waits does so in ways that testing/synctest knows as durably
// blocked. A request's context ends both sides; so does closing the body. Like net/http's transport it turns a broken
// connection, or less body than declared, into io.ErrUnexpectedEOF. Unlike it, it never asks for gzip by itself, nor
// decompresses: what it hands over is what the request's headers asked for.
func (s *Service) Transport() http.RoundTripper { return wire{s} }

type wire struct{ handler http.Handler }

// RoundTrip does one request.
func (t wire) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx := req.Context()
	closeBody := func() {
		if req.Body != nil {
			req.Body.Close()
		}
	}
	if ctx.Err() != nil {
		closeBody()
		return nil, context.Cause(ctx)
	}
	// Not a child of ctx: the reader's side learns of its end first, or a handler that gives up could answer for it.
	serverCtx, cancel := context.WithCancel(context.Background())
	host := req.Host
	if host == "" {
		host = req.URL.Host
	}
	in := (&http.Request{
		Method: req.Method, URL: req.URL, Host: host, Header: req.Header.Clone(),
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Body: req.Body, ContentLength: req.ContentLength,
		RequestURI: req.URL.RequestURI(), RemoteAddr: "192.0.2.1:1234",
	}).WithContext(serverCtx)
	if in.Header == nil {
		in.Header = make(http.Header)
	}
	if in.Body == nil {
		in.Body = http.NoBody
	}

	p := &pipe{length: -1}
	p.cond.L = &p.mu
	stop := context.AfterFunc(ctx, func() { p.closeReader(context.Cause(ctx)); cancel() })
	go func() {
		growStack()
		defer cancel()
		defer closeBody()
		w := &wireWriter{p: p, header: make(http.Header)}
		defer func() {
			switch v := recover(); v {
			case nil:
				w.WriteHeader(http.StatusOK) // if the handler wrote nothing
				p.closeWriter(io.EOF)
			case http.ErrAbortHandler:
				p.closeWriter(errBroken)
			default:
				panic(v) // a fault of this package, not one of the simulation
			}
		}()
		t.handler.ServeHTTP(w, in)
	}()

	header, status, err := p.answer()
	if err != nil {
		stop()
		cancel()
		return nil, err
	}
	res := &http.Response{
		Status: fmt.Sprintf("%d %s", status, http.StatusText(status)), StatusCode: status,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: header, ContentLength: p.length, Request: req,
		Body: &wireBody{p: p, done: func() { stop(); cancel() }},
	}
	if p.length < 0 {
		res.TransferEncoding = []string{"chunked"}
	}
	return res, nil
}

// growStack has the runtime grow a new goroutine's stack once, while nothing is on it, and not again and again under a
// handler: histories make a goroutine for each of their many requests.
//
//go:noinline
func growStack() {
	var frame [12 << 10]byte
	runtime.KeepAlive(&frame)
}

// pipe carries one answer. Everything is under mu; cond tells either side of a change.
type pipe struct {
	mu       sync.Mutex
	cond     sync.Cond
	header   http.Header // set once the header is there
	status   int
	length   int64 // declared; -1: not
	buf      []byte
	from     int       // buf[from:] is unread
	readErr  error     // the reader is gone
	writeErr error     // the writer is done: io.EOF in good order
	deadline time.Time // for writes that wait
	read     int64
}

// answer waits for the header.
func (p *pipe) answer() (http.Header, int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		switch {
		case p.readErr != nil:
			return nil, 0, p.readErr
		case p.header != nil:
			return p.header, p.status, nil
		case p.writeErr != nil:
			return nil, 0, p.writeErr
		}
		p.cond.Wait()
	}
}

func (p *pipe) closeReader(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.readErr == nil {
		p.readErr = err
		p.buf, p.from = nil, 0
	}
	p.cond.Broadcast()
}

func (p *pipe) closeWriter(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.writeErr == nil {
		p.writeErr = err
	}
	p.cond.Broadcast()
}

func (p *pipe) write(b []byte) (n int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(b) > 0 {
		if p.readErr != nil {
			return n, p.readErr
		}
		room := wireBuffer - (len(p.buf) - p.from)
		if room == 0 {
			if err := p.waitForRoom(); err != nil {
				return n, err
			}
			continue
		}
		if p.from > 0 && len(p.buf)+len(b) > cap(p.buf) {
			p.buf = p.buf[:copy(p.buf, p.buf[p.from:])]
			p.from = 0
		}
		k := min(room, len(b))
		p.buf = append(p.buf, b[:k]...)
		b, n = b[k:], n+k
		p.cond.Broadcast()
	}
	return n, nil
}

var errStalled = errors.New("the client takes nothing")

func (p *pipe) waitForRoom() error {
	if !p.deadline.IsZero() {
		left := time.Until(p.deadline)
		if left <= 0 {
			return errStalled
		}
		defer time.AfterFunc(left, p.wake).Stop()
	}
	p.cond.Wait()
	return nil
}

// wake takes the lock, so that it cannot fall between a check and its wait.
func (p *pipe) wake() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cond.Broadcast()
}

// wireWriter is the handler's side.
type wireWriter struct {
	p      *pipe
	header http.Header
	wrote  bool
}

func (w *wireWriter) Header() http.Header { return w.header }

func (w *wireWriter) WriteHeader(status int) {
	if w.wrote {
		return
	}
	w.wrote = true
	w.p.mu.Lock()
	defer w.p.mu.Unlock()
	w.p.header, w.p.status = w.header.Clone(), status
	for k, v := range w.p.header {
		if len(v) == 0 {
			delete(w.p.header, k) // as net/http: a header without a value is not sent
		}
	}
	if v := w.header.Get("Content-Length"); v != "" {
		if _, err := fmt.Sscan(v, &w.p.length); err != nil {
			panic("defendersim: Content-Length " + v)
		}
	}
	w.p.cond.Broadcast()
}

func (w *wireWriter) Write(b []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.p.write(b)
}

// SetWriteDeadline is found by http.ResponseController.
func (w *wireWriter) SetWriteDeadline(t time.Time) error {
	w.p.mu.Lock()
	defer w.p.mu.Unlock()
	w.p.deadline = t
	return nil
}

// fail ends the answer with the error that the client's side is to see.
func (w *wireWriter) fail(why error) { w.p.closeWriter(why) }

// wireBody is the client's side.
type wireBody struct {
	p    *pipe
	done func()
}

// Read hands over what has come; it waits while nothing has.
func (b *wireBody) Read(dst []byte) (int, error) {
	p := b.p
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		switch {
		case p.readErr != nil:
			return 0, p.readErr
		case p.length >= 0 && p.read == p.length:
			return 0, io.EOF
		case len(dst) == 0:
			return 0, nil
		case p.from < len(p.buf):
			n := copy(dst, p.buf[p.from:])
			if p.length >= 0 && int64(n) > p.length-p.read {
				n = int(p.length - p.read)
			}
			p.read += int64(n)
			if p.from += n; p.from == len(p.buf) {
				p.buf, p.from = p.buf[:0], 0
			}
			p.cond.Broadcast()
			return n, nil
		case p.writeErr == io.EOF && p.length >= 0:
			return 0, io.ErrUnexpectedEOF // less than declared
		case p.writeErr != nil:
			return 0, p.writeErr
		}
		p.cond.Wait()
	}
}

// Close gives the rest of the answer up; the handler ends.
func (b *wireBody) Close() error {
	b.p.closeReader(errBodyClosed)
	b.done()
	return nil
}
