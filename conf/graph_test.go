package conf

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// ofGraph is load for stanzas with api graph.
func ofGraph(t *testing.T, lines ...string) *Config {
	t.Helper()
	return load(t, append([]string{"api graph", "region"}, lines...)...)
}

func TestDefaultsOfGraph(t *testing.T) {
	want := defaults()
	want.API, want.Region, want.Resource = "graph", "", "https://graph.microsoft.com"
	want.URL = "https://graph.microsoft.com/v1.0/security/alerts_v2"
	want.TokenURL = "https://login.microsoftonline.com/" + sampleTenant + "/oauth2/v2.0/token"
	want.Updates, want.TimeKey = "all", "createdDateTime"
	want.Succession = Succession{}
	if diff := cmp.Diff(want, ofGraph(t)); diff != "" {
		t.Errorf("Config (-want +got):\n%s", diff)
	}
}

func TestKeysOfGraphReachTheirFields(t *testing.T) {
	c := ofGraph(t, "api Graph", "filter  severity eq 'high' and title ne 'it''s (' ", "updates First", "limit 1000",
		"time_key lastUpdateDateTime",
		"event_id_key AlertId", "resource https://graph.example.com")
	got := []any{c.API, c.Filter, c.Updates, c.Limit, c.TimeKey, c.EventIDKey, c.Resource}
	want := []any{"graph", "severity eq 'high' and title ne 'it''s ('", "first", 1000, "lastUpdateDateTime", "AlertId",
		"https://graph.example.com"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestPresetsOfGraph(t *testing.T) {
	f := func(name string, lines []string, url, tokenURL, resource, place string) {
		t.Helper()
		c := ofGraph(t, append(lines, "tenant_id contoso.com")...)
		if diff := cmp.Diff([]string{url, tokenURL, resource, place}, []string{c.URL, c.TokenURL, c.Resource,
			c.Place()}); diff != "" {
			t.Errorf("%s: url, token_url, resource, place (-want +got):\n%s", name, diff)
		}
	}
	const com, us = "https://login.microsoftonline.com/contoso.com/oauth2/v2.0/token",
		"https://login.microsoftonline.us/contoso.com/oauth2/v2.0/token"
	f("public", nil, "https://graph.microsoft.com/v1.0/security/alerts_v2", com, "https://graph.microsoft.com",
		"graph.microsoft.com")
	f("gcc", []string{"cloud gcc"}, "https://graph.microsoft.com/v1.0/security/alerts_v2", com,
		"https://graph.microsoft.com", "graph.microsoft.com")
	f("gcc_high", []string{"cloud gcc_high"}, "https://graph.microsoft.us/v1.0/security/alerts_v2", us,
		"https://graph.microsoft.us", "graph.microsoft.us")
	f("dod", []string{"cloud dod"}, "https://dod-graph.microsoft.us/v1.0/security/alerts_v2", us,
		"https://dod-graph.microsoft.us", "dod-graph.microsoft.us")
	f("url", []string{"url http://127.0.0.1:8443/v1.0/security/alerts_v2"},
		"http://127.0.0.1:8443/v1.0/security/alerts_v2", com,
		"https://graph.microsoft.com", "127.0.0.1:8443")
	f("token_url of v1", []string{"token_url https://login.example.com/t/oauth2/token"},
		"https://graph.microsoft.com/v1.0/security/alerts_v2",
		"https://login.example.com/t/oauth2/token", "https://graph.microsoft.com", "graph.microsoft.com")
	f("a managed identity", []string{"auth managed_identity", "client_id", "client_secret"},
		"https://graph.microsoft.com/v1.0/security/alerts_v2",
		"", "https://graph.microsoft.com", "graph.microsoft.com")
}

func TestEveryCredentialWorksWithGraph(t *testing.T) {
	for auth, lines := range map[string][]string{
		ClientSecret:      nil,
		ClientCertificate: {"client_secret", "client_certificate_file /etc/defender/cert.pem"},
		WorkloadIdentity:  {"client_secret", "federated_token_file /var/run/token"},
		ManagedIdentity:   {"client_secret", "client_id", "managed_identity_client_id " + sampleClient},
		AuthorizationCode: {"client_secret", "refresh_token_file /var/lib/defender/login"},
	} {
		if c := ofGraph(t, lines...); c.Auth != auth || c.Resource != "https://graph.microsoft.com" {
			t.Errorf("%s: auth %s, resource %s", auth, c.Auth, c.Resource)
		}
	}
}

func TestFiltersOfGraphArePartOfTheState(t *testing.T) {
	f := func(name, want string, lines ...string) {
		t.Helper()
		if got := ofGraph(t, lines...).Filters(); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	f("none", "")
	f("all updates", "", "updates all")
	f("first", "updates=first", "updates first")
	f("filter", "filter=severity+eq+%27high%27", "filter severity eq 'high'")
	f("both", "filter=a+eq+%27b%26updates%3Dfirst%27&updates=first", "filter a eq 'b&updates=first'", "updates first")
	f("what is no filter", "", "limit 5", "overlap 1m")
}

func TestGraphIsNotDeprecated(t *testing.T) {
	if w := ofGraph(t, "db x.db").Warnings(); len(w) > 0 {
		t.Errorf("warnings %q", w)
	}
	if w := load(t, "db x.db").Warnings(); len(w) != 1 || !strings.Contains(w[0], "api graph") {
		t.Errorf("warnings %q do not name the successor", w)
	}
}

func TestFieldsOfTheOtherAPIAreFreeForTheEventID(t *testing.T) {
	ofGraph(t, "event_id_key AlertTime")
	load(t, "event_id_key id")
}

func TestCheckFilter(t *testing.T) {
	f := func(text string, want error) {
		t.Helper()
		got, err := checkFilter(text)
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", text, err, want)
		}
		if err == nil && got != text || err != nil && got != "" {
			t.Errorf("%s became %q", text, got)
		}
	}
	f("severity eq 'high'", nil)
	f("serviceSource eq 'microsoftDefenderForEndpoint'", nil)
	f("(severity eq 'high') or (severity eq 'medium' and not (status eq 'resolved'))", nil)
	f("title eq 'O''Brien'", nil)
	f("title eq ''''", nil)
	f("title eq ')('", nil)
	f(`title eq 'say "no"'`, nil)
	f("title eq '\u2018x\u2019 \u0416'", nil)
	f("createdDateTime ge now()", nil)
	f("status in ('new','inProgress')", nil)
	f("$it/status eq 'a=b'", nil)
	f("$filter=status eq 'new'", errFilterOption)
	f("$top = 5", errFilterOption)
	f("severity eq 'high", errOpenQuote)
	f("title eq '''", errOpenQuote)
	f("title eq 'it's'", errOpenQuote)
	f("title eq 'x''", errOpenQuote)
	f(`severity eq "high"`, errDoubleQuotes)
	f("severity eq \u2018high\u2019", errCurlyQuotes)
	f("severity eq \u201chigh\u201d", errCurlyQuotes)
	f("(severity eq 'high'", errOpenParen)
	f("severity eq 'high')", errCloseParen)
	f(")(", errCloseParen)
	f("a eq 1) or (b eq 2", errCloseParen)
	f("a eq '\x00'", errUnprintable)
	f("a eq 1\nor b eq 2", errUnprintable)
	f("a eq '"+strings.Repeat("x", maxFilter)+"'", errTooLong)
}
