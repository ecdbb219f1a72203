package entra

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"fluent-bit-defender/conf"
	"fluent-bit-defender/internal/defendersim"
	"fluent-bit-defender/internal/simtest"
	"fluent-bit-defender/transport"
)

// inBubble runs a test of managed identities, which have one version.
func inBubble(t *testing.T, f func(w *simtest.World)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(simtest.Stanza(t, conf.ManagedIdentity, false)) })
}

func TestManagedIdentityRequest(t *testing.T) {
	inBubble(t, func(w *simtest.World) {
		w.Svc.SetIdentities(simtest.Identity, "user-one", "user-two")
		var asked []*http.Request
		w.Wire.Meanwhile(func(req *http.Request, _ url.Values) (*http.Response, error) {
			if req.URL.Host == "169.254.169.254" {
				asked = append(asked, req)
			}
			return nil, nil
		})
		good(w, clientOf(w), "the system-assigned identity")
		w.Cfg.ManagedIdentityClientID = "user-two"
		good(w, clientOf(w), "a user-assigned identity")
		if len(asked) != 2 {
			w.Fatalf("%d requests", len(asked))
		}
		const path = "http://169.254.169.254/metadata/identity/oauth2/token?api-version=2018-02-01"
		for i, want := range []string{
			path + "&resource=https%3A%2F%2Fgraph.windows.net",
			path + "&client_id=user-two&resource=https%3A%2F%2Fgraph.windows.net",
		} {
			got := asked[i].URL.String()
			if got != want || asked[i].Method != "GET" || asked[i].Header.Get("Metadata") != "true" {
				w.Errorf("%s %s, Metadata %q; want GET %s", asked[i].Method, got, asked[i].Header.Get("Metadata"), want)
			}
		}
	})
}

func TestTheMetadataServiceIsAskedAgain(t *testing.T) {
	f := func(name string, faults []*defendersim.Fault, requests int, took time.Duration, kind transport.Kind) {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(w *simtest.World) {
				w.Svc.Queue(defendersim.KindIdentity, faults...)
				c := clientOf(w)
				start := time.Now()
				_, err := fetch(c)
				if spent := time.Since(start); spent != took || w.Svc.Stats().Identities != requests {
					w.Errorf("%d requests in %v, want %d in %v", w.Svc.Stats().Identities, spent, requests, took)
				}
				if kind == 0 && err != nil {
					w.Errorf("error %v", err)
				}
				if e := (*transport.Error)(nil); kind != 0 && (!errors.As(err, &e) || e.Kind != kind) {
					w.Errorf("error %v, want of kind %v", err, kind)
				}
			})
		})
	}
	many := func(n, status int) (faults []*defendersim.Fault) {
		for range n {
			faults = append(faults, defendersim.Status(status))
		}
		return faults
	}
	const s = time.Second
	f("404", many(1, 404), 2, s, 0)
	f("410 for a minute", many(6, 410), 7, 63*s, 0)
	f("410 for 70 s", many(7, 410), 8, 70*s, 0)
	f("410 for longer", many(99, 410), 8, 70*s, transport.KindTokenTransient)
	f("429", many(2, 429), 3, 3*s, 0)
	f("429 with a time", []*defendersim.Fault{defendersim.Throttle(20 * s)}, 2, 20*s, 0)
	f("429 with a long time", []*defendersim.Fault{defendersim.Throttle(5 * time.Minute)}, 1, 0,
		transport.KindTokenTransient)
	f("500 and 503", []*defendersim.Fault{defendersim.Status(500), defendersim.Status(503)}, 3, 3*s, 0)
	f("400", many(1, 400), 1, 0, transport.KindToken)
	f("403", many(1, 403), 1, 0, transport.KindToken)
	f("refused", []*defendersim.Fault{defendersim.Refused()}, 1, 0, transport.KindNetwork)
	f("no token", []*defendersim.Fault{defendersim.HTML()}, 2, s, 0)
}

func TestAHeldTokenMakesNobodyWait(t *testing.T) {
	inBubble(t, func(w *simtest.World) {
		c := clientOf(w)
		good(w, c, "a token")
		w.Svc.OnRequest(func(r defendersim.Request) *defendersim.Fault {
			if r.Kind == defendersim.KindIdentity {
				return defendersim.Status(410)
			}
			return nil
		})
		time.Sleep(56 * time.Minute)
		start := time.Now()
		good(w, c, "with the held token")
		if time.Since(start) != 0 {
			w.Errorf("waited %v while a token was held", time.Since(start))
		}
	})
}

