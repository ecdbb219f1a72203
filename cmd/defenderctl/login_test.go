package main

import (
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fluent-bit-defender/internal/defendersim"
)

const native = "0b6b7c5e-6a40-4f0e-9d4c-2f6e6c1f6a11"

var (
	actionForm = regexp.MustCompile(`<form[^>]* action="([^"]*)"`)
	hiddenForm = regexp.MustCompile(`<input type="hidden" name="([^"]*)" value="([^"]*)">`)
)

// person opens the page as a browser would, follows its form with the answer, and returns what the page at the end
// shows.
func (w *world) person(address, answer string) (string, error) {
	tr := &http.Transport{TLSClientConfig: w.srv.TLSConfig()}
	defer tr.CloseIdleConnections()
	browser := &http.Client{Transport: tr, Timeout: 10 * time.Second}
	get := func(resp *http.Response, err error) (string, *url.URL, error) {
		if err != nil {
			return "", nil, err
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		return string(text), resp.Request.URL, err
	}
	text, at, err := get(browser.Get(address))
	if err != nil {
		return "", err
	}
	action := actionForm.FindStringSubmatch(text)
	if action == nil {
		return text, nil
	}
	form := url.Values{"consent": {answer}}
	for _, field := range hiddenForm.FindAllStringSubmatch(text, -1) {
		form.Set(html.UnescapeString(field[1]), html.UnescapeString(field[2]))
	}
	to, err := at.Parse(html.UnescapeString(action[1]))
	if err != nil {
		return "", err
	}
	text, _, err = get(browser.PostForm(to.String(), form))
	return text, err
}

// visit makes a person with that answer sit at the browser, and returns what the last page showed.
func (w *world) visit(answer string, before ...func(address string)) <-chan string {
	shown := make(chan string, 1)
	w.app.browse = func(address string) error {
		go func() {
			for _, f := range before {
				f(address)
			}
			text, err := w.person(address, answer)
			if err != nil {
				text = "browser: " + err.Error()
			}
			shown <- text
		}()
		return nil
	}
	return shown
}

func loginWorld(t *testing.T) *world {
	w := newWorld(t)
	w.svc.SetNative(native, true)
	login := []string{"alias eu", "client_id", "client_secret_file", "client_id " + native, "refresh_token_file login"}
	w.write("fluent-bit.conf", w.stanza(append(login, "auth authorization_code")...))
	w.write("v2.conf", w.stanza(append(login, "token_url", "token_url "+w.srv.TokenURLV2())...))
	return w
}

var loginForm = regexp.MustCompile(`(state|code_challenge)=[A-Za-z0-9_-]+|localhost%3A[0-9]+|localhost:[0-9]+`)

// hideLogin takes out of the transcript what is another each time.
func (w *world) hideLogin() {
	text := loginForm.ReplaceAllStringFunc(w.transcript.String(), func(s string) string {
		if name, _, found := strings.Cut(s, "="); found {
			return name + "=RANDOM"
		}
		return strings.TrimRight(s, "0123456789") + "PORT"
	})
	w.transcript.Reset()
	w.transcript.WriteString(text)
}

func TestLoginWritesTheRefreshToken(t *testing.T) {
	for _, config := range []string{"fluent-bit.conf", "v2.conf"} {
		w := loginWorld(t)
		shown := w.visit("accept")
		if r := w.run("login", "-c", config); r.code != 0 {
			t.Fatalf("exit %d: %s", r.code, r.err)
		}
		if page := <-shown; !strings.Contains(page, "You are logged in") {
			t.Errorf("the browser shows %s", page)
		}
		info, err := os.Stat("login")
		if err != nil || info.Mode() != 0o600 || info.Size() < 20 {
			t.Fatalf("%v (%v)", info, err)
		}
		w.secrets = append(w.secrets, strings.TrimSpace(read(t, "login")))
		w.svc.Add(row("one", time.Hour, ""))
		// The login serves the other commands, each of which gets a new one.
		w.run("check", "-c", config)
		w.run("pull", "-c", config, "--since", "2h")
		w.secrets = append(w.secrets, strings.TrimSpace(read(t, "login")))
		w.run("check", "-c", config)
		if config == "fluent-bit.conf" {
			w.hideLogin()
			w.golden("login")
		}
	}
}

func TestLoginThatFailsWritesNothing(t *testing.T) {
	w := loginWorld(t)
	w.write("secret.conf", w.stanza())
	w.write("unknown.conf", w.stanza("client_id", "client_id 0b6b7c5e-6a40-4f0e-9d4c-2f6e6c1f6a12",
		"client_secret_file", "refresh_token_file login"))
	w.write("nodir.conf", w.stanza("client_id", "client_id "+native,
		"client_secret_file", "refresh_token_file nowhere/login"))

	shown := w.visit("cancel")
	if r := w.run("login", "-c", "fluent-bit.conf"); r.code != 1 {
		t.Errorf("exit %d", r.code)
	}
	if page := <-shown; !strings.Contains(page, "The login failed") {
		t.Errorf("the browser shows %s", page)
	}

	shown = w.visit("accept")
	w.svc.Queue(defendersim.KindToken, defendersim.Entra(54005))
	if r := w.run("login", "-c", "fluent-bit.conf"); r.code != 1 {
		t.Errorf("exit %d", r.code)
	}
	<-shown

	// The page itself refuses, so nobody comes back.
	shown = w.visit("accept")
	r := w.run("login", "-c", "unknown.conf", "--timeout", "300ms")
	if r.code != 1 || !strings.Contains(r.err, "nobody came back") {
		t.Errorf("exit %d", r.code)
	}
	if page := <-shown; !strings.Contains(page, "AADSTS700016") {
		t.Errorf("the browser shows %s", page)
	}

	w.run("login", "-c", "nodir.conf")
	w.run("login", "-c", "secret.conf")
	w.run("login", "-c", "fluent-bit.conf", "--port", "70000")
	if _, err := os.Stat("login"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("login: %v", err)
	}
	w.hideLogin()
	w.golden("login_errors")
}

func TestLoginIgnoresWhatIsNotItsOwn(t *testing.T) {
	w := loginWorld(t)
	var strange []string
	shown := w.visit("accept", func(address string) {
		u, err := url.Parse(address)
		if err != nil {
			return
		}
		back := u.Query().Get("redirect_uri")
		client := &http.Client{Timeout: 10 * time.Second}
		defer client.CloseIdleConnections()
		for _, path := range []string{"favicon.ico", "?code=x&state=wrong", "?error=access_denied", ""} {
			resp, err := client.Get(strings.TrimSuffix(back, "/") + "/" + path)
			if err != nil {
				strange = append(strange, err.Error())
				continue
			}
			resp.Body.Close()
			strange = append(strange, fmt.Sprint(resp.StatusCode))
		}
	})
	if r := w.run("login", "-c", "fluent-bit.conf"); r.code != 0 {
		t.Fatalf("exit %d: %s", r.code, r.err)
	}
	if page := <-shown; !strings.Contains(page, "You are logged in") {
		t.Errorf("the browser shows %s", page)
	}
	if got := strings.Join(strange, " "); got != "404 400 400 400" {
		t.Errorf("the strangers got %s", got)
	}
}

func TestLoginPrintsTheAddressWithoutABrowser(t *testing.T) {
	w := loginWorld(t)
	w.app.browse = func(string) error { return errors.New("none") }
	r := w.run("login", "-c", "fluent-bit.conf", "--timeout", "100ms")
	if !strings.Contains(r.err, "Open this address in a browser on this machine:\n"+w.srv.Authority()) || r.code != 1 {
		t.Errorf("exit %d: %s", r.code, r.err)
	}
	opened := false
	w.app.browse = func(string) error { opened = true; return nil }
	w.run("login", "-c", "fluent-bit.conf", "--timeout", "100ms", "--no-browser")
	if opened {
		t.Error("--no-browser opened one")
	}
}

func TestNobodyUsesTheLoginOfAnother(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: only root can give a file away")
	}
	w := loginWorld(t)
	w.write("login", "0.not-a-real-refresh-token\n")
	if err := os.Chown("login", 12345, 12345); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"check"}, {"pull", "--since", "1h"}} {
		r := w.run(append(args, "-c", "fluent-bit.conf")...)
		if r.code != 1 || !strings.Contains(r.out+r.err, "belongs to another user (12345)") {
			t.Errorf("%q: exit %d: %s%s", args, r.code, r.out, r.err)
		}
	}
	if _, err := os.Stat("login.lock"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("login.lock: %v", err)
	}
}

