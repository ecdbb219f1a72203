// Package client has one job: turn one query into a checked, decompressed
// answer of the alerts API, or into an error that says what to do next.
package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"fluent-bit-defender/conf"
	"fluent-bit-defender/entra"
	"fluent-bit-defender/transport"
)

// Version is what the User-Agent header tells the service. The linker sets it:
// -X fluent-bit-defender/client.Version=...
var Version = "dev"

// Query is one request for alerts. Zero values are not sent: the service then
// applies its own defaults (SIEM: the last two hours, no limit; Graph: all that it has).
type Query struct {
	// Since and Until are bounds of LastProcessedTimeUtc or lastUpdateDateTime, sent to the 100 ns, widened where they
	// are finer.
	Since, Until time.Time
	Ago          string // ISO 8601 duration as written, for example PT10M; SIEM only
	// Limit is in rows: SIEM keeps the most recent ones, Graph gives the rest by pages of so many (0, or more than
	// 1000: 1000).
	Limit int
	// Page is the link to the next page as Graph gave it; with it no other field counts. Its query is asked for at url.
	// A link that cannot be read is refused (KindRefused) before anything is sent: more alerts are there all the same.
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
	net    *transport.Network
	api    *api
	tokens *entra.Tokens
	pace   *pace        // nil: as many requests as there are
	leave  func()       // gives back pace
	held   atomic.Int64 // by pace, in nanoseconds
	warned sync.Once
}

// Option changes how New builds a Client, and NewLogin a login.
type Option func(*options)

type options struct {
	rt  http.RoundTripper
	log *slog.Logger
}

// WithTransport makes rt carry the requests for tokens and alerts. Timeouts of
// whole requests and of the body still hold; dialing, TLS and proxies are rt's.
func WithTransport(rt http.RoundTripper) Option {
	return func(o *options) { o.rt = rt }
}

// WithLogger sets where the debug line of each request and the one warning about
// missing Date headers go. The default is nowhere.
func WithLogger(l *slog.Logger) Option {
	return func(o *options) { o.log = l }
}

// New builds a Client from a checked configuration. It reads ca_file, and does
// not touch the network. With auth authorization_code it takes refresh_token_file for
// this process, for which it waits up to 5 s. The caller must Close the Client.
func New(cfg *conf.Config, opts ...Option) (*Client, error) {
	api, net, err := open(cfg, opts)
	if err != nil {
		return nil, err
	}
	tokens, err := entra.New(net, &api.needs, cfg)
	if err != nil {
		net.Close()
		return nil, err
	}
	c := &Client{net: net, api: api, tokens: tokens, leave: func() {}}
	if api.paced != "" {
		c.pace, c.leave = openPace(api.paced, cfg.TenantID)
	}
	return c, nil
}

// NewLogin prepares a login for a stanza, as entra.NewLogin does. It reads ca_file. The caller must Close the Login.
func NewLogin(cfg *conf.Config, port int, opts ...Option) (*entra.Login, error) {
	api, net, err := open(cfg, opts)
	if err != nil {
		return nil, err
	}
	l, err := entra.NewLogin(net, &api.needs, cfg, port)
	if err != nil {
		net.Close()
		return nil, err
	}
	return l, nil
}

// open makes what a Client and a login stand on.
func open(cfg *conf.Config, opts []Option) (*api, *transport.Network, error) {
	api, err := newAPI(cfg)
	if err != nil {
		return nil, nil, err
	}
	o := options{log: slog.New(slog.DiscardHandler)}
	for _, set := range opts {
		set(&o)
	}
	net, err := transport.Open(cfg, "fluent-bit-defender/"+Version, o.rt, o.log)
	if err != nil {
		return nil, nil, err
	}
	return api, net, nil
}

