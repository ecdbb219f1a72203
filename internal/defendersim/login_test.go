package defendersim

import (
	"encoding/json"
	"html"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"golang.org/x/oauth2"
)

const native = "0a6a3b1c-1111-2222-3333-444455556666"

// loginConfig is a native application's, for one version.
func (t *rig) loginConfig(v2 bool) (*oauth2.Config, []oauth2.AuthCodeOption) {
	at := t.v1
	if v2 {
		at = t.v2
	}
	c := &oauth2.Config{ClientID: native, RedirectURL: "http://localhost:8400", Endpoint: oauth2.Endpoint{
		AuthURL: strings.TrimSuffix(at, "token") + "authorize", TokenURL: at, AuthStyle: oauth2.AuthStyleInParams}}
	if v2 {
		c.Scopes = []string{DefaultResource + "/.default", "offline_access"}
		return c, nil
	}
	return c, []oauth2.AuthCodeOption{oauth2.SetAuthURLParam("resource", DefaultResource)}
}

// browse opens a login page, answers it, and returns where it led.
func (t *rig) browse(page, answer string) url.Values {
	t.Helper()
	a := t.do(must(http.NewRequest("GET", page, nil)))
	if a.status != 200 || !strings.HasPrefix(a.header.Get("Content-Type"), "text/html") {
		t.Fatalf("page: %d %s", a.status, a.body)
	}
	form := url.Values{"consent": {answer}}
	field := regexp.MustCompile(`<input type="hidden" name="([^"]*)" value="([^"]*)">`)
	for _, m := range field.FindAllStringSubmatch(string(a.body), -1) {
		form.Set(html.UnescapeString(m[1]), html.UnescapeString(m[2]))
	}
	action := regexp.MustCompile(`action="([^"]*)"`).FindStringSubmatch(string(a.body))
	u := must(url.Parse(page))
	b := t.post(must(u.Parse(html.UnescapeString(action[1]))).String(), form)
	back := must(url.Parse(b.header.Get("Location")))
	if b.status != 302 || back.Scheme != "http" || back.Host != "localhost:8400" || back.Path != "/" {
		t.Fatalf("the answer leads to %d %q: %s", b.status, b.header.Get("Location"), b.body)
	}
	if b.header.Get("Date") == "" {
		t.Error("the redirect has no Date")
	}
	return back.Query()
}

// tokens is an answer of the token endpoint.
type tokens struct {
	Access  string `json:"access_token"`
	Refresh string `json:"refresh_token"`
}

func (t *rig) tokens(a answer) (got tokens) {
	t.Helper()
	if err := json.Unmarshal(a.body, &got); err != nil || got.Access == "" {
		t.Fatalf("no token: %v %s", err, a.body)
	}
	return got
}

// codeForm asks for the tokens of the code that came back; verifier "": none is sent.
func codeForm(c *oauth2.Config, back url.Values, verifier string) url.Values {
	form := url.Values{
		"grant_type": {"authorization_code"}, "code": {back.Get("code")},
		"redirect_uri": {c.RedirectURL}, "client_id": {native},
	}
	if verifier != "" {
		form.Set("code_verifier", verifier)
	}
	return form
}

// renew uses a refresh token.
func (t *rig) renew(v2 bool, refresh string) answer {
	t.Helper()
	form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {refresh}, "client_id": {native}}
	if v2 {
		form.Set("scope", DefaultResource+"/.default offline_access")
		return t.post(t.v2, form)
	}
	form.Set("resource", DefaultResource)
	return t.post(t.v1, form)
}

func versions(f func(name string, v2 bool)) { f("v1", false); f("v2", true) }

