package entra

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"golang.org/x/oauth2"

	"fluent-bit-defender/transport"
)

var (
	grants = transport.Target{Name: "token request", Keys: "authority, token_url and cloud",
		Slow: "raise read_timeout"}
	identities = transport.Target{Name: "token request", Keys: "managed_identity_endpoint", Slow: "raise read_timeout",
		Direct: "check that this machine has a managed identity, " +
			"that nothing keeps Fluent Bit from the metadata service, and managed_identity_endpoint"}
)

// tokenWire carries the requests of one attempt to get a token, for x/oauth2, which
// knows nothing of timeouts, and for ourselves. It keeps the heads of answers.
type tokenWire struct {
	t     *Tokens
	ctx   context.Context // the caller's
	spare bool            // a token that serves is held: no need to be patient

	host string      // that was asked last
	head http.Header // of the last answer of status 200
	came time.Time
	last transport.Sighting // the Date of the last answer, whatever it was
}

// context is the caller's, with this wire for x/oauth2.
func (w *tokenWire) context() context.Context {
	hc := &http.Client{
		Transport:     w,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return context.WithValue(w.ctx, oauth2.HTTPClient, hc)
}

// RoundTrip sends a request for a token and returns the answer with its whole body.
func (w *tokenWire) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Body != nil {
		defer req.Body.Close()
	}
	if left := w.t.net.Resting(req.URL.Host); left > 0 {
		return nil, resting(left)
	}
	w.host = req.URL.Host
	resp, whole, err := w.send(grants, req.Clone(w.ctx))
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusOK {
		whole = plainLifetime(whole, w.last.Present())
		resp.ContentLength = int64(len(whole))
	}
	resp.Body = io.NopCloser(bytes.NewReader(whole))
	return resp, nil
}

// send sends req and returns the answer's head and its whole body. Redirects and
// answers that are too large are errors.
func (w *tokenWire) send(to transport.Target, req *http.Request) (*http.Response, []byte, error) {
	req.Header.Set("Accept", "application/json")
	shown := url.URL{Scheme: req.URL.Scheme, Host: req.URL.Host, Path: req.URL.Path}
	resp, b, came, err := w.t.net.Exchange(w.ctx, to, req, shown.String())
	if err != nil {
		return nil, nil, err
	}
	defer b.Close()
	w.last, _ = transport.Sight(resp.Header, came)
	if resp.StatusCode >= 300 && resp.StatusCode < 400 {
		return nil, nil, w.t.net.StatusError(to, resp, "")
	}
	b.Within(w.t.net.ReadTimeout)
	whole, err := io.ReadAll(io.LimitReader(b, maxTokenAnswer+1))
	if err != nil {
		return nil, nil, w.lost(to, err)
	}
	if len(whole) > maxTokenAnswer {
		return nil, nil, &transport.Error{Kind: transport.KindConfig, Status: resp.StatusCode, Op: to.Name,
			What:   fmt.Sprintf("the answer is larger than %d KiB: this is no token endpoint", maxTokenAnswer>>10),
			Remedy: "check " + to.Keys}
	}
	if resp.StatusCode == http.StatusOK {
		w.head, w.came = resp.Header, came
	}
	return resp, whole, nil
}

// lost is the error of an answer whose head came and whose body did not.
func (w *tokenWire) lost(to transport.Target, err error) error {
	if w.ctx.Err() != nil || errors.Is(err, transport.ErrClosed) {
		return err
	}
	what := err.Error()
	if broken, ok := errors.AsType[*transport.BrokenAnswer](err); ok {
		what = broken.What
	}
	e := &transport.Error{Kind: transport.KindNetwork, Op: to.Name, Err: err,
		What:   w.t.net.Mask.Text(what, 200),
		Remedy: "if it lasts, check the network, " + to.Keys + " and proxy_url"}
	if to.Direct != "" {
		e.Remedy = to.Direct
	}
	return e
}

// resting is the error of a request that was not sent because its host has asked for a rest.
func resting(left time.Duration) *transport.Error {
	return &transport.Error{Kind: transport.KindTokenTransient, Status: http.StatusTooManyRequests,
		RetryAfter: left, Op: grants.Name,
		What:   "throttled (429): the host has asked another tenant to wait, so it is not asked",
		Remedy: "if it lasts, let fewer programs ask for tokens with this client_id"}
}
