// Package transport has one job: carry one HTTP request to a service and its answer back, bounded in time and size, or
// an error that says what the operator can do and shows no secret. It keeps the service's time on the way.
package transport

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"sync"
	"time"

	"fluent-bit-defender/conf"
)

const (
	maxHeaderBytes = 64 << 10 // of one answer, 1xx answers before it included
	maxCABytes     = 4 << 20  // of ca_file; the bundles of distributions have a quarter of a megabyte
	connsPerHost   = 256      // stanzas have up to 64 requests at once; more would only hide bodies left open
	// idlePerHost is kept between requests: what the burst of a large stanza used once, it uses again, without a
	// handshake. The most parallel requests of a stanza; what is not used for 90 s ends.
	idlePerHost = 64
)

// transport is the network side of Networks that reach it in the same way: a http.Transport whose connections all
// end with the last of these Networks, whatever state they are in.
type transport struct {
	http *http.Transport
	way  way
	rest rests
	uses int // guarded by transports

	mu    sync.Mutex
	conns map[*conn]struct{}
	base  context.Context // ends dials that are under way
	stop  context.CancelFunc
}

// way is what a transport depends on. A ca_file that was replaced is another one.
type way struct {
	proxy, ca     string
	caSize, caAge int64
	connect, read time.Duration
}

// transports are those in use: a thousand tenants behind one login host and one API share a few connections and the
// certificates of ca_file.
var transports = struct {
	sync.Mutex
	of map[way]*transport
}{of: map[way]*transport{}}

// openTransport returns the transport that cfg asks for, a new one if need be. Each is to be closed.
func openTransport(cfg *conf.Config) (*transport, error) {
	w := way{proxy: cfg.ProxyURL, ca: cfg.CAFile, connect: cfg.ConnectTimeout, read: cfg.ReadTimeout}
	if info, err := os.Stat(cfg.CAFile); err == nil {
		w.caSize, w.caAge = info.Size(), info.ModTime().UnixNano()
	}
	transports.Lock()
	defer transports.Unlock()
	t := transports.of[w]
	if t == nil {
		var err error
		if t, err = newTransport(cfg); err != nil {
			return nil, err
		}
		t.way = w
		transports.of[w] = t
	}
	t.uses++
	return t, nil
}

// newTransport builds the transport that cfg asks for. Server names and chains are
// always checked; ca_file adds to the system's roots.
func newTransport(cfg *conf.Config) (*transport, error) {
	roots, err := rootsWith(cfg.CAFile)
	if err != nil {
		return nil, err
	}
	proxy, err := proxyFor(cfg.ProxyURL)
	if err != nil {
		return nil, err
	}
	t := &transport{conns: make(map[*conn]struct{})}
	t.base, t.stop = context.WithCancel(context.Background())

	dialer := &net.Dialer{Timeout: cfg.ConnectTimeout, KeepAlive: 30 * time.Second}
	// HTTP/1.1 only: a download that we hold stands still by TCP's own back-pressure;
	// HTTP/2 would first buffer its windows and keep the connection for others.
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	t.http = &http.Transport{
		Proxy:                  proxy,
		OnProxyConnectResponse: tunnel,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			return t.dial(ctx, dialer, network, addr)
		},
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
		Protocols:              protocols,
		TLSHandshakeTimeout:    cfg.ConnectTimeout,
		ResponseHeaderTimeout:  cfg.ReadTimeout,
		MaxResponseHeaderBytes: maxHeaderBytes,
		MaxConnsPerHost:        connsPerHost,
		MaxIdleConnsPerHost:    idlePerHost,
		MaxIdleConns:           2 * idlePerHost, // the token endpoint and the API
		IdleConnTimeout:        90 * time.Second,
		ReadBufferSize:         32 << 10,
		DisableCompression:     true, // ours streams, the transport's own would hide Content-Encoding
	}
	return t, nil
}

// rootsWith returns the system's roots plus the certificates of file; nil, which
// means the system's roots, without a file.
func rootsWith(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("ca_file: %w", err)
	}
	defer f.Close()
	pem, err := io.ReadAll(io.LimitReader(f, maxCABytes+1))
	if err != nil {
		return nil, fmt.Errorf("ca_file: %w", err)
	}
	if len(pem) > maxCABytes {
		return nil, fmt.Errorf("ca_file %s is larger than %d MiB: it should hold certificates only", file,
			maxCABytes>>20)
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool() // no system roots here: those of the file alone
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("ca_file %s holds no certificate in PEM form", file)
	}
	return pool, nil
}

