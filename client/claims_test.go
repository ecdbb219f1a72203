package client

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"fluent-bit-defender/conf"
	"fluent-bit-defender/internal/defendersim"
)

// unsigned is a JWT of these claims; nobody checks its signature here.
func unsigned(claims map[string]any) string {
	payload, err := json.Marshal(claims)
	if err != nil {
		panic(err)
	}
	part := base64.RawURLEncoding.EncodeToString
	return part([]byte(`{"alg":"none"}`)) + "." + part(payload) + "." + part([]byte("no signature at all"))
}

func TestARefusedTokenIsExplained(t *testing.T) {
	const start = "alerts request: the service refused the token (401), and a new one too"
	const usual = "; check resource and tenant_id, that cloud and region are the tenant's, and that client_id is the application made for SIEM integration"
	f := func(name string, change map[string]any, want string) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			claims := map[string]any{"aud": "https://graph.windows.net", "tid": theTenant, "exp": time.Now().Add(time.Hour).Unix(), "roles": []string{"Alert.Read.All"}}
			for k, v := range change {
				claims[k] = v
				if v == nil {
					delete(claims, k)
				}
			}
			token := unsigned(claims)
			s := &service{alerts: always(401, "")}
			s.token = always(200, `{"expires_in":"3599","access_token":"`+token+`"}`)
			c := connect(t, settings(), s)
			_, err := fetch(c, Query{})
			e := failure(t, err)
			if e.Kind != KindUnauthorized || e.Error() != start+want {
				t.Errorf("%s:\n got %s\nwant %s", name, e, start+want)
			}
			for i := 0; i+12 <= len(token); i++ {
				if strings.Contains(e.Error(), token[i:i+12]) {
					t.Fatalf("%s: %q of the token is shown", name, token[i:i+12])
				}
			}
		})
	}
	const takes = ", while the API takes tokens for https://graph.windows.net or https://WDATPAlertExport.Seville.onmicrosoft.com; check resource"
	f("all fits", nil, "; its aud, tid, exp and roles are as they should be"+usual)
	f("another audience", map[string]any{"aud": "https://graph.microsoft.com"}, ": the token is for https://graph.microsoft.com (aud)"+takes)
	f("no audience", map[string]any{"aud": nil}, ": the token is for nothing (aud)"+takes)
	f("a list of them", map[string]any{"aud": []string{"https://x"}}, ": the token is for https://x (aud)"+takes)
	f("the portal's, with a slash", map[string]any{"aud": "https://wdatpalertexport.seville.onmicrosoft.com/"}, "; its aud, tid, exp and roles are as they should be"+usual)
	f("an audience by its id", map[string]any{"aud": theClient}, "; its aud, tid, exp and roles are as they should be"+usual)
	f("another tenant", map[string]any{"tid": theClient}, ": the token is of tenant "+theClient+" (tid) instead of "+theTenant+"; check tenant_id, and the tenant in token_url")
	f("ended", map[string]any{"exp": 946684800 - 60}, ": the token ended at 1999-12-31T23:59:00Z (exp), and the service's clock says 2000-01-01T00:00:00Z; "+
		"look for a proxy or an endpoint that hands out old tokens")
	f("no permission", map[string]any{"roles": nil}, ": the token carries no permission (roles, scp); grant the application a permission on the API, with consent, in Entra ID")
	f("a person's", map[string]any{"roles": nil, "scp": "Alert.Read"}, "; its aud, tid, exp and roles are as they should be"+usual)
	f("two at once", map[string]any{"aud": "https://x", "roles": []string{}}, ": the token is for https://x (aud), while the API takes tokens for "+
		"https://graph.windows.net or https://WDATPAlertExport.Seville.onmicrosoft.com, and carries no permission (roles, scp); "+
		"check resource; grant the application a permission on the API, with consent, in Entra ID")
	f("hostile claims", map[string]any{"aud": "a\r\nb\x1b[31m", "tid": 5}, usual) // a tid that is no text: no claims at all
	f("hostile text", map[string]any{"aud": "a\r\nb\x1b[31m " + theSecret}, ": the token is for a b [31m [masked] (aud)"+takes)
}

func TestTheSimulatedAPIsRefusalsAreExplained(t *testing.T) {
	f := func(name string, change func(w *world), want string) {
		versions(t, conf.ClientSecret, func(w *world) {
			change(w)
			if e := w.bad(w.client(), name); e.Kind != KindUnauthorized || !strings.Contains(e.Error(), want) {
				w.Errorf("%s: %v", name, e)
			}
		})
	}
	f("a token of another API", func(w *world) { w.cfg.Resource = "https://graph.microsoft.com" }, "the token is for https://graph.microsoft.com (aud)")
	f("no roles", func(w *world) { w.svc.SetRoles(theClient) }, "the token carries no permission (roles, scp)")
}

func TestClaimsOfAToken(t *testing.T) {
	versions(t, conf.ClientSecret, func(w *world) {
		got, readable, err := w.client().Claims(context.Background())
		if err != nil || !readable {
			w.Fatal(readable, err)
		}
		want := Claims{Audience: defendersim.DefaultResource, Tenant: theTenant, Application: theClient, Roles: []string{"Alert.Read.All"},
			Expires: w.svc.Now().Add(3599 * time.Second).Truncate(time.Second)}
		if diff := cmp.Diff(want, got); diff != "" {
			w.Errorf("claims (-want +got):\n%s", diff)
		}
	})
	c := connect(t, settings(), &service{})
	if _, readable, err := c.Claims(context.Background()); readable || err != nil {
		t.Errorf("an opaque token: %v, %v", readable, err)
	}
	c = connect(t, settings(), &service{token: func(req *http.Request) (*http.Response, error) { return reply(req, 503, ""), nil }})
	_, _, err := c.Claims(context.Background())
	if e := failure(t, err); e.Kind != KindTokenTransient {
		t.Errorf("no token: %v", e)
	}
}

func FuzzClaims(f *testing.F) {
	f.Add(unsigned(map[string]any{"aud": "https://graph.windows.net", "tid": theTenant, "exp": 1715000399, "roles": []string{"a"}, "scp": "a b"}))
	f.Add(unsigned(map[string]any{"aud": []any{1, "x"}, "exp": 1e300, "roles": "x", "scp": strings.Repeat("a ", 100)}))
	f.Add("..")
	f.Add("a.e30.b")
	f.Fuzz(func(t *testing.T, token string) {
		c := &Client{network: network{mask: new(mask)}, api: &api{audiences: siemAudiences}}
		claims, readable := c.claimsOf(token)
		if !readable && !cmp.Equal(claims, Claims{}) || len(claims.Roles) > maxClaims || len(claims.Scopes) > maxClaims {
			t.Fatalf("%q: %+v, %v", token, claims, readable)
		}
		e := &Error{op: "x", what: "y"}
		c.explain(e, token)
		if text := e.Error(); len(text) > 2000 || strings.ContainsAny(text, "\r\n\x00\x1b") {
			t.Errorf("%q: %q", token, text)
		}
	})
}