func TestLoginOfAPerson(t *testing.T) {
	bothWays(t, Config{}, func(t *rig) {
		t.svc.SetNative(native, true)
		versions(func(name string, v2 bool) {
			c, params := t.loginConfig(v2)
			verifier := oauth2.GenerateVerifier()
			back := t.browse(
				c.AuthCodeURL("the&state", append(params, oauth2.S256ChallengeOption(verifier))...), "accept")
			want(t, name+": state", back.Get("state"), "the&state")
			form := codeForm(c, back, verifier)
			got := t.tokens(t.post(c.Endpoint.TokenURL, form))
			want(t, name+": a code is good once", t.code(t.post(c.Endpoint.TokenURL, form)), 54005)
			claims := jwt.MapClaims{}
			if _, _, err := jwt.NewParser().ParseUnverified(got.Access, claims); err != nil {
				t.Fatal(err)
			}
			want(t, name+": aud", claims["aud"], any(DefaultResource))
			want(t, name+": scp", claims["scp"], any("Alert.Read"))
			want(t, name+": upn", claims["upn"], any("analyst@contoso.example"))
			want(t, name+": no roles", claims["roles"], nil)
			req := must(http.NewRequest("GET", t.alerts, nil))
			req.Header.Set("Authorization", "Bearer "+got.Access)
			want(t, name+": the API", t.do(req).status, 200)

			second := t.tokens(t.renew(v2, got.Refresh))
			if second.Refresh == "" || second.Refresh == got.Refresh || second.Access == got.Access {
				t.Errorf("%s: nothing new came", name)
			}
			want(t, name+": the old one stays good", t.code(t.renew(v2, got.Refresh)), 0)
			want(t, name+": and the new one", t.code(t.renew(v2, second.Refresh)), 0)
		})
		want(t, "pages", t.svc.Stats().Logins, 4)
	})
}

func TestCodesAreChecked(t *testing.T) {
	bothWays(t, Config{}, func(t *rig) {
		t.svc.SetNative(native, true)
		t.svc.SetNative("another", true)
		versions(func(name string, v2 bool) {
			c, params := t.loginConfig(v2)
			for _, f := range []struct {
				name       string
				key, value string
				want       int
			}{
				{"another verifier", "code_verifier", oauth2.GenerateVerifier(), 501481},
				{"no verifier", "code_verifier", "", 501481},
				{"another address", "redirect_uri", "http://localhost:1/", 500112},
				{"no address", "redirect_uri", "", 900144},
				{"another application", "client_id", "another", 70000},
				{"an unknown application", "client_id", "nobody", 700016},
				{"an unknown code", "code", "0.AAAA", 9002313},
				{"a secret of a public application", "client_secret", "x", 700025},
			} {
				verifier := oauth2.GenerateVerifier()
				back := t.browse(c.AuthCodeURL("s", append(params, oauth2.S256ChallengeOption(verifier))...), "accept")
				form := codeForm(c, back, verifier)
				form.Set(f.key, f.value)
				want(t, name+", "+f.name, t.code(t.post(c.Endpoint.TokenURL, form)), f.want)
			}
			back := t.browse(c.AuthCodeURL("s", params...), "accept")
			t.svc.Shift(codeLife)
			form := codeForm(c, back, "")
			want(t, name+", a late code", t.code(t.post(c.Endpoint.TokenURL, form)), 70008)
		})
	})
}

func TestLoginPageRefuses(t *testing.T) {
	bothWays(t, Config{}, func(t *rig) {
		t.svc.SetNative(native, true)
		for _, f := range []struct {
			name       string
			v2         bool
			key, value string
			want       string
		}{
			{"an unknown application", false, "client_id", "nobody", "AADSTS700016"},
			{"no native application", true, "client_id", DefaultClientID, "AADSTS50011"},
			{"another address", false, "redirect_uri", "https://evil.example/", "AADSTS50011"},
			{"another path", true, "redirect_uri", "http://localhost:1/x", "AADSTS50011"},
			{"the implicit flow", false, "response_type", "token", "AADSTS700054"},
			{"no resource", false, "resource", "", "AADSTS900144"},
			{"no scope", true, "scope", "", "AADSTS900144"},
			{"a resource in v2", true, "resource", DefaultResource, "AADSTS901002"},
			{"an unknown resource", false, "resource", "https://other.example", "AADSTS500011"},
			{"a short challenge", true, "code_challenge", "abc", "AADSTS50147"},
		} {
			c, params := t.loginConfig(f.v2)
			u := must(url.Parse(c.AuthCodeURL("s", params...)))
			q := u.Query()
			q.Set(f.key, f.value)
			u.RawQuery = q.Encode()
			a := t.do(must(http.NewRequest("GET", u.String(), nil)))
			want(t, f.name+": status", a.status, 400)
			want(t, f.name+": leads nowhere", a.header.Get("Location"), "")
			contains(t, f.name, a.body, f.want)
		}
		c, params := t.loginConfig(true)
		back := t.browse(c.AuthCodeURL("s", params...), "cancel")
		want(t, "declined", back.Get("error"), "access_denied")
		want(t, "declined: state", back.Get("state"), "s")
		want(t, "declined: no code", back.Get("code"), "")
	})
}

