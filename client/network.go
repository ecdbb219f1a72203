package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"fluent-bit-defender/conf"
)

// network sends requests for one Client, and keeps what is between it and the wire: time, secrets that no text may
// show, and its end.
type network struct {
	rt      http.RoundTripper
	traced  bool // rt reports when its connection stands
	connect time.Duration
	read    time.Duration
	clock   clock
	log     *slog.Logger
	mask    *mask // a pointer: fmt of a Client must not reach the secrets
	rests   *rests

	base   context.Context // ends with close, and every request with it
	stop   context.CancelFunc
	hangUp func() // ends the use of the transport
}

// open makes n ready to send as cfg says, by rt if that is set.
func (n *network) open(cfg *conf.Config) error {
	n.connect, n.read = cfg.ConnectTimeout, cfg.ReadTimeout
	n.mask, n.rests, n.hangUp = new(mask), &rests{}, func() {}
	if n.rt == nil {
		t, err := openTransport(cfg)
		if err != nil {
			return err
		}
		n.rt, n.traced, n.rests, n.hangUp = t.http, true, &t.rest, sync.OnceFunc(t.close)
	} else if idle, ok := n.rt.(interface{ CloseIdleConnections() }); ok {
		n.hangUp = idle.CloseIdleConnections
	}
	n.base, n.stop = context.WithCancel(context.Background())
	return nil
}

func (n *network) close() {
	n.stop()
	n.hangUp()
}

// target is whom a request goes to, in the words an error needs.
type target struct {
	name   string // what the request is
	keys   string // the keys of the stanza that hold its address
	slow   string // what helps against slow answers
	direct string // never through a proxy: what helps where it is not reached; empty: proxies as configured
}

var (
	grants     = target{"token request", "authority, token_url and cloud", "raise read_timeout", ""}
	identities = target{"token request", "managed_identity_endpoint", "raise read_timeout",
		"check that this machine has a managed identity, that nothing keeps Fluent Bit from the metadata service, and managed_identity_endpoint"}
)

// exchange sends req and returns its answer's head, its body under guard, and the
// local instant at which the head came. Errors are *Error, or wrap ctx's error, or
// ErrClosed. shown is req's address as it may be logged.
func (n *network) exchange(ctx context.Context, to target, req *http.Request, shown string) (*http.Response, *body, time.Time, error) {
	if n.base.Err() != nil {
		return nil, nil, time.Time{}, fmt.Errorf("%s: %w", to.name, ErrClosed)
	}
	req.Header.Set("User-Agent", "fluent-bit-defender/"+Version)

	if to.direct != "" {
		ctx = context.WithValue(ctx, directKey{}, true)
	}
	rctx, cancel := context.WithCancelCause(context.WithValue(ctx, maskKey{}, n.mask))
	release := context.AfterFunc(n.base, func() { cancel(ErrClosed) })
	var connected atomic.Bool
	limit := n.read
	if n.traced {
		limit += n.connect
		rctx = httptrace.WithClientTrace(rctx, &httptrace.ClientTrace{
			GotConn: func(httptrace.GotConnInfo) { connected.Store(true) },
		})
	} else {
		connected.Store(true)
	}
	// The transport's own timeouts come first; this one also bounds what they leave
	// out, such as a proxy that never answers CONNECT.
	watchdog := time.AfterFunc(limit, func() { cancel(errNoAnswer) })
	start := time.Now()
	resp, err := n.rt.RoundTrip(req.WithContext(rctx))
	came := time.Now()
	watchdog.Stop()
	if err != nil {
		cause := context.Cause(rctx)
		release()
		cancel(nil)
		switch {
		case ctx.Err() != nil:
			err = fmt.Errorf("%s: %w", to.name, ctx.Err())
		case n.base.Err() != nil:
			err = fmt.Errorf("%s: %w", to.name, ErrClosed)
		case errors.Is(cause, errNoAnswer):
			err = n.networkError(to, req.URL, errNoAnswer, connected.Load())
		default:
			err = n.networkError(to, req.URL, err, connected.Load())
		}
		n.trace(ctx, req.Method, shown, 0, came.Sub(start), err)
		return nil, nil, time.Time{}, err
	}
	n.trace(ctx, req.Method, shown, resp.StatusCode, came.Sub(start), nil)
	b := n.guard(to, ctx, rctx, cancel, resp)
	b.release = release
	return resp, b, came, nil
}

// trace writes the debug line of one request.
func (n *network) trace(ctx context.Context, method, shown string, status int, took time.Duration, err error) {
	if !n.log.Enabled(ctx, slog.LevelDebug) {
		return
	}
	attrs := []slog.Attr{
		slog.String("method", method),
		slog.String("url", shown),
		slog.Int("status", status),
		slog.Duration("took", took.Round(time.Millisecond)),
	}
	if err != nil {
		attrs = append(attrs, slog.String("error", err.Error()))
	}
	n.log.LogAttrs(ctx, slog.LevelDebug, "request", attrs...)
}

// errNoAnswer ends a request whose head does not come.
var errNoAnswer = errors.New("no answer in time")

// tunnel turns a proxy's refusal to CONNECT into an Error; the transport itself
// would keep its status text only.
func tunnel(_ context.Context, _ *url.URL, req *http.Request, resp *http.Response) error {
	if resp.StatusCode == http.StatusOK {
		return nil
	}
	e := &Error{Kind: KindConfig, Status: resp.StatusCode, remedy: "check proxy_url and the proxy's rules"}
	switch {
	case resp.StatusCode == http.StatusProxyAuthRequired:
		e.what = "the proxy wants a user name and password (407)"
		e.remedy = "put them into the address in the variable HTTPS_PROXY, and leave proxy_url out"
	case resp.StatusCode >= 500:
		e.Kind = KindNetwork
		e.what = fmt.Sprintf("the proxy cannot reach %s (%d)", clean(req.Host, 100), resp.StatusCode)
	default:
		e.what = fmt.Sprintf("the proxy refuses a connection to %s (%d)", clean(req.Host, 100), resp.StatusCode)
	}
	return e
}

