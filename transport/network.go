package transport

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

// Network sends requests for one credential, and keeps what is between it and the wire: time, secrets that no text may
// show, and its end.
type Network struct {
	Clock       Clock
	Mask        *Mask // a pointer: fmt of a Network must not reach the secrets
	Log         *slog.Logger
	ReadTimeout time.Duration

	rt      http.RoundTripper
	traced  bool // rt reports when its connection stands
	connect time.Duration
	agent   string // User-Agent
	rests   *rests

	base   context.Context // ends with Close, and every request with it
	stop   context.CancelFunc
	hangUp func() // ends the use of the transport
}

// Open makes a Network that sends as cfg says, by rt if that is not nil. The caller must Close it.
func Open(cfg *conf.Config, agent string, rt http.RoundTripper, log *slog.Logger) (*Network, error) {
	n := &Network{Mask: new(Mask), Log: log, ReadTimeout: cfg.ReadTimeout,
		rt: rt, connect: cfg.ConnectTimeout, agent: agent, rests: &rests{}, hangUp: func() {}}
	if n.rt == nil {
		t, err := openTransport(cfg)
		if err != nil {
			return nil, err
		}
		n.rt, n.traced, n.rests, n.hangUp = t.http, true, &t.rest, sync.OnceFunc(t.close)
	} else if idle, ok := n.rt.(interface{ CloseIdleConnections() }); ok {
		n.hangUp = idle.CloseIdleConnections
	}
	n.base, n.stop = context.WithCancel(context.Background())
	return n, nil
}

// Close ends what is under way and makes later requests fail with ErrClosed; with the last Network of a proxy, ca_file
// and timeouts every connection is closed. It does not wait for the network.
func (n *Network) Close() {
	n.stop()
	n.hangUp()
}

// Done is closed by Close.
func (n *Network) Done() <-chan struct{} { return n.base.Done() }

// Pause lets d pass. Errors wrap ctx's error or ErrClosed, and begin with what waits.
func (n *Network) Pause(ctx context.Context, what string, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%s: %w", what, ctx.Err())
	case <-n.Done():
		return fmt.Errorf("%s: %w", what, ErrClosed)
	}
}

// ErrClosed is wrapped by every error that Close caused.
var ErrClosed = errors.New("client is closed")

// ParseAddress parses an address of the configuration, which stands under key. Its errors never show what may
// be a password in it.
func ParseAddress(key, text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http") {
		return nil, fmt.Errorf("%s is not an http or https address", key)
	}
	if u.User != nil {
		return nil, fmt.Errorf("%s must not hold a user name or password", key)
	}
	u.Fragment, u.RawFragment = "", ""
	return u, nil
}

// Target is whom a request goes to, in the words an error needs.
type Target struct {
	Name   string // what the request is
	Keys   string // the keys of the stanza that hold its address
	Slow   string // what helps against slow answers
	Direct string // never through a proxy: what helps where it is not reached; empty: proxies as configured
	API    bool   // one that may cease to exist: errors tell when it seems Gone
}

