package main

import (
	"bufio"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// desktop puts nothing but a program named xdg-open on PATH, and returns what it is called with: its number of
// arguments and the first of them, in one line.
func desktop(t *testing.T) (called *bufio.Reader) {
	t.Helper()
	dir := t.TempDir()
	fifo := filepath.Join(dir, "called")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	// Open for writing as well, so that opening does not wait for the other side.
	f, err := os.OpenFile(fifo, os.O_RDWR|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := f.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	script := "#!/bin/sh\necho \"$# $1\" >'" + fifo + "'\n"
	if err := os.WriteFile(filepath.Join(dir, "xdg-open"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir)
	t.Setenv("WAYLAND_DISPLAY", "")
	t.Setenv("DISPLAY", ":99")
	return bufio.NewReader(f)
}

func TestLoginOpensTheDesktopsBrowser(t *testing.T) {
	w := loginWorld(t)
	called := desktop(t)
	w.app.browse = browse
	shown := make(chan string, 1)
	go func() {
		line, err := called.ReadString('\n')
		address, one := strings.CutPrefix(strings.TrimSpace(line), "1 ")
		if err != nil || !one {
			shown <- "xdg-open got " + line
			return
		}
		text, err := w.person(address, "accept")
		if err != nil {
			text = "browser: " + err.Error()
		}
		shown <- text
	}()
	r := w.run("login", "-c", "fluent-bit.conf", "--timeout", "10s")
	if page := <-shown; r.code != 0 || !strings.Contains(page, "You are logged in") {
		t.Fatalf("exit %d: %s; the browser shows %s", r.code, r.err, page)
	}
	if !strings.Contains(r.err, "Sign in in the browser that opens. "+
		"If none does, open this address in one on this machine:\n"+w.srv.Authority()) {
		t.Errorf("told: %s", r.err)
	}
}

func TestLoginPrintsTheAddressWhereNoBrowserOpens(t *testing.T) {
	w := loginWorld(t)
	desktop(t)
	w.app.browse = browse
	f := func(name, key, value string) {
		t.Run(name, func(t *testing.T) {
			t.Setenv(key, value)
			r := w.run("login", "-c", "fluent-bit.conf", "--timeout", "50ms")
			const way = "Open this address in a browser on this machine:\n"
			if r.code != 1 || !strings.Contains(r.err, way+w.srv.Authority()) {
				t.Errorf("exit %d: %s", r.code, r.err)
			}
		})
	}
	f("no desktop", "DISPLAY", "")
	f("no xdg-open", "PATH", t.TempDir())
	broken := t.TempDir()
	if err := os.WriteFile(filepath.Join(broken, "xdg-open"), []byte("#!"+broken+"/nowhere\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	f("an xdg-open that cannot run", "PATH", broken)
}

func TestOnlyAddressesAreOpened(t *testing.T) {
	desktop(t)
	for _, address := range []string{
		"", "--help", "/etc/passwd", "file:///etc/passwd", "javascript:alert(1)", "http://[::1",
	} {
		if err := browse(address); err == nil {
			t.Errorf("%q was opened", address)
		}
	}
}
