package main

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// image is a directory with a plugin of this text, as the image's root is, and a function that stands in for
// os.Executable.
func image(t *testing.T, text string) func() (string, error) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, plugin), []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	return func() (string, error) { return filepath.Join(dir, "install-plugin"), nil }
}

// names lists a directory.
func names(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return strings.Join(all, " ")
}

// fails runs it and returns the one line that it says.
func fails(t *testing.T, code int, executable func() (string, error), args ...string) string {
	t.Helper()
	var out, errOut bytes.Buffer
	if got := run(args, executable, &out, &errOut); got != code {
		t.Errorf("exit code %d, want %d", got, code)
	}
	if out.Len() > 0 || strings.Count(errOut.String(), "\n") != 1 {
		t.Errorf("out %q, err %q", out.String(), errOut.String())
	}
	return strings.TrimSuffix(errOut.String(), "\n")
}

func TestCopiesThePlugin(t *testing.T) {
	dir := t.TempDir()
	old := syscall.Umask(0o077) // the mode must not hang on it
	defer syscall.Umask(old)
	var out, errOut bytes.Buffer
	if code := run([]string{dir}, image(t, "ELF"), &out, &errOut); code != 0 || errOut.Len() > 0 {
		t.Fatalf("%d: %s", code, errOut.String())
	}
	target := filepath.Join(dir, plugin)
	if want := "install-plugin: " + target + ", 3 bytes\n"; out.String() != want {
		t.Errorf("said %q, want %q", out.String(), want)
	}
	text, err := os.ReadFile(target)
	if err != nil || string(text) != "ELF" {
		t.Errorf("%q, %v", text, err)
	}
	info, err := os.Stat(target)
	if err != nil || info.Mode() != 0o644 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if all := names(t, dir); all != plugin {
		t.Errorf("the directory holds %s", all)
	}
}

