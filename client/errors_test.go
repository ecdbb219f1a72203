package client

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"fluent-bit-defender/conf"
	"fluent-bit-defender/internal/simtest"
	"fluent-bit-defender/transport"
)

func TestErrorsOfStatuses(t *testing.T) {
	f := func(
		name string, answer func(*http.Request) (*http.Response, error), kind transport.Kind, status int,
		wait time.Duration, want string,
	) {
		t.Helper()
		c := connect(t, simtest.Settings(), &simtest.Service{Alerts: answer})
		_, err := fetch(c, Query{Limit: 5})
		e := failure(t, err)
		if e.Kind != kind || e.Status != status || e.RetryAfter != wait || e.Error() != want {
			t.Errorf("%s: kind %v, status %d, wait %v\n got %s\nwant %s", name, e.Kind, e.Status, e.RetryAfter, e, want)
		}
		if strings.ContainsAny(e.Error(), "\r\n") {
			t.Errorf("%s: more than one line", name)
		}
	}
	f("204", simtest.Always(204, ""), transport.KindService, 204, 0,
		"alerts request: the service answered with status 204 instead of 200; "+
			"if it lasts, check url, cloud and region and proxy_url")
	f("301", simtest.Always(301, "", "Location: https://moved.test/api?x=1"), transport.KindConfig, 301, 0,
		"alerts request: redirected to moved.test (301), which is refused so that no credential goes to another host; "+
			"check url, cloud and region, and set the final address if it is the right one")
	f("302 to a path", simtest.Always(302, "", "Location: /login"), transport.KindConfig, 302, 0,
		"alerts request: redirected to another path (302), which is refused "+
			"so that no credential goes to another host; "+
			"check url, cloud and region, and set the final address if it is the right one")
	f("304", simtest.Always(304, ""), transport.KindConfig, 304, 0,
		"alerts request: redirected to nowhere (304), which is refused so that no credential goes to another host; "+
			"check url, cloud and region, and set the final address if it is the right one")
	f("400", simtest.Always(400, `{"error": "bad\nfilter"}`), transport.KindRefused, 400, 0,
		"alerts request: the service refused the query (400); "+
			"check machine_groups, device_created_machine_tags, cloud_created_machine_tags, limit and ago; "+
			`the service says "{'error': 'bad\nfilter'}"`)
	f("401", simtest.Always(401, "",
		`WWW-Authenticate: Bearer error="invalid_token", error_description="wrong audience"`),
		transport.KindUnauthorized, 401, 0,
		"alerts request: the service refused the token (401), and a new one too; "+
			"check resource and tenant_id, that cloud and region are the tenant's, "+
			"and that client_id is the application made for SIEM integration; "+
			`the service says "Bearer [masked]'invalid_token', error_description='wrong audience'"`)
	f("403", simtest.Always(403, ""), transport.KindForbidden, 403, 0,
		"alerts request: access is forbidden (403): a domain is not managed by the tenant's administrator, "+
			"the tenant is deleted, or the application may not read alerts; "+
			"enable SIEM integration in Defender for this tenant, grant the application access, "+
			"and check tenant_id, cloud and region")
	f("404", simtest.Always(404, ""), transport.KindConfig, 404, 0,
		"alerts request: nothing answers at https://alerts.test/api/alerts (404); check url, cloud and region")
	f("405", simtest.Always(405, ""), transport.KindConfig, 405, 0,
		"alerts request: nothing answers at https://alerts.test/api/alerts (405); check url, cloud and region")
	f("407", simtest.Always(407, ""), transport.KindConfig, 407, 0,
		"alerts request: the proxy wants a user name and password (407); "+
			"put them into the address in the variable HTTPS_PROXY, and leave proxy_url out")
	f("408", simtest.Always(408, ""), transport.KindService, 408, 0,
		"alerts request: the service gave the request up (408); if it lasts, look for a slow proxy")
	f("414", simtest.Always(414, ""), transport.KindRefused, 414, 0,
		"alerts request: the service refused the request (414); check url, cloud and region and the filters")
	f("429", simtest.Always(429, "", "Retry-After: 30"), transport.KindThrottled, 429, 30*time.Second,
		"alerts request: throttled (429), it asks to wait 30s; "+
			"raise poll_interval, or let fewer stanzas and nodes poll this tenant")
	f("500", simtest.Always(500, ""), transport.KindService, 500, 0,
		"alerts request: error in the service (500); if it lasts, look at the service's health")
	f("503", simtest.Always(503, "", "Retry-After: 120"), transport.KindService, 503, 2*time.Minute,
		"alerts request: the service is not available (503), it asks to wait 2m0s; "+
			"if it lasts, look at the service's health")
	f("599", simtest.Always(599, ""), transport.KindService, 599, 0,
		"alerts request: the service is not available (599); if it lasts, look at the service's health")
	f("a body that gives the token back", func(req *http.Request) (*http.Response, error) {
		sent := "<p>You sent " + req.Header.Get("Authorization") + " and " + simtest.Secret + "</p>"
		return simtest.Reply(req, 500, sent+strings.Repeat("x", 9000)), nil
	}, transport.KindService, 500, 0,
		"alerts request: error in the service (500); if it lasts, look at the service's health; "+
			`the service says "<p>You sent Bearer [masked] and [masked]</p>`+strings.Repeat("x", 153)+`..."`)
	f("a body in gzip", simtest.Always(500, string(simtest.Zip("broken")), "Content-Encoding: gzip"),
		transport.KindService, 500, 0,
		"alerts request: error in the service (500); if it lasts, look at the service's health; "+
			`the service says "broken"`)
	f("a body in another encoding", simtest.Always(500, "\x00\x01", "Content-Encoding: br"), transport.KindService, 500,
		0,
		"alerts request: error in the service (500); if it lasts, look at the service's health")
}

