// Package simtest has one job: what the tests of transport, entra and client share. It is a service on an in-memory
// wire, and a stanza for each credential beside the simulated service that takes it.
package simtest

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"

	"fluent-bit-defender/conf"
)

// The seed's own sample values.
const (
	Secret   = "IKXc6PxB2eoFNJ/IT+l2JZZD9d9032VXz6Ul3D2WyUQ="
	ClientID = "35e0f735-5fe4-4693-9e68-3de80f1d3745"
	Tenant   = "72f988bf-86f1-41af-91ab-2d7cd011db47"
	Token    = "eyJ0eXaioJJOIneiowiouqSuzNiZ345FYOVkaJL0625TueyaJasjhIjEnbMlWqP"
	Alert    = `[{"AlertId":"636207535742330111_-1114309685"}]`
)

// Settings is a configuration as conf would give it.
func Settings() *conf.Config {
	return &conf.Config{
		API: "siem", TenantID: Tenant,
		Credential: conf.Credential{Auth: "client_secret", ClientID: ClientID, ClientSecret: Secret},
		Service: conf.Service{
			URL:      "https://alerts.test/api/alerts",
			TokenURL: "https://login.test/" + Tenant + "/oauth2/token",
			Resource: "https://graph.windows.net",
		},
		Network: conf.Network{ConnectTimeout: 10 * time.Second, ReadTimeout: time.Minute},
	}
}

// Service is Microsoft's side on an in-memory wire: it gives out numbered tokens
// and answers alerts, unless a test puts its own functions in place.
type Service struct {
	Token  func(*http.Request) (*http.Response, error)
	Alerts func(*http.Request) (*http.Response, error)

	mu           sync.Mutex
	Forms        []string // bodies of the token requests
	TokenHeads   []http.Header
	AlertQueries []string
	AlertHeads   []http.Header
}

func (s *Service) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := req.Context().Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	if req.URL.Host == "login.test" {
		form, _ := io.ReadAll(req.Body)
		req.Body.Close()
		s.Forms = append(s.Forms, string(form))
		s.TokenHeads = append(s.TokenHeads, req.Header.Clone())
		n := len(s.Forms)
		s.mu.Unlock()
		if s.Token != nil {
			return s.Token(req)
		}
		return Reply(req, 200, TokenJSON(n)), nil
	}
	s.AlertQueries = append(s.AlertQueries, req.URL.RawQuery)
	s.AlertHeads = append(s.AlertHeads, req.Header.Clone())
	s.mu.Unlock()
	if s.Alerts != nil {
		return s.Alerts(req)
	}
	return Reply(req, 200, Alert), nil
}

// Forget drops what was counted so far.
func (s *Service) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.Forms, s.TokenHeads, s.AlertQueries, s.AlertHeads = nil, nil, nil, nil
}

// Counts are the requests so far.
func (s *Service) Counts() (tokens, alerts int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.Forms), len(s.AlertQueries)
}

// TokenJSON is the seed's answer with the n-th token; its numbers are strings.
func TokenJSON(n int) string {
	return fmt.Sprintf(`{"token_type": "Bearer", "expires_in": "3599", "ext_expires_in": "0", "expires_on": "1488720683",
		"not_before": "1488720683", "resource": "https://graph.windows.net", "access_token": "%s%d"}`, Token, n)
}

// Reply is an answer with a Date of the (virtual) present and any further header
// lines as "Name: value".
func Reply(req *http.Request, status int, body string, header ...string) *http.Response {
	h := http.Header{"Date": {time.Now().UTC().Format(http.TimeFormat)}, "Content-Type": {"application/json"}}
	for _, line := range header {
		name, value, _ := strings.Cut(line, ": ")
		h.Set(name, value)
		if value == "" {
			h.Del(name)
		}
	}
	return &http.Response{
		StatusCode: status, Status: strconv.Itoa(status) + " " + http.StatusText(status),
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: h, Request: req,
		Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)),
	}
}

// Always answers every request alike.
func Always(status int, body string, header ...string) func(*http.Request) (*http.Response, error) {
	return func(req *http.Request) (*http.Response, error) { return Reply(req, status, body, header...), nil }
}

// NoSecret fails when text shows the secret or a token.
func NoSecret(t *testing.T, text string) {
	t.Helper()
	Hides(t, text, Secret, Token)
}

// Failure returns err as an error of type E, with all its texts free of secrets.
func Failure[E error](t *testing.T, err error) E {
	t.Helper()
	e, ok := errors.AsType[E](err)
	if !ok {
		t.Fatalf("error is %T %v, want %T", err, err, e)
	}
	for sub := err; sub != nil; sub = errors.Unwrap(sub) {
		NoSecret(t, fmt.Sprintf("%v %+v %#v %q", sub, sub, sub, sub))
	}
	return e
}

// Hides fails when text shows 12 bytes in a row of one of the secrets.
func Hides(t *testing.T, text string, secrets ...string) {
	t.Helper()
	for _, secret := range secrets {
		forms := []string{secret, url.QueryEscape(secret), base64.StdEncoding.EncodeToString([]byte(secret))}
		for _, form := range forms {
			for i := 0; i+12 <= len(form); i++ {
				if strings.Contains(text, form[i:i+12]) {
					t.Fatalf("%q of a secret is in %q", form[i:i+12], text)
				}
			}
		}
	}
}

// Drip is an endless body that gives n bytes each d.
func Drip(d time.Duration, n int) io.ReadCloser {
	return &dripping{d: d, n: n, closed: make(chan struct{})}
}

type dripping struct {
	d      time.Duration
	n      int
	once   sync.Once
	closed chan struct{}
}

func (b *dripping) Read(p []byte) (int, error) {
	wait := time.NewTimer(b.d)
	defer wait.Stop()
	select {
	case <-wait.C:
		n := min(b.n, len(p))
		copy(p, bytes.Repeat([]byte(" "), n))
		return n, nil
	case <-b.closed:
		return 0, http.ErrBodyReadAfterClose
	}
}

func (b *dripping) Close() error { b.once.Do(func() { close(b.closed) }); return nil }

// Zip is text in gzip, one member.
func Zip(text string) []byte {
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	io.WriteString(z, text)
	z.Close()
	return out.Bytes()
}

// Unsigned is a JWT of these claims; nobody checks its signature here.
func Unsigned(claims map[string]any) string {
	payload, err := json.Marshal(claims)
	if err != nil {
		panic(err)
	}
	part := base64.RawURLEncoding.EncodeToString
	return part([]byte(`{"alg":"none"}`)) + "." + part(payload) + "." + part([]byte("no signature at all"))
}

// Refused is an answer of Entra ID in its usual form.
func Refused(name, description string, codes ...int) string {
	text, _ := json.Marshal(map[string]any{
		"error": name, "error_description": description, "error_codes": codes,
		"timestamp": "2020-02-03 04:05:06Z", "trace_id": "255d1aef-8c98-452f-ac51-23d051240864",
		"correlation_id": "fb3d2015-bc17-4bb9-bb85-30c5cf1aaaa7",
		"error_uri":      "https://login.test/error?code=" + fmt.Sprint(codes),
	})
	return string(text)
}

// Listen starts a listener that hands each connection to serve, which need not close it.
func Listen(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var open sync.WaitGroup
	done := make(chan struct{})
	open.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			open.Go(func() {
				open.Go(func() { <-done; nc.Close() })
				serve(nc)
			})
		}
	})
	t.Cleanup(func() { l.Close(); close(done); open.Wait() })
	return l.Addr().String()
}
