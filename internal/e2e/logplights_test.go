package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"time"

	"fluent-bit-defender/internal/defendersim"
)

// plight is what is wrong for one stanza, and what it says of it.
type plight struct {
	level, line string // line: how it begins
	lasts       bool   // it does not pass by itself
	keys        []string
	without     []string // of the keys that a stanza has as a rule
	graph       bool

	tokens, alerts, pages []http.HandlerFunc
}

// plights runs a stanza for each, all in one process, until each has said its line and, where the plight passes,
// pulls again.
func (s *scenario) plights(list ...plight) {
	s.Helper()
	history(s.svc, 20, 10*time.Minute)
	var inputs strings.Builder
	for i, p := range list {
		f := s.front(p)
		keys := append(p.keys, fmt.Sprintf("alias p%d", i))
		if p.graph {
			keys = append(keys, "api graph", "url "+f.at(s.srv.GraphURL()), "token_url "+f.at(s.srv.TokenURLV2()))
		} else {
			keys = append(keys, "url "+f.at(s.srv.AlertsURL()), "token_url "+f.at(s.srv.TokenURL()))
		}
		inputs.WriteString(s.lone(p.without, append(keys, short...)...))
	}
	h := s.start("", inputs.String())
	for i, p := range list {
		at := fmt.Sprintf("[input:defender:p%d] ", i)
		s.says(h, 40*time.Second, p.level, at+p.line)
		if !p.lasts {
			s.says(h, 40*time.Second, "info", at+"alerts are pulled again after ")
		}
	}
	s.end(h)
	s.said(h)
}

// lone is a stanza in which each key stands once, the first one, and those of without do not.
func (s *scenario) lone(without []string, keys ...string) string {
	var b strings.Builder
	given := map[string]bool{}
	for _, key := range without {
		given[key] = true
	}
	for line := range strings.Lines(s.stanza(keys...)) {
		key, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		if strings.HasPrefix(line, " ") && given[key] {
			continue
		}
		given[key] = true
		b.WriteString(line)
	}
	return b.String()
}

// later passes over the requests at the start, which have a purpose of their own.
func later(answer http.HandlerFunc) []http.HandlerFunc { return []http.HandlerFunc{nil, nil, answer} }

func at(level, line string, answer http.HandlerFunc) plight {
	return plight{level: level, line: "alerts request: " + line, alerts: later(answer)}
}

func atToken(level, line string, answer http.HandlerFunc) plight {
	return plight{level: level, line: "token request: " + line, tokens: []http.HandlerFunc{answer}}
}

// keyed does not pass by itself: it lies in the stanza.
func keyed(level, line string, keys ...string) plight {
	return plight{level: level, line: line, keys: keys, lasts: true}
}

func oddStatuses(s *scenario) {
	s.plights(
		at("warn", "the service refused the request (418)", answers(418, "")),
		at("warn", "the service gave the request up (408)", answers(408, "", "Connection", "close")),
		at("warn", "the service answered with status 202 instead of 200", answers(202, "")),
		at("error", "redirected to elsewhere.example (302)", answers(302, "", "Location",
			"https://elsewhere.example/login")),
		at("error", "the answer is encoded as 'br'", answers(200, "[]", "Content-Encoding", "br")),
		at("warn", "the answer from 127.0.0.1:", writes("SSH-2.0-OpenSSH_9.9\r\n\r\n")),
		at("warn", "the head of the answer from 127.0.0.1:", answers(200, "[]", "Padding",
			strings.Repeat("x", 128<<10))),
	)
}

func brokenAnswers(s *scenario) {
	slow := func(p plight) plight {
		p.keys = []string{"read_timeout 1s"}
		return p
	}
	s.plights(
		slow(at("warn", "answer silent for 1s (read_timeout) after 1024 bytes", drips(0))),
		slow(at("warn", "answer trickles: ", drips(100*time.Millisecond))),
		at("warn", "answer ends in a malformed trailer", writes("HTTP/1.1 200 OK\r\nContent-Type: "+
			"application/json\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n[]\r\n0\r\nno trailer\r\n\r\n")),
		at("warn", "bad gzip after 0 decompressed bytes", answers(200, "no gzip at all", "Content-Encoding", "gzip")),
	)
}

func tokenAnswers(s *scenario) {
	refusal := func(status int, name string) http.HandlerFunc {
		return answers(status, `{"error":"`+name+`","error_description":"because"}`, "Content-Type", "application/json")
	}
	token := func(kind, text string) http.HandlerFunc {
		return answers(200, `{"token_type":"`+kind+`","access_token":"`+text+`","expires_in":"3599"}`, "Content-Type",
			"application/json")
	}
	s.plights(
		atToken("error", "refused without a reason (403)", answers(403, "go away")),
		atToken("error", "the answer is larger than 256 KiB", answers(200, strings.Repeat(" ", 300<<10))),
		atToken("warn", "the answer holds no token", answers(200, "<html>log in</html>", "Content-Type", "text/html")),
		atToken("warn", "the token is of type 'mac' instead of Bearer", token("mac", "abc")),
		atToken("warn", "the token holds bytes that no header can carry", token("Bearer", `a\nb`)),
		atToken("warn", "answer cut after 1 bytes", writes("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")),
		atToken("warn", "the token service is not available (503)", refusal(503, "temporarily_unavailable")),
		atToken("error", "the application or its credential was refused (invalid_client)",
			refusal(401, "invalid_client")),
		atToken("error", "the application may not ask for tokens this way (unauthorized_client)",
			refusal(400, "unauthorized_client")),
		atToken("error", "the resource was refused (invalid_resource)", refusal(400, "invalid_resource")),
		atToken("error", "the request was refused (invalid_request)", refusal(400, "invalid_request")),
		atToken("error", "no token was given (access_denied)", refusal(400, "access_denied")),
	)
}

