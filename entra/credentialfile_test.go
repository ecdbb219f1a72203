package entra

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"fluent-bit-defender/conf"
	"fluent-bit-defender/credential"
	"fluent-bit-defender/internal/simtest"
)

// What stands under the key of a credential's file may be the credential itself.
func TestACredentialInPlaceOfItsFileIsNotShown(t *testing.T) {
	t.Chdir(t.TempDir())
	const secret = "abc8Q~Xk3.Tn-vZ0p_Lq9sWm2RyUe4HdGfJb7Ca1N" // the form of Entra ID's
	jwt := "eyJhbGciOiJSUzI1NiJ9." + strings.Repeat("eyJzdWIiOiJzeXN0ZW0", 40) + ".c2lnbmF0dXJl"
	refresh := "0.AXoAv4j5cvGGr0GRqy180BHb" + strings.Repeat("R7xQ9pLm", 120)
	base64 := "MIIKcQIBAzCCCjcGCSqGSIb3/DQEHAaCCCigEggok/MIIKIDCCBNcG+w=="
	missing, long := "no such file or directory", "file name too long"
	f := func(auth, key, value, want string) {
		t.Helper()
		stanza := map[string]string{
			"tenant_id": simtest.Tenant, "client_id": simtest.ClientID, "region": "eu", "auth": auth, key: value,
		}
		cfg, err := conf.Load(func(key string) string { return stanza[key] }, func(string) string { return "" })
		if err != nil {
			t.Fatal(err)
		}
		c, err := open(cfg, &simtest.Service{}, discard)
		if err == nil {
			_, err = c.Get(t.Context())
			c.Close()
		}
		if err == nil {
			t.Fatalf("%s: no error", key)
		}
		for e := err; e != nil; e = errors.Unwrap(e) {
			for at := 0; at+8 <= len(value); at += 8 {
				if strings.Contains(e.Error(), value[at:at+8]) {
					t.Fatalf("%s is shown: %T %.300s", key, e, e)
				}
			}
			if pe := (*os.PathError)(nil); errors.As(e, &pe) {
				t.Errorf("%s: the error holds the path", key)
			}
		}
		if !strings.Contains(err.Error(), key+": the file named there (not shown)"+want) ||
			!strings.Contains(err.Error(), "takes the path of a file, best an absolute one") {
			t.Errorf("%s:\n got %s\nwant %s", key, err, want)
		}
	}
	f("client_secret", "client_secret_file", secret, ": "+missing+"; the key takes")
	f("client_secret", "client_secret_file", base64, ": "+missing)
	f("client_secret", "client_secret_file", "/"+strings.Repeat("abcd", 64), ": "+long)
	f("client_certificate", "client_certificate_file", base64, ": "+missing)
	f("client_certificate", "client_certificate_file", base64+strings.Repeat("AAAA", 100), ": "+missing)
	f("workload_identity", "federated_token_file", jwt, ": "+long)
	f("authorization_code", "refresh_token_file", refresh[:200], ": "+missing)
	f("authorization_code", "refresh_token_file", refresh, ": "+long)
	f("authorization_code", "refresh_token_file", base64, ": "+missing)

	// Nor is a file that is there.
	if err := os.WriteFile("app", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	f("client_secret", "client_secret_file", "app", " is empty")
	f("client_certificate", "client_certificate_file", "app", " is empty")
	f("workload_identity", "federated_token_file", "app", " is empty")
	f("authorization_code", "refresh_token_file", "app", " is empty")
}

func TestALoginThatCannotBeStoredDoesNotShowARelativePath(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	const token = "0.AXoAv4j5cvGGr0GRqy180BHb"
	if err := os.Mkdir(token, 0o700); err != nil { // in place of the file: it cannot be replaced
		t.Fatal(err)
	}
	err := credential.WriteRefreshToken(token, "new")
	if err == nil || strings.Contains(err.Error(), token[:8]) {
		t.Errorf("%v", err)
	}
	err = credential.WriteRefreshToken(filepath.Join(dir, token), "new")
	if err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("an absolute path is not shown: %v", err)
	}
}

// A login on a filesystem that is read-only says the same as one in a directory that is not writable.
func TestALoginOnAReadOnlyFilesystem(t *testing.T) {
	cause := &os.PathError{Op: "open", Path: "/run/secrets/refresh.lock", Err: syscall.EROFS}
	err := cannotOpen("/run/secrets/refresh", cause)
	want := "refresh_token_file: open /run/secrets/refresh.lock: read-only file system: " +
		"its directory must exist and be writable for Fluent Bit, because Entra ID gives a new token at each use"
	if err.Error() != want {
		t.Errorf("\n got %s\nwant %s", err, want)
	}
}