func TestTheWaitForTheMetadataServiceEnds(t *testing.T) {
	for _, how := range []string{"cancel", "close"} {
		t.Run(how, func(t *testing.T) {
			inBubble(t, func(w *simtest.World) {
				w.Svc.OnRequest(func(defendersim.Request) *defendersim.Fault { return defendersim.Status(410) })
				c := clientOf(w)
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				end, want := cancel, context.Canceled
				if how == "close" {
					end, want = c.Close, transport.ErrClosed
				}
				start := time.Now()
				time.AfterFunc(5500*time.Millisecond, end)
				if _, err := c.fetch(ctx); !errors.Is(err, want) || time.Since(start) != 5500*time.Millisecond {
					w.Errorf("%v after %v, want %v", err, time.Since(start), want)
				}
			})
		})
	}
}

func TestIdentityErrorsInWords(t *testing.T) {
	f := func(name string, change func(w *simtest.World), kind transport.Kind, want string) {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(w *simtest.World) {
				c := clientOf(w)
				change(w)
				if e := bad(w, c, name); e.Kind != kind || e.Error() != want {
					w.Errorf("%v\n got %v\nwant %s", e.Kind, e, want)
				}
				w.Svc.SetIdentities(simtest.Identity)
				w.Wire.Meanwhile(nil)
				good(w, c, "mended, without a restart")
			})
		})
	}
	answer := func(status int, body string) func(w *simtest.World) {
		return func(w *simtest.World) {
			w.Wire.Meanwhile(func(req *http.Request, _ url.Values) (*http.Response, error) {
				return simtest.Reply(req, status, body), nil
			})
		}
	}
	const direct = "check that this machine has a managed identity, " +
		"that nothing keeps Fluent Bit from the metadata service, and managed_identity_endpoint"
	f("no identity", func(w *simtest.World) { w.Svc.SetIdentities("") }, transport.KindToken,
		"token request: the machine has no such managed identity (invalid_request); "+
			"assign the identity to the machine, and check managed_identity_client_id and resource; "+
			`the service says "Identity not found (invalid_request)"`)
	f("unknown resource", answer(400, `{"error":"invalid_resource","error_description":"AADSTS500011: x"}`),
		transport.KindToken,
		"token request: AADSTS500011: the resource is unknown in this tenant, or nobody consented to it; "+
			"check resource and tenant_id, and enable SIEM integration in Defender; "+
			`the service says "x (invalid_resource)"`)
	f("somebody else answers", answer(404, "<html>nginx"), transport.KindTokenTransient,
		"token request: the metadata service is being updated, or is not there (404); if it lasts, "+direct+
			`; the service says "<html>nginx"`)
	f("nobody answers", func(w *simtest.World) {
		w.Wire.Meanwhile(func(*http.Request, url.Values) (*http.Response, error) {
			return nil, &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("no route to host")}
		})
	}, transport.KindNetwork, "token request: no answer from 169.254.169.254: dial tcp: no route to host; "+direct)
	f("a redirect", answer(302, ""), transport.KindConfig, "token request: redirected to nowhere (302), "+
		"which is refused so that no credential goes to another host; "+
		"check managed_identity_endpoint, and set the final address if it is the right one")
}

func TestLifeOfAnIdentitysToken(t *testing.T) {
	f := func(name, fields string, want time.Duration) {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(w *simtest.World) {
				w.Wire.Meanwhile(func(req *http.Request, _ url.Values) (*http.Response, error) {
					body := `{` + fields + `"access_token":"abc","token_type":"Bearer"}`
					return simtest.Reply(req, 200, body, "Date: Mon, 06 May 2024 12:00:00 GMT"), nil
				})
				tok, err := clientOf(w).Get(context.Background())
				if err != nil {
					w.Fatal(err)
				}
				if left := time.Until(tok.expires); left != want {
					w.Errorf("lives %v, want %v", left, want)
				}
			})
		})
	}
	f("a string", `"expires_in":"86399",`, 86399*time.Second)
	f("a number", `"expires_in":3599,`, 3599*time.Second)
	f("the end alone, by the service's clock", `"expires_on":"1715000399",`, 3599*time.Second)
	f("both", `"expires_in":"100","expires_on":"1715000399",`, 100*time.Second)
	f("neither", ``, unknownLife)
	f("nonsense", `"expires_in":{"a":1},"expires_on":"soon",`, unknownLife)
	f("an endless one", `"expires_in":"99999999999999999999",`, unknownLife)
}

