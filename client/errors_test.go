package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/textproto"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"fluent-bit-defender/conf"
)

func TestErrorsOfStatuses(t *testing.T) {
	f := func(name string, answer func(*http.Request) (*http.Response, error), kind Kind, status int, wait time.Duration, want string) {
		t.Helper()
		c := connect(t, settings(), &service{alerts: answer})
		_, err := fetch(c, Query{Limit: 5})
		e := failure(t, err)
		if e.Kind != kind || e.Status != status || e.RetryAfter != wait || e.Error() != want {
			t.Errorf("%s: kind %v, status %d, wait %v\n got %s\nwant %s", name, e.Kind, e.Status, e.RetryAfter, e, want)
		}
		if strings.ContainsAny(e.Error(), "\r\n") {
			t.Errorf("%s: more than one line", name)
		}
	}
	f("204", always(204, ""), KindService, 204, 0,
		"alerts request: the service answered with status 204 instead of 200; if it lasts, check url, cloud and region and proxy_url")
	f("301", always(301, "", "Location: https://moved.test/api?x=1"), KindConfig, 301, 0,
		"alerts request: redirected to moved.test (301), which is refused so that no credential goes to another host; "+
			"check url, cloud and region, and set the final address if it is the right one")
	f("302 to a path", always(302, "", "Location: /login"), KindConfig, 302, 0,
		"alerts request: redirected to another path (302), which is refused so that no credential goes to another host; "+
			"check url, cloud and region, and set the final address if it is the right one")
	f("304", always(304, ""), KindConfig, 304, 0,
		"alerts request: redirected to nowhere (304), which is refused so that no credential goes to another host; "+
			"check url, cloud and region, and set the final address if it is the right one")
	f("400", always(400, `{"error": "bad\nfilter"}`), KindRefused, 400, 0,
		"alerts request: the service refused the query (400); "+
			"check machine_groups, device_created_machine_tags, cloud_created_machine_tags, limit and ago; "+
			`the service says "{'error': 'bad\nfilter'}"`)
	f("401", always(401, "", `WWW-Authenticate: Bearer error="invalid_token", error_description="wrong audience"`), KindUnauthorized, 401, 0,
		"alerts request: the service refused the token (401), and a new one too; check resource and tenant_id, that cloud and region are the tenant's, "+
			"and that client_id is the application made for SIEM integration; "+
			`the service says "Bearer [masked]'invalid_token', error_description='wrong audience'"`)
	f("403", always(403, ""), KindForbidden, 403, 0,
		"alerts request: access is forbidden (403): a domain is not managed by the tenant's administrator, the tenant is deleted, "+
			"or the application may not read alerts; enable SIEM integration in Defender for this tenant, grant the application access, "+
			"and check tenant_id, cloud and region")
	f("404", always(404, ""), KindConfig, 404, 0,
		"alerts request: nothing answers at https://alerts.test/api/alerts (404); check url, cloud and region")
	f("405", always(405, ""), KindConfig, 405, 0,
		"alerts request: nothing answers at https://alerts.test/api/alerts (405); check url, cloud and region")
	f("407", always(407, ""), KindConfig, 407, 0,
		"alerts request: the proxy wants a user name and password (407); "+
			"put them into the address in the variable HTTPS_PROXY, and leave proxy_url out")
	f("408", always(408, ""), KindService, 408, 0, "alerts request: the service gave the request up (408); if it lasts, look for a slow proxy")
	f("414", always(414, ""), KindRefused, 414, 0,
		"alerts request: the service refused the request (414); check url, cloud and region and the filters")
	f("429", always(429, "", "Retry-After: 30"), KindThrottled, 429, 30*time.Second,
		"alerts request: throttled (429), it asks to wait 30s; raise poll_interval, or let fewer stanzas and nodes poll this tenant")
	f("500", always(500, ""), KindService, 500, 0,
		"alerts request: error in the service (500); if it lasts, look at the service's health")
	f("503", always(503, "", "Retry-After: 120"), KindService, 503, 2*time.Minute,
		"alerts request: the service is not available (503), it asks to wait 2m0s; if it lasts, look at the service's health")
	f("599", always(599, ""), KindService, 599, 0,
		"alerts request: the service is not available (599); if it lasts, look at the service's health")
	f("a body that gives the token back", func(req *http.Request) (*http.Response, error) {
		return reply(req, 500, "<p>You sent "+req.Header.Get("Authorization")+" and "+theSecret+"</p>"+strings.Repeat("x", 9000)), nil
	}, KindService, 500, 0, "alerts request: error in the service (500); if it lasts, look at the service's health; "+
		`the service says "<p>You sent Bearer [masked] and [masked]</p>`+strings.Repeat("x", 153)+`..."`)
	f("a body in gzip", always(500, string(zip("broken")), "Content-Encoding: gzip"), KindService, 500, 0,
		`alerts request: error in the service (500); if it lasts, look at the service's health; the service says "broken"`)
	f("a body in another encoding", always(500, "\x00\x01", "Content-Encoding: br"), KindService, 500, 0,
		"alerts request: error in the service (500); if it lasts, look at the service's health")
}