func TestStanzasWithOneLoginAreOfOneApplication(t *testing.T) {
	w := loginWorld(t)
	common := []string{"client_id", "client_secret_file", "refresh_token_file login"}
	w.write("fluent-bit.conf", w.stanza(append(common, "alias one", "client_id "+native)...)+
		w.stanza(append(common, "alias two", "client_id "+native, "machine_groups a")...)+
		w.stanza(append(common, "alias three", "client_id "+defendersim.DefaultClientID, "machine_groups b")...))
	r := w.run("check", "--offline", "-c", "fluent-bit.conf")
	if r.code != 1 || strings.Count(r.out, "FAIL") != 1 ||
		!strings.Contains(r.out, "two has the same file with another client_id") {
		t.Errorf("exit %d: %s", r.code, r.out)
	}
}

func TestCheckLeavesALoginInUseAlone(t *testing.T) {
	w := loginWorld(t)
	w.write("login", "0.not-a-real-refresh-token\n")
	lock, err := os.OpenFile("login.lock", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	hold(t, lock)
	// It waits for the other process, but not in our time.
	synctest.Test(t, func(t *testing.T) {
		r := w.runIn(t.Context(), "check", "-c", "fluent-bit.conf")
		if r.code != 0 || !strings.Contains(r.out, "another process uses the login") {
			t.Errorf("exit %d: %s", r.code, r.out)
		}
	})
	if n := w.svc.Stats().Tokens; n != 0 {
		t.Errorf("%d tokens were asked for", n)
	}
}
