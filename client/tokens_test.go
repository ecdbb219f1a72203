package client

import (
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fluent-bit-defender/conf"
	"fluent-bit-defender/entra"
	"fluent-bit-defender/internal/simtest"
	"fluent-bit-defender/transport"
)

func TestARefusedTokenIsExplained(t *testing.T) {
	const start = "alerts request: the service refused the token (401), and a new one too"
	const usual = "; check resource and tenant_id, that cloud and region are the tenant's, " +
		"and that client_id is the application made for SIEM integration"
	const fits = "; its aud, tid, exp and roles are as they should be" + usual
	f := func(name string, change map[string]any, want string) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			claims := map[string]any{
				"aud": "https://graph.windows.net", "tid": simtest.Tenant,
				"exp": time.Now().Add(time.Hour).Unix(), "roles": []string{"Alert.Read.All"},
			}
			for k, v := range change {
				claims[k] = v
				if v == nil {
					delete(claims, k)
				}
			}
			token := simtest.Unsigned(claims)
			s := &simtest.Service{Alerts: simtest.Always(401, "")}
			s.Token = simtest.Always(200, `{"expires_in":"3599","access_token":"`+token+`"}`)
			c := connect(t, simtest.Settings(), s)
			_, err := fetch(c, Query{})
			e := failure(t, err)
			if e.Kind != transport.KindUnauthorized || e.Error() != start+want {
				t.Errorf("%s:\n got %s\nwant %s", name, e, start+want)
			}
			for i := 0; i+12 <= len(token); i++ {
				if strings.Contains(e.Error(), token[i:i+12]) {
					t.Fatalf("%s: %q of the token is shown", name, token[i:i+12])
				}
			}
		})
	}
	const takes = ", while the API takes tokens for " +
		"https://graph.windows.net or https://WDATPAlertExport.Seville.onmicrosoft.com"
	const noPermission = "carries no permission (roles, scp)"
	const resource, permission = "; check resource",
		"; grant the application a permission on the API, with consent, in Entra ID"
	f("all fits", nil, fits)
	f("another audience", map[string]any{"aud": "https://graph.microsoft.com"},
		": the token is for https://graph.microsoft.com (aud)"+takes+resource)
	f("no audience", map[string]any{"aud": nil}, ": the token is for nothing (aud)"+takes+resource)
	f("a list of them", map[string]any{"aud": []string{"https://x"}},
		": the token is for https://x (aud)"+takes+resource)
	f("the portal's, with a slash", map[string]any{"aud": "https://wdatpalertexport.seville.onmicrosoft.com/"}, fits)
	f("an audience by its id", map[string]any{"aud": simtest.ClientID}, fits)
	f("another tenant", map[string]any{"tid": simtest.ClientID}, ": the token is of tenant "+simtest.ClientID+" (tid) "+
		"instead of "+simtest.Tenant+"; check tenant_id, and the tenant in token_url")
	f("ended", map[string]any{"exp": 946684800 - 60}, ": the token ended at 1999-12-31T23:59:00Z (exp), "+
		"and the service's clock says 2000-01-01T00:00:00Z; look for a proxy or an endpoint that hands out old tokens")
	f("no permission", map[string]any{"roles": nil}, ": the token "+noPermission+permission)
	f("a person's", map[string]any{"roles": nil, "scp": "Alert.Read"}, fits)
	f("two at once", map[string]any{"aud": "https://x", "roles": []string{}},
		": the token is for https://x (aud)"+takes+", and "+noPermission+resource+permission)
	f("a tid that is no text: no claims at all", map[string]any{"aud": "a\r\nb\x1b[31m", "tid": 5}, usual)
	f("hostile text", map[string]any{"aud": "a\r\nb\x1b[31m " + simtest.Secret},
		": the token is for a b [31m [masked] (aud)"+takes+resource)
}

