package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"golang.org/x/oauth2"

	"fluent-bit-defender/conf"
)

const (
	maxTokenAnswer = 256 << 10       // bytes
	maxToken       = 32 << 10        // bytes; real ones have 1 to 4 KiB
	renewMargin    = 5 * time.Minute // before its end, or a fifth of its life if that is less
	renewPause     = 30 * time.Second
	unknownLife    = 5 * time.Minute // of a token that came without expires_in
)

// grant makes the TokenSource of one attempt to get a token; ctx carries the HTTP
// client and ends the attempt. again is true when the service just refused the
// credential: one that lives in a file is read anew then, and nil without an error
// means that there is no other one to try. Errors are *Error. Each kind of
// credential is one such function.
type grant func(ctx context.Context, again bool) (oauth2.TokenSource, error)

// newGrant chooses the credential cfg names.
func newGrant(cfg *conf.Config, m *mask) (grant, error) {
	switch cfg.Auth {
	case "client_secret":
		return clientSecret(cfg, m)
	}
	return nil, fmt.Errorf("auth %q is not yet built: use client_secret", cfg.Auth)
}

// token is an access token. Its times carry monotonic readings: expires_in counts
// from when we asked, and a local clock that jumps changes nothing.
type token struct {
	value   string
	renew   time.Time
	expires time.Time
}

// tokens holds the present token and renews it. A TokenSource of x/oauth2 cannot
// do that: it compares with the wall clock, and serves a token that the service refused
// until its end.
type tokens struct {
	c     *Client
	grant grant
	busy  chan struct{} // one slot: who renews

	mu   sync.Mutex
	held *token
}

func newTokens(c *Client, g grant) *tokens {
	return &tokens{c: c, grant: g, busy: make(chan struct{}, 1)}
}

// get returns a token that has not ended, from the service when the held one is
// about to end or was dropped. While a renewal fails, the held one serves on to its
// end. Errors are as of Client.Fetch.
func (t *tokens) get(ctx context.Context) (*token, error) {
	select {
	case t.busy <- struct{}{}:
		defer func() { <-t.busy }()
	case <-ctx.Done():
		return nil, fmt.Errorf("%s: %w", grants.name, ctx.Err())
	}
	t.mu.Lock()
	held := t.held
	t.mu.Unlock()
	if held != nil && time.Now().Before(held.renew) {
		return held, nil
	}
	fresh, err := t.request(ctx)
	if err != nil {
		if held == nil || !time.Now().Before(held.expires) || ctx.Err() != nil {
			return nil, err
		}
		fresh = &token{value: held.value, renew: time.Now().Add(renewPause), expires: held.expires}
		if fresh.renew.After(fresh.expires) {
			fresh.renew = fresh.expires
		}
	}
	t.mu.Lock()
	t.held = fresh
	t.mu.Unlock()
	return fresh, nil
}

// drop forgets tok, which the API refused; not a newer one that came meanwhile.
func (t *tokens) drop(tok *token) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.held != nil && t.held.value == tok.value {
		t.held = nil
	}
}

// request gets a token from the service. A credential the service refuses is read
// anew and tried once more if it changed.
func (t *tokens) request(ctx context.Context) (*token, error) {
	fresh, err := t.try(ctx, false)
	var e *Error
	if errors.As(err, &e) && e.invalidClient {
		if next, err := t.try(ctx, true); next != nil || err != nil {
			return next, err
		}
	}
	return fresh, err
}

// try makes one token request. Nil without an error: no other credential to try.
func (t *tokens) try(ctx context.Context, again bool) (*token, error) {
	w := &tokenWire{c: t.c, ctx: ctx}
	hc := &http.Client{Transport: w, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	src, err := t.grant(context.WithValue(ctx, oauth2.HTTPClient, hc), again)
	if src == nil || err != nil {
		return nil, err
	}
	start := time.Now()
	tok, err := src.Token()
	if err != nil {
		return nil, w.failure(err)
	}
	if problem := unusable(tok); problem != "" {
		return nil, &Error{Kind: KindTokenTransient, Status: http.StatusOK, op: grants.name,
			what: problem, remedy: "check " + grants.keys + " and proxy_url"}
	}
	t.c.mask.hide(tok.AccessToken)
	t.c.clock.observe(w.head, w.came)

	life := unknownLife
	if !tok.Expiry.IsZero() {
		life = time.Until(tok.Expiry) // both monotonic
	}
	return &token{
		value:   tok.AccessToken,
		renew:   start.Add(life - min(renewMargin, life/5)),
		expires: start.Add(life),
	}, nil
}

// unusable says why a token cannot be sent; "" when it can.
func unusable(tok *oauth2.Token) string {
	if tok.TokenType != "" && !strings.EqualFold(tok.TokenType, "bearer") {
		return fmt.Sprintf("the token is of type %q instead of Bearer", clean(tok.TokenType, 40))
	}
	if len(tok.AccessToken) > maxToken {
		return fmt.Sprintf("the token is longer than %d KiB", maxToken>>10)
	}
	for _, b := range []byte(tok.AccessToken) {
		if b <= ' ' || b >= 0x7f {
			return "the token holds bytes that no header can carry"
		}
	}
	return ""
}

// tokenWire carries the requests of one attempt for x/oauth2, which knows nothing of
// timeouts, and keeps the head of the last answer.
type tokenWire struct {
	c    *Client
	ctx  context.Context // the caller's
	head http.Header     // of the last answer of status 200
	came time.Time
}

// RoundTrip sends a request for a token and returns the answer with its whole body.
func (w *tokenWire) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Body != nil {
		defer req.Body.Close()
	}
	sent := req.Clone(w.ctx)
	sent.Header.Set("Accept", "application/json")
	resp, b, came, err := w.c.exchange(w.ctx, grants, sent, shownAddress(req.URL))
	if err != nil {
		return nil, err
	}
	defer b.Close()
	if resp.StatusCode >= 300 && resp.StatusCode < 400 {
		return nil, w.c.statusError(grants, resp, "")
	}
	b.within(w.c.read)
	whole, err := io.ReadAll(io.LimitReader(b, maxTokenAnswer+1))
	if err != nil {
		return nil, w.lost(err)
	}
	if len(whole) > maxTokenAnswer {
		return nil, &Error{Kind: KindConfig, Status: resp.StatusCode, op: grants.name,
			what:   fmt.Sprintf("the answer is larger than %d KiB: this is no token endpoint", maxTokenAnswer>>10),
			remedy: "check " + grants.keys}
	}
	if resp.StatusCode == http.StatusOK {
		w.head, w.came = resp.Header, came
	}
	resp.Body = io.NopCloser(bytes.NewReader(whole))
	return resp, nil
}

// lost is the error of an answer whose head came and whose body did not.
func (w *tokenWire) lost(err error) error {
	if w.ctx.Err() != nil || errors.Is(err, ErrClosed) {
		return err
	}
	return &Error{Kind: KindNetwork, op: grants.name, err: err,
		what:   strings.TrimPrefix(w.c.mask.text(err.Error(), 200), grants.name+": "),
		remedy: "if it lasts, check the network, " + grants.keys + " and proxy_url"}
}

// shownAddress is a token address as it may be logged.
func shownAddress(u *url.URL) string {
	v := *u
	v.RawQuery, v.ForceQuery = "", false
	return v.Redacted()
}
