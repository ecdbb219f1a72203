package defendersim

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
)

// TestTheSeedsTokenRequest sends the bytes of the seed's example.
func TestTheSeedsTokenRequest(t *testing.T) {
	bothWays(t, Config{}, func(t *rig) {
		req, _ := http.NewRequest("POST", t.v1, strings.NewReader(
			"resource=https%3A%2F%2Fgraph.windows.net&client_id=35e0f735-5fe4-4693-9e68-3de80f1d3745"+
				"&client_secret=IKXc6PxB2eoFNJ%2FIT%2Bl2JZZD9d9032VXz6Ul3D2WyUQ%3D&grant_type=client_credentials"))
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		a := t.do(req)
		want(t, "status", a.status, 200)
		form := regexp.MustCompile(`^\{"token_type":"Bearer","expires_in":"3599","ext_expires_in":"0",` +
			`"expires_on":"1715000399","not_before":"1714996800","resource":"https://graph.windows.net",` +
			`"access_token":"eyJ[\w.-]+"\}$`)
		if !form.Match(a.body) {
			t.Errorf("answer: %s", a.body)
		}
		want(t, "Cache-Control", a.header.Get("Cache-Control"), "no-store, no-cache")
	})
}

func TestClientCredentialsOfXOauth2(t *testing.T) {
	bothWays(t, Config{TokenLife: 30 * time.Minute}, func(t *rig) {
		for _, c := range []struct {
			name string
			conf clientcredentials.Config
		}{
			{"v1, secret in the body", clientcredentials.Config{TokenURL: t.v1, AuthStyle: oauth2.AuthStyleInParams,
				EndpointParams: url.Values{"resource": {DefaultResource}}}},
			{"v2, secret in the body", clientcredentials.Config{TokenURL: t.v2, AuthStyle: oauth2.AuthStyleInParams,
				Scopes: []string{DefaultResource + "/.default"}}},
			{"v1, secret in the header", clientcredentials.Config{TokenURL: t.v1, AuthStyle: oauth2.AuthStyleInHeader,
				EndpointParams: url.Values{"resource": {PortalResource}}}},
			{"v2, the other resource", clientcredentials.Config{TokenURL: t.v2,
				Scopes: []string{PortalResource + "/.default"}}},
		} {
			c.conf.ClientID, c.conf.ClientSecret = DefaultClientID, DefaultSecret
			ctx := context.WithValue(context.Background(), oauth2.HTTPClient, t.http)
			before := time.Now()
			tok, err := c.conf.Token(ctx)
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
				continue
			}
			if left := tok.Expiry.Sub(before); left < 29*time.Minute || left > 31*time.Minute {
				t.Errorf("%s: lives %v", c.name, left)
			}
			req, _ := http.NewRequest("GET", t.alerts, nil)
			tok.SetAuthHeader(req)
			want(t, c.name+": the API", t.do(req).status, 200)
			claims := jwt.MapClaims{}
			if _, _, err := jwt.NewParser().ParseUnverified(tok.AccessToken, claims); err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
			want(t, c.name+": tid", claims["tid"], any(DefaultTenant))
			want(t, c.name+": exp", claims["exp"], any(float64(noon.Add(30*time.Minute).Unix())))
		}
	})
}

// entraBody is an error of Entra ID, with the types that readers count on.
type entraBody struct {
	Error         string `json:"error"`
	Description   string `json:"error_description"`
	Codes         []int  `json:"error_codes"`
	Timestamp     string `json:"timestamp"`
	TraceID       string `json:"trace_id"`
	CorrelationID string `json:"correlation_id"`
}

