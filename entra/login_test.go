package entra

import (
	"context"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"fluent-bit-defender/conf"
	"fluent-bit-defender/credential"
	"fluent-bit-defender/internal/defendersim"
	"fluent-bit-defender/internal/simtest"
	"fluent-bit-defender/transport"
)

// login prepares a login for the stanza.
func loginOf(w *simtest.World) *Login {
	w.Helper()
	net, err := transport.Open(w.Cfg, "test", w.RoundTripper(), w.Logged.Logger())
	if err != nil {
		w.Fatal(err)
	}
	l, err := NewLogin(net, needs, w.Cfg, 8400)
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(l.Close)
	return l
}

func TestALoginFromPageToPull(t *testing.T) {
	f := func(w *simtest.World) {
		w.Cfg.RefreshTokenFile = filepath.Join(w.Dir, "fresh") // nobody has logged in
		l := loginOf(w)
		u, err := url.Parse(l.URL())
		if err != nil {
			w.Fatal(err)
		}
		q := u.Query()
		for name, want := range map[string]string{
			"response_type": "code", "client_id": simtest.LoginID, "redirect_uri": "http://localhost:8400",
			"code_challenge_method": "S256", "response_mode": "query", "prompt": "select_account",
		} {
			if q.Get(name) != want {
				w.Errorf("%s is %q, want %q", name, q.Get(name), want)
			}
		}
		if len(q.Get("code_challenge")) != 43 || len(q.Get("state")) < 16 || strings.Contains(l.URL(), l.verifier) {
			w.Errorf("address is %s", l.URL())
		}
		if want := strings.TrimSuffix(w.Cfg.TokenURL, "token") + "authorize"; !strings.HasPrefix(l.URL(), want+"?") {
			w.Errorf("address is %s, want %s", l.URL(), want)
		}
		back := w.Person(l.URL(), "accept")
		in, err := l.Redeem(context.Background(), back)
		if err != nil {
			w.Fatal(err)
		}
		if in.Claims.User != "analyst@contoso.example" || in.Claims.Audience != defendersim.DefaultResource ||
			len(l.Doubts(in.Claims)) != 0 {
			w.Errorf("claims %+v, doubts %v", in.Claims, l.Doubts(in.Claims))
		}
		_, err = l.Redeem(context.Background(), back)
		if e := (*transport.Error)(nil); !errors.As(err, &e) || e.Code != 54005 {
			w.Errorf("a code is good once: %v", err)
		}
		if err := credential.WriteRefreshToken(w.Cfg.RefreshTokenFile, in.RefreshToken); err != nil {
			w.Fatal(err)
		}
		if info, err := os.Stat(w.Cfg.RefreshTokenFile); err != nil || info.Mode().Perm() != 0o600 {
			w.Errorf("mode %v, %v", info.Mode(), err)
		}
		c := clientOf(w)
		good(w, c, "with the login")
		if err := renewal(c); err != nil {
			w.Errorf("renewed: %v", err)
		}
		w.NoSecrets(in.RefreshToken.Reveal(), back.Get("code"), l.verifier)
	}
	simtest.Versions(t, conf.AuthorizationCode, f)
	for _, v2 := range []bool{false, true} {
		f(simtest.OverTLS(t, conf.AuthorizationCode, v2))
	}
}

func TestLoginsThatFail(t *testing.T) {
	simtest.Versions(t, conf.AuthorizationCode, func(w *simtest.World) {
		f := func(name string, back func(l *Login) url.Values, want string) {
			w.Helper()
			l := loginOf(w)
			_, err := l.Redeem(context.Background(), back(l))
			if err == nil || !regexp.MustCompile("^"+want+"$").MatchString(err.Error()) ||
				strings.Contains(err.Error(), l.verifier) {
				w.Errorf("%s:\n got %v\nwant %s", name, err, want)
			}
		}
		with := func(l *Login, pairs ...string) url.Values {
			q := url.Values{"state": {l.state}}
			for i := 0; i < len(pairs); i += 2 {
				q.Set(pairs[i], pairs[i+1])
			}
			return q
		}
		f("declined", func(l *Login) url.Values { return w.Person(l.URL(), "cancel") },
			`login: the person did not agree \(access_denied\); try again and accept, `+
				`or let an administrator grant consent; the service says ".*"`)
		f("no consent", func(l *Login) url.Values {
			return with(l, "error", "consent_required", "error_description", "AADSTS65001: x")
		}, `login: AADSTS65001: nobody consented to the application's permissions; `+
			`let an administrator grant consent for the application in Entra ID; `+
			`the service says "x \(consent_required\)"`)
		f("hostile", func(l *Login) url.Values {
			return with(l, "error", "<b>\r\n", "error_description", "code "+l.verifier)
		}, "login: no token was given .*masked.*")
		f("no code", func(l *Login) url.Values { return with(l) }, "login: the browser brought no code; try again")
		f("a forged code", func(l *Login) url.Values { return with(l, "code", "0.AAAAAAAAAAAAAAAAAAAA") },
			`token request: AADSTS9002313: the login is not accepted any more \(invalid_grant\); log in again .*`)
		f("another login's code", func(l *Login) url.Values {
			back := w.Person(loginOf(w).URL(), "accept")
			return with(l, "code", back.Get("code"))
		}, `token request: AADSTS501481: the login is not accepted any more \(invalid_grant\); log in again .*`)

		l := loginOf(w)
		for _, back := range []url.Values{
			{}, {"state": {"x"}, "code": {"y"}}, {"state": {l.state[1:]}, "code": {"y"}},
			{"error": {"access_denied"}},
		} {
			if _, err := l.Redeem(context.Background(), back); !errors.Is(err, ErrNotOurs) {
				w.Errorf("%v: %v", back, err)
			}
		}
		if back := w.Person(l.URL(), "accept"); back.Get("state") != l.state {
			w.Error("state is lost")
		} else if _, err := l.Redeem(context.Background(), back); err != nil {
			w.Errorf("after strangers' requests: %v", err)
		}
	})
}

func TestLoginsThatCannotBegin(t *testing.T) {
	f := func(name string, change func(*conf.Config), want string) {
		t.Helper()
		w := simtest.Stanza(t, conf.AuthorizationCode, false)
		change(w.Cfg)
		if _, err := NewLogin(nil, needs, w.Cfg, 8400); err == nil || err.Error() != want {
			t.Errorf("%s: got %v, want %s", name, err, want)
		}
	}
	f("another credential", func(c *conf.Config) { c.Auth = conf.ClientSecret },
		"auth is client_secret: only authorization_code has a login")
	f("another token_url", func(c *conf.Config) { c.TokenURL = "https://login.test/x" },
		"token_url must end in /token: the address of the login is made from it")
	f("no token_url", func(c *conf.Config) { c.TokenURL = "" }, "token_url is not an http or https address")
}

// The file may be in use: login and plugin run beside each other.
func TestALoginWhileThePluginRuns(t *testing.T) {
	w := simtest.Stanza(t, conf.AuthorizationCode, true)
	c := clientOf(w)
	good(w, c, "a token")
	w.Svc.RevokeLogins(50173)
	if e := token(w, c); e.Code != 50173 {
		t.Fatal(e)
	}
	l := loginOf(w)
	in, err := l.Redeem(context.Background(), w.Person(l.URL(), "accept"))
	if err != nil {
		t.Fatal(err)
	}
	if err := credential.WriteRefreshToken(w.Cfg.RefreshTokenFile, in.RefreshToken); err != nil {
		t.Fatal(err)
	}
	good(w, c, "without a restart")
}
