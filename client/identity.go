package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"golang.org/x/oauth2"

	"fluent-bit-defender/conf"
)

// identityPatience is how long one attempt waits for the metadata service: while it is
// updated (410) it may be away for 70 s (facts).
const identityPatience = 70 * time.Second

// identity asks the machine's metadata service for tokens of a managed identity. It has
// one version, which takes a resource.
type identity struct {
	c       *Client
	address string
}

// managedIdentity builds the grant. Its requests never go through a proxy.
func managedIdentity(c *Client, cfg *conf.Config) (grant, error) {
	u, err := endpoint("managed_identity_endpoint", cfg.ManagedIdentityEndpoint)
	if err != nil {
		return nil, err
	}
	q := u.Query()
	q.Set("api-version", "2018-02-01")
	q.Set("resource", cfg.Resource)
	if cfg.ManagedIdentityClientID != "" {
		q.Set("client_id", cfg.ManagedIdentityClientID)
	}
	u.RawQuery = q.Encode()
	g := identity{c, u.String()}
	return func(w *tokenWire, again bool) (oauth2.TokenSource, error) {
		if again {
			return nil, nil // there is nothing to read anew
		}
		return sourceFunc(func() (*oauth2.Token, error) { return g.token(w) }), nil
	}, nil
}

// token asks until there is an answer that asking again cannot change, with doubled
// waits, for 70 s. While a held token serves it asks once: there is time.
func (g identity) token(w *tokenWire) (*oauth2.Token, error) {
	start := time.Now()
	for wait := time.Second; ; wait *= 2 {
		tok, err := g.ask(w)
		var e *Error
		if err == nil || w.spare || !errors.As(err, &e) || e.Kind != KindTokenTransient {
			return tok, err
		}
		left := identityPatience - time.Since(start)
		if left <= 0 || e.RetryAfter > left {
			return nil, err
		}
		if err := w.pause(min(max(wait, e.RetryAfter), left)); err != nil {
			return nil, err
		}
	}
}

func (g identity) ask(w *tokenWire) (*oauth2.Token, error) {
	req, err := http.NewRequestWithContext(w.ctx, http.MethodGet, g.address, nil)
	if err != nil {
		return nil, fmt.Errorf("%s: managed_identity_endpoint is not usable", identities.name)
	}
	req.Header.Set("Metadata", "true")
	resp, body, err := w.send(identities, req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, g.refused(resp, body)
	}
	var answer struct {
		AccessToken string          `json:"access_token"`
		TokenType   string          `json:"token_type"`
		ExpiresIn   json.RawMessage `json:"expires_in"`
	}
	if json.Unmarshal(plainLifetime(body, w.last.present()), &answer) != nil || answer.AccessToken == "" {
		return nil, &Error{Kind: KindTokenTransient, Status: resp.StatusCode, op: identities.name,
			what: "the answer holds no token", remedy: "check " + identities.keys}
	}
	tok := &oauth2.Token{AccessToken: answer.AccessToken, TokenType: answer.TokenType}
	if life, ok := secondsOf(answer.ExpiresIn); ok && life > 0 {
		tok.Expiry = time.Now().Add(time.Duration(life) * time.Second)
	}
	return tok, nil
}

// refused is the error of an answer that is not 200: 404, 410, 429 and 5xx go away by
// themselves (facts), the rest until an operator acts does not.
func (g identity) refused(resp *http.Response, body []byte) *Error {
	e := g.c.tokenError(identities, resp, body)
	switch status := resp.StatusCode; {
	case status == http.StatusNotFound, status == http.StatusGone:
		e.Kind = KindTokenTransient
		e.what = fmt.Sprintf("the metadata service is being updated, or is not there (%d)", status)
		e.remedy = "if it lasts, " + identities.direct
	case status == http.StatusTooManyRequests:
		e.Kind = KindTokenTransient
		e.RetryAfter = g.c.wait(resp.Header) // a minute, as at Entra ID, would be long here
	case status >= 500:
		e.Kind = KindTokenTransient
	}
	return e
}
