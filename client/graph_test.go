package client

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fluent-bit-defender/conf"
	"fluent-bit-defender/internal/simtest"
	"fluent-bit-defender/transport"
)

const (
	graphURL   = "https://graph.test/v1.0/security/alerts_v2"
	graphAlert = `{"@odata.context":"https://graph.test/v1.0/$metadata#security/alerts_v2",` +
		`"value":[{"id":"da637551227677560813_-961444813"}]}`
	theRequest = "3f1c3c2e-6f1b-4d5e-9a7b-0c1d2e3f4a5b"
)

// graphSettings is a configuration with api graph as conf would give it.
func graphSettings() *conf.Config {
	cfg := simtest.Settings()
	cfg.API, cfg.Cloud, cfg.Updates = conf.Graph, "public", "all"
	cfg.URL = graphURL
	cfg.TokenURL = "https://login.test/" + simtest.Tenant + "/oauth2/v2.0/token"
	cfg.Resource = "https://graph.microsoft.com"
	return cfg
}

// aGraph is the API of a configuration.
func aGraph(t testing.TB, change func(*conf.Config)) *api {
	t.Helper()
	cfg := graphSettings()
	if change != nil {
		change(cfg)
	}
	a, err := newAPI(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestGraphAddress(t *testing.T) {
	midnight := time.Date(2016, 9, 12, 0, 0, 0, 0, time.UTC)
	f := func(name string, change func(*conf.Config), q Query, want string) {
		t.Helper()
		full, shown, err := aGraph(t, change).address(q)
		if full != want || shown != want || err != nil {
			t.Errorf("%s:\n got %s\n log %s\nwant %s\n%v", name, full, shown, want, err)
		}
		u, err := url.Parse(full)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := url.ParseQuery(u.RawQuery); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	filtered := func(text string) func(*conf.Config) { return func(c *conf.Config) { c.Filter = text } }
	const ge = "lastUpdateDateTime%20ge%202016-09-12T00%3A00%3A00."
	const le = "lastUpdateDateTime%20le%202016-09-12T00%3A00%3A00."
	const high = "%28severity%20eq%20%27high%27%29"
	f("nothing asked", nil, Query{}, graphURL+"?$top=1000")
	f("since", nil, Query{Since: midnight}, graphURL+"?$filter="+ge+"0000000Z&$top=1000")
	f("both bounds, since rounded down, until up", nil,
		Query{Since: midnight.Add(199), Until: midnight.Add(101).In(time.FixedZone("", 7200))},
		graphURL+"?$filter="+ge+"0000001Z%20and%20"+le+"0000002Z&$top=1000")
	f("a page's size", nil, Query{Limit: 50}, graphURL+"?$top=50")
	f("no more than Graph gives", nil, Query{Limit: 1001}, graphURL+"?$top=1000")
	f("ago is the other API's", nil, Query{Ago: "PT10M"}, graphURL+"?$top=1000")
	f("filter", filtered("severity eq 'high'"), Query{Since: midnight},
		graphURL+"?$filter="+high+"%20and%20"+ge+"0000000Z&$top=1000")
	f("filter alone", filtered("severity eq 'high'"), Query{}, graphURL+"?$filter="+high+"&$top=1000")
	f("either or stays within parentheses", filtered("a eq 1 or b eq 2"), Query{Until: midnight},
		graphURL+"?$filter=%28a%20eq%201%20or%20b%20eq%202%29%20and%20"+le+"0000000Z&$top=1000")
	f("a filter that needs escaping", filtered("title eq 'R&D + 50% #1 ''x'' Ж'"), Query{},
		graphURL+"?$filter=%28title%20eq%20%27R%26D%20%2B%2050%25%20%231%20%27%27x%27%27%20%D0%96%27%29&$top=1000")
}

func TestGraphFilterIsWhatTheServiceReads(t *testing.T) {
	const filter = "title eq 'a&$top=5' or status in ('new','inProgress')"
	full, _, _ := aGraph(t, func(c *conf.Config) { c.Filter = filter }).address(Query{Until: time.Unix(0, 0)})
	u, err := url.Parse(full)
	if err != nil {
		t.Fatal(err)
	}
	want := "(" + filter + ") and lastUpdateDateTime le 1970-01-01T00:00:00.0000000Z"
	if got := u.Query().Get("$filter"); got != want {
		t.Errorf("$filter is %q, want %q", got, want)
	}
}

func TestGraphPages(t *testing.T) {
	f := func(name, link, full, shown, wantErr string) {
		t.Helper()
		gotFull, gotShown, err := aGraph(t, nil).address(Query{Page: link, Limit: 5, Since: time.Unix(1, 0)})
		if gotFull != full || gotShown != shown || fmt.Sprint(err) != wantErr {
			t.Errorf("%s:\n got %s\n log %s\nwant %s\n log %s\n%v, want %s",
				name, gotFull, gotShown, full, shown, err, wantErr)
		}
	}
	const (
		none    = "<nil>"
		cannot  = " more alerts are there, and cannot be asked for"
		noQuery = "the service's link to the next page has no query:" + cannot
		noURL   = "the service's link to the next page is no address:" + cannot
		other   = "the service's link to the next page is not one of alerts: more are there, and cannot be asked for"
		one     = graphURL + "?$skip=1"
	)
	f("a token", graphURL+"?$skiptoken=RFNwdAIAAQAAAA",
		graphURL+"?$skiptoken=RFNwdAIAAQAAAA", graphURL+"?$skiptoken=RFNwdA...", none)
	f("with the query", graphURL+"?$filter=severity+eq+'high'&$top=5&$skip=5",
		graphURL+"?$filter=severity+eq+'high'&$top=5&$skip=5",
		graphURL+"?$filter=severity+eq+'high'&$top=5&$skip=5", none)
	f("escaped names", graphURL+"?%24top=5&%24skiptoken=abcdefghi",
		graphURL+"?%24top=5&%24skiptoken=abcdefghi", graphURL+"?%24top=5&%24skiptoken=abcdef...", none)
	f("what no request line carries", graphURL+"?$skiptoken=a b\u00e4",
		graphURL+"?$skiptoken=a%20b%C3%A4", graphURL+"?$skiptoken=a%20b%...", none)
	f("relative", "?$skip=1", one, one, none)
	f("a fragment", graphURL+"?$skip=1#x", one, one, none)
	for name, link := range map[string]string{
		"a port and capitals":              "HTTPS://Graph.Test:443/v1.0/Security/alerts_v2?$skip=1",
		"another host, behind a gateway":   "https://graph.microsoft.com/v1.0/security/alerts_v2?$skip=1",
		"a path without the gateway's own": "https://graph.microsoft.com/beta/security/Alerts_v2?$skip=1",
		"ours as a user":                   "https://graph.test@evil.test/v1.0/security/alerts_v2?$skip=1",
		"another scheme":                   "http://graph.test/v1.0/security/alerts_v2?$skip=1",
	} {
		f(name, link, one, one, none)
	}
	f("no query", graphURL, "", "", noQuery)
	f("no http at all", "mailto:someone", "", "", noQuery)
	f("another path", "https://graph.test/v1.0/security/incidents?$skip=1", "", "", other)
	f("a path below", graphURL+"/x?$skip=1", "", "", other)
	f("a path that climbs", "https://graph.test/v1.0/security/alerts_v2/../incidents?$skip=1", "", "", other)
	f("a path that climbs in disguise", "https://graph.test/v1.0/security/alerts_v2%2f..%2fincidents?$skip=1",
		"", "", other)
	f("a broken escape", "https://graph.test/%zz", "", "", noURL)
	f("control characters", graphURL+"?a\r\nX: y", "", "", noURL)
}

// A link that cannot be followed is an error of its own, and no token goes where it leads.
func TestALinkThatCannotBeFollowedIsNotAsked(t *testing.T) {
	for name, cfg := range map[string]*conf.Config{"graph": graphSettings(),
		"siem, which has no pages": simtest.Settings()} {
		s := &simtest.Service{}
		c := connect(t, cfg, s)
		_, err := fetch(c, Query{Page: "https://evil.test/v1.0/security/incidents?$skiptoken=" + simtest.Token})
		if e := failure(t, err); e.Kind != transport.KindRefused || e.Status != 0 {
			t.Errorf("%s: kind %v, status %d: %v", name, e.Kind, e.Status, e)
		}
		if tokens, alerts := s.Counts(); tokens+alerts != 0 {
			t.Errorf("%s: %d requests for tokens and %d for alerts were sent", name, tokens, alerts)
		}
	}
}

func TestGraphRequest(t *testing.T) {
	s := &simtest.Service{Alerts: simtest.Always(200, graphAlert)}
	c := connect(t, graphSettings(), s)
	a, err := c.Fetch(context.Background(), Query{Limit: 5})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Body.Close()
	if text, err := io.ReadAll(a.Body); string(text) != graphAlert || err != nil || a.Partial != "" {
		t.Errorf("body %s, %v; partial %q", text, err, a.Partial)
	}
	want := map[string]string{
		"Authorization": "Bearer " + simtest.Token + "1", "Accept": "application/json",
		"Accept-Encoding": "gzip", "Cache-Control": "no-cache",
		"User-Agent": "fluent-bit-defender/dev", "Prefer": "include-unknown-enum-members",
	}
	for name, value := range want {
		if got := s.AlertHeads[0].Get(name); got != value {
			t.Errorf("%s is %q, want %q", name, got, value)
		}
	}
	if len(s.AlertHeads[0]) != len(want) {
		t.Errorf("other headers too: %v", s.AlertHeads[0])
	}
	form, err := url.ParseQuery(s.Forms[0])
	if err != nil || form.Get("scope") != "https://graph.microsoft.com/.default" || form.Has("resource") {
		t.Errorf("token asked with %v", form)
	}
}

func TestAnswersInPart(t *testing.T) {
	f := func(name, want string, header ...string) {
		t.Helper()
		c := connect(t, graphSettings(), &simtest.Service{Alerts: simtest.Always(206, graphAlert, header...)})
		a, err := c.Fetch(context.Background(), Query{})
		if err != nil {
			t.Fatal(err)
		}
		defer a.Body.Close()
		if text, err := io.ReadAll(a.Body); string(text) != graphAlert || err != nil || a.Partial != want {
			t.Errorf("%s: %s, %v\n got %s\nwant %s", name, text, err, a.Partial, want)
		}
	}
	f("with a warning", "199 - 'Microsoft/Microsoft Defender for Endpoint/504/10002'",
		`Warning: 199 - "Microsoft/Microsoft Defender for Endpoint/504/10002"`)
	f("without one", "the service does not say why (206 without a Warning header)")
	f("that echoes the token", "199 - 'Bearer [masked]'", `Warning: 199 - "Bearer `+simtest.Token+`1"`)
	f("a long one", strings.Repeat("xy ", 98)+"xy...", "Warning: "+strings.Repeat("xy ", 1000))

	c := connect(t, simtest.Settings(), &simtest.Service{Alerts: simtest.Always(206, simtest.Alert)})
	_, err := fetch(c, Query{})
	if e := failure(t, err); e.Kind != transport.KindService || e.Status != 206 {
		t.Errorf("the SIEM API has no 206: %v", e)
	}
}

func TestDebugLinesOfGraphShowNoLink(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))
	c := connect(t, graphSettings(), &simtest.Service{Alerts: simtest.Always(200, graphAlert)}, WithLogger(log))
	if _, err := fetch(c, Query{Page: graphURL + "?$top=5&$skiptoken=MSZRVlF1WVdSbGJXbHU"}); err != nil {
		t.Fatal(err)
	}
	text := out.String()
	if !strings.Contains(text, "?$top=5&$skiptoken=MSZRVl...") || strings.Contains(text, "MSZRVlF") {
		t.Errorf("log: %s", text)
	}
	simtest.NoSecret(t, out.String())
}

func TestGraphKeepsTheServicesTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ahead := time.Now().Add(5 * time.Second).UTC()
		date := "Date: " + ahead.Format(http.TimeFormat)
		c := connect(t, graphSettings(), &simtest.Service{Alerts: simtest.Always(206, graphAlert, date)})
		if _, err := fetch(c, Query{}); err != nil {
			t.Fatal(err)
		}
		if now, err := c.Now(context.Background()); err != nil || !now.Equal(ahead) {
			t.Errorf("%v, %v; want %v", now, err, ahead)
		}
	})
}