// A process that has the old file open or mapped keeps it.
func TestReplacesTheFileAndDoesNotWriteIntoIt(t *testing.T) {
	dir := t.TempDir()
	target := filepath.Join(dir, plugin)
	if err := os.WriteFile(target, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	held, err := os.Open(target)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	if code := run([]string{dir}, image(t, "newer"), &bytes.Buffer{}, &bytes.Buffer{}); code != 0 {
		t.Fatal(code)
	}
	before, err := io.ReadAll(held)
	if err != nil {
		t.Fatal(err)
	}
	after, err := os.ReadFile(target)
	if err != nil {
		t.Fatal(err)
	}
	if string(before) != "old" || string(after) != "newer" {
		t.Errorf("the open file holds %q, the new one %q", before, after)
	}
}

func TestSaysInOneLineWhatIsWrong(t *testing.T) {
	f := func(name, want string, code int, executable func() (string, error), args ...string) {
		t.Helper()
		if got := fails(t, code, executable, args...); got != want {
			t.Errorf("%s:\n got %s\nwant %s", name, got, want)
		}
	}
	good := image(t, "ELF")
	missing := filepath.Join(t.TempDir(), "plugins")
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	taken := t.TempDir()
	if err := os.MkdirAll(filepath.Join(taken, plugin, "something"), 0o700); err != nil {
		t.Fatal(err)
	}
	empty := t.TempDir()
	self := func(dir string) func() (string, error) {
		return func() (string, error) { return filepath.Join(dir, "install-plugin"), nil }
	}

	f("no argument", usage, 2, good)
	f("a file that is no plugin", usage, 2, good, "/a", "/b")
	f("an unknown flag", usage, 2, good, "--force")
	f("an empty directory name", usage, 2, good, "")
	f("no such directory", "install-plugin: cannot write into "+missing+": no such file or directory; "+
		"mount a volume there", 1, good, missing)
	f("a file instead", "install-plugin: cannot write into "+file+": not a directory", 1, good, file)
	f("no plugin beside it", "install-plugin: the plugin must lie beside install-plugin: "+
		"open "+filepath.Join(empty, plugin)+": no such file or directory", 1, self(empty), taken)
	hollow := image(t, "")
	place, _ := hollow()
	thin := filepath.Join(filepath.Dir(place), plugin)
	f("an empty plugin", "install-plugin: "+thin+" is no file with a plugin in it", 1, hollow, taken)
	f("unknown place", "install-plugin: cannot tell where it lies itself: lost", 1,
		func() (string, error) { return "", errors.New("lost") }, taken)

	if got := fails(t, 1, good, taken); !strings.HasPrefix(got, "install-plugin: rename ") {
		t.Errorf("a directory in its place: %s", got)
	}
	if all := names(t, taken); all != plugin {
		t.Errorf("a failure left %s", all)
	}
}

func TestAdvisesByTheError(t *testing.T) {
	f := func(err error, want string) {
		t.Helper()
		got := advise("/plugins", &fs.PathError{Op: "open", Path: "/plugins/.in_defender.so-1", Err: err}).Error()
		if !strings.HasPrefix(got, "cannot write into /plugins: "+err.Error()+"; ") || !strings.Contains(got, want) {
			t.Error(got)
		}
	}
	f(syscall.EACCES, "fsGroup")
	f(syscall.EROFS, "mount a writable volume")
	f(syscall.ENOSPC, "too small")
	f(syscall.ENOENT, "mount a volume")
}

func TestHelpIsNoFailure(t *testing.T) {
	var out, errOut bytes.Buffer
	code := run([]string{"--help"}, os.Executable, &out, &errOut)
	if code != 0 || out.String() != usage+"\n" || errOut.Len() > 0 {
		t.Errorf("%d, %q, %q", code, out.String(), errOut.String())
	}
}

// The image has no libraries, so nothing of it may need cgo, nor anything but Go's own library.
func TestNeedsNothingButGo(t *testing.T) {
	const foreign = "{{if not .Standard}}{{.ImportPath}}{{end}}"
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "-f", foreign, ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Fields(string(out)); len(got) != 1 || got[0] != "fluent-bit-defender/cmd/install-plugin" {
		t.Errorf("it is made of %v", got)
	}
}

func TestCopiesThePluginOfThatName(t *testing.T) {
	from, dir := image(t, "ELF"), t.TempDir()
	place, _ := from()
	const name = "in_defender_kubernetes.so"
	if err := os.WriteFile(filepath.Join(filepath.Dir(place), name), []byte("ELF too"), 0o755); err != nil {
		t.Fatal(err)
	}
	if code := run([]string{dir, name}, from, io.Discard, io.Discard); code != 0 || names(t, dir) != name {
		t.Errorf("exit code %d, the directory holds %s", code, names(t, dir))
	}
	if got := fails(t, 2, from, dir, "../etc/passwd"); got != usage {
		t.Errorf("said %q", got)
	}
}

func TestGivesADirectoryToAUser(t *testing.T) {
	dir := t.TempDir()
	for _, who := range []string{"", "1", "1:", ":1", "-1:1", "root:root", "1:1:1", "4294967295:1"} {
		if got := fails(t, 2, os.Executable, "--own", who, dir); got != usage {
			t.Errorf("%q: said %q", who, got)
		}
	}
	got := fails(t, 1, os.Executable, "--own", "1:1", filepath.Join(dir, "nowhere"))
	if !strings.HasSuffix(got, "no such file or directory; it needs root and the capability CHOWN") {
		t.Errorf("said %q", got)
	}
	if os.Getuid() != 0 {
		t.Skip("SKIPPED: only root may give a directory away")
	}
	if code := run([]string{"--own", "65532:65533", dir}, os.Executable, io.Discard, io.Discard); code != 0 {
		t.Fatal(code)
	}
	info, err := os.Stat(dir)
	if s, ok := info.Sys().(*syscall.Stat_t); err != nil || !ok || s.Uid != 65532 || s.Gid != 65533 {
		t.Errorf("it belongs to %+v, %v", info.Sys(), err)
	}
}