// Now returns a lower bound of the service's present time, in UTC: the Date of an
// earlier answer plus the monotonic time since it came. When no Date is known yet
// it gets a token first, and returns that request's error. A service that never
// sends a Date leaves the local clock, with one warning.
func (c *Client) Now(ctx context.Context) (time.Time, error) {
	if now, ok := c.net.Clock.Now(time.Now()); ok {
		return now, nil
	}
	if _, err := c.tokens.Get(ctx); err != nil {
		return time.Time{}, err
	}
	if now, ok := c.net.Clock.Now(time.Now()); ok {
		return now, nil
	}
	c.warned.Do(func() {
		c.net.Log.Warn("no answer carried a usable Date header: this machine's clock is taken for the service's; " +
			"keep it right, or look for a proxy that drops or caches the header")
	})
	return time.Now().Round(0).UTC(), nil
}

// Known is Now as far as it is known already; false: no Date is. It never waits.
func (c *Client) Known() (time.Time, bool) { return c.net.Clock.Now(time.Now()) }

// Mask returns text without the secrets that this client knows or that text seems to hold: for what is said of an
// answer's body, which may echo a request. At most 400 bytes, in one line.
func (c *Client) Mask(text string) string { return c.net.Mask.Text(text, 400) }

// Disputed tells whether the last Date contradicts Now and none has confirmed or refuted it yet: what was concluded
// from Now meanwhile may have to be concluded again. Like Now it may be called from any goroutine.
func (c *Client) Disputed() bool { return c.net.Clock.Disputed() }

// Trusted tells whether Now is more than the word of one answer: since the client was made, two in a row have agreed
// on the time. A service that sends no Dates leaves nothing to doubt.
func (c *Client) Trusted() bool { return c.net.Clock.Trusted() }

// Fetch asks for the alerts of q and returns once the head of the answer came. A
// 401 drops the token, gets a new one and asks once more. ctx also ends the
// reading of the answer's body.
//
// Errors are *transport.Error, or wrap ctx's error, or wrap ErrClosed.
func (c *Client) Fetch(ctx context.Context, q Query) (*Answer, error) {
	u, shown, err := c.api.address(q)
	if err != nil {
		return nil, &transport.Error{Kind: transport.KindRefused, Op: alertsRequest,
			What:   err.Error() + ", so it is not asked",
			Remedy: "check url; if it is the service's own, report it to Microsoft"}
	}
	for again := false; ; again = true {
		tok, err := c.tokens.Get(ctx)
		if err != nil {
			return nil, err
		}
		answer, err := c.ask(ctx, u, shown, q.Page != "", tok)
		if err == nil {
			return answer, nil
		}
		e, ok := errors.AsType[*transport.Error](err)
		switch {
		case !ok:
		case e.Kind == transport.KindForbidden:
			c.tokens.ExplainForbidden(e, tok.Value)
		case e.Kind == transport.KindUnauthorized && again:
			c.tokens.Explain(e, tok.Value)
		case e.Kind == transport.KindUnauthorized:
			c.tokens.Drop(tok)
			continue
		}
		return nil, err
	}
}

// ask sends one request with the given token. page: its address is a link that the service gave.
func (c *Client) ask(ctx context.Context, u, shown string, page bool, tok *entra.Token) (*Answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u, nil)
	if err != nil {
		return nil, fmt.Errorf("%s: url is not usable", alertsRequest)
	}
	maps.Copy(req.Header, c.api.header)
	req.Header.Set("Accept", "application/json")
	req.Header.Set("Accept-Encoding", "gzip")
	req.Header.Set("Cache-Control", "no-cache") // a poll by ago has the same address each time
	req.Header.Set("Authorization", "Bearer "+tok.Value)
	// Last, or requests that waited for their tokens would go at once.
	if err := c.pace.wait(ctx, c); err != nil {
		return nil, err
	}
	resp, body, came, err := c.net.Exchange(ctx, c.api.target, req, shown)
	if err != nil {
		return nil, err
	}
	partial := c.api.partial && resp.StatusCode == http.StatusPartialContent
	// A 400 counts as well: a service whose clock went back may refuse every window that we ask for until we notice.
	if resp.StatusCode == http.StatusOK || partial || resp.StatusCode == http.StatusBadRequest {
		c.net.Clock.Observe(resp.Header, came)
	}
	if resp.StatusCode != http.StatusOK && !partial {
		defer body.Close()
		return nil, c.refused(page, resp, body)
	}
	plain, err := transport.Decoded(resp.Header, body)
	if err != nil {
		body.Close()
		return nil, &transport.Error{Kind: transport.KindConfig, Status: resp.StatusCode, Op: alertsRequest,
			What:   c.net.Mask.Text(err.Error(), 200),
			Remedy: "look for a proxy that re-encodes answers and check proxy_url"}
	}
	answer := &Answer{Body: plain, Cached: len(resp.Header.Values("Age")) > 0}
	if partial {
		answer.Partial = c.warning(resp.Header)
	}
	return answer, nil
}