func FuzzGraphPage(f *testing.F) {
	for _, link := range []string{
		graphURL, "https://gateway.test/v1.0/security/alerts_v2?$skip=1", graphURL + "?$skiptoken=a%20b&$top=1",
		"//evil.test/", "?x", "https://graph.test:443/V1.0/security/alerts_v2?\xff",
		"https://graph.test@evil.test/v1.0/security/alerts_v2",
		"https://graph.test/v1.0/security/alerts_v2/../incidents", "x:y", "%", "\x00",
	} {
		f.Add(link)
	}
	a := aGraph(f, nil)
	f.Fuzz(func(t *testing.T, link string) {
		full, shown, err := a.address(Query{Page: link})
		if link == "" {
			return
		}
		if err != nil {
			if full+shown != "" || len(err.Error()) > 130 || strings.ContainsAny(err.Error(), "\r\n\x1b") {
				t.Fatalf("%q: %q, %q, %v", link, full, shown, err)
			}
			return
		}
		for _, text := range []string{full, shown} {
			if text != graphURL && !strings.HasPrefix(text, graphURL+"?") {
				t.Fatalf("%q leads to %s", link, text)
			}
			for _, c := range []byte(text) {
				if c <= ' ' || c >= 0x7f || c == '#' {
					t.Fatalf("%q gives %q", link, text)
				}
			}
		}
	})
}

func FuzzGraphSaid(f *testing.F) {
	for _, body := range []string{
		`{"error":{"code":"UnknownError","message":"","innerError":{"request-id":"` + theRequest + `"}}}`,
		`{"error":"x"}`, `{"error":{"code":"a b","message":"c\n\u0000d"}}`, "", "<html>",
		`{"error":{"message":1}}`, `{"error":{"code":"` + simtest.Secret + `"}}`,
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		m := new(transport.Mask)
		m.Hide(simtest.Secret)
		said := graphSaid(m, body)
		if len(said) > 400 || strings.ContainsAny(said, "\"\r\n\x00\x1b") {
			t.Fatalf("%q: %q", body, said)
		}
		simtest.NoSecret(t, said)
	})
}
