package hostile

import (
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	"fluent-bit-defender/conf"
	"fluent-bit-defender/internal/defendersim"
	"fluent-bit-defender/internal/flbhost"
)

// Nothing follows a redirect: not a token, not the client secret (307 and 308 would send the whole form again), not a
// bare request.
func TestRedirectsAreRefused(t *testing.T) {
	t.Parallel()
	for _, kind := range []defendersim.Kind{defendersim.KindAlerts, defendersim.KindToken} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			var followed atomic.Int64
			elsewhere, _ := listen(t, func(http.ResponseWriter, *http.Request) { followed.Add(1) })
			plain := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { followed.Add(1) }))
			t.Cleanup(plain.Close)
			f := newFront(t, defendersim.New(defendersim.Config{}))
			w := &world{T: t, svc: f.svc, dir: t.TempDir(), gen: newGenerator()}
			codes := []int{301, 302, 303, 307, 308}
			for i, code := range codes {
				to := []string{elsewhere, plain.URL, strings.Replace(elsewhere, "127.0.0.1", "localhost", 1)}[i%3]
				f.svc.Queue(kind, defendersim.Status(code).With(&defendersim.Fault{Header: http.Header{"Location": {to +
					"/api/alerts"}}}))
			}
			// the other host would be trusted: it is of the same CA
			h, got := w.run(options(w.config("info", f.stanza("read_timeout 20s"))))
			for _, code := range codes {
				h.MustAwait(t, limit, "a line of the redirect", func(v *flbhost.View) bool {
					return says(v, fmt.Sprintf("(%d), which is refused", code), "redirected to ",
						"set the final address")
				})
			}
			w.arrive(h, got, w.add())
			h.MustStop(t, limit)
			if n := followed.Load(); n > 0 {
				t.Errorf("%d requests arrived elsewhere", n)
			}
			if f.stray > 0 || f.svc.Stats().StrayTokens > 0 {
				t.Errorf("%d credentials went to the wrong side", f.stray+f.svc.Stats().StrayTokens)
			}
		})
	}
}

// A server that cannot prove to be the right one, or only speaks an old protocol, sees no request.
func TestServersThatCannotBeTrustedAreRefused(t *testing.T) {
	t.Parallel()
	count := func(n *atomic.Int64) http.HandlerFunc {
		return func(http.ResponseWriter, *http.Request) { n.Add(1) }
	}
	f := func(name string, server func(t *testing.T, seen *atomic.Int64) (base, ca string), words ...string) {
		for _, side := range []string{"url", "token_url"} {
			t.Run(name+" at "+side, func(t *testing.T) {
				t.Parallel()
				var seen atomic.Int64
				base, ca := server(t, &seen)
				w := newWorld(t, defendersim.Config{})
				if ca == "" {
					ca = w.ca
				} else {
					ca = concatenate(t, ca, w.ca)
				}
				h, got := w.run(options(w.config("info", fmt.Sprintf("%s %s/x; ca_file %s", side, base, ca))))
				h.MustAwait(t, limit, fmt.Sprintf("a line with %q", words),
					func(v *flbhost.View) bool { return says(v, words...) })
				h.MustStop(t, limit)
				if n := seen.Load(); n > 0 || len(got.body) > 0 {
					t.Errorf("%d requests came through", n)
				}
			})
		}
	}
	f("an unknown authority", func(t *testing.T, seen *atomic.Int64) (string, string) {
		base, _ := listen(t, count(seen))
		return base, ""
	}, "signed by an authority this machine does not know", "ca_file")
	f("another name", func(t *testing.T, seen *atomic.Int64) (string, string) {
		base, ca := listen(t, count(seen)) // for 127.0.0.1 and example.com
		return strings.Replace(base, "127.0.0.1", "localhost", 1), ca
	}, "is for another name", "DNS that leads elsewhere")
	f("TLS 1.1", func(t *testing.T, seen *atomic.Int64) (string, string) {
		srv := httptest.NewUnstartedServer(count(seen))
		srv.Config.ErrorLog = log.New(io.Discard, "", 0)
		srv.TLS = &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}
		srv.StartTLS()
		t.Cleanup(srv.Close)
		return srv.URL, certificate(t, srv)
	}, "TLS handshake", "TLS 1.2 or newer")
	f("no TLS", func(t *testing.T, seen *atomic.Int64) (string, string) {
		srv := httptest.NewServer(count(seen))
		t.Cleanup(srv.Close)
		return strings.Replace(srv.URL, "http:", "https:", 1), ""
	}, "does not speak TLS")
}

func TestPlainHTTPIsForLoopbackOnly(t *testing.T) {
	t.Parallel()
	f := func(key, address string) {
		t.Run(key+" "+address, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, defendersim.Config{})
			h := flbhost.Launch(t, options(w.config("info", key+" "+address)))
			if err := h.Wait(limit); err == nil || h.ExitCode() != 255 {
				t.Fatalf("it started: %v, code %d", err, h.ExitCode())
			}
			h.Look(func(v *flbhost.View) {
				if !says(v, "[input:defender:defender.0] "+key+": ", "https://") {
					t.Error("no line names the key and what is allowed")
				}
				if v.HasLog("", defendersim.DefaultSecret) {
					t.Error("the secret is in the log")
				}
			})
		})
	}
	f("url", "http://192.0.2.1/api/alerts")
	f("url", "http://localhost.example.com/api/alerts")
	f("token_url", "http://192.0.2.1/oauth2/token")
	f("authority", "http://login.example.com")
	f("url", "http://127.0.0.1@192.0.2.1/api/alerts")
}

// There is no way to do without all this.
func TestNoKeySwitchesChecksOff(t *testing.T) {
	t.Parallel()
	suspicious := regexp.MustCompile(`(?i)insecure|verify|tls|ssl|skip|redirect|trust`)
	for _, k := range conf.Keys {
		if suspicious.MatchString(k.Name) {
			t.Errorf("what does the key %s do?", k.Name)
		}
	}
	if len(conf.Keys) < 30 {
		t.Errorf("%d keys", len(conf.Keys))
	}
}
