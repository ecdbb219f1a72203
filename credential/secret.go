// Package credential has one job: the files of credentials, which are secrets, certificates with their keys, and the
// logins of people. It reads and checks them, signs with them and replaces them whole. Errors show nothing of what
// stands in a file, nor a path that may be the credential itself, pasted under the key of its file. It knows nothing
// of the network.
package credential

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"unicode"
	"unicode/utf8"

	"fluent-bit-defender/conf"
)

// MaxSecret bounds what is read of a file with a secret, in bytes. Entra ID's secrets have 40; a larger file is the
// wrong file.
const MaxSecret = 16 << 10

// TakesPath is the remedy where a path is not shown: it may be the credential itself.
const TakesPath = "the key takes the path of a file, best an absolute one (only such are shown)"

// FileName is what errors call the file of a credential.
func FileName(path string) string {
	if conf.PathShown(path) {
		return path
	}
	return "the file named there (not shown)"
}

// fileError is the error of an operation on the file of a credential, whose own text names the file or others made of
// its name.
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
	return fmt.Errorf("%s: %w", FileName(path), err)
}

// ReadSecret reads the one line of a file. Its errors never show what stands there.
func ReadSecret(path string) (string, error) { return readSecretOf(path, path) }

// readSecretOf reads the file at path, which is configured as given.
func readSecretOf(path, given string) (string, error) {
	text, err := ReadFile(path, given, MaxSecret)
	if err != nil {
		return "", err
	}
	// Some editors begin a file with a mark of its encoding.
	secret := strings.TrimRight(strings.TrimPrefix(string(text), "\ufeff"), "\r\n")
	if fault := unusableText(secret); fault != "" {
		return "", errors.New(FileName(given) + " " + fault)
	}
	return secret, nil
}

// unusableText says what keeps text from being a secret, "" when nothing does, and goes on after the file's name. The
// service would call such a secret a wrong one.
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

// ReadFile reads a regular file of at most max bytes, which is configured as given.
func ReadFile(path, given string, max int) ([]byte, error) {
	// Without O_NONBLOCK a named pipe would hold the engine for ever.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, fileError(given, err)
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil {
		return nil, fileError(given, err)
	} else if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no regular file", FileName(given))
	}
	text, err := io.ReadAll(io.LimitReader(f, int64(max)+1))
	if err != nil {
		return nil, fileError(given, err)
	}
	if len(text) > max {
		return nil, fmt.Errorf("%s is larger than %d KiB", FileName(given), max>>10)
	}
	return text, nil
}
