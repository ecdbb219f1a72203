package client

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/oauth2"

	"fluent-bit-defender/conf"
	"fluent-bit-defender/credential"
)

// authorizationCode is the grant of a login: defenderctl login (Login) did the interactive part
// and wrote a refresh token, of which access tokens and further refresh tokens are made here.
// release lets go of the file.
func authorizationCode(c *Client, cfg *conf.Config) (g grant, release func(), err error) {
	request, err := newTokenRequest(cfg)
	if err != nil {
		return nil, nil, err
	}
	if len(request.Scopes) > 0 {
		request.Scopes = append(request.Scopes, offlineAccess)
	}
	s, err := openSession(cfg.RefreshTokenFile, cfg.ClientID)
	if err != nil {
		return nil, nil, cannotOpen(cfg.RefreshTokenFile, err)
	}
	var had string // the token that this client got last; it asks again because that one is of no more use
	return func(w *tokenWire, again bool) (oauth2.TokenSource, error) {
		if again {
			return nil, nil // the file is read at each attempt
		}
		return sourceFunc(func() (*oauth2.Token, error) {
			tok, err := s.token(w, request, lease{request.TokenURL, cfg.Resource}, had)
			if err != nil {
				return nil, err
			}
			had = tok.AccessToken
			return tok, nil
		}), nil
	}, s.leave, nil
}

// cannotOpen says what to do about a login whose file, configured as path, cannot be taken.
func cannotOpen(path string, err error) error {
	remedy := ""
	switch {
	case errors.Is(err, credential.ErrInUse):
		return fmt.Errorf("refresh_token_file: %w, and only one may renew a login: stop that one, or log in to another file with `defenderctl login`", err)
	case errors.Is(err, os.ErrNotExist), errors.Is(err, os.ErrPermission), errors.Is(err, syscall.EROFS):
		remedy = ": its directory must exist and be writable for Fluent Bit, because Entra ID gives a new token at each use"
	}
	if !conf.PathShown(path) {
		remedy += ": " + credential.TakesPath
	}
	return fmt.Errorf("refresh_token_file: %w%s", err, remedy)
}
