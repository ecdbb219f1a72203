package main

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// chromium finds a browser engine; a test that needs one is skipped where there is none.
func chromium(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Skip("SKIPPED: no browser engine on PATH (chromium, chromium-browser, google-chrome)")
	return ""
}

// engine starts a browser without a window that can reach loopback alone, and takes the simulated Entra ID's
// certificate by its key.
func (w *world) engine() context.Context {
	w.Helper()
	path := chromium(w.T)
	at, err := url.Parse(w.srv.Authority())
	if err != nil {
		w.Fatal(err)
	}
	conn, err := tls.Dial("tcp", at.Host, w.srv.TLSConfig()) // verified by the CA here, so that the browser need not
	if err != nil {
		w.Fatal(err)
	}
	defer conn.Close()
	key := sha256.Sum256(conn.ConnectionState().PeerCertificates[0].RawSubjectPublicKeyInfo)
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path),
		chromedp.Flag("ignore-certificate-errors-spki-list", base64.StdEncoding.EncodeToString(key[:])),
		chromedp.Flag("host-resolver-rules", "MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1"),
		chromedp.Flag("no-proxy-server", true),
	)
	allocator, end := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, closeTab := chromedp.NewContext(allocator)
	if err := chromedp.Do(ctx); err != nil {
		closeTab()
		end()
		w.Skipf("SKIPPED: %s does not start here: %v", path, err)
	}
	w.Cleanup(func() {
		if err := chromedp.Cancel(ctx); err != nil { // waits for the process
			w.Errorf("the browser did not end: %v", err)
		}
		closeTab()
		end()
	})
	return ctx
}

// A person in a real browser: the page of consent, its button, the way back over the loopback redirect, and what is
// shown there.
func TestLoginInABrowserEngine(t *testing.T) {
	w := loginWorld(t)
	browser := w.engine()
	person := func(press string) <-chan string {
		shown := make(chan string, 1)
		w.app.browse = func(address string) error {
			go func() {
				ctx, cancel := context.WithTimeout(browser, 20*time.Second)
				defer cancel()
				err := chromedp.Do(ctx,
					chromedp.Navigate(address),
					chromedp.Click("#"+press),
					chromedp.WaitVisible("body > p:only-child"),
				)
				told := ""
				if err == nil {
					told, err = chromedp.Run(ctx, chromedp.Text("body"))
				}
				if err != nil {
					told = "browser: " + err.Error()
				}
				shown <- strings.TrimSpace(told)
			}()
			return nil
		}
		return shown
	}
	shown := person("cancel")
	r := w.run("login", "-c", "v2.conf", "--timeout", "20s")
	if r.code != 1 || !strings.Contains(r.err, "the person did not agree") {
		t.Errorf("exit %d: %s", r.code, r.err)
	}
	if page := <-shown; !strings.HasPrefix(page, "The login failed: login: the person did not agree") {
		t.Errorf("the browser shows %q", page)
	}
	if _, err := os.Stat("login"); err == nil {
		t.Error("something was written")
	}
	for _, config := range []string{"fluent-bit.conf", "v2.conf"} {
		shown := person("accept")
		if r := w.run("login", "-c", config, "--timeout", "20s"); r.code != 0 {
			t.Errorf("%s: exit %d: %s", config, r.code, r.err)
		}
		if page := <-shown; page != "You are logged in, and can close this page." {
			t.Errorf("%s: the browser shows %q", config, page)
		}
		if r := w.run("check", "-c", config); r.code != 0 || !strings.Contains(r.out, "user analyst@contoso.example") {
			t.Errorf("%s: exit %d: %s", config, r.code, r.out)
		}
	}
}
