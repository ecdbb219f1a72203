package entra

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"fluent-bit-defender/conf"
	"fluent-bit-defender/internal/defendersim"
	"fluent-bit-defender/internal/simtest"
	"fluent-bit-defender/transport"
)

const ids = "trace 255d1aef-8c98-452f-ac51-23d051240864, correlation fb3d2015-bc17-4bb9-bb85-30c5cf1aaaa7, " +
	"at 2020-02-03 04:05:06Z"

func TestRefusedTokens(t *testing.T) {
	f := func(
		name string, answer func(*http.Request) (*http.Response, error), kind transport.Kind, code int,
		wait time.Duration, want string,
	) {
		t.Helper()
		c := connect(t, simtest.Settings(), &simtest.Service{Token: answer})
		_, err := fetch(c)
		e := failure(t, err)
		if e.Kind != kind || e.Code != code || e.RetryAfter != wait || e.Error() != want {
			t.Errorf("%s: kind %v, code %d, wait %v\n got %s\nwant %s", name, e.Kind, e.Code, e.RetryAfter, e, want)
		}
	}
	f("wrong secret, given back whole", simtest.Always(401, simtest.Refused("invalid_client",
		"AADSTS7000215: Invalid client secret provided: '"+simtest.Secret+"'. "+
			"Ensure the secret being sent is the value.\r\nTrace ID: 255d1aef", 7000215)),
		transport.KindToken, 7000215, 0, "token request: AADSTS7000215: the client secret is wrong; "+
			"put the secret's value, not its id, into client_secret or client_secret_file; "+
			`the service says "Invalid client secret provided: '[masked]'. (invalid_client, `+ids+`)"`)
	f("code in the text only",
		simtest.Always(400, `{"error":"unauthorized_client","error_description":"AADSTS700016: Application not found."}`),
		transport.KindToken, 700016, 0, "token request: AADSTS700016: the application is unknown in this tenant; "+
			"check client_id, tenant_id and cloud; the application may have been deleted; "+
			`the service says "Application not found. (unauthorized_client)"`)
	f("several codes: the known one counts",
		simtest.Always(400, simtest.Refused("invalid_grant", "AADSTS50000: Error.", 50000, 53003)),
		transport.KindToken, 53003, 0,
		"token request: AADSTS53003: a conditional access policy blocks the application; "+
			"let the policy for workload identities admit this application from this address; "+
			`the service says "Error. (invalid_grant, `+ids+`)"`)
	f("a code nobody listed",
		simtest.Always(400, simtest.Refused("invalid_request", "AADSTS900144: The body must contain 'scope'.", 900144)),
		transport.KindToken, 900144, 0, "token request: AADSTS900144: the request was refused (invalid_request); "+
			"check authority, token_url and cloud, tenant_id and client_id; "+
			`the service says "The body must contain 'scope'. (invalid_request, `+ids+`)"`)
	f("no code", simtest.Always(401, `{"error":"invalid_client"}`), transport.KindToken, 0, 0,
		"token request: the application or its credential was refused (invalid_client); "+
			`check client_id, and client_secret or client_secret_file; the service says "nothing (invalid_client)"`)
	f("an error in an answer of 200", simtest.Always(200, `{"error":"access_denied"}`), transport.KindToken, 0, 0,
		"token request: no token was given (access_denied); "+
			`check authority, token_url and cloud, tenant_id, client_id and the application in Entra ID; `+
			`the service says "nothing (access_denied)"`)
	f("throttled without a time", simtest.Always(429, ""), transport.KindTokenTransient, 0, time.Minute,
		"token request: throttled (429); raise poll_interval, or let fewer stanzas and nodes poll this tenant")
	f("throttled with a time",
		simtest.Always(429, simtest.Refused("temporarily_unavailable", "AADSTS90055: Busy.", 90055), "Retry-After: 17"),
		transport.KindTokenTransient, 90055, 17*time.Second,
		"token request: AADSTS90055: the tenant is throttled for too many requests; "+
			"if it lasts, let fewer programs ask for tokens; "+
			`the service says "Busy. (temporarily_unavailable, `+ids+`)"`)
	f("a loop", simtest.Always(400, simtest.Refused("invalid_grant", "AADSTS50196: Loop.", 50196), "Retry-After: 1"),
		transport.KindTokenTransient, 50196, 5*time.Minute,
		"token request: AADSTS50196: Entra ID sees a loop of equal token requests and blocks them for a while; "+
			"wait; look for other programs or many stanzas with the same client_id; "+
			`the service says "Loop. (invalid_grant, `+ids+`)"`)
	f("a permanent code under 503",
		simtest.Always(503, simtest.Refused("server_error", "AADSTS7000215: x", 7000215), "Retry-After: 9"),
		transport.KindTokenTransient, 7000215, 9*time.Second,
		"token request: AADSTS7000215: the client secret is wrong; "+
			"put the secret's value, not its id, into client_secret or client_secret_file; "+
			`the service says "x (server_error, `+ids+`)"`)
	f("503 in HTML", simtest.Always(503, "<h1>Service Unavailable</h1>"), transport.KindTokenTransient, 0, 0,
		"token request: the service is not available (503); if it lasts, look at the service's health; "+
			`the service says "<h1>Service Unavailable</h1>"`)
	f("403 of a firewall", simtest.Always(403, "<p>blocked\x00\x1b[31m</p>"), transport.KindToken, 0, 0,
		"token request: refused without a reason (403); "+
			"check authority, token_url and cloud, tenant_id and proxy_url; "+
			`the service says "<p>blocked [31m</p>"`)
	f("404", simtest.Always(404, ""), transport.KindConfig, 0, 0,
		"token request: nothing answers at https://login.test/"+simtest.Tenant+"/oauth2/token (404); "+
			"check authority, token_url and cloud")
	f("redirected", simtest.Always(307, "", "Location: https://evil.test/?"+simtest.Secret), transport.KindConfig, 0, 0,
		"token request: redirected to evil.test (307), which is refused so that no credential goes to another host; "+
			"check authority, token_url and cloud, and set the final address if it is the right one")
	f("hostile fields", simtest.Always(400, `{"error":"`+simtest.Secret+
		`","error_description":"AADSTS1234567890123: x",`+
		`"error_codes":["a"],"trace_id":"`+simtest.Secret+`"}`),
		transport.KindToken, 123456789, 0, "token request: AADSTS123456789: no token was given (refused); "+
			`check authority, token_url and cloud, tenant_id, client_id and the application in Entra ID; `+
			`the service says "x ()"`)
}

