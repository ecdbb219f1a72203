package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"fluent-bit-defender/conf"
	"fluent-bit-defender/credential"
	"fluent-bit-defender/internal/defendersim"
)

const (
	theAccount  = "system:serviceaccount:logging:fluent-bit"
	theAudience = "api://AzureADTokenExchange"
	theLogin    = "0a6a3b1c-1111-2222-3333-444455556666" // a native application
	theIdentity = "5d2f6c1e-aaaa-bbbb-cccc-ddddeeeeffff"
)

// Keys take long to make.
var (
	theCertificate = sync.OnceValue(func() *defendersim.Certificate { return newCertificate(sim0.AddDate(0, -1, 0), sim0.AddDate(10, 0, 0)) })
	theNext        = sync.OnceValue(func() *defendersim.Certificate { return newCertificate(sim0.AddDate(0, -1, 0), sim0.AddDate(10, 0, 0)) })
	theCluster     = sync.OnceValue(func() *defendersim.Cluster {
		c, err := defendersim.NewCluster("https://oidc.example/cluster/")
		if err != nil {
			panic(err)
		}
		return c
	})
)

// sim0 is the service's time at the start of a test in memory: far from the bubble's.
var sim0 = time.Date(2024, 5, 6, 12, 0, 0, 0, time.UTC)

func newCertificate(from, to time.Time) *defendersim.Certificate {
	c, err := defendersim.NewCertificate(from, to)
	if err != nil {
		panic(err)
	}
	return c
}

// world is a simulated service with an application for each credential, and a stanza for one.
type world struct {
	*testing.T
	svc  *defendersim.Service
	srv  *defendersim.Server // nil: in memory
	dir  string
	cfg  *conf.Config
	log  *logBuffer
	wire *recorder
}

// logBuffer keeps what a client logs, down to debug.
type logBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

func (b *logBuffer) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(b, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// recorder keeps what went over the wire to anywhere but the API, and can answer in the service's place.
type recorder struct {
	http.RoundTripper
	mu     sync.Mutex
	forms  []url.Values
	before func(*http.Request, url.Values) (*http.Response, error) // nil, nil: the service answers
}

func (r *recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	form := url.Values{}
	if req.Method == http.MethodPost {
		body := new(bytes.Buffer)
		body.ReadFrom(req.Body)
		req.Body.Close()
		form, _ = url.ParseQuery(body.String())
		req = req.Clone(req.Context())
		req.Body = readCloser{body}
	}
	r.mu.Lock()
	if req.Method == http.MethodPost {
		r.forms = append(r.forms, form)
	}
	before := r.before
	r.mu.Unlock()
	if before != nil {
		if resp, err := before(req, form); resp != nil || err != nil {
			return resp, err
		}
	}
	return r.RoundTripper.RoundTrip(req)
}

type readCloser struct{ *bytes.Buffer }

func (readCloser) Close() error { return nil }

// sent returns the forms sent so far.
func (r *recorder) sent() []url.Values {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]url.Values(nil), r.forms...)
}

func (r *recorder) meanwhile(f func(*http.Request, url.Values) (*http.Response, error)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.before = f
}

// credentials lists every auth with what its stanza and the service need.
var credentials = map[string]func(w *world){
	conf.ClientSecret: func(w *world) {
		w.cfg.ClientSecret, w.cfg.ClientSecretFile = "", w.write("secret", theSecret+"\n")
	},
	conf.ClientCertificate: func(w *world) {
		w.svc.SetCertificates(theClient, theCertificate().Cert)
		w.cfg.ClientCertificateFile = w.write("app.pem", string(theCertificate().PEM()))
	},
	conf.WorkloadIdentity: func(w *world) {
		w.svc.SetFederation(theClient, defendersim.Federation{Cluster: theCluster(), Subject: theAccount, Audience: theAudience})
		w.cfg.FederatedTokenFile = w.write("token", w.federated(time.Hour))
	},
	conf.ManagedIdentity: func(w *world) {
		w.svc.SetIdentities(theIdentity)
		w.cfg.TenantID, w.cfg.ClientID, w.cfg.TokenURL = conf.NoTenant, "", ""
		w.cfg.ManagedIdentityEndpoint = defendersim.IdentityURL
		if w.srv != nil {
			w.cfg.ManagedIdentityEndpoint = w.srv.IdentityURL()
		}
	},
	conf.AuthorizationCode: func(w *world) {
		w.cfg.ClientID = theLogin
		w.cfg.RefreshTokenFile = w.write("refresh", w.svc.Login(theLogin, defendersim.DefaultResource)+"\n")
	},
}

