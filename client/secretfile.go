package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"
	"syscall"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"fluent-bit-defender/conf"
)

// maxSecretFile bounds what is read of a file with a secret. Entra ID's have 40
// bytes; a larger file is the wrong file.
const maxSecretFile = 16 << 10

// clientSecret is the client credentials grant with a secret from the stanza or
// from a file. The file is read at every request for a token, so that a secret
// that was rotated is found without a restart.
func clientSecret(cfg *conf.Config, m *mask) (grant, error) {
	u, err := endpoint("token_url", cfg.TokenURL)
	if err != nil {
		return nil, err
	}
	request := clientcredentials.Config{
		ClientID:  cfg.ClientID,
		TokenURL:  u.String(),
		AuthStyle: oauth2.AuthStyleInParams,
	}
	if strings.HasSuffix(u.Path, "/v2.0/token") {
		// v2 refuses v1's parameter (AADSTS901002).
		request.Scopes = []string{cfg.Resource + "/.default"}
	} else {
		request.EndpointParams = url.Values{"resource": {cfg.Resource}}
	}
	var tried string // the secret of the last attempt; tokens makes one at a time
	return func(ctx context.Context, again bool) (oauth2.TokenSource, error) {
		secret := cfg.ClientSecret.Reveal()
		if cfg.ClientSecretFile != "" {
			var err error
			if secret, err = readSecret(cfg.ClientSecretFile); err != nil {
				return nil, &Error{Kind: KindToken, op: grants.name, what: "client_secret_file: " + err.Error(),
					remedy: "put the client secret's value into it, readable for Fluent Bit", err: err}
			}
		}
		if again && secret == tried {
			return nil, nil
		}
		tried = secret
		m.hide(secret)
		attempt := request
		attempt.ClientSecret = secret
		return attempt.TokenSource(ctx), nil
	}, nil
}

// readSecret reads the one line of a file. Its errors never show what stands there.
func readSecret(path string) (string, error) {
	// Without O_NONBLOCK a named pipe would hold the engine for ever.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil {
		return "", err
	} else if !info.Mode().IsRegular() {
		return "", fmt.Errorf("%s is no regular file", path)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxSecretFile+1))
	switch {
	case err != nil:
		return "", err
	case len(text) > maxSecretFile:
		return "", fmt.Errorf("%s is larger than %d KiB", path, maxSecretFile>>10)
	}
	text = bytes.TrimRight(text, "\r\n")
	switch {
	case len(text) == 0:
		return "", errors.New(path + " is empty")
	case bytes.ContainsAny(text, "\r\n\x00"):
		return "", errors.New(path + " holds more than one line")
	}
	return string(text), nil
}