// A proxy that is configured sees the requests for alerts, never those for a managed identity's token.
func TestNoProxyForManagedIdentities(t *testing.T) {
	w := simtest.OverTLS(t, conf.ManagedIdentity, false)
	var mu sync.Mutex
	var seen []string
	proxy := simtest.Listen(t, func(nc net.Conn) {
		buf := make([]byte, 1024)
		n, _ := nc.Read(buf)
		line, _, _ := strings.Cut(string(buf[:n]), "\r\n")
		mu.Lock()
		seen = append(seen, line)
		mu.Unlock()
		nc.Write([]byte("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"))
	})
	w.Cfg.ProxyURL = "http://" + proxy
	for _, endpoint := range []string{w.Srv.IdentityURL(), w.Srv.TokenURL()} { // plain, and over TLS
		seen = nil
		w.Cfg.ManagedIdentityEndpoint = endpoint
		e := bad(w, clientOf(w), endpoint)
		mu.Lock()
		got := strings.Join(seen, "\n")
		mu.Unlock()
		if endpoint == w.Srv.IdentityURL() {
			host := strings.TrimPrefix(strings.TrimSuffix(w.Srv.AlertsURL(), "/api/alerts"), "https://")
			if got != "CONNECT "+host+" HTTP/1.1" {
				t.Errorf("the proxy saw %q, want the API alone", got)
			}
		} else if got != "" || e.Status != 400 { // a token endpoint takes no GET
			t.Errorf("the proxy saw %q; %v", got, e)
		}
	}
}

// What gives tokens is told apart by the environment, as Microsoft's libraries do it.
func TestMachineOf(t *testing.T) {
	f := func(name, configured string, env map[string]string, want machine, address string) {
		t.Helper()
		agent := env["agent"] != ""
		exists := func(path string) bool { return agent && path == arcAgent }
		m, at, _ := machineOf(configured, func(k string) string { return env[k] }, exists)
		if m != want || at != address {
			t.Errorf("%s: machine %d at %s", name, m, at)
		}
	}
	const at, other = "http://127.0.0.1:40342/token", "http://10.0.0.1/token"
	agent := map[string]string{"agent": "is there"}
	app := map[string]string{"IDENTITY_ENDPOINT": at, "IDENTITY_HEADER": "x"}
	arc := map[string]string{"IDENTITY_ENDPOINT": at, "IMDS_ENDPOINT": "http://127.0.0.1:40342"}
	both := map[string]string{"agent": "is there", "IDENTITY_ENDPOINT": at, "IDENTITY_HEADER": "x"}
	f("a virtual machine", conf.IMDS, nil, virtualMachine, conf.IMDS)
	f("App Service", conf.IMDS, app, appService, at)
	f("Azure Arc", conf.IMDS, arc, azureArc, at)
	f("Azure Arc without its environment", conf.IMDS, agent, azureArc, arcAddress)
	f("an address beside Azure Arc", other, agent, virtualMachine, other)
	f("App Service beside Azure Arc", conf.IMDS, both, appService, at)
	f("an address that is configured", other, app, virtualMachine, other)
	f("an endpoint alone", conf.IMDS, map[string]string{"IDENTITY_ENDPOINT": at}, virtualMachine, conf.IMDS)
}

func TestAppServiceGivesTokens(t *testing.T) {
	t.Setenv("IDENTITY_ENDPOINT", defendersim.IdentityURL)
	t.Setenv("IDENTITY_HEADER", "the-header-of-the-app")
	inBubble(t, func(w *simtest.World) {
		w.Cfg.ManagedIdentityEndpoint = conf.IMDS
		w.Svc.SetMachine(defendersim.Machine{Header: "the-header-of-the-app"})
		good(w, clientOf(w), "App Service")
		w.Svc.SetMachine(defendersim.Machine{Header: "another"})
		e := bad(w, clientOf(w), "a header that is not the app's")
		if e.Status != 401 || strings.Contains(e.Error(), "the-header") {
			w.Errorf("%v", e)
		}
	})
}

func TestServiceFabricIsRefusedByName(t *testing.T) {
	t.Setenv("IDENTITY_ENDPOINT", "https://127.0.0.1:2377/metadata/identity/oauth2/token")
	t.Setenv("IDENTITY_HEADER", "a-header")
	t.Setenv("IDENTITY_SERVER_THUMBPRINT", "00")
	cfg := simtest.Settings()
	cfg.Auth, cfg.ManagedIdentityEndpoint = conf.ManagedIdentity, conf.IMDS
	want := "auth: the managed identities of Service Fabric are not supported; " +
		"use client_certificate or workload_identity"
	if c, err := open(cfg, nil, discard); err == nil || err.Error() != want {
		t.Errorf("%v, %v", c, err)
	}
}