// stanza makes a world in memory with a stanza for a credential. It is for use in a bubble, or out of one.
func stanza(t *testing.T, auth string, v2 bool) *world {
	t.Helper()
	start := time.Now()
	w := &world{T: t, svc: defendersim.New(defendersim.Config{Now: func() time.Time { return sim0.Add(time.Since(start)) }})}
	w.set(auth, v2)
	w.wire = &recorder{RoundTripper: w.svc.Transport()}
	return w
}

// overTLS makes a world behind real connections.
func overTLS(t *testing.T, auth string, v2 bool) *world {
	t.Helper()
	start := time.Now()
	w := &world{T: t, svc: defendersim.New(defendersim.Config{Now: func() time.Time { return sim0.Add(time.Since(start)) }})}
	srv, err := defendersim.Start(w.svc, defendersim.ServerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(srv.Close)
	w.srv = srv
	w.set(auth, v2)
	return w
}

func (w *world) set(auth string, v2 bool) {
	w.Helper()
	w.dir, w.log = w.TempDir(), &logBuffer{}
	w.cfg = settings()
	w.cfg.Auth, w.cfg.ClientSecret = auth, ""
	w.cfg.URL = defendersim.AlertsHost + "/api/alerts"
	w.cfg.TokenURL = defendersim.LoginHost + "/" + theTenant + "/oauth2/token"
	if v2 {
		w.cfg.TokenURL = defendersim.LoginHost + "/" + theTenant + "/oauth2/v2.0/token"
	}
	if w.srv != nil {
		w.cfg.URL, w.cfg.TokenURL = w.srv.AlertsURL(), w.srv.TokenURL()
		if v2 {
			w.cfg.TokenURL = w.srv.TokenURLV2()
		}
		w.cfg.CAFile = filepath.Join(w.dir, "ca.pem")
		if err := w.srv.WriteCA(w.cfg.CAFile); err != nil {
			w.Fatal(err)
		}
	}
	credentials[auth](w)
}

func (w *world) write(name, text string) string {
	w.Helper()
	path := filepath.Join(w.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		w.Fatal(err)
	}
	return path
}

func (w *world) read(path string) string {
	w.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		w.Fatal(err)
	}
	return string(text)
}

// federated is a token of the cluster that lives so long from now on, by the service's clock.
func (w *world) federated(life time.Duration) string {
	w.Helper()
	now := w.svc.Now()
	token, err := theCluster().Token(theAccount, theAudience, now, now.Add(life))
	if err != nil {
		w.Fatal(err)
	}
	return token
}

// client builds a client for the stanza; the test's end closes it.
func (w *world) client() *Client {
	w.Helper()
	c, err := w.tryClient()
	if err != nil {
		w.Fatal(err)
	}
	return c
}

func (w *world) tryClient() (*Client, error) {
	opts := []Option{WithLogger(w.log.logger())}
	if w.srv == nil {
		opts = append(opts, WithTransport(w.wire))
	}
	c, err := New(w.cfg, opts...)
	if err == nil {
		w.Cleanup(c.Close)
	}
	return c, err
}

// good fails unless a fetch succeeds.
func (w *world) good(c *Client, what string) {
	w.Helper()
	if _, err := fetch(c, Query{}); err != nil {
		w.Fatalf("%s: %v", what, err)
	}
}

// bad returns the error of a fetch that must fail.
func (w *world) bad(c *Client, what string) *Error {
	w.Helper()
	_, err := fetch(c, Query{})
	if err == nil {
		w.Fatalf("%s: no error", what)
	}
	var e *Error
	if !errors.As(err, &e) {
		w.Fatalf("%s: error is %T %v", what, err, err)
	}
	return e
}

// anew drops the held token.
func anew(c *Client) {
	c.token.mu.Lock()
	defer c.token.mu.Unlock()
	c.token.held = nil
}

// renewal gets a new token, or the error.
func renewal(c *Client) error {
	anew(c)
	_, err := c.token.get(context.Background())
	return err
}

