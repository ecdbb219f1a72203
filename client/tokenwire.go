package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"time"

	"golang.org/x/oauth2"
)

// tokenWire carries the requests of one attempt to get a token, for x/oauth2, which
// knows nothing of timeouts, and for ourselves. It keeps the heads of answers.
type tokenWire struct {
	c     *Client
	ctx   context.Context // the caller's
	spare bool            // a token that serves is held: no need to be patient

	host string      // that was asked last
	head http.Header // of the last answer of status 200
	came time.Time
	last sighting // the Date of the last answer, whatever it was
}

// context is the caller's, with this wire for x/oauth2.
func (w *tokenWire) context() context.Context {
	hc := &http.Client{Transport: w, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return context.WithValue(w.ctx, oauth2.HTTPClient, hc)
}

// RoundTrip sends a request for a token and returns the answer with its whole body.
func (w *tokenWire) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Body != nil {
		defer req.Body.Close()
	}
	if left := w.c.rests.left(req.URL.Host, w.c); left > 0 {
		return nil, resting(grants, left)
	}
	w.host = req.URL.Host
	resp, whole, err := w.send(grants, req.Clone(w.ctx))
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusOK {
		whole = plainLifetime(whole, w.last.present())
		resp.ContentLength = int64(len(whole))
	}
	resp.Body = io.NopCloser(bytes.NewReader(whole))
	return resp, nil
}

// send sends req and returns the answer's head and its whole body. Redirects and
// answers that are too large are errors.
func (w *tokenWire) send(to target, req *http.Request) (*http.Response, []byte, error) {
	req.Header.Set("Accept", "application/json")
	resp, b, came, err := w.c.exchange(w.ctx, to, req, shownAddress(req.URL))
	if err != nil {
		return nil, nil, err
	}
	defer b.Close()
	w.last, _ = sight(resp.Header, came)
	if resp.StatusCode >= 300 && resp.StatusCode < 400 {
		return nil, nil, w.c.statusError(to, resp, "")
	}
	b.within(w.c.read)
	whole, err := io.ReadAll(io.LimitReader(b, maxTokenAnswer+1))
	if err != nil {
		return nil, nil, w.lost(to, err)
	}
	if len(whole) > maxTokenAnswer {
		return nil, nil, &Error{Kind: KindConfig, Status: resp.StatusCode, op: to.name,
			what:   fmt.Sprintf("the answer is larger than %d KiB: this is no token endpoint", maxTokenAnswer>>10),
			remedy: "check " + to.keys}
	}
	if resp.StatusCode == http.StatusOK {
		w.head, w.came = resp.Header, came
	}
	return resp, whole, nil
}

// lost is the error of an answer whose head came and whose body did not.
func (w *tokenWire) lost(to target, err error) error {
	if w.ctx.Err() != nil || errors.Is(err, ErrClosed) {
		return err
	}
	what := err.Error()
	var broken *brokenError
	if errors.As(err, &broken) {
		what = broken.what
	}
	e := &Error{Kind: KindNetwork, op: to.name, err: err,
		what:   w.c.mask.text(what, 200),
		remedy: "if it lasts, check the network, " + to.keys + " and proxy_url"}
	if to.direct != "" {
		e.remedy = to.direct
	}
	return e
}

// pause lets d pass; an error means that the attempt has ended meanwhile.
func (w *tokenWire) pause(d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-w.ctx.Done():
		return fmt.Errorf("%s: %w", grants.name, w.ctx.Err())
	case <-w.c.base.Done():
		return fmt.Errorf("%s: %w", grants.name, ErrClosed)
	}
}

// shownAddress is a token address as it may be logged.
func shownAddress(u *url.URL) string {
	v := *u
	v.RawQuery, v.ForceQuery = "", false
	return v.Redacted()
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
	told   *Client // by whom the wait is kept in its own way
	behind int     // clients that were put off already
}

// begin notes that a host asked c for a rest.
func (r *rests) begin(host string, c *Client, wait time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	for h, old := range r.of {
		if !now.Before(old.until) {
			delete(r.of, h)
		}
	}
	if old := r.of[host]; old != nil && old.until.After(now.Add(wait)) {
		return
	}
	if r.of == nil {
		r.of = map[string]*rest{}
	}
	r.of[host] = &rest{until: now.Add(wait), told: c}
}

// left is how long c is to wait before it asks a host, because another was told to; 0: not at all.
func (r *rests) left(host string, c *Client) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	here := r.of[host]
	if here == nil || here.told == c || !time.Now().Before(here.until) {
		return 0
	}
	here.behind++
	return time.Until(here.until) + time.Duration(here.behind)*restStep
}

// resting is the error of a request that was not sent because its host has asked for a rest.
func resting(to target, left time.Duration) *Error {
	return &Error{Kind: KindTokenTransient, Status: http.StatusTooManyRequests, RetryAfter: left, op: to.name,
		what: "throttled (429): the host has asked another tenant to wait, so it is not asked", remedy: "if it lasts, let fewer programs ask for tokens with this client_id"}
}
