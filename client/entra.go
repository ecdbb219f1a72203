package client

import (
	"net/url"
	"strings"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"fluent-bit-defender/conf"
)

// assertionType says that a client proves itself by a JWT, RFC 7523.
const assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

// tokenRequest is what every request for a token at Entra ID has: who asks, where, and for what. Each credential adds
// its own parameters to a copy (by with).
type tokenRequest struct {
	clientcredentials.Config
}

// newTokenRequest reads token_url, client_id and resource. v1 of the endpoint takes a resource, v2 a scope, and refuses v1's
// parameter (AADSTS901002).
func newTokenRequest(cfg *conf.Config) (tokenRequest, error) {
	u, err := endpoint("token_url", cfg.TokenURL)
	if err != nil {
		return tokenRequest{}, err
	}
	r := tokenRequest{clientcredentials.Config{
		ClientID:  cfg.ClientID,
		TokenURL:  u.String(),
		AuthStyle: oauth2.AuthStyleInParams,
	}}
	if isV2(u) {
		r.Scopes = []string{cfg.Resource + "/.default"}
	} else {
		r.EndpointParams = url.Values{"resource": {cfg.Resource}}
	}
	return r, nil
}

// isV2 tells the versions of the token endpoint apart.
func isV2(u *url.URL) bool { return strings.HasSuffix(u.Path, "/v2.0/token") }

// with returns the TokenSource of the request with further parameters, in pairs. grant_type may be among them: the library
// lets it be replaced.
func (r tokenRequest) with(w *tokenWire, pairs ...string) oauth2.TokenSource {
	c := r.Config
	c.EndpointParams = url.Values{}
	for name, values := range r.EndpointParams {
		c.EndpointParams[name] = values
	}
	for i := 0; i < len(pairs); i += 2 {
		c.EndpointParams.Set(pairs[i], pairs[i+1])
	}
	return c.TokenSource(w.context())
}

// sourceFunc makes a function a TokenSource.
type sourceFunc func() (*oauth2.Token, error)

func (f sourceFunc) Token() (*oauth2.Token, error) { return f() }