// A refusal with a body that never comes must not wait for it as long as for alerts.
func TestErrorBodiesAreNotWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := connect(t, simtest.Settings(), &simtest.Service{Alerts: func(req *http.Request) (*http.Response, error) {
			r := simtest.Reply(req, 500, "")
			r.Body, r.ContentLength = simtest.Drip(time.Millisecond, 1), -1
			return r, nil
		}})
		start := time.Now()
		_, err := fetch(c, Query{})
		if e := failure(t, err); e.Status != 500 {
			t.Fatal(err)
		}
		if took := time.Since(start); took > 5*time.Second {
			t.Fatalf("waited %v", took)
		}
	})
}

// Only what speaks of the API itself says that it is gone: neither its links, nor a proxy, nor what is asked for
// tokens.
func TestWhatSaysThatAnAPIIsGone(t *testing.T) {
	dial := func(err error) func(*http.Request) (*http.Response, error) {
		return func(*http.Request) (*http.Response, error) {
			return nil, &net.OpError{Op: "dial", Net: "tcp", Err: err}
		}
	}
	f := func(name string, gone bool, over *simtest.Service, q Query) {
		t.Helper()
		cfg := simtest.Settings()
		if q.Page != "" {
			cfg.API = conf.Graph
		}
		_, err := fetch(connect(t, cfg, over), q)
		if e := failure(t, err); e.Gone != gone {
			t.Errorf("%s: gone %t: %v", name, e.Gone, e)
		}
	}
	noName := &net.DNSError{Err: "no such host", Name: "alerts.test", IsNotFound: true}
	for status, gone := range map[int]bool{
		403: true, 404: true, 410: true,
		400: false, 401: false, 405: false, 407: false, 429: false, 500: false, 503: false,
	} {
		f(fmt.Sprint(status), gone, &simtest.Service{Alerts: simtest.Always(status, "")}, Query{})
	}
	f("no name", true, &simtest.Service{Alerts: dial(noName)}, Query{})
	f("a name server that fails", false, &simtest.Service{
		Alerts: dial(&net.DNSError{Err: "server misbehaving", Name: "alerts.test", IsTemporary: true}),
	}, Query{})
	f("refused", true, &simtest.Service{Alerts: dial(syscall.ECONNREFUSED)}, Query{})
	f("reset", false, &simtest.Service{Alerts: dial(syscall.ECONNRESET)}, Query{})
	f("timeout", false, &simtest.Service{Alerts: dial(context.DeadlineExceeded)}, Query{})
	f("a proxy that refuses", false, &simtest.Service{Alerts: func(*http.Request) (*http.Response, error) {
		return nil, &net.OpError{Op: "proxyconnect", Net: "tcp", Err: syscall.ECONNREFUSED}
	}}, Query{})
	f("a link", false, &simtest.Service{Alerts: simtest.Always(404, "")},
		Query{Page: "https://alerts.test/v1.0/security/alerts_v2?$skiptoken=x"})
	f("no login", false, &simtest.Service{Token: dial(noName)}, Query{})
	f("a login that is gone", false, &simtest.Service{Token: simtest.Always(410, "")}, Query{})
}