// A refusal with a body that never comes must not wait for it as long as for alerts.
func TestErrorBodiesAreNotWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := connect(t, settings(), &service{alerts: func(req *http.Request) (*http.Response, error) {
			r := reply(req, 500, "")
			r.Body, r.ContentLength = drip(time.Millisecond, 1), -1
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

func TestErrorsOfTheNetwork(t *testing.T) {
	opErr := func(op string, err error) error {
		return &net.OpError{Op: op, Net: "tcp", Addr: &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 443}, Err: err}
	}
	f := func(name string, in error, kind Kind, want string) {
		t.Helper()
		c := connect(t, settings(), &service{alerts: func(*http.Request) (*http.Response, error) { return nil, in }})
		_, err := fetch(c, Query{})
		e := failure(t, err)
		if e.Kind != kind || e.Status != 0 || e.Error() != want {
			t.Errorf("%s: %v\n got %s\nwant %s", name, e.Kind, e, want)
		}
	}
	const proxy = "; where only a proxy reaches the internet, set proxy_url"
	f("unknown name", opErr("dial", &net.DNSError{Err: "no such host", Name: "alerts.test", IsNotFound: true}), KindNetwork,
		"alerts request: cannot find the address of alerts.test; check url, cloud and region and this machine's DNS"+proxy)
	f("unknown proxy", opErr("proxyconnect", &net.DNSError{Err: "no such host", Name: "proxy.test"}), KindNetwork,
		"alerts request: cannot find the address of proxy.test; check proxy_url and this machine's DNS")
	f("refused", opErr("dial", syscall.ECONNREFUSED), KindNetwork,
		"alerts request: alerts.test refused the connection; check url, cloud and region and the firewall"+proxy)
	f("refused by the proxy", opErr("proxyconnect", opErr("dial", syscall.ECONNREFUSED)), KindNetwork,
		"alerts request: the proxy refused the connection; check proxy_url")
	f("reset", opErr("read", syscall.ECONNRESET), KindNetwork,
		"alerts request: alerts.test closed the connection before it answered; if it lasts, look for a firewall or proxy that cuts connections")
	f("closed", io.EOF, KindNetwork,
		"alerts request: alerts.test closed the connection before it answered; if it lasts, look for a firewall or proxy that cuts connections")
	f("unknown authority", &tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}, KindConfig,
		"alerts request: the certificate of alerts.test is signed by an authority this machine does not know; "+
			"if a proxy opens TLS here, name its certificate in ca_file; else check url, cloud and region")
	f("another name", &tls.CertificateVerificationError{Err: x509.HostnameError{Certificate: &x509.Certificate{}, Host: "alerts.test"}}, KindConfig,
		"alerts request: the certificate of alerts.test is for another name; check url, cloud and region, and for a proxy or DNS that leads elsewhere")
	f("expired", &tls.CertificateVerificationError{Err: x509.CertificateInvalidError{Reason: x509.Expired}}, KindConfig,
		"alerts request: the certificate of alerts.test is expired or not valid yet; "+
			"check this machine's clock; if it is right, whoever runs that host must renew it")
	f("no server certificate", &tls.CertificateVerificationError{Err: x509.CertificateInvalidError{Reason: x509.IncompatibleUsage}}, KindConfig,
		"alerts request: the certificate of alerts.test is not valid: x509: certificate specifies an incompatible key usage; "+
			"check ca_file, and for a proxy that opens TLS")
	f("no TLS", tls.RecordHeaderError{Msg: "first record does not look like a TLS handshake"}, KindConfig,
		"alerts request: alerts.test does not speak TLS; check url, cloud and region and the scheme of proxy_url")
	f("timeout", opErr("read", context.DeadlineExceeded), KindNetwork,
		"alerts request: no answer from alerts.test within 1m0s (read_timeout); if it lasts, raise read_timeout or lower max_window")
	f("not HTTP", textproto.ProtocolError("malformed MIME header line: "+theSecret), KindNetwork,
		"alerts request: the answer from alerts.test is not HTTP; check url, cloud and region and proxy_url")
	f("bad proxy variable", errProxyVariable, KindConfig,
		"alerts request: the proxy variable of the environment (HTTPS_PROXY or HTTP_PROXY) is not an address; mend it, or set proxy_url")
	f("anything else", errors.New("boom with "+theSecret), KindNetwork,
		"alerts request: no answer from alerts.test: boom with [masked]; if it lasts, check the network, url, cloud and region and proxy_url")

	t.Run("unwraps to the cause", func(t *testing.T) {
		c := connect(t, settings(), &service{alerts: func(*http.Request) (*http.Response, error) {
			return nil, opErr("read", syscall.ECONNRESET)
		}})
		if _, err := fetch(c, Query{}); !errors.Is(err, syscall.ECONNRESET) {
			t.Fatalf("%v does not", err)
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
	f := func(name string, gone bool, over *service, q Query) {
		t.Helper()
		cfg := settings()
		if q.Page != "" {
			cfg.API = conf.Graph
		}
		_, err := fetch(connect(t, cfg, over), q)
		if e := failure(t, err); e.Gone() != gone {
			t.Errorf("%s: gone %t: %v", name, e.Gone(), e)
		}
	}
	noName := &net.DNSError{Err: "no such host", Name: "alerts.test", IsNotFound: true}
	for status, gone := range map[int]bool{403: true, 404: true, 410: true, 400: false, 401: false, 405: false, 407: false, 429: false, 500: false, 503: false} {
		f(fmt.Sprint(status), gone, &service{alerts: always(status, "")}, Query{})
	}
	f("no name", true, &service{alerts: dial(noName)}, Query{})
	f("a name server that fails", false, &service{alerts: dial(&net.DNSError{Err: "server misbehaving", Name: "alerts.test", IsTemporary: true})}, Query{})
	f("refused", true, &service{alerts: dial(syscall.ECONNREFUSED)}, Query{})
	f("reset", false, &service{alerts: dial(syscall.ECONNRESET)}, Query{})
	f("timeout", false, &service{alerts: dial(context.DeadlineExceeded)}, Query{})
	f("a proxy that refuses", false, &service{alerts: func(*http.Request) (*http.Response, error) {
		return nil, &net.OpError{Op: "proxyconnect", Net: "tcp", Err: syscall.ECONNREFUSED}
	}}, Query{})
	f("a link", false, &service{alerts: always(404, "")}, Query{Page: "https://alerts.test/v1.0/security/alerts_v2?$skiptoken=x"})
	f("no login", false, &service{token: dial(noName)}, Query{})
	f("a login that is gone", false, &service{token: always(410, "")}, Query{})
}

func TestKindsHaveNames(t *testing.T) {
	seen := map[string]bool{}
	for k := KindNetwork; k <= KindConfig; k++ {
		if s := k.String(); s == "unknown" || seen[s] {
			t.Errorf("kind %d is called %q", k, s)
		} else {
			seen[s] = true
		}
	}
	if Kind(0).String() != "unknown" || Kind(99).String() != "unknown" {
		t.Error("other kinds have names")
	}
}
