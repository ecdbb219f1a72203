package entra

import (
	"net/url"
	"strings"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"fluent-bit-defender/conf"
	"fluent-bit-defender/credential"
	"fluent-bit-defender/transport"
)

// assertionType says that a client proves itself by a JWT, RFC 7523.
const assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

// tokenRequest is what every request for a token at Entra ID has: who asks, where, and for what. Each credential adds
// its own parameters to a copy (by with).
type tokenRequest struct {
	clientcredentials.Config
}

// newTokenRequest reads token_url, client_id and resource. v1 of the endpoint takes a resource, v2 a scope, and
// refuses v1's parameter (AADSTS901002).
func newTokenRequest(cfg *conf.Config) (tokenRequest, error) {
	u, err := transport.ParseAddress("token_url", cfg.TokenURL)
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

// with returns the TokenSource of the request with further parameters, in pairs. grant_type may be among them: the
// library lets it be replaced.
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

// clientSecret is the client credentials grant with a secret from the stanza or
// from a file. The file is read at every request for a token, so that a secret
// that was rotated is found without a restart.
func clientSecret(t *Tokens, cfg *conf.Config) (grant, error) {
	request, err := newTokenRequest(cfg)
	if err != nil {
		return nil, err
	}
	var tried string // the secret of the last attempt
	return func(w *tokenWire, again bool) (oauth2.TokenSource, error) {
		secret := cfg.ClientSecret.Reveal()
		if cfg.ClientSecretFile != "" {
			var err error
			if secret, err = credential.ReadSecret(cfg.ClientSecretFile); err != nil {
				return nil, credentialError("client_secret_file", cfg.ClientSecretFile, err,
					"put the client secret's value into it, readable for Fluent Bit")
			}
		}
		if again && secret == tried {
			return nil, nil
		}
		tried = secret
		t.net.Mask.Hide(secret)
		return request.with(w, "client_secret", secret), nil
	}, nil
}

// credentialError is the error of a credential's file that cannot be used; path is as configured. err must
// show nothing of what stands there.
func credentialError(key, path string, err error, remedy string) *transport.Error {
	if !conf.PathShown(path) {
		remedy = credential.TakesPath + "; " + remedy
	}
	return &transport.Error{Kind: transport.KindToken, Op: grants.Name, What: key + ": " + err.Error(),
		Remedy: remedy, Err: err}
}

// workloadIdentity is the client credentials grant with a token of the platform
// (Kubernetes) in place of a secret. The platform renews the file all the time, so it
// is read at every use.
func workloadIdentity(t *Tokens, cfg *conf.Config) (grant, error) {
	request, err := newTokenRequest(cfg)
	if err != nil {
		return nil, err
	}
	var tried string // the token of the last attempt
	return func(w *tokenWire, again bool) (oauth2.TokenSource, error) {
		assertion, err := credential.ReadSecret(cfg.FederatedTokenFile)
		if err != nil {
			return nil, credentialError("federated_token_file", cfg.FederatedTokenFile, err,
				"look at the pod's projected service account token, "+
					"and at the webhook that sets AZURE_FEDERATED_TOKEN_FILE")
		}
		if again && assertion == tried {
			return nil, nil
		}
		tried = assertion
		t.net.Mask.Hide(assertion)
		return request.with(w, "client_assertion_type", assertionType, "client_assertion", assertion), nil
	}, nil
}
