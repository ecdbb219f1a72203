package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
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
	unknownLife    = 5 * time.Minute // of a token whose lifetime cannot be read
)

// grant makes the TokenSource of one attempt to get a token; w carries its requests
// and ends it. again is true when the service just refused the credential: one that
// lives in a file is read anew then, and nil without an error means that there is
// no other one to try. Errors are *Error. Each kind of credential is one such
// function, called by one goroutine at a time.
type grant func(w *tokenWire, again bool) (oauth2.TokenSource, error)

// newGrant chooses the credential cfg names. release gives back what it holds beyond
// memory; it may be called while an attempt is under way.
func newGrant(c *Client, cfg *conf.Config) (g grant, release func(), err error) {
	release = func() {}
	switch cfg.Auth {
	case conf.ClientSecret:
		g, err = clientSecret(c, cfg)
	case conf.ClientCertificate:
		g, err = clientCertificate(c, cfg)
	case conf.WorkloadIdentity:
		g, err = workloadIdentity(c, cfg)
	case conf.ManagedIdentity:
		g, err = managedIdentity(c, cfg)
	case conf.AuthorizationCode:
		g, release, err = authorizationCode(c, cfg)
	default:
		err = fmt.Errorf("auth %q is not known", cfg.Auth)
	}
	return g, release, err
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
	told  bool          // under busy: that the last renewal failed
	// lifeless: it was told that tokens come without a lifetime. Under busy.
	lifeless bool

	mu   sync.Mutex
	held *token
}

func newTokens(c *Client, g grant) *tokens {
	return &tokens{c: c, grant: g, busy: make(chan struct{}, 1)}
}

// get returns a token that has not ended, from the service when the held one is
// about to end or was dropped. While a renewal fails, the held one serves on to its
// end, and the service is asked no sooner than it allows. Errors are as of Client.Fetch.
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
	spare := held != nil && time.Now().Before(held.expires)
	fresh, err := t.request(ctx, spare)
	if err != nil {
		if !spare || !time.Now().Before(held.expires) || ctx.Err() != nil || errors.Is(err, ErrClosed) {
			return nil, err
		}
		pause := renewPause
		if e := (*Error)(nil); errors.As(err, &e) {
			pause = max(pause, e.RetryAfter)
		}
		fresh = &token{value: held.value, renew: time.Now().Add(pause), expires: held.expires}
		if fresh.renew.After(fresh.expires) {
			fresh.renew = fresh.expires
		}
		// Now there is time to mend what is wrong.
		if !t.told {
			t.c.log.Warn(fmt.Sprintf("cannot renew the token: %v; the present one serves for another %s, and no alert waits", err, time.Until(held.expires).Round(time.Second)))
		}
	}
	t.told = err != nil
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
// anew and tried once more if it changed. spare: a token that serves is held.
func (t *tokens) request(ctx context.Context, spare bool) (*token, error) {
	fresh, err := t.try(ctx, spare, false)
	var e *Error
	if errors.As(err, &e) && e.invalidClient {
		if next, err := t.try(ctx, spare, true); next != nil || err != nil {
			return next, err
		}
	}
	return fresh, err
}

// try makes one token request. Nil without an error: no other credential to try.
func (t *tokens) try(ctx context.Context, spare, again bool) (*token, error) {
	w := &tokenWire{c: t.c, ctx: ctx, spare: spare}
	src, err := t.grant(w, again)
	if src == nil || err != nil {
		return nil, err
	}
	start := time.Now()
	tok, err := src.Token()
	if err != nil {
		err = w.failure(err)
		// A refusal in Entra ID's own words carries its time as well. Without it a clock that fell behind (a machine
		// that slept) would make assertions that are refused for ever.
		var e *Error
		if errors.As(err, &e) && e.Code != 0 && !w.last.date.IsZero() {
			t.c.clock.see(w.last)
		}
		return nil, err
	}
	if problem := unusable(tok); problem != "" {
		return nil, &Error{Kind: KindTokenTransient, Status: http.StatusOK, op: grants.name,
			what: t.c.mask.text(problem, 200), remedy: "check " + grants.keys + " and proxy_url"}
	}
	t.c.mask.hide(tok.AccessToken)
	t.c.clock.observe(w.head, w.came)
	t.c.count(func(n *counters) { n.tokens++ })

	life := unknownLife
	if !tok.Expiry.IsZero() {
		life = time.Until(tok.Expiry) // both monotonic
	} else if !t.lifeless {
		t.lifeless = true
		t.c.log.Warn(fmt.Sprintf("the token does not say when it ends: each is renewed after %s at the latest; nothing to do", unknownLife))
	}
	return &token{
		value:   tok.AccessToken,
		renew:   renewAt(start, life),
		expires: start.Add(life),
	}, nil
}

// renewAt is when a token of that life is renewed.
func renewAt(start time.Time, life time.Duration) time.Time {
	return start.Add(life - min(renewMargin, life/5))
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

// secondsOf reads a number of seconds in whatever form it comes: 3599, 3599.0, "3599", "3599.0". What is none, or out
// of bounds, counts as not given.
func secondsOf(raw json.RawMessage) (int64, bool) {
	text := strings.TrimSpace(strings.Trim(strings.TrimSpace(string(raw)), `"`))
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsNaN(f) || math.Abs(f) >= 1<<33 {
		return 0, false
	}
	return int64(f), true
}

// plainLifetime rewrites the expires_in of an answer with a token to an integer, for x/oauth2 refuses a token whose
// lifetime it cannot read, and nobody needs that to use the token. Where expires_in cannot be read, expires_on
// counts, against the service's time at now; where neither can, none is left. What is no JSON object stays as it is.
func plainLifetime(body []byte, now time.Time) []byte {
	var fields map[string]json.RawMessage
	if json.Unmarshal(body, &fields) != nil || fields == nil {
		return body
	}
	in, ok := secondsOf(fields["expires_in"])
	if !ok {
		if on, known := secondsOf(fields["expires_on"]); known && on > 0 {
			in, ok = on-now.Unix(), true
		}
	}
	delete(fields, "expires_in")
	if ok {
		fields["expires_in"] = strconv.AppendInt(nil, in, 10)
	}
	plain, err := json.Marshal(fields)
	if err != nil {
		return body
	}
	return plain
}

// present is the service's time by a sighting, else the local clock's.
func (s sighting) present() time.Time {
	if s.date.IsZero() {
		return time.Now()
	}
	return s.at(time.Now())
}