func credentials(s *scenario) {
	missing := filepath.Join(s.TempDir(), "missing")
	cert, err := defendersim.NewCertificate(s.svc.Now().Add(-time.Hour), s.svc.Now().Add(10*24*time.Hour))
	if err != nil {
		s.Fatal(err)
	}
	s.svc.SetCertificates(defendersim.DefaultClientID, cert.Cert)
	with := func(p plight, tokens ...http.HandlerFunc) plight {
		p.without, p.tokens = append(p.without, "client_secret"), tokens
		return p
	}
	identity := func(line string, status int, body string) plight {
		server := httptest.NewServer(answers(status, body, "Retry-After", "100")) // longer than an attempt waits
		s.Cleanup(server.Close)
		p := keyed("warn", line, "auth managed_identity", "managed_identity_endpoint "+server.URL+"/token")
		p.without = []string{"client_id", "token_url"}
		return with(p)
	}
	noIdentity := identity("token request: the machine has no such managed identity (invalid_request)", 400,
		`{"error":"invalid_request","error_description":"Identity not found"}`)
	noIdentity.level = "error"
	s.plights(
		with(keyed("error", "token request: client_secret_file: ", "client_secret_file "+missing)),
		with(keyed("error", "token request: client_secret_file: ", "client_secret_file "+s.file("secret",
			"two\nlines\n", 0o600))),
		with(keyed("error", "token request: client_certificate_file: ", "auth client_certificate",
			"client_certificate_file "+s.file("cert.pem", "none", 0o600))),
		with(keyed("warn", "client_certificate_file: ", "auth client_certificate", "client_certificate_file "+
			s.file("cert.pem", string(cert.PEM()), 0o600))),
		with(keyed("error", "token request: federated_token_file: ", "auth workload_identity", "federated_token_file "+
			missing)),
		with(keyed("error", "token request: refresh_token_file: ", "auth authorization_code", "refresh_token_file "+
			missing)),
		with(keyed("warn", "refresh_token_file: ", "auth authorization_code", "refresh_token_file "+s.file("login",
			"of-nobody", 0o644))),
		with(keyed("error", "token request: the login is not accepted any more (invalid_grant)",
			"auth authorization_code", "refresh_token_file "+s.file("login", "of-old", 0o600)),
			answers(400, `{"error":"invalid_grant","error_description":"it ended"}`, "Content-Type",
				"application/json")),
		identity("token request: the metadata service is being updated, or is not there (404)", 404, ""),
		noIdentity,
	)
}

// servers are some that nobody should trust, and others that cannot be reached.
func servers(s *scenario) {
	s.host.Env = append(s.host.Env, "NO_PROXY=*")
	alerts := func(level, line, address string, keys ...string) plight {
		return keyed(level, "alerts request: "+line, append(keys, "url "+address+"/api/alerts", "token_url "+
			s.srv.TokenURL())...)
	}
	distrusted := func(line string, change func(*x509.Certificate, *tls.Config)) plight {
		server := httptest.NewUnstartedServer(http.NotFoundHandler())
		now := time.Now()
		leaf := &x509.Certificate{
			SerialNumber: big.NewInt(1), NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
			IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, IsCA: true, BasicConstraintsValid: true,
			KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		}
		config := &tls.Config{}
		change(leaf, config)
		config.Certificates = []tls.Certificate{selfSigned(s, leaf)}
		server.TLS = config
		server.Config.ErrorLog = log.New(io.Discard, "", 0)
		server.StartTLS()
		s.Cleanup(server.Close)
		return alerts("error", line, server.URL, "ca_file "+s.trustIn(server))
	}
	proxy := func(level, line string, status int) plight {
		server := httptest.NewServer(answers(status, ""))
		s.Cleanup(server.Close)
		return keyed(level, "token request: "+line, "proxy_url "+server.URL, "url "+s.srv.AlertsURL(), "token_url "+
			s.srv.TokenURL(), fmt.Sprintf("machine_groups proxy %d", status))
	}
	plain := httptest.NewServer(http.NotFoundHandler())
	s.Cleanup(plain.Close)
	s.plights(
		distrusted("the certificate of 127.0.0.1:",
			func(c *x509.Certificate, _ *tls.Config) { c.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 9)} }),
		distrusted("the certificate of 127.0.0.1:",
			func(c *x509.Certificate, _ *tls.Config) { c.NotAfter = c.NotBefore.Add(time.Minute) }),
		distrusted("the certificate of 127.0.0.1:", func(c *x509.Certificate, _ *tls.Config) {
			c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
		}),
		distrusted("the TLS handshake with 127.0.0.1:", func(_ *x509.Certificate, t *tls.Config) {
			t.MinVersion, t.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
		}),
		alerts("error", "127.0.0.1:", strings.Replace(plain.URL, "http:", "https:", 1)),
		// refused before any resolver is asked
		alerts("warn", "cannot find the address of nowhere-.invalid", "https://nowhere-.invalid"),
		alerts("warn", "no answer from 255.255.255.255: ", "https://255.255.255.255"),
		keyed("warn", "token request: no connection to 127.0.0.1:", "token_url https://"+deaf(s.T)+"/token",
			"connect_timeout 1s"),
		proxy("error", "the proxy wants a user name and password (407)", 407),
		proxy("error", "the proxy refuses a connection to 127.0.0.1:", 403),
		proxy("warn", "the proxy cannot reach 127.0.0.1:", 502),
	)
}

// selfSigned makes a certificate that is its own authority.
func selfSigned(s *scenario, leaf *x509.Certificate) tls.Certificate {
	s.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		s.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, leaf, &key.PublicKey, key)
	if err != nil {
		s.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}