// A date form is meant on the service's clock, not on ours.
func TestRetryAfterDateIsTheServices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ahead := time.Now().Add(time.Hour)
		date := func(t time.Time) string { return t.UTC().Format(http.TimeFormat) }
		f := func(name string, wait time.Duration, header ...string) {
			t.Helper()
			s := &simtest.Service{Token: simtest.Always(200, simtest.TokenJSON(1), "Date: "+date(ahead))}
			c := connect(t, simtest.Settings(), s)
			if _, err := c.Now(context.Background()); err != nil {
				t.Fatal(err)
			}
			s.Alerts = simtest.Always(429, "", header...)
			_, err := fetch(c, Query{})
			if e := failure(t, err); e.Kind != transport.KindThrottled || e.RetryAfter != wait {
				t.Errorf("%s: wait %v, want %v", name, e.RetryAfter, wait)
			}
		}
		f("by the answer's own Date", 40*time.Second, "Date: "+date(ahead.Add(5*time.Minute)),
			"Retry-After: "+date(ahead.Add(5*time.Minute+40*time.Second)))
		f("without one by the clock", 30*time.Second, "Date: ", "Retry-After: "+date(ahead.Add(30*time.Second)))
	})
}

func TestOtherEncodingsAreRefused(t *testing.T) {
	for encoding, shown := range map[string]string{"br": "br", "gzip, gzip": "gzip, gzip", "zstd\x1b[0m": "zstd [0m"} {
		c := connect(t, simtest.Settings(), &simtest.Service{Alerts: simtest.Always(200, "x", "Content-Encoding: "+
			encoding)})
		_, err := fetch(c, Query{})
		want := `alerts request: the answer is encoded as '` + shown + `', which was not asked for; ` +
			"look for a proxy that re-encodes answers and check proxy_url"
		if e := failure(t, err); e.Kind != transport.KindConfig || e.Error() != want {
			t.Errorf("%v\n got %s\nwant %s", e.Kind, e, want)
		}
	}
}