func TestTheSimulatedAPIsRefusalsAreExplained(t *testing.T) {
	f := func(name string, change func(w *simtest.World), want string) {
		simtest.Versions(t, conf.ClientSecret, func(w *simtest.World) {
			change(w)
			e := bad(w, clientOf(w), name)
			if e.Kind != transport.KindUnauthorized || !strings.Contains(e.Error(), want) {
				w.Errorf("%s: %v", name, e)
			}
		})
	}
	f("a token of another API", func(w *simtest.World) { w.Cfg.Resource = "https://graph.microsoft.com" },
		"the token is for https://graph.microsoft.com (aud)")
	f("no roles", func(w *simtest.World) { w.Svc.SetRoles(simtest.ClientID) }, "the token carries no permission "+
		"(roles, scp)")
}

func TestA403IsExplainedByTheToken(t *testing.T) {
	f := func(name, auth string, claims map[string]any, want string) {
		t.Helper()
		cfg := graphSettings()
		cfg.Auth, cfg.ManagedIdentityEndpoint = auth, "http://127.0.0.1/token"
		cfg.RefreshTokenFile = t.TempDir() + "/login"
		c := connect(t, cfg, &simtest.Service{})
		e := &transport.Error{Op: "x", What: "forbidden", Remedy: c.api.words[403].remedy}
		c.tokens.ExplainForbidden(e, simtest.Unsigned(claims))
		if e.Error() != "x: "+want {
			t.Errorf("%s:\n got %s\nwant %s", name, e, "x: "+want)
		}
	}
	f("no role", conf.ClientSecret, map[string]any{"roles": []string{"User.Read.All"}},
		"forbidden; grant the application the application permission SecurityAlert.Read.All of Microsoft Graph, "+
			"with admin consent; check tenant_id and cloud")
	f("no role of an identity", conf.ManagedIdentity, map[string]any{},
		"forbidden; give the identity the application role SecurityAlert.Read.All of Microsoft Graph; "+
			"check tenant_id and cloud")
	f("no scope of a person", conf.AuthorizationCode, map[string]any{"scp": "User.Read"},
		"forbidden; grant the application the delegated permission SecurityAlert.Read.All of Microsoft Graph, "+
			"with admin consent, and the person a role that may read alerts, such as Security Reader; "+
			"then log in again with `defenderctl login`; check tenant_id and cloud")
	f("the role", conf.ClientSecret, map[string]any{"roles": []string{"User.Read.All", "SecurityAlert.Read.All"}},
		"forbidden, though the token carries SecurityAlert.Read.All; "+
			"check tenant_id and cloud, and that the tenant has Defender")
	f("a person's scope", conf.AuthorizationCode, map[string]any{"scp": "openid SecurityAlert.ReadWrite.All"},
		"forbidden, though the token carries SecurityAlert.ReadWrite.All; "+
			"check tenant_id and cloud, and that the tenant has Defender; "+
			"the person needs a role that may read alerts, such as Security Reader")
}