func TestTokenRefusals(t *testing.T) {
	bothWays(t, Config{}, func(t *rig) {
		v2 := url.Values{"scope": {DefaultResource + "/.default"}, "client_id": {DefaultClientID},
			"client_secret": {DefaultSecret}, "grant_type": {"client_credentials"}}
		nowhere := strings.Replace(t.v1, DefaultTenant, "nowhere", 1)
		for _, c := range []struct {
			name, url  string
			form       url.Values
			key, value string // what differs; "-": missing
			status     int
			error      string
			code       int
		}{
			{"v1 wrong secret", t.v1, v1Form(), "client_secret", "wrong", 401, "invalid_client", 7000215},
			{"v2 wrong secret", t.v2, v2, "client_secret", "wrong", 401, "invalid_client", 7000215},
			{"no secret", t.v1, v1Form(), "client_secret", "-", 401, "invalid_client", 7000218},
			{"unknown app", t.v1, v1Form(), "client_id", "nobody", 400, "unauthorized_client", 700016},
			{"no app", t.v2, v2, "client_id", "-", 400, "invalid_request", 900144},
			{"unknown tenant", nowhere, v1Form(), "", "", 400, "invalid_request", 90002},
			{"v1 wrong resource", t.v1, v1Form(), "resource", "https://other.example", 400, "invalid_resource", 500011},
			{"v2 wrong resource", t.v2, v2, "scope", "https://other.example/.default", 400, "invalid_resource", 500011},
			{"v1 no resource", t.v1, v1Form(), "resource", "-", 400, "invalid_request", 900144},
			{"v2 no scope", t.v2, v2, "scope", "-", 400, "invalid_request", 900144},
			{"v2 given a resource", t.v2, v2, "resource", DefaultResource, 400, "invalid_request", 901002},
			{"v2 scope without .default", t.v2, v2, "scope", DefaultResource + "/Alert.Read",
				400, "invalid_scope", 1002012},
			{"no grant", t.v1, v1Form(), "grant_type", "-", 400, "invalid_request", 900144},
			{"another grant", t.v1, v1Form(), "grant_type", "password", 400, "unsupported_grant_type", 70003},
		} {
			form := url.Values{}
			for k, v := range c.form {
				form[k] = v
			}
			if c.value == "-" {
				form.Del(c.key)
			} else if c.key != "" {
				form.Set(c.key, c.value)
			}
			a := t.post(c.url, form)
			var e entraBody
			if err := json.Unmarshal(a.body, &e); err != nil {
				t.Errorf("%s: %v in %s", c.name, err, a.body)
				continue
			}
			want(t, c.name+": status", a.status, c.status)
			want(t, c.name+": error", e.Error, c.error)
			if !slices.Equal(e.Codes, []int{c.code}) {
				t.Errorf("%s: codes %v, want %d", c.name, e.Codes, c.code)
			}
			text := regexp.MustCompile(`^AADSTS\d+: .*\s+Trace ID: [\da-f]{8}(-[\da-f]{4}){3}-[\da-f]{12}\s+` +
				`Correlation ID: [\da-f-]{36}\s+Timestamp: 2024-05-06 12:00:00Z$`)
			if !text.MatchString(e.Description) || !strings.Contains(e.Description, e.TraceID) ||
				!strings.Contains(e.Description, e.CorrelationID) {
				t.Errorf("%s: description %q", c.name, e.Description)
			}
			want(t, c.name+": timestamp", e.Timestamp, "2024-05-06 12:00:00Z")
			if strings.Contains(string(a.body), "wrong") {
				t.Errorf("%s: the secret is in the answer", c.name)
			}
		}
		a := t.do(must(http.NewRequest("GET", t.v1+"?"+v1Form().Encode(), nil)))
		want(t, "GET", a.status, 400)
		contains(t, "GET", a.body, "AADSTS900561")
		req := must(http.NewRequest("POST", t.v1+"?"+v1Form().Encode(), nil))
		contains(t, "parameters in the URL do not count", t.do(req).body, "AADSTS900144")
		want(t, "no token was given", t.svc.Stats().Issued, 0)
	})
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestSecretsRotate(t *testing.T) {
	bothWays(t, Config{}, func(t *rig) {
		status := func(id, secret string) int {
			f := v1Form()
			f.Set("client_id", id)
			f.Set("client_secret", secret)
			return t.post(t.v1, f).status
		}
		t.svc.SetSecrets(DefaultClientID, DefaultSecret, "next")
		want(t, "old", status(DefaultClientID, DefaultSecret), 200)
		want(t, "next", status(DefaultClientID, "next"), 200)
		t.svc.SetSecrets(DefaultClientID, "next")
		want(t, "old, removed", status(DefaultClientID, DefaultSecret), 401)
		t.svc.SetSecrets("second", "s")
		want(t, "a second application", status("second", "s"), 200)
		t.svc.SetSecrets("second")
		want(t, "removed", status("second", "s"), 400)
	})
}

func TestEveryErrorOfTheTableCanBeAskedFor(t *testing.T) {
	bothWays(t, Config{}, func(t *rig) {
		for code, e := range entraErrors {
			t.svc.Queue(KindToken, Entra(code))
			a := t.post(t.v2, v1Form())
			var got entraBody
			err := json.Unmarshal(a.body, &got)
			if err != nil || got.Error != e.error || a.status != e.status || got.Codes[0] != code {
				t.Errorf("%d: %v, %d %s", code, err, a.status, a.body)
			}
		}
		t.svc.Queue(KindToken, Throttle(time.Minute), Status(503), Status(401), HTML())
		a := t.post(t.v1, v1Form())
		want(t, "429", a.status, 429)
		want(t, "Retry-After", a.header.Get("Retry-After"), "60")
		contains(t, "429", a.body, `"error":"temporarily_unavailable"`)
		want(t, "503", t.post(t.v1, v1Form()).status, 503)
		contains(t, "401", t.post(t.v1, v1Form()).body, "AADSTS7000215")
		contains(t, "HTML", t.post(t.v1, v1Form()).body, "<html>")
		want(t, "then a token", t.post(t.v1, v1Form()).status, 200)
	})
}

func TestExpiredTokensAreForgotten(t *testing.T) {
	clk := &clock{now: noon}
	svc := New(Config{Now: clk.Now})
	r := &rig{
		T: t, svc: svc, http: &http.Client{Transport: svc.Transport()},
		v1: LoginHost + "/" + DefaultTenant + "/oauth2/token",
	}
	for range 3 * most {
		r.tok = ""
		r.token()
		clk.advance(time.Minute)
	}
	if n := len(svc.tokens.access); n > most+1 {
		t.Errorf("%d tokens are kept", n)
	}
}

func TestAStrayBearerTokenIsNoticed(t *testing.T) {
	bothWays(t, Config{}, func(t *rig) {
		req, _ := http.NewRequest("POST", t.v1, nil)
		req.Header.Set("Authorization", "Bearer x")
		t.do(req)
		want(t, "stray", t.svc.Stats().StrayTokens, 1)
	})
}