// Exchange sends req and returns its answer's head, its body under guard, and the
// local instant at which the head came. Errors are *Error, or wrap ctx's error, or
// ErrClosed. shown is req's address as it may be logged.
func (n *Network) Exchange(
	ctx context.Context, to Target, req *http.Request, shown string,
) (*http.Response, *Body, time.Time, error) {
	if n.base.Err() != nil {
		return nil, nil, time.Time{}, fmt.Errorf("%s: %w", to.Name, ErrClosed)
	}
	req.Header.Set("User-Agent", n.agent)

	if to.Direct != "" {
		ctx = context.WithValue(ctx, directKey{}, true)
	}
	rctx, cancel := context.WithCancelCause(context.WithValue(ctx, maskKey{}, n.Mask))
	release := context.AfterFunc(n.base, func() { cancel(ErrClosed) })
	var connected atomic.Bool
	limit := n.ReadTimeout
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
			err = fmt.Errorf("%s: %w", to.Name, ctx.Err())
		case n.base.Err() != nil:
			err = fmt.Errorf("%s: %w", to.Name, ErrClosed)
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
func (n *Network) trace(ctx context.Context, method, shown string, status int, took time.Duration, err error) {
	if !n.Log.Enabled(ctx, slog.LevelDebug) {
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
	n.Log.LogAttrs(ctx, slog.LevelDebug, "request", attrs...)
}

// errNoAnswer ends a request whose head does not come.
var errNoAnswer = errors.New("no answer in time")

// tunnel turns a proxy's refusal to CONNECT into an Error; the transport itself
// would keep its status text only.
func tunnel(_ context.Context, _ *url.URL, req *http.Request, resp *http.Response) error {
	if resp.StatusCode == http.StatusOK {
		return nil
	}
	e := &Error{Kind: KindConfig, Status: resp.StatusCode, Remedy: "check proxy_url and the proxy's rules"}
	switch {
	case resp.StatusCode == http.StatusProxyAuthRequired:
		e.What = "the proxy wants a user name and password (407)"
		e.Remedy = "put them into the address in the variable HTTPS_PROXY, and leave proxy_url out"
	case resp.StatusCode >= 500:
		e.Kind = KindNetwork
		e.What = fmt.Sprintf("the proxy cannot reach %s (%d)", Clean(req.Host, 100), resp.StatusCode)
	default:
		e.What = fmt.Sprintf("the proxy refuses a connection to %s (%d)", Clean(req.Host, 100), resp.StatusCode)
	}
	return e
}

// networkError is the error of a request without an answer. connected says whether
// its connection stood.
func (n *Network) networkError(to Target, u *url.URL, err error, connected bool) *Error {
	if own, ok := errors.AsType[*Error](err); ok {
		own.Op = to.Name
		return own
	}
	host := Clean(u.Host, 100)
	e := &Error{Kind: KindNetwork, Op: to.Name, Err: err}
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
		e.Kind, e.What, e.Remedy = KindConfig, errProxyVariable.Error(), "mend it, or set proxy_url"
	case errors.As(err, &dns) && !dns.IsTimeout:
		e.Gone = to.API && dns.IsNotFound && !viaProxy
		e.What = fmt.Sprintf("cannot find the address of %s", Clean(dns.Name, 100))
		e.Remedy = "check " + to.Keys + " and this machine's DNS; where only a proxy reaches the internet, " +
			"set proxy_url"
		if viaProxy {
			e.Remedy = "check proxy_url and this machine's DNS"
		}
	case errors.As(err, &unknown):
		e.Kind = KindConfig
		e.What = fmt.Sprintf("the certificate of %s is signed by an authority this machine does not know", host)
		e.Remedy = "if a proxy opens TLS here, name its certificate in ca_file; else check " + to.Keys
	case errors.As(err, &name):
		e.Kind = KindConfig
		e.What = fmt.Sprintf("the certificate of %s is for another name", host)
		e.Remedy = "check " + to.Keys + ", and for a proxy or DNS that leads elsewhere"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		e.Kind = KindConfig
		e.What = fmt.Sprintf("the certificate of %s is expired or not valid yet", host)
		e.Remedy = "check this machine's clock; if it is right, whoever runs that host must renew it"
	case errors.As(err, &verify):
		e.Kind = KindConfig
		e.What = fmt.Sprintf("the certificate of %s is not valid: %s", host, n.Mask.Text(verify.Err.Error(), 150))
		e.Remedy = "check ca_file, and for a proxy that opens TLS"
	case errors.As(err, &plain):
		e.Kind = KindConfig
		e.What = fmt.Sprintf("%s does not speak TLS", host)
		e.Remedy = "check " + to.Keys + " and the scheme of proxy_url"
	case !connected && strings.Contains(err.Error(), "tls: "): // the alert's own type is not exported
		_, why, _ := strings.Cut(err.Error(), "tls: ")
		e.Kind = KindConfig
		e.What = fmt.Sprintf("the TLS handshake with %s failed: %s", host, Clean(why, 100))
		e.Remedy = "it must speak TLS 1.2 or newer; check " + to.Keys + ", and for a proxy that opens TLS"
	case errors.Is(err, errNoAnswer), errors.As(err, &timeout) && timeout.Timeout():
		if connected {
			e.What = fmt.Sprintf("no answer from %s within %v (read_timeout)", host, n.ReadTimeout)
			e.Remedy = "if it lasts, " + to.Slow
			break
		}
		e.What = fmt.Sprintf("no connection to %s within %v (connect_timeout)", host, n.connect)
		e.Remedy = "check the firewall and " + to.Keys + "; where only a proxy reaches the internet, set proxy_url"
		if viaProxy {
			e.Remedy = "check proxy_url and the firewall"
		}
	case errors.Is(err, syscall.ECONNREFUSED):
		e.Gone = to.API && !viaProxy
		e.What = fmt.Sprintf("%s refused the connection", host)
		e.Remedy = "check " + to.Keys + " and the firewall; where only a proxy reaches the internet, set proxy_url"
		if viaProxy {
			e.Remedy = "check proxy_url"
		}
	case strings.Contains(err.Error(), "server response headers exceeded"):
		e.Kind = KindService
		e.What = fmt.Sprintf("the head of the answer from %s is larger than %d KiB", host, maxHeaderBytes>>10)
		e.Remedy = "check " + to.Keys + " and proxy_url"
	case errors.As(err, &protocol), strings.Contains(err.Error(), "malformed HTTP"):
		e.What = fmt.Sprintf("the answer from %s is not HTTP", host)
		e.Remedy = "check " + to.Keys + " and proxy_url"
		e.Err = nil // its text quotes the answer
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET),
		errors.Is(err, syscall.EPIPE):
		e.What = fmt.Sprintf("%s closed the connection before it answered", host)
		e.Remedy = "if it lasts, look for a firewall or proxy that cuts connections"
	default:
		e.Err = nil // may quote anything
		e.What = fmt.Sprintf("no answer from %s: %s", host, n.Mask.Text(err.Error(), 200))
		e.Remedy = "if it lasts, check the network, " + to.Keys + " and proxy_url"
	}
	if to.Direct != "" && e.Kind == KindNetwork {
		e.Remedy = to.Direct
	}
	return e
}
