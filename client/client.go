// Package client has one job: turn one query into a checked, decompressed
// answer of the alerts API, or into an error that says what to do next. It gets
// and renews the tokens for that and keeps the service's time on the way.
package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"fluent-bit-defender/conf"
)

// Version is what the User-Agent header tells the service. The linker sets it:
// -X fluent-bit-defender/client.Version=...
var Version = "dev"

// ErrClosed is wrapped by every error that Close caused.
var ErrClosed = errors.New("client is closed")

// Query is one request for alerts. Zero values are not sent: the service then
// applies its own defaults (SIEM: the last two hours, no limit; Graph: all that it has).
type Query struct {
	// Since and Until are bounds of LastProcessedTimeUtc or lastUpdateDateTime, sent to the 100 ns, widened where they
	// are finer.
	Since, Until time.Time
	Ago          string // ISO 8601 duration as written, for example PT10M; SIEM only
	Limit        int    // rows; SIEM keeps the most recent ones, Graph gives the rest by pages of so many (0, or more than 1000: 1000)
	// Page is the link to a next page as Graph gave it: what else is set counts for nothing then. Its query is asked for
	// at url. One that cannot be read is refused (KindRefused) before anything is sent: more is there all the same.
	Page string
}

// Answer is an answer of status 200, or 206 of Graph.
type Answer struct {
	// Body is the decompressed answer, read as a stream by one goroutine. The
	// caller closes it; Close may come from any goroutine and never waits for
	// the network. The context given to Fetch ends it too. Errors of Read are plain
	// wrapped errors; an answer cut short gives io.ErrUnexpectedEOF.
	// The connection is reused only when Body was read to io.EOF.
	Body io.ReadCloser
	// Partial says why rows may be missing (206): the service's warning, cut, in one line and without secrets. Empty:
	// none is.
	Partial string
	// Cached: an HTTP cache on the way gave the answer (it has an Age). It may be older than the request.
	Cached bool
}

// Client asks one API with one credential. All methods may be called from several
// goroutines at once.
type Client struct {
	network
	counters
	api     *api
	auth    string // the kind of credential
	tenant  string // as configured
	token   *tokens
	release func() // gives back what the credential holds
	pace    *pace  // nil: as many requests as there are
	slow    func() // gives back pace
	warned  sync.Once
}

// Option changes how New builds a Client.
type Option func(*Client)

// WithTransport makes rt carry the requests for tokens and alerts. Timeouts of
// whole requests and of the body still hold; dialing, TLS and proxies are rt's.
func WithTransport(rt http.RoundTripper) Option {
	return func(c *Client) { c.rt = rt }
}

// WithLogger sets where the debug line of each request and the one warning about
// missing Date headers go. The default is nowhere.
func WithLogger(l *slog.Logger) Option {
	return func(c *Client) { c.log = l }
}

// New builds a Client from a checked configuration. It reads ca_file, and does
// not touch the network. With auth authorization_code it takes refresh_token_file for
// this process, for which it waits up to 5 s. The caller must Close the Client.
func New(cfg *conf.Config, opts ...Option) (*Client, error) {
	c, err := build(cfg, opts)
	if err != nil {
		return nil, err
	}
	grant, release, err := newGrant(c, cfg)
	if err != nil {
		c.Close()
		return nil, err
	}
	c.token, c.release = newTokens(c, grant), sync.OnceFunc(release)
	return c, nil
}

// build makes a Client without its credential.
func build(cfg *conf.Config, opts []Option) (*Client, error) {
	if cfg.ConnectTimeout <= 0 || cfg.ReadTimeout <= 0 {
		return nil, errors.New("connect_timeout and read_timeout must be longer than zero")
	}
	api, err := newAPI(cfg)
	if err != nil {
		return nil, err
	}
	c := &Client{api: api, auth: cfg.Auth, tenant: cfg.TenantID, release: func() {}, slow: func() {}}
	c.log = slog.New(slog.DiscardHandler)
	for _, o := range opts {
		o(c)
	}
	if err := c.network.open(cfg); err != nil {
		return nil, err
	}
	if c.api.paced != nil {
		c.pace, c.slow = openPace(c.api.paced, c.tenant)
		c.slow = sync.OnceFunc(c.slow)
	}
	return c, nil
}