// warning is what a 206 says of itself.
func (c *Client) warning(h http.Header) string {
	if text := c.net.Mask.Text(strings.Join(h.Values("Warning"), ", "), 300); text != "" {
		return text
	}
	return "the service does not say why (206 without a Warning header)"
}

// refused is the error of an answer that refuses a request for alerts, in the words of the API. page: its address was
// a link that the service gave.
func (c *Client) refused(page bool, resp *http.Response, body *transport.Body) *transport.Error {
	e := c.net.StatusError(c.api.target, resp, c.snippet(resp, body))
	switch e.Status {
	case http.StatusForbidden, http.StatusNotFound, http.StatusGone:
		e.Gone = !page
	}
	if w, own := c.api.words[e.Status]; own {
		e.What += w.more
		e.Remedy = w.remedy
	}
	// A link that the service gave and does not take says nothing about the stanza.
	if page && (e.Status == http.StatusBadRequest || e.Status == http.StatusNotFound || e.Status == http.StatusGone) {
		e.Kind = transport.KindRefused
		e.What = fmt.Sprintf("the service refused its own link to the next page (%d)", e.Status)
		e.Remedy = "if it lasts, lower max_window, so that there are fewer pages"
	}
	return e
}

// snippet reads what the body of a refused request says: a short printable piece,
// without secrets. It takes at most 4 KiB and a few seconds.
func (c *Client) snippet(resp *http.Response, b *transport.Body) string {
	b.Within(5 * time.Second)
	plain, err := transport.Decoded(resp.Header, b)
	if err != nil {
		return ""
	}
	// One byte past the bound brings a body of that length to its end.
	text, _ := io.ReadAll(io.LimitReader(plain, 4<<10+1))
	said := c.api.said(c.net.Mask, text)
	if said == "" {
		said = c.net.Mask.Text(resp.Header.Get("WWW-Authenticate"), 200)
	}
	return said
}

// Close aborts what is under way and makes later requests fail with ErrClosed; with the last Client
// of a proxy, ca_file and timeouts every connection is closed. It does not wait for the network.
func (c *Client) Close() {
	c.net.Close()
	c.leave()
	c.tokens.Close()
}

// Claims gets a token if none is held, and tells what it says of itself. False: the token is
// opaque, which is no fault. Errors are as of Fetch.
func (c *Client) Claims(ctx context.Context) (claims entra.Claims, readable bool, err error) {
	return c.tokens.Claims(ctx)
}

// Doubts compares claims with what the API needs and the stanza says. None: they fit as far as
// anyone but the API can tell.
func (c *Client) Doubts(claims entra.Claims) []entra.Doubt { return c.tokens.Doubts(claims) }

// Stats are what a Client counts, and what its credential stands at.
type Stats struct {
	entra.Stats
	Held time.Duration // requests waited so long for our own limit of their number
}

// Stats may be called from any goroutine; it never waits for I/O.
func (c *Client) Stats() Stats {
	return Stats{c.tokens.Stats(), time.Duration(c.held.Load())}
}
