package credential

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestReadSecret(t *testing.T) {
	dir := t.TempDir()
	f := func(name, content, want, fault string) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := ReadSecret(path)
		switch {
		case fault == "" && (err != nil || got != want):
			t.Errorf("%s: got %q, %v", name, got, err)
		case fault != "" && (err == nil || err.Error() != path+fault):
			t.Errorf("%s: got %v, want %s", name, err, path+fault)
		}
	}
	f("plain", "s3cret", "s3cret", "")
	f("newline", "s3cret\n", "s3cret", "")
	f("crlf", "s3cret\r\n", "s3cret", "")
	f("marked", "\ufeffs3cret\r\n", "s3cret", "")
	f("beyond ASCII", "gehé1m", "gehé1m", "")
	f("largest", strings.Repeat("a", MaxSecret), strings.Repeat("a", MaxSecret), "")
	f("empty", "", "", " is empty")
	f("newlines", "\n\n", "", " is empty")
	f("lines", "one\ntwo\n", "", " holds more than one line")
	f("a mark alone", "\ufeff\n", "", " is empty")
	f("blank", " \t\n", "", " is empty")
	const (
		utf8  = " is not in UTF-8 (PowerShell's > writes UTF-16): save it as UTF-8"
		ends  = " holds white space at an end: take it away, it is no part of a credential"
		plain = " holds control or invisible characters: put the credential into it anew, as plain text"
	)
	f("UTF-16", "\xff\xfes\x003\x00c\x00\r\x00\n\x00", "", utf8)
	f("UTF-16, big end first", "\xfe\xff\x00s\x003\x00c", "", utf8)
	f("UTF-16 without a mark", "s\x003\x00c\x00\n\x00", "", utf8)
	f("nul", "one\x00", "", utf8)
	f("Latin-1", "geh\xe91m", "", utf8)
	f("space at its end", "s3cret \n", "", ends)
	f("tab at its end", "s3cret\t", "", ends)
	f("space at its beginning", " s3cret\n", "", ends)
	f("no-break space", "s3cret\u00a0\n", "", ends)
	f("escape", "s3\x1bcret\n", "", plain)
	f("zero width", "s3\u200bcret\n", "", plain)
	f("a second mark", "\ufeff\ufeffs3cret\n", "", plain)
	f("large", strings.Repeat("a", MaxSecret+1), "", " is larger than 16 KiB")
	if _, err := ReadSecret(dir); err == nil || err.Error() != dir+" is no regular file" {
		t.Errorf("directory: %v", err)
	}
}

// A path that may be the credential itself is in no error of its lock.
func TestALockedFileIsNamedByAnAbsolutePathOnly(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.WriteFile("login", []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := OpenRefreshFile("login")
	if err != nil {
		t.Fatal(err)
	}
	lock, err := file.Lock()
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if _, err := file.Lock(); err == nil ||
		!strings.HasPrefix(err.Error(), "the file named there (not shown) is in use by another process (") {
		t.Errorf("%v", err)
	}
}