// endpoint parses an address of the configuration. Its errors never show what may
// be a password in it.
func endpoint(key, text string) (*url.URL, error) {
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

// Now returns a lower bound of the service's present time, in UTC: the Date of an
// earlier answer plus the monotonic time since it came. When no Date is known yet
// it gets a token first, and returns that request's error. A service that never
// sends a Date leaves the local clock, with one warning.
func (c *Client) Now(ctx context.Context) (time.Time, error) {
	if now, ok := c.clock.now(time.Now()); ok {
		return now, nil
	}
	if _, err := c.token.get(ctx); err != nil {
		return time.Time{}, err
	}
	if now, ok := c.clock.now(time.Now()); ok {
		return now, nil
	}
	c.warned.Do(func() {
		c.log.Warn("no answer carried a usable Date header: this machine's clock is taken for the service's; " +
			"keep it right, or look for a proxy that drops or caches the header")
	})
	return time.Now().Round(0).UTC(), nil
}

// Known is Now as far as it is known already; false: no Date is. It never waits.
func (c *Client) Known() (time.Time, bool) { return c.clock.now(time.Now()) }

// Mask returns text without the secrets that this client knows or that text seems to hold: for what is said of an
// answer's body, which may echo a request. At most 400 bytes, in one line.
func (c *Client) Mask(text string) string { return c.mask.text(text, 400) }

// Disputed tells whether the last Date contradicts Now and none has confirmed or refuted it yet: what was concluded
// from Now meanwhile may have to be concluded again. Like Now it may be called from any goroutine.
func (c *Client) Disputed() bool { return c.clock.disputed() }

// Trusted tells whether Now is more than the word of one answer: since the client was made, two in a row have agreed
// on the time. A service that sends no Dates leaves nothing to doubt.
func (c *Client) Trusted() bool { return c.clock.trusted() }

// Fetch asks for the alerts of q and returns once the head of the answer came. A
// 401 drops the token, gets a new one and asks once more. ctx also ends the
// reading of the answer's body.
//
// Errors are *Error, or wrap ctx's error, or wrap ErrClosed.
func (c *Client) Fetch(ctx context.Context, q Query) (*Answer, error) {
	u, shown, err := c.api.address(q)
	if err != nil {
		return nil, &Error{Kind: KindRefused, op: alertsRequest, what: err.Error() + ", so it is not asked",
			remedy: "check url; if it is the service's own, report it to Microsoft"}
	}
	for again := false; ; again = true {
		tok, err := c.token.get(ctx)
		if err != nil {
			return nil, err
		}
		answer, err := c.ask(ctx, u, shown, q.Page != "", tok)
		if err == nil {
			return answer, nil
		}
		var e *Error
		switch {
		case !errors.As(err, &e):
		case e.Kind == KindForbidden:
			c.explainForbidden(e, tok.value)
		case e.Kind == KindUnauthorized && again:
			c.explain(e, tok.value)
		case e.Kind == KindUnauthorized:
			c.token.drop(tok)
			continue
		}
		return nil, err
	}
}

// ask sends one request with the given token. page: its address is a link that the service gave.
func (c *Client) ask(ctx context.Context, u, shown string, page bool, tok *token) (*Answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u, nil)
	if err != nil {
		return nil, fmt.Errorf("%s: url is not usable", alertsRequest)
	}
	maps.Copy(req.Header, c.api.header)
	req.Header.Set("Accept", "application/json")
	req.Header.Set("Accept-Encoding", "gzip")
	req.Header.Set("Cache-Control", "no-cache") // a poll by ago has the same address each time
	req.Header.Set("Authorization", "Bearer "+tok.value)
	// Last, or requests that waited for their tokens would go at once.
	if err := c.pace.wait(ctx, c); err != nil {
		return nil, err
	}
	resp, body, came, err := c.exchange(ctx, c.api.target, req, shown)
	if err != nil {
		return nil, err
	}
	partial := c.api.partial && resp.StatusCode == http.StatusPartialContent
	// A 400 counts as well: a service whose clock went back may refuse every window that we ask for until we notice.
	if resp.StatusCode == http.StatusOK || partial || resp.StatusCode == http.StatusBadRequest {
		c.clock.observe(resp.Header, came)
	}
	if resp.StatusCode != http.StatusOK && !partial {
		defer body.Close()
		return nil, c.refused(page, resp, body)
	}
	plain, err := decoded(resp.Header, body)
	if err != nil {
		body.Close()
		return nil, &Error{Kind: KindConfig, Status: resp.StatusCode, op: alertsRequest, what: c.mask.text(err.Error(), 200),
			remedy: "look for a proxy that re-encodes answers and check proxy_url"}
	}
	answer := &Answer{Body: plain, Cached: len(resp.Header.Values("Age")) > 0}
	if partial {
		answer.Partial = c.warning(resp.Header)
	}
	return answer, nil
}

// warning is what a 206 says of itself.
func (c *Client) warning(h http.Header) string {
	if text := c.mask.text(strings.Join(h.Values("Warning"), ", "), 300); text != "" {
		return text
	}
	return "the service does not say why (206 without a Warning header)"
}

// Close aborts what is under way and makes later requests fail with ErrClosed; with the last Client
// of a proxy, ca_file and timeouts every connection is closed. It does not wait for the network.
func (c *Client) Close() {
	c.network.close()
	c.slow()
	c.release()
}

// Stats are what a Client counts, and what its credential stands at.
type Stats struct {
	Tokens          uint64        // that came
	TokenEnds       time.Time     // local; zero: none is held
	CertificateEnds time.Time     // zero: no certificate was read yet
	Held            time.Duration // requests waited so long for our own limit of their number
}

// counters are the parts of Stats that nobody else keeps.
type counters struct {
	mu          sync.Mutex
	tokens      uint64
	certificate time.Time
	waited      time.Duration
}

func (n *counters) count(f func(*counters)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	f(n)
}

// Stats may be called from any goroutine; it never waits for I/O.
func (c *Client) Stats() Stats {
	var s Stats
	c.counters.count(func(n *counters) { s = Stats{Tokens: n.tokens, CertificateEnds: n.certificate, Held: n.waited} })
	if c.token != nil {
		c.token.mu.Lock()
		if held := c.token.held; held != nil {
			s.TokenEnds = held.expires
		}
		c.token.mu.Unlock()
	}
	return s
}