// The codes that operators meet most and whether they go away by themselves, and further ones of Microsoft's table.
var (
	permanent = []int{
		7000215, 7000222, 700016, 7000229, 70001, 7000112, 90002, 500011, 65001, 650057, 700027, 50012, 50013,
		500133, 700024, 53003, 70008, 700082, 50173, 54005, 901002, 900023, 90038, 900382, 50194, 1002012,
		70023, 700222, 7000218, 700025, 700021, 700023, 70021, 700211, 700212, 700213,
	}
	transient = []int{50196, 90055, 50033, 90006, 90012, 90024, 90033}
)

func TestEveryListedCodeHasWords(t *testing.T) {
	if len(permanent)+len(transient) != len(diagnoses) {
		t.Errorf("%d codes listed, %d known", len(permanent)+len(transient), len(diagnoses))
	}
	f := func(code int, kind transport.Kind) {
		t.Helper()
		body := simtest.Refused("invalid_grant", fmt.Sprintf("AADSTS%d: %s", code, simtest.Secret), code)
		c := connect(t, simtest.Settings(), &simtest.Service{Token: simtest.Always(400, body)})
		_, err := fetch(c)
		e := failure(t, err)
		d := diagnoses[code]
		start := fmt.Sprintf("token request: AADSTS%d: %s; %s; ", code, d.what, d.remedy)
		if e.Kind != kind || e.Code != code || d.what == "" || d.remedy == "" || !strings.HasPrefix(e.Error(), start) {
			t.Errorf("code %d: kind %v: %v", code, e.Kind, e)
		}
	}
	for _, code := range permanent {
		f(code, transport.KindToken)
	}
	for _, code := range transient {
		f(code, transport.KindTokenTransient)
	}
}

// Whatever credential meets a code, and in whatever version: one line in plain words, and all is well when it is gone.
func TestEveryListedCodeOfTheSimulatedEntraID(t *testing.T) {
	for auth := range simtest.Credentials {
		if auth == conf.ManagedIdentity {
			continue // it asks no token endpoint
		}
		t.Run(auth, func(t *testing.T) {
			simtest.Versions(t, auth, func(w *simtest.World) {
				c := clientOf(w)
				good(w, c, "a token")
				f := func(code int, kind transport.Kind) {
					w.Helper()
					w.Svc.Queue(defendersim.KindToken, defendersim.Entra(code).With(&defendersim.Fault{
						RetryAfter: func(time.Time) string { return "17" }}))
					e := token(w, c)
					d := diagnoses[code]
					said := e.Error()
					if e.Kind != kind || e.Code != code || e.RetryAfter < 17*time.Second ||
						!strings.Contains(said, ": "+d.what) || !strings.Contains(said, "; "+d.remedy+"; ") ||
						strings.Contains(said, "\n") {
						w.Errorf("code %d: kind %v, wait %v: %v", code, e.Kind, e.RetryAfter, e)
					}
					good(w, c, "it heals")
				}
				for _, code := range permanent {
					f(code, transport.KindToken)
				}
				for _, code := range transient {
					f(code, transport.KindTokenTransient)
				}
			})
		})
	}
}

func FuzzTokenError(f *testing.F) {
	f.Add(400, simtest.Refused("invalid_client", "AADSTS7000215: Invalid client secret: "+simtest.Secret+". More.",
		7000215))
	f.Add(429, `{"error":{"code":"TooManyRequests"}}`)
	f.Add(503, "<html>"+simtest.Secret)
	f.Add(200, `{"error":"x"}`)
	f.Add(400, `{"error_codes":[-1,99999999999999999999],"error_description":"AADSTS999999999: \r\n\u0000"}`)
	f.Add(307, "")
	f.Fuzz(func(t *testing.T, status int, body string) {
		if status < 200 || status > 999 || len(body) > 4096 {
			t.Skip()
		}
		c := &Tokens{net: &transport.Network{Mask: new(transport.Mask)}, needs: new(Needs)}
		c.net.Mask.Hide(simtest.Secret)
		e := c.tokenError(grants, &http.Response{StatusCode: status, Header: http.Header{}}, []byte(body))
		text := e.Error()
		if strings.Contains(text, simtest.Secret) || strings.ContainsAny(text, "\r\n\x00") || len(text) > 1000 {
			t.Errorf("%d %q: %q", status, body, text)
		}
		if e.Kind == 0 || e.What == "" || e.Remedy == "" || e.RetryAfter < 0 || e.RetryAfter > time.Hour {
			t.Errorf("%d %q: %#v", status, body, e)
		}
	})
}
