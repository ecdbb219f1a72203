// Package entra has one job: tokens of Entra ID for a configured credential, renewed in time, or an error that says in
// an operator's words what to mend there.
package entra

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
	"fluent-bit-defender/transport"
)

const (
	maxTokenAnswer = 256 << 10       // bytes
	maxToken       = 32 << 10        // bytes; real ones have 1 to 4 KiB
	renewMargin    = 5 * time.Minute // before its end, or a fifth of its life if that is less
	renewPause     = 30 * time.Second
	unknownLife    = 5 * time.Minute // of a token whose lifetime cannot be read
)

// grant makes one attempt to get a token; w carries its requests and ends it. again is true when the service just
// refused the credential: one that lives in a file is read anew then, and nil without an error means that there is no
// other one to try. Each kind of credential is one such function, called by one goroutine at a time.
type grant func(w *tokenWire, again bool) (*oauth2.Token, error)

// newGrant chooses the credential cfg names. release gives back what it holds beyond
// memory; it may be called while an attempt is under way.
func newGrant(t *Tokens, cfg *conf.Config) (g grant, release func(), err error) {
	release = func() {}
	if cfg.Auth == conf.ManagedIdentity {
		g, err = managedIdentity(t, cfg)
		return g, release, err
	}
	request, err := newTokenRequest(cfg)
	if err != nil {
		return nil, nil, err
	}
	switch cfg.Auth {
	case conf.ClientSecret:
		g = clientSecret(t, cfg, request)
	case conf.ClientCertificate:
		g = clientCertificate(t, cfg, request)
	case conf.WorkloadIdentity:
		g = workloadIdentity(t, cfg, request)
	case conf.AuthorizationCode:
		g, release, err = authorizationCode(cfg, request)
	}
	return g, release, err
}

// Token is an access token. Its times carry monotonic readings: expires_in counts
// from when we asked, and a local clock that jumps changes nothing.
type Token struct {
	Value   string
	renew   time.Time
	expires time.Time
}

// Needs is what an API needs of a token.
type Needs struct {
	Audiences []string       // whose tokens it takes
	Exact     bool           // it takes no other, whatever the form of their name
	Roles     []string       // one of these a token must carry, where they are known
	Grant     string         // how an operator gives the first of them
	Remedies  map[int]string // by AADSTS code: where they are others than in diagnoses
}

// Tokens holds the present token of one credential and renews it. A TokenSource of x/oauth2 cannot
// do that: it compares with the wall clock, and serves a token that the service refused
// until its end. All methods may be called from several goroutines at once.
type Tokens struct {
	net           *transport.Network
	needs         *Needs
	auth          string // the kind of credential
	tenant        string // as configured
	grant         grant
	release       func()        // gives back what the credential holds
	busy          chan struct{} // one slot: who renews
	failureLogged bool          // of the last renewal; under busy
	noEndLogged   bool          // that tokens do not say when they end; under busy

	mu    sync.Mutex
	held  *Token
	stats Stats // but for TokenEnds
}

// Stats are what Tokens counts, and what its credential stands at.
type Stats struct {
	Tokens          uint64    // that came
	TokenEnds       time.Time // local; zero: none is held
	CertificateEnds time.Time // zero: no certificate was read yet
}

// New makes Tokens for the credential that cfg names, which go to an API over net. It does not touch the network. With
// auth authorization_code it takes refresh_token_file for this process, for which it waits up to 5 s. The caller must
// Close it, and closes net itself.
func New(net *transport.Network, needs *Needs, cfg *conf.Config) (*Tokens, error) {
	t := without(net, needs, cfg)
	g, release, err := newGrant(t, cfg)
	if err != nil {
		return nil, err
	}
	t.grant, t.release = g, sync.OnceFunc(release)
	return t, nil
}

// without makes Tokens without their credential.
func without(net *transport.Network, needs *Needs, cfg *conf.Config) *Tokens {
	return &Tokens{net: net, needs: needs, auth: cfg.Auth, tenant: cfg.TenantID, busy: make(chan struct{}, 1)}
}

// Close gives back what the credential holds.
func (t *Tokens) Close() { t.release() }