func TestRefreshTokens(t *testing.T) {
	bothWays(t, Config{}, func(t *rig) {
		versions(func(name string, v2 bool) {
			first := t.svc.Login(native, DefaultResource)
			want(t, name+": garbage", t.code(t.renew(v2, "garbage")), 9002313)
			form := url.Values{
				"grant_type": {"refresh_token"}, "refresh_token": {first},
				"client_id": {DefaultClientID}, "client_secret": {DefaultSecret},
			}
			want(t, name+": another application's", t.code(t.post(t.v1, form)), 70000)
			second := t.tokens(t.renew(v2, first)).Refresh

			t.svc.SetModes(func(m *Modes) { m.KeepRefresh = true })
			want(t, name+": none comes when it is kept", t.tokens(t.renew(v2, second)).Refresh, "")
			t.svc.SetModes(func(m *Modes) { m.KeepRefresh = false })

			t.svc.Shift(loginLife - time.Minute)
			third := t.tokens(t.renew(v2, second)).Refresh
			t.svc.Shift(time.Minute)
			want(t, name+": unused for 90 days", t.code(t.renew(v2, first)), 700082)
			want(t, name+": used in time", t.code(t.renew(v2, third)), 0)

			t.svc.RevokeLogins(50173)
			want(t, name+": revoked", t.code(t.renew(v2, third)), 50173)

			t.svc.SetModes(func(m *Modes) { m.RefreshOnce = true })
			once := t.svc.Login(native, DefaultResource)
			next := t.tokens(t.renew(v2, once)).Refresh
			want(t, name+": twice where once is the rule", t.code(t.renew(v2, once)), 70008)
			want(t, name+": and the whole login is gone", t.code(t.renew(v2, next)), 70008)
			t.svc.SetModes(func(m *Modes) { m.RefreshOnce = false })
		})
	})
}

func TestV2GivesARefreshTokenOnRequestOnly(t *testing.T) {
	bothWays(t, Config{}, func(t *rig) {
		t.svc.SetNative(native, true)
		c, _ := t.loginConfig(true)
		c.Scopes = []string{DefaultResource + "/.default"}
		back := t.browse(c.AuthCodeURL("s"), "accept")
		form := codeForm(c, back, "")
		want(t, "refresh token", t.tokens(t.post(t.v2, form)).Refresh, "")
	})
}

func TestGraphTokensOfAPerson(t *testing.T) {
	graphBothWays(t, Config{}, func(t *graphRig) {
		t.svc.SetNative(native, true)
		c, _ := t.loginConfig(true)
		c.Scopes = []string{GraphHost + "/" + GraphPermission, "offline_access"}
		verifier := oauth2.GenerateVerifier()
		back := t.browse(c.AuthCodeURL("state", oauth2.S256ChallengeOption(verifier)), "accept")
		got := t.tokens(t.post(t.v2, codeForm(c, back, verifier)))
		t.graph = got.Access
		want(t, "delegated permission", t.query().status, 200)
		siem := t.tokens(t.renew(true, got.Refresh)) // for the SIEM API
		t.graph = siem.Access
		want(t, "renewed for the other API", t.query().status, 401)
		form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {siem.Refresh}, "client_id": {native}}
		form.Set("scope", GraphHost+"/.default offline_access")
		t.graph = t.tokens(t.post(t.v2, form)).Access
		want(t, "renewed for Graph", t.query().status, 200)
	})
	graphMemory(t, Config{GraphScopes: []string{"User.Read"}}, func(t *graphRig) {
		t.svc.SetNative(native, true)
		c, _ := t.loginConfig(true)
		c.Scopes = []string{GraphHost + "/User.Read"}
		back := t.browse(c.AuthCodeURL("state"), "accept")
		t.graph = t.tokens(t.post(t.v2, codeForm(c, back, ""))).Access
		want(t, "another permission", t.query().code, "Forbidden")
	})
}
