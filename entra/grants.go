package entra

import (
	"maps"
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
// its own parameters.
type tokenRequest clientcredentials.Config

// newTokenRequest reads token_url, client_id and resource. v1 of the endpoint takes a resource, v2 a scope, and
// refuses v1's parameter (AADSTS901002).
func newTokenRequest(cfg *conf.Config) (tokenRequest, error) {
	u, err := transport.ParseAddress("token_url", cfg.TokenURL)
	if err != nil {
		return tokenRequest{}, err
	}
	r := tokenRequest{
		ClientID:       cfg.ClientID,
		TokenURL:       u.String(),
		AuthStyle:      oauth2.AuthStyleInParams,
		EndpointParams: url.Values{},
	}
	if isV2(u) {
		r.Scopes = []string{cfg.Resource + "/.default"}
	} else {
		r.EndpointParams.Set("resource", cfg.Resource)
	}
	return r, nil
}

// isV2 tells the versions of the token endpoint apart.
func isV2(u *url.URL) bool { return strings.HasSuffix(u.Path, "/v2.0/token") }

// token asks with further parameters, in pairs. grant_type may be among them: the library lets it be replaced.
func (r tokenRequest) token(w *tokenWire, pairs ...string) (*oauth2.Token, error) {
	c := clientcredentials.Config(r)
	c.EndpointParams = maps.Clone(r.EndpointParams)
	for i := 0; i < len(pairs); i += 2 {
		c.EndpointParams.Set(pairs[i], pairs[i+1])
	}
	return c.Token(w.context())
}

// clientSecret is the client credentials grant with a secret from the stanza or from a file.
func clientSecret(t *Tokens, cfg *conf.Config, request tokenRequest) grant {
	return byText(t, request, func() (string, error) {
		if cfg.ClientSecretFile == "" {
			return cfg.ClientSecret.Reveal(), nil
		}
		return readText("client_secret_file", cfg.ClientSecretFile,
			"put the client secret's value into it, readable for Fluent Bit")
	}, "client_secret")
}

// workloadIdentity is the client credentials grant with a token of the platform (Kubernetes) in place of a secret. The
// platform renews the file all the time.
func workloadIdentity(t *Tokens, cfg *conf.Config, request tokenRequest) grant {
	return byText(t, request, func() (string, error) {
		return readText("federated_token_file", cfg.FederatedTokenFile,
			"look at the pod's projected service account token, "+
				"and at the webhook that sets AZURE_FEDERATED_TOKEN_FILE")
	}, "client_assertion", "client_assertion_type", assertionType)
}

// byText is the client credentials grant with a text as parameter, beside others in pairs. It is read at every request
// for a token, so that one that was rotated is found without a restart.
func byText(t *Tokens, request tokenRequest, read func() (string, error), parameter string, others ...string) grant {
	var tried string // the text of the last attempt
	return func(w *tokenWire, again bool) (*oauth2.Token, error) {
		text, err := read()
		if err != nil {
			return nil, err
		}
		if again && text == tried {
			return nil, nil
		}
		tried = text
		t.net.Mask.Hide(text)
		return request.token(w, append(others, parameter, text)...)
	}
}

// readText reads the file of a credential, which stands under key.
func readText(key, path, remedy string) (string, error) {
	text, err := credential.ReadSecret(path)
	if err != nil {
		return "", credentialError(key, path, err, remedy)
	}
	return text, nil
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
