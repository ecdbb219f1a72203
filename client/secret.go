package client

import (
	"golang.org/x/oauth2"

	"fluent-bit-defender/conf"
	"fluent-bit-defender/credential"
)

// clientSecret is the client credentials grant with a secret from the stanza or
// from a file. The file is read at every request for a token, so that a secret
// that was rotated is found without a restart.
func clientSecret(c *Client, cfg *conf.Config) (grant, error) {
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
				return nil, credentialError("client_secret_file", cfg.ClientSecretFile, err, "put the client secret's value into it, readable for Fluent Bit")
			}
		}
		if again && secret == tried {
			return nil, nil
		}
		tried = secret
		c.mask.hide(secret)
		return request.with(w, "client_secret", secret), nil
	}, nil
}

// credentialError is the error of a credential's file that cannot be used; path is as configured. err must
// show nothing of what stands there.
func credentialError(key, path string, err error, remedy string) *Error {
	if !conf.PathShown(path) {
		remedy = credential.TakesPath + "; " + remedy
	}
	return &Error{Kind: KindToken, op: grants.name, what: key + ": " + err.Error(), remedy: remedy, err: err}
}
