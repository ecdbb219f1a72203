package client

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"golang.org/x/oauth2"

	"fluent-bit-defender/conf"
)

// maxSecretFile bounds what is read of a file with a secret. Entra ID's have 40
// bytes; a larger file is the wrong file.
const maxSecretFile = 16 << 10

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
			if secret, err = readSecret(cfg.ClientSecretFile); err != nil {
				return nil, credentialError("client_secret_file", err, "put the client secret's value into it, readable for Fluent Bit")
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

// credentialError is the error of a credential's file that cannot be used. err must
// show nothing of what stands there.
func credentialError(key string, err error, remedy string) *Error {
	return &Error{Kind: KindToken, op: grants.name, what: key + ": " + err.Error(), remedy: remedy, err: err}
}

// readSecret reads the one line of a file. Its errors never show what stands there.
func readSecret(path string) (string, error) {
	text, err := readFile(path, maxSecretFile)
	if err != nil {
		return "", err
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

// readFile reads a regular file of at most max bytes.
func readFile(path string, max int) ([]byte, error) {
	// Without O_NONBLOCK a named pipe would hold the engine for ever.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil {
		return nil, err
	} else if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no regular file", path)
	}
	text, err := io.ReadAll(io.LimitReader(f, int64(max)+1))
	if err != nil {
		return nil, err
	}
	if len(text) > max {
		return nil, fmt.Errorf("%s is larger than %d KiB", path, max>>10)
	}
	return text, nil
}