// proxyFor returns the choice of proxy: the one given, else the environment's. No
// error of it shows an address, because a proxy's password can stand in it.
func proxyFor(text string) (func(*http.Request) (*url.URL, error), error) {
	var given *url.URL
	if text != "" {
		var err error
		if given, err = url.Parse(text); err != nil || given.Host == "" {
			return nil, errors.New("proxy_url is not an address such as http://proxy.example:3128")
		}
	}
	return func(req *http.Request) (*url.URL, error) {
		if req.Context().Value(directKey{}) != nil {
			return nil, nil
		}
		// Plain http is for loopback addresses, because it does not leave the
		// machine there; through a proxy it would.
		if req.URL.Scheme == "http" {
			return nil, nil
		}
		u, err := given, error(nil)
		if given == nil {
			u, err = http.ProxyFromEnvironment(req)
		}
		if err != nil {
			return nil, errProxyVariable
		}
		if m, ok := req.Context().Value(maskKey{}).(*Mask); ok {
			m.Hide(password(u))
		}
		return u, nil
	}, nil
}

// maskKey is the key of the mask of the Network whose request it is.
type maskKey struct{}

// directKey marks the context of a request that must not go through a proxy.
type directKey struct{}

var errProxyVariable = errors.New("the proxy variable of the environment (HTTPS_PROXY or HTTP_PROXY) is not an address")

func password(u *url.URL) string {
	if u == nil || u.User == nil {
		return ""
	}
	p, _ := u.User.Password()
	return p
}

// dial opens a connection that close can end.
func (t *transport) dial(ctx context.Context, d *net.Dialer, network, addr string) (net.Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(t.base, cancel)()
	nc, err := d.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: nc, owner: t}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.base.Err() != nil {
		nc.Close()
		return nil, ErrClosed
	}
	t.conns[c] = struct{}{}
	return c, nil
}

// close ends, for its last Network, every connection and every dial. Requests of a Network end with their context.
func (t *transport) close() {
	transports.Lock()
	t.uses--
	last := t.uses == 0
	if last {
		delete(transports.of, t.way)
	}
	transports.Unlock()
	if !last {
		return
	}
	t.stop()
	t.mu.Lock()
	open := t.conns
	t.conns = nil
	t.mu.Unlock()
	for c := range open {
		c.Conn.Close()
	}
	t.http.CloseIdleConnections()
}

// conn is a connection that its transport knows of.
type conn struct {
	net.Conn
	owner *transport
}

func (c *conn) Close() error {
	c.owner.mu.Lock()
	delete(c.owner.conns, c)
	c.owner.mu.Unlock()
	return c.Conn.Close()
}

// restStep is the time between two clients that ask again after a rest, so that a thousand of them are not throttled
// at once again.
const restStep = 20 * time.Millisecond

// rests are the hosts of token endpoints that have asked to be left alone (429). A thousand tenants ask one host,
// which counts their requests together: what one of them is told holds for all that share a transport.
type rests struct {
	mu sync.Mutex
	of map[string]*rest
}

type rest struct {
	until  time.Time
	told   *Network // by whom the wait is kept in its own way
	behind int      // clients that were put off already
}

// Rest notes that a host asked for a rest.
func (n *Network) Rest(host string, wait time.Duration) {
	r := n.rests
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	maps.DeleteFunc(r.of, func(_ string, old *rest) bool { return !now.Before(old.until) })
	if old := r.of[host]; old != nil && old.until.After(now.Add(wait)) {
		return
	}
	if r.of == nil {
		r.of = map[string]*rest{}
	}
	r.of[host] = &rest{until: now.Add(wait), told: n}
}

// Resting is how long a host is to be left alone, because another Network was told to; 0: not at all.
func (n *Network) Resting(host string) time.Duration {
	r := n.rests
	r.mu.Lock()
	defer r.mu.Unlock()
	here := r.of[host]
	if here == nil || here.told == n || !time.Now().Before(here.until) {
		return 0
	}
	here.behind++
	return time.Until(here.until) + time.Duration(here.behind)*restStep
}