func TestRefusalsOfGraph(t *testing.T) {
	f := func(
		name string, q Query, answer func(*http.Request) (*http.Response, error), kind transport.Kind, want string,
	) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) { // the limit of requests holds here too
			c := connect(t, graphSettings(), &simtest.Service{Alerts: answer})
			_, err := fetch(c, q)
			if e := failure(t, err); e.Kind != kind || e.Error() != "alerts request: "+want {
				t.Errorf("%s: %v\n got %s\nwant %s", name, e.Kind, e, "alerts request: "+want)
			}
		})
	}
	refused := func(code, message string) string {
		return `{"error":{"code":"` + code + `","message":"` + message + `","innerError":{` +
			`"date":"2024-05-06T10:00:00","request-id":"` + theRequest + `","client-request-id":"` + theRequest + `"}}}`
	}
	const (
		gone   = "the service is not available (503); if it lasts, look at the service's health"
		fewer  = "; if it lasts, lower max_window, so that there are fewer pages"
		health = "; if it lasts, look at the service's health; "
	)
	page := Query{Page: graphURL + "?$skiptoken=x"}
	f("400", Query{}, simtest.Always(400, refused("BadRequest", "Invalid filter clause: No property 'severty'")),
		transport.KindRefused, "the service refused the query (400); check filter and limit; "+
			`the service says "Invalid filter clause: No property 'severty' (BadRequest, request-id `+theRequest+`)"`)
	f("400 of a link", page, simtest.Always(400, refused("UnknownError", "")), transport.KindRefused,
		"the service refused its own link to the next page (400)"+fewer+"; "+
			`the service says "nothing (UnknownError, request-id `+theRequest+`)"`)
	f("404 of a link", page, simtest.Always(404, ""), transport.KindRefused,
		"the service refused its own link to the next page (404)"+fewer)
	f("410 of a link", page, simtest.Always(410, ""), transport.KindRefused,
		"the service refused its own link to the next page (410)"+fewer)
	f("503 of a link", page, simtest.Always(503, ""), transport.KindService, gone)
	f("401", Query{},
		simtest.Always(401, refused("InvalidAuthenticationToken", "Access token validation failure. "+
			"Invalid audience.")),
		transport.KindUnauthorized, "the service refused the token (401), and a new one too; "+
			"check resource and tenant_id, and that cloud is the tenant's; "+
			`the service says "Access token validation failure. Invalid audience. `+
			`(InvalidAuthenticationToken, request-id `+theRequest+`)"`)
	const missing = "Missing application scopes. API required scopes: SecurityAlert.Read.All"
	f("403", Query{}, simtest.Always(403, refused("Forbidden", missing)), transport.KindForbidden,
		"access is forbidden (403); grant the application the application permission SecurityAlert.Read.All "+
			"of Microsoft Graph, with admin consent; check tenant_id and cloud; "+
			`the service says "`+missing+` (Forbidden, request-id `+theRequest+`)"`)
	f("404", Query{}, simtest.Always(404, ""), transport.KindConfig,
		"nothing answers at "+graphURL+" (404); check url and cloud")
	f("429", Query{},
		simtest.Always(429, `{"error":{"code":"TooManyRequests","message":"Too many requests."}}`, "Retry-After: 10"),
		transport.KindThrottled,
		"throttled (429), it asks to wait 10s; raise poll_interval, or let fewer stanzas and nodes poll this tenant; "+
			`the service says "Too many requests. (TooManyRequests)"`)
	f("an error without a code", Query{}, simtest.Always(500, `{"error":{"code":"","message":"broken"}}`),
		transport.KindService, "error in the service (500)"+health+`the service says "broken"`)
	f("an error of another shape", Query{}, simtest.Always(500, `{"error":"broken"}`), transport.KindService,
		"error in the service (500)"+health+`the service says "{'error':'broken'}"`)
	f("no JSON", Query{}, simtest.Always(502, "<h1>Bad Gateway</h1>"), transport.KindService,
		"the service is not available (502)"+health+`the service says "<h1>Bad Gateway</h1>"`)
	f("an error that echoes the token", Query{}, func(req *http.Request) (*http.Response, error) {
		sent := req.Header.Get("Authorization")
		text, err := json.Marshal(map[string]any{"error": map[string]any{
			"code":       strings.TrimPrefix(sent, "Bearer ")[:60],
			"message":    "You sent " + sent + " and " + simtest.Secret,
			"innerError": map[string]any{"request-id": simtest.Secret},
		}})
		if err != nil {
			return nil, err
		}
		return simtest.Reply(req, 500, string(text)), nil
	}, transport.KindService, "error in the service (500)"+health+
		`the service says "You sent Bearer [masked] and [masked] ([masked])"`)
}