func TestTokensOfGraphAreExplained(t *testing.T) {
	const start = "alerts request: the service refused the token (401), and a new one too"
	f := func(name string, cloud string, change map[string]any, want string) {
		t.Helper()
		claims := map[string]any{
			"aud": "https://graph.microsoft.com", "tid": simtest.Tenant, "roles": []string{"SecurityAlert.Read.All"},
		}
		for k, v := range change {
			claims[k] = v
		}
		synctest.Test(t, func(t *testing.T) {
			token := `{"expires_in":3599,"access_token":"` + simtest.Unsigned(claims) + `"}`
			s := &simtest.Service{Alerts: simtest.Always(401, ""), Token: simtest.Always(200, token)}
			cfg := graphSettings()
			cfg.Cloud = cloud
			_, err := fetch(connect(t, cfg, s), Query{})
			e := failure(t, err)
			if got := strings.TrimPrefix(e.Error(), start); got != want {
				t.Errorf("%s:\n got %s\nwant %s", name, got, want)
			}
		})
	}
	const fits = "; its aud, tid, exp and roles are as they should be; " +
		"check resource and tenant_id, and that cloud is the tenant's"
	const takes = " (aud), while the API takes tokens for " +
		"https://graph.microsoft.com or 00000003-0000-0000-c000-000000000000; check resource"
	f("all fits", "public", nil, fits)
	f("Graph by its id", "public", map[string]any{"aud": "00000003-0000-0000-c000-000000000000"}, fits)
	f("with a slash", "gcc", map[string]any{"aud": "https://graph.microsoft.com/"}, fits)
	f("a cloud's own", "gcc_high", map[string]any{"aud": "https://graph.microsoft.us"}, fits)
	f("the SIEM API's", "public", map[string]any{"aud": "https://graph.windows.net"},
		": the token is for https://graph.windows.net"+takes)
	f("another id", "public", map[string]any{"aud": simtest.ClientID}, ": the token is for "+simtest.ClientID+takes)
	f("another cloud's", "dod", map[string]any{"aud": "https://graph.microsoft.com"},
		": the token is for https://graph.microsoft.com (aud), while the API takes tokens for "+
			"https://dod-graph.microsoft.us or 00000003-0000-0000-c000-000000000000; check resource")
	f("more than is needed", "public", map[string]any{"roles": []string{"securityalert.readwrite.all"}}, fits)
	f("a person's", "public", map[string]any{"roles": nil, "scp": "openid SecurityAlert.Read.All"}, fits)
	const grant = "grant the application the application permission SecurityAlert.Read.All of Microsoft Graph, " +
		"with admin consent"
	f("another role", "public", map[string]any{"roles": []string{"Alert.Read.All", "User.Read.All"}},
		": the token carries Alert.Read.All, User.Read.All (roles, scp) and not SecurityAlert.Read.All; "+grant)
	f("no role", "public", map[string]any{"roles": nil}, ": the token carries no permission (roles, scp); "+grant)
}

func TestTheLoginOfGraphAsksForItsScope(t *testing.T) {
	cfg := graphSettings()
	cfg.Auth, cfg.ClientSecret, cfg.RefreshTokenFile = conf.AuthorizationCode, "", t.TempDir()+"/login"
	l, err := NewLogin(cfg, 8400, WithTransport(&simtest.Service{}))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	u, err := url.Parse(l.URL())
	const path = "/" + simtest.Tenant + "/oauth2/v2.0/authorize"
	const scope = "https://graph.microsoft.com/.default offline_access"
	if err != nil || u.Path != path || u.Query().Get("scope") != scope {
		t.Errorf("%s, %v", l.URL(), err)
	}
	got := l.Doubts(entra.Claims{Audience: "https://graph.microsoft.com", Scopes: []string{"User.Read"}})
	if len(got) != 1 || got[0].Claim != "roles" ||
		!strings.Contains(got[0].Remedy, "delegated permission SecurityAlert.Read.All") {
		t.Errorf("doubts %v", got)
	}
}

// An unknown resource is mended otherwise than with the SIEM API.
func TestTheRemedyOfAnUnknownResourceFitsTheAPI(t *testing.T) {
	token := simtest.Always(400, simtest.Refused("invalid_resource", "AADSTS500011: x", 500011))
	for want, cfg := range map[string]*conf.Config{
		"enable SIEM integration in Defender; ": simtest.Settings(),
		"grant the application the application permission SecurityAlert.Read.All of Microsoft Graph, " +
			"with admin consent; the service": graphSettings(),
	} {
		_, err := fetch(connect(t, cfg, &simtest.Service{Token: token}), Query{})
		if got := failure(t, err).Error(); !strings.Contains(got, "; check resource and tenant_id, and "+want) {
			t.Errorf("got %s\nwant %s", got, want)
		}
	}
}