func (t *Tokens) count(f func(*Stats)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f(&t.stats)
}

// Stats never waits for I/O.
func (t *Tokens) Stats() Stats {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.stats
	if t.held != nil {
		s.TokenEnds = t.held.expires
	}
	return s
}

// Get returns a token that has not ended, from the service when the held one is
// about to end or was dropped. While a renewal fails, the held one serves on to its
// end, and the service is asked no sooner than it allows. Errors are *transport.Error, or
// wrap ctx's error, or wrap ErrClosed.
func (t *Tokens) Get(ctx context.Context) (*Token, error) {
	select {
	case t.busy <- struct{}{}:
		defer func() { <-t.busy }()
	case <-ctx.Done():
		return nil, fmt.Errorf("%s: %w", grants.Name, ctx.Err())
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
		if !spare || !time.Now().Before(held.expires) || ctx.Err() != nil || errors.Is(err, transport.ErrClosed) {
			return nil, err
		}
		pause := renewPause
		if e, ok := errors.AsType[*transport.Error](err); ok {
			pause = max(pause, e.RetryAfter)
		}
		fresh = &Token{Value: held.Value, renew: time.Now().Add(pause), expires: held.expires}
		if fresh.renew.After(fresh.expires) {
			fresh.renew = fresh.expires
		}
		// Now there is time to mend what is wrong.
		if !t.failureLogged {
			t.net.Log.Warn(fmt.Sprintf("cannot renew the token: %v; "+
				"the present one serves for another %s, and no alert waits",
				err, time.Until(held.expires).Round(time.Second)))
		}
	}
	t.failureLogged = err != nil
	t.mu.Lock()
	t.held = fresh
	t.mu.Unlock()
	return fresh, nil
}

// Drop forgets tok, which the API refused; not a newer one that came meanwhile.
func (t *Tokens) Drop(tok *Token) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.held != nil && t.held.Value == tok.Value {
		t.held = nil
	}
}

// request gets a token from the service. A credential the service refuses is read
// anew and tried once more if it changed. spare: a token that serves is held.
func (t *Tokens) request(ctx context.Context, spare bool) (*Token, error) {
	fresh, err := t.try(ctx, spare, false)
	if e, ok := errors.AsType[*transport.Error](err); ok && e.Credential {
		if next, err := t.try(ctx, spare, true); next != nil || err != nil {
			return next, err
		}
	}
	return fresh, err
}

// try makes one token request. Nil without an error: no other credential to try.
func (t *Tokens) try(ctx context.Context, spare, again bool) (*Token, error) {
	w := &tokenWire{t: t, ctx: ctx, spare: spare}
	start := time.Now()
	tok, err := t.grant(w, again)
	if tok == nil && err == nil {
		return nil, nil
	}
	if err != nil {
		err = w.failure(err)
		// A refusal in Entra ID's own words carries its time as well. Without it a clock that fell behind (a machine
		// that slept) would make assertions that are refused for ever.
		if e, ok := errors.AsType[*transport.Error](err); ok && e.Code != 0 {
			t.net.Clock.See(w.last)
		}
		return nil, err
	}
	if problem := unusable(tok); problem != "" {
		return nil, &transport.Error{Kind: transport.KindTokenTransient, Status: http.StatusOK, Op: grants.Name,
			What: t.net.Mask.Text(problem, 200), Remedy: "check " + grants.Keys + " and proxy_url"}
	}
	t.net.Mask.Hide(tok.AccessToken)
	t.net.Clock.Observe(w.head, w.came)
	t.count(func(s *Stats) { s.Tokens++ })

	life := unknownLife
	if !tok.Expiry.IsZero() {
		life = time.Until(tok.Expiry) // both monotonic
	} else if !t.noEndLogged {
		t.noEndLogged = true
		t.net.Log.Warn(fmt.Sprintf("the token does not say when it ends: each is renewed after %s at the latest; "+
			"nothing to do", unknownLife))
	}
	return &Token{
		Value:   tok.AccessToken,
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
		return fmt.Sprintf("the token is of type %q instead of Bearer", transport.Clean(tok.TokenType, 40))
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
