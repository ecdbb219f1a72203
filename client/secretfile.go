package client

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"unicode"
	"unicode/utf8"

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
		remedy = takesPath + "; " + remedy
	}
	return &Error{Kind: KindToken, op: grants.name, what: key + ": " + err.Error(), remedy: remedy, err: err}
}

// takesPath is the remedy where a path is not shown: it may be the credential itself.
const takesPath = "the key takes the path of a file, best an absolute one (only such are shown)"

// fileName is what errors call the file of a credential.
func fileName(path string) string {
	if conf.PathShown(path) {
		return path
	}
	return "the file named there (not shown)"
}

// fileError is the error of an operation on the file of a credential, whose own text names the file or others made of its name.
func fileError(path string, err error) error {
	if conf.PathShown(path) {
		return err
	}
	if e := (*os.PathError)(nil); errors.As(err, &e) {
		err = e.Err
	}
	if e := (*os.LinkError)(nil); errors.As(err, &e) {
		err = e.Err
	}
	return fmt.Errorf("%s: %w", fileName(path), err)
}

// readSecret reads the one line of a file. Its errors never show what stands there.
func readSecret(path string) (string, error) { return readSecretOf(path, path) }

// readSecretOf reads the file at path, which is configured as given.
func readSecretOf(path, given string) (string, error) {
	text, err := readFile(path, given, maxSecretFile)
	if err != nil {
		return "", err
	}
	// Some editors begin a file with a mark of its encoding.
	secret := strings.TrimRight(strings.TrimPrefix(string(text), "\ufeff"), "\r\n")
	if fault := unusableText(secret); fault != "" {
		return "", errors.New(fileName(given) + " " + fault)
	}
	return secret, nil
}

// unusableText says what keeps text from being a secret, "" when nothing does, and goes on after the file's name. The service would call
// such a secret a wrong one.
func unusableText(text string) string {
	switch {
	case !utf8.ValidString(text) || strings.Contains(text, "\x00"):
		return "is not in UTF-8 (PowerShell's > writes UTF-16): save it as UTF-8"
	case strings.TrimSpace(text) == "":
		return "is empty"
	case strings.ContainsAny(text, "\r\n"):
		return "holds more than one line"
	case text != strings.TrimSpace(text):
		return "holds white space at an end: take it away, it is no part of a credential"
	case len(text) > 1 && (text[0] == '"' || text[0] == '\'') && text[len(text)-1] == text[0]:
		return "holds a credential in quotes: take them away, they are no part of it"
	case strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }):
		return "holds control or invisible characters: put the credential into it anew, as plain text"
	}
	return ""
}

// readFile reads a regular file of at most max bytes, which is configured as given.
func readFile(path, given string, max int) ([]byte, error) {
	// Without O_NONBLOCK a named pipe would hold the engine for ever.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, fileError(given, err)
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil {
		return nil, fileError(given, err)
	} else if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no regular file", fileName(given))
	}
	text, err := io.ReadAll(io.LimitReader(f, int64(max)+1))
	if err != nil {
		return nil, fileError(given, err)
	}
	if len(text) > max {
		return nil, fmt.Errorf("%s is larger than %d KiB", fileName(given), max>>10)
	}
	return text, nil
}
