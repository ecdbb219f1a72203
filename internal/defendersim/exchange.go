package defendersim

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"syscall"
	"time"
)

// exchange is one request on its way through the service.
type exchange struct {
	s     *Service
	w     http.ResponseWriter
	r     *http.Request
	req   Request
	modes Modes
	fault *Fault
	entry Entry
	rnd   *rand.Rand
}

// early does what a fault does before or instead of an answer. It says whether the endpoint is still to answer.
func (x *exchange) early() bool {
	f := x.fault
	if f == nil {
		return true
	}
	if f.Delay > 0 && !x.wait(f.Delay) {
		x.breakOff(errBroken)
	}
	switch {
	case f.Hang:
		<-x.r.Context().Done()
		x.breakOff(errBroken)
	case f.Refuse:
		x.breakOff(&net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED})
	case f.NoName:
		unknown := &net.DNSError{Err: "no such host", Name: x.req.Host, IsNotFound: true}
		x.breakOff(&net.OpError{Op: "dial", Net: "tcp", Err: unknown})
	case f.Reset:
		x.breakOff(errReset)
	case f.EndlessHeader:
		x.endlessHeader()
	case f.AADSTS != 0 && x.req.Kind == KindToken:
		x.entraError(f.AADSTS, f.Status)
	case f.Status != 0 && x.req.Kind == KindToken:
		x.entraError(entraForStatus(f.Status), f.Status)
	case f.Status != 0 && x.req.Kind == KindGraph:
		x.graphStatus(f.Status)
	case f.Status != 0 && x.req.Kind == KindIdentity:
		x.identityError(f.Status, "unknown", "the metadata service answers with "+http.StatusText(f.Status))
	case f.Status != 0:
		x.status(f.Status)
	case f.Page != nil || f.big != 0:
		x.page()
	default:
		return true
	}
	return false
}

// page answers with the fault's own body.
func (x *exchange) page() {
	f := x.fault
	ct := f.ContentType
	if ct == "" {
		ct = "application/json; charset=utf-8"
	}
	out := x.open(http.StatusOK, ct, -1)
	var err error
	if f.big != 0 {
		err = writeBig(out, f.big, x.req.Query)
	} else {
		err = f.Page(out)
	}
	switch err {
	case nil:
		out.finish()
	case errEnded:
	default: // the page gave up: so does the connection
		out.Flush()
		x.breakOff(errBroken)
	}
}

// header sends the header. Every answer passes here, so that Date is the service's and not the HTTP library's.
func (x *exchange) header(status int) {
	h := x.w.Header()
	m := x.modes
	if m.NoDate {
		h["Date"] = nil // net/http leaves it out when it is there without a value
	} else {
		date := x.s.Now().Add(m.DateOffset)
		if m.DateSkewShare > 0 && x.rand().Float64() < m.DateSkewShare {
			date = date.Add(m.DateSkew)
		}
		h.Set("Date", date.UTC().Format(http.TimeFormat))
	}
	if f := x.fault; f != nil {
		if f.RetryAfter != nil {
			h.Set("Retry-After", f.RetryAfter(x.s.Now()))
		}
		for k, v := range f.Header {
			h[http.CanonicalHeaderKey(k)] = v
		}
	}
	x.entry.Status = status
	x.w.WriteHeader(status)
}

// status answers with an error of the SIEM API.
func (x *exchange) status(code int) {
	text := "An error has occurred."
	switch code {
	case http.StatusUnauthorized:
		x.challenge("invalid_token", "The access token is not valid")
		text = "Authorization has been denied for this request."
	case http.StatusForbidden:
		text = "Unauthorized exception: a domain is not managed by the tenant administrator, " +
			"or the tenant state is deleted."
	case http.StatusTooManyRequests:
		text = "Too many requests."
	case http.StatusFound, http.StatusMovedPermanently, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		if x.w.Header().Get("Location") == "" {
			x.w.Header().Set("Location", "https://elsewhere.example/api/alerts")
		}
	}
	x.message(code, text)
}

// message answers with a status and the error body of an ASP.NET service.
func (x *exchange) message(code int, text string) {
	x.json(code, struct{ Message string }{text})
}

func (x *exchange) json(code int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("defendersim: %v", err))
	}
	out := x.open(code, "application/json; charset=utf-8", int64(len(body)))
	if _, err := out.Write(body); err == nil {
		out.finish()
	}
}

// wait lets d pass; false: the client is gone.
func (x *exchange) wait(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-x.r.Context().Done():
		return false
	}
}

// breakOff ends the exchange, and the connection with it, without another byte. It does not return.
func (x *exchange) breakOff(why error) {
	if b, ok := x.w.(interface{ fail(error) }); ok { // the in-memory wire
		b.fail(why)
		panic(http.ErrAbortHandler)
	}
	if why == errBroken && x.entry.Status != 0 {
		panic(http.ErrAbortHandler) // net/http closes without the answer's end
	}
	conn, _, err := http.NewResponseController(x.w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	raw := conn
	if t, ok := conn.(interface{ NetConn() net.Conn }); ok {
		raw = t.NetConn()
	}
	if tcp, ok := raw.(*net.TCPConn); ok && why != errBroken {
		tcp.SetLinger(0) // close sends a reset
	}
	raw.Close()
	panic(http.ErrAbortHandler)
}

// endlessHeader sends header lines until the client has had enough. The in-memory wire has no header lines: it gives
// the error that net/http's client gives at its default limit.
func (x *exchange) endlessHeader() {
	if b, ok := x.w.(interface{ fail(error) }); ok {
		b.fail(fmt.Errorf("net/http: server response headers exceeded %d bytes; aborted", 10<<20))
		panic(http.ErrAbortHandler)
	}
	conn, buf, err := http.NewResponseController(x.w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	defer conn.Close()
	defer context.AfterFunc(x.r.Context(), func() { conn.Close() })()
	buf.WriteString("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n")
	for i := 0; err == nil; i++ {
		_, err = buf.WriteString("X-Padding-" + strconv.Itoa(i) + ": 0123456789012345678901234567890123456789\r\n")
	}
	panic(http.ErrAbortHandler)
}
