package client

import (
	"net/url"
	"strings"
	"testing"
	"testing/synctest"

	"fluent-bit-defender/conf"
)

func TestA403IsExplainedByTheToken(t *testing.T) {
	f := func(name, auth string, claims map[string]any, want string) {
		t.Helper()
		a := aGraph(t, func(c *conf.Config) { c.Auth = auth })
		c := &Client{network: network{mask: new(mask)}, api: a, auth: auth}
		e := &Error{op: "x", what: "forbidden", remedy: a.words[403].remedy}
		c.explainForbidden(e, unsigned(claims))
		if e.Error() != "x: "+want {
			t.Errorf("%s:\n got %s\nwant %s", name, e, "x: "+want)
		}
	}
	f("no role", conf.ClientSecret, map[string]any{"roles": []string{"User.Read.All"}},
		"forbidden; grant the application the application permission SecurityAlert.Read.All of Microsoft Graph, with admin consent; check tenant_id and cloud")
	f("no role of an identity", conf.ManagedIdentity, map[string]any{},
		"forbidden; give the identity the application role SecurityAlert.Read.All of Microsoft Graph; check tenant_id and cloud")
	f("no scope of a person", conf.AuthorizationCode, map[string]any{"scp": "User.Read"},
		"forbidden; grant the application the delegated permission SecurityAlert.Read.All of Microsoft Graph, with admin consent, and the person a role that may "+
			"read alerts, such as Security Reader; then log in again with `defenderctl login`; check tenant_id and cloud")
	f("the role", conf.ClientSecret, map[string]any{"roles": []string{"User.Read.All", "SecurityAlert.Read.All"}},
		"forbidden, though the token carries SecurityAlert.Read.All; check tenant_id and cloud, and that the tenant has Defender")
	f("a person's scope", conf.AuthorizationCode, map[string]any{"scp": "openid SecurityAlert.ReadWrite.All"},
		"forbidden, though the token carries SecurityAlert.ReadWrite.All; check tenant_id and cloud, and that the tenant has Defender; "+
			"the person needs a role that may read alerts, such as Security Reader")
}

func TestTokensOfGraphAreExplained(t *testing.T) {
	f := func(name string, cloud string, change map[string]any, want string) {
		t.Helper()
		claims := map[string]any{"aud": "https://graph.microsoft.com", "tid": theTenant, "roles": []string{"SecurityAlert.Read.All"}}
		for k, v := range change {
			claims[k] = v
		}
		synctest.Test(t, func(t *testing.T) {
			s := &service{alerts: always(401, ""), token: always(200, `{"expires_in":3599,"access_token":"`+unsigned(claims)+`"}`)}
			cfg := graphSettings()
			cfg.Cloud = cloud
			_, err := fetch(connect(t, cfg, s), Query{})
			e := failure(t, err)
			if got := strings.TrimPrefix(e.Error(), "alerts request: the service refused the token (401), and a new one too"); got != want {
				t.Errorf("%s:\n got %s\nwant %s", name, got, want)
			}
		})
	}
	const fits = "; its aud, tid, exp and roles are as they should be; check resource and tenant_id, and that cloud is the tenant's"
	const takes = " (aud), while the API takes tokens for https://graph.microsoft.com or 00000003-0000-0000-c000-000000000000; check resource"
	f("all fits", "public", nil, fits)
	f("Graph by its id", "public", map[string]any{"aud": "00000003-0000-0000-c000-000000000000"}, fits)
	f("with a slash", "gcc", map[string]any{"aud": "https://graph.microsoft.com/"}, fits)
	f("a cloud's own", "gcc_high", map[string]any{"aud": "https://graph.microsoft.us"}, fits)
	f("the SIEM API's", "public", map[string]any{"aud": "https://graph.windows.net"}, ": the token is for https://graph.windows.net"+takes)
	f("another id", "public", map[string]any{"aud": theClient}, ": the token is for "+theClient+takes)
	f("another cloud's", "dod", map[string]any{"aud": "https://graph.microsoft.com"}, ": the token is for https://graph.microsoft.com (aud), while the API takes "+
		"tokens for https://dod-graph.microsoft.us or 00000003-0000-0000-c000-000000000000; check resource")
	f("more than is needed", "public", map[string]any{"roles": []string{"securityalert.readwrite.all"}}, fits)
	f("a person's", "public", map[string]any{"roles": nil, "scp": "openid SecurityAlert.Read.All"}, fits)
	const grant = "grant the application the application permission SecurityAlert.Read.All of Microsoft Graph, with admin consent"
	f("another role", "public", map[string]any{"roles": []string{"Alert.Read.All", "User.Read.All"}},
		": the token carries Alert.Read.All, User.Read.All (roles, scp) and not SecurityAlert.Read.All; "+grant)
	f("no role", "public", map[string]any{"roles": nil}, ": the token carries no permission (roles, scp); "+grant)
}

func TestTheLoginOfGraphAsksForItsScope(t *testing.T) {
	cfg := graphSettings()
	cfg.Auth, cfg.ClientSecret, cfg.RefreshTokenFile = conf.AuthorizationCode, "", t.TempDir()+"/login"
	l, err := NewLogin(cfg, 8400, WithTransport(&service{}))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	u, err := url.Parse(l.URL())
	if err != nil || u.Path != "/"+theTenant+"/oauth2/v2.0/authorize" || u.Query().Get("scope") != "https://graph.microsoft.com/.default offline_access" {
		t.Errorf("%s, %v", l.URL(), err)
	}
	if got := l.Doubts(Claims{Audience: "https://graph.microsoft.com", Scopes: []string{"User.Read"}}); len(got) != 1 || got[0].Claim != "roles" ||
		!strings.Contains(got[0].Remedy, "delegated permission SecurityAlert.Read.All") {
		t.Errorf("doubts %v", got)
	}
}

// An unknown resource is mended otherwise than with the SIEM API.
func TestTheRemedyOfAnUnknownResourceFitsTheAPI(t *testing.T) {
	token := always(400, refused("invalid_resource", "AADSTS500011: x", 500011))
	for want, cfg := range map[string]*conf.Config{
		"enable SIEM integration in Defender; ": settings(),
		"grant the application the application permission SecurityAlert.Read.All of Microsoft Graph, with admin consent; the service": graphSettings(),
	} {
		_, err := fetch(connect(t, cfg, &service{token: token}), Query{})
		if got := failure(t, err).Error(); !strings.Contains(got, "; check resource and tenant_id, and "+want) {
			t.Errorf("got %s\nwant %s", got, want)
		}
	}
}
