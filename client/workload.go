package client

import (
	"golang.org/x/oauth2"

	"fluent-bit-defender/conf"
	"fluent-bit-defender/credential"
)

// workloadIdentity is the client credentials grant with a token of the platform
// (Kubernetes) in place of a secret. The platform renews the file all the time, so it
// is read at every use.
func workloadIdentity(c *Client, cfg *conf.Config) (grant, error) {
	request, err := newTokenRequest(cfg)
	if err != nil {
		return nil, err
	}
	var tried string // the token of the last attempt
	return func(w *tokenWire, again bool) (oauth2.TokenSource, error) {
		assertion, err := credential.ReadSecret(cfg.FederatedTokenFile)
		if err != nil {
			return nil, credentialError("federated_token_file", cfg.FederatedTokenFile, err,
				"look at the pod's projected service account token, and at the webhook that sets AZURE_FEDERATED_TOKEN_FILE")
		}
		if again && assertion == tried {
			return nil, nil
		}
		tried = assertion
		c.mask.hide(assertion)
		return request.with(w, "client_assertion_type", assertionType, "client_assertion", assertion), nil
	}, nil
}