// versions runs a test in a bubble for both versions of the token endpoint.
func versions(t *testing.T, auth string, f func(w *world)) {
	t.Helper()
	theCertificate() // before any bubble
	theNext()
	theCluster()
	for _, v := range []struct {
		name string
		v2   bool
	}{{"v1", false}, {"v2", true}} {
		t.Run(v.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { f(stanza(t, auth, v.v2)) })
		})
	}
}

func TestEveryCredentialOverTLS(t *testing.T) {
	for auth := range credentials {
		for _, v2 := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, v2 %v", auth, v2), func(t *testing.T) {
				w := overTLS(t, auth, v2)
				c := w.client()
				w.good(c, "the first token")
				w.svc.RevokeTokens()
				w.good(c, "after the token was refused")
				if st := w.svc.Stats(); st.Issued != 2 || st.StrayTokens != 0 {
					t.Errorf("%d tokens issued, %d strayed; want 2 and none", st.Issued, st.StrayTokens)
				}
			})
		}
	}
}

func TestEveryCredentialAsksAlike(t *testing.T) {
	want := map[string][]string{ // beside resource or scope
		conf.ClientSecret:      {"client_id", "client_secret", "grant_type"},
		conf.ClientCertificate: {"client_assertion", "client_assertion_type", "client_id", "grant_type"},
		conf.WorkloadIdentity:  {"client_assertion", "client_assertion_type", "client_id", "grant_type"},
		conf.AuthorizationCode: {"client_id", "grant_type", "refresh_token"},
	}
	for auth, names := range want {
		t.Run(auth, func(t *testing.T) {
			versions(t, auth, func(w *world) {
				w.good(w.client(), "a token")
				form := w.wire.sent()[0]
				scope := defendersim.DefaultResource + "/.default"
				if auth == conf.AuthorizationCode {
					scope += " offline_access"
				}
				if v2 := strings.HasSuffix(w.cfg.TokenURL, "/v2.0/token"); v2 && form.Get("scope") != scope || !v2 && form.Get("resource") != defendersim.DefaultResource {
					w.Errorf("resource %q, scope %q", form.Get("resource"), form.Get("scope"))
				}
				for _, name := range names {
					if form.Get(name) == "" {
						w.Errorf("no %s", name)
					}
				}
				if len(form) != len(names)+1 {
					w.Errorf("parameters are %v", form)
				}
			})
		})
	}
}

// Whatever is rotated while tokens are short-lived, not one request fails.
func TestRotationUnderShortLivedTokens(t *testing.T) {
	rotate := map[string]func(w *world, n int){
		conf.ClientSecret: func(w *world, n int) {
			w.svc.SetSecrets(theClient, fmt.Sprintf("secret-number-%d", n))
			w.write("secret", fmt.Sprintf("secret-number-%d", n))
		},
		conf.ClientCertificate: func(w *world, n int) {
			next := []*defendersim.Certificate{theCertificate(), theNext()}[n%2]
			w.svc.SetCertificates(theClient, next.Cert)
			w.write("app.pem", string(next.PEM()))
		},
		conf.WorkloadIdentity: func(w *world, _ int) { w.write("token", w.federated(time.Minute)) },
		conf.ManagedIdentity:  func(w *world, _ int) { w.svc.RevokeTokens() },
		conf.AuthorizationCode: func(w *world, n int) { // each renewal rotates by itself; at times a person logs in again
			if n%5 == 0 {
				if err := credential.WriteRefreshToken(w.cfg.RefreshTokenFile, conf.Secret(w.svc.Login(theLogin, defendersim.DefaultResource))); err != nil {
					w.Fatal(err)
				}
			}
		},
	}
	for auth, f := range rotate {
		t.Run(auth, func(t *testing.T) {
			versions(t, auth, func(w *world) {
				w.svc.SetTokenLife(50 * time.Second)
				w.svc.SetModes(func(m *defendersim.Modes) { m.RefreshOnce = auth == conf.AuthorizationCode })
				c := w.client()
				for n := range 30 {
					f(w, n)
					for range 6 {
						w.good(c, "under rotation")
						time.Sleep(10 * time.Second)
					}
				}
				if issued := w.svc.Stats().Issued; issued < 40 {
					w.Errorf("%d tokens in half an hour", issued)
				}
			})
		})
	}
}