// networkError is the error of a request without an answer. connected says whether
// its connection stood.
func (n *network) networkError(to target, u *url.URL, err error, connected bool) *Error {
	var own *Error
	if errors.As(err, &own) {
		own.op = to.name
		return own
	}
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	host := clean(u.Host, 100)
	e := &Error{Kind: KindNetwork, op: to.name, err: err}
	var (
		dns      *net.DNSError
		op       *net.OpError
		timeout  net.Error
		unknown  x509.UnknownAuthorityError
		name     x509.HostnameError
		invalid  x509.CertificateInvalidError
		verify   *tls.CertificateVerificationError
		plain    tls.RecordHeaderError
		protocol textproto.ProtocolError
		viaProxy = errors.As(err, &op) && (op.Op == "proxyconnect" || op.Op == "socks connect")
	)
	if viaProxy {
		host = "the proxy"
	}
	switch {
	case errors.Is(err, errProxyVariable):
		e.Kind, e.what, e.remedy = KindConfig, errProxyVariable.Error(), "mend it, or set proxy_url"
	case errors.As(err, &dns) && !dns.IsTimeout:
		e.gone = dns.IsNotFound && !viaProxy
		e.what = fmt.Sprintf("cannot find the address of %s", clean(dns.Name, 100))
		e.remedy = "check " + to.keys + " and this machine's DNS; where only a proxy reaches the internet, set proxy_url"
		if viaProxy {
			e.remedy = "check proxy_url and this machine's DNS"
		}
	case errors.As(err, &unknown):
		e.Kind = KindConfig
		e.what = fmt.Sprintf("the certificate of %s is signed by an authority this machine does not know", host)
		e.remedy = "if a proxy opens TLS here, name its certificate in ca_file; else check " + to.keys
	case errors.As(err, &name):
		e.Kind = KindConfig
		e.what = fmt.Sprintf("the certificate of %s is for another name", host)
		e.remedy = "check " + to.keys + ", and for a proxy or DNS that leads elsewhere"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		e.Kind = KindConfig
		e.what = fmt.Sprintf("the certificate of %s is expired or not valid yet", host)
		e.remedy = "check this machine's clock; if it is right, whoever runs that host must renew it"
	case errors.As(err, &verify):
		e.Kind = KindConfig
		e.what = fmt.Sprintf("the certificate of %s is not valid: %s", host, n.mask.text(verify.Err.Error(), 150))
		e.remedy = "check ca_file, and for a proxy that opens TLS"
	case errors.As(err, &plain):
		e.Kind = KindConfig
		e.what = fmt.Sprintf("%s does not speak TLS", host)
		e.remedy = "check " + to.keys + " and the scheme of proxy_url"
	case !connected && strings.Contains(err.Error(), "tls: "): // the alert's own type is not exported
		_, why, _ := strings.Cut(err.Error(), "tls: ")
		e.Kind = KindConfig
		e.what = fmt.Sprintf("the TLS handshake with %s failed: %s", host, clean(why, 100))
		e.remedy = "it must speak TLS 1.2 or newer; check " + to.keys + ", and for a proxy that opens TLS"
	case errors.Is(err, errNoAnswer), errors.As(err, &timeout) && timeout.Timeout():
		if connected {
			e.what = fmt.Sprintf("no answer from %s within %v (read_timeout)", host, n.read)
			e.remedy = "if it lasts, " + to.slow
			break
		}
		e.what = fmt.Sprintf("no connection to %s within %v (connect_timeout)", host, n.connect)
		e.remedy = "check the firewall and " + to.keys + "; where only a proxy reaches the internet, set proxy_url"
		if viaProxy {
			e.remedy = "check proxy_url and the firewall"
		}
	case errors.Is(err, syscall.ECONNREFUSED):
		e.gone = !viaProxy
		e.what = fmt.Sprintf("%s refused the connection", host)
		e.remedy = "check " + to.keys + " and the firewall; where only a proxy reaches the internet, set proxy_url"
		if viaProxy {
			e.remedy = "check proxy_url"
		}
	case strings.Contains(err.Error(), "server response headers exceeded"):
		e.Kind = KindService
		e.what = fmt.Sprintf("the head of the answer from %s is larger than %d KiB", host, maxHeaderBytes>>10)
		e.remedy = "check " + to.keys + " and proxy_url"
	case errors.As(err, &protocol), strings.Contains(err.Error(), "malformed HTTP"):
		e.what = fmt.Sprintf("the answer from %s is not HTTP", host)
		e.remedy = "check " + to.keys + " and proxy_url"
		e.err = nil // its text quotes the answer
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		e.what = fmt.Sprintf("%s closed the connection before it answered", host)
		e.remedy = "if it lasts, look for a firewall or proxy that cuts connections"
	default:
		e.err = nil // may quote anything
		e.what = fmt.Sprintf("no answer from %s: %s", host, n.mask.text(err.Error(), 200))
		e.remedy = "if it lasts, check the network, " + to.keys + " and proxy_url"
	}
	if to.direct != "" && e.Kind == KindNetwork {
		e.remedy = to.direct
	}
	return e
}
