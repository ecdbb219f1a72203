package simtest

import (
	"bytes"
	"html"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"fluent-bit-defender/conf"
	"fluent-bit-defender/internal/defendersim"
)

const (
	Account  = "system:serviceaccount:logging:fluent-bit"
	Audience = "api://AzureADTokenExchange"
	LoginID  = "0a6a3b1c-1111-2222-3333-444455556666" // a native application
	Identity = "5d2f6c1e-aaaa-bbbb-cccc-ddddeeeeffff"
)

// Keys take long to make.
var (
	Certificate = sync.OnceValue(func() *defendersim.Certificate {
		return NewCertificate(Start.AddDate(0, -1, 0), Start.AddDate(10, 0, 0))
	})
	NextCertificate = sync.OnceValue(func() *defendersim.Certificate {
		return NewCertificate(Start.AddDate(0, -1, 0), Start.AddDate(10, 0, 0))
	})
	Cluster = sync.OnceValue(func() *defendersim.Cluster {
		c, err := defendersim.NewCluster("https://oidc.example/cluster/")
		if err != nil {
			panic(err)
		}
		return c
	})
)

// Start is the service's time at the start of a test in memory: far from the bubble's.
var Start = time.Date(2024, 5, 6, 12, 0, 0, 0, time.UTC)

// NewCertificate is a certificate with its key, good from one time to another.
func NewCertificate(from, to time.Time) *defendersim.Certificate {
	c, err := defendersim.NewCertificate(from, to)
	if err != nil {
		panic(err)
	}
	return c
}

// World is a simulated service with an application for each credential, and a stanza for one.
type World struct {
	*testing.T
	Svc    *defendersim.Service
	Srv    *defendersim.Server // nil: in memory
	Dir    string
	Cfg    *conf.Config
	Logged *LogBuffer
	Wire   *Recorder
}

// LogBuffer keeps what a client logs, down to debug.
type LogBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *LogBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *LogBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// Logger writes into the buffer.
func (b *LogBuffer) Logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(b, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// Recorder keeps what went over the wire to anywhere but the API, and can answer in the service's place.
type Recorder struct {
	http.RoundTripper
	mu     sync.Mutex
	forms  []url.Values
	before func(*http.Request, url.Values) (*http.Response, error) // nil, nil: the service answers
}

func (r *Recorder) RoundTrip(req *http.Request) (*http.Response, error) {
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

// Sent returns the forms sent so far.
func (r *Recorder) Sent() []url.Values {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]url.Values(nil), r.forms...)
}

// Meanwhile puts f in front of the service; nil: it answers itself.
func (r *Recorder) Meanwhile(f func(*http.Request, url.Values) (*http.Response, error)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.before = f
}

// Credentials lists every auth with what its stanza and the service need.
var Credentials = map[string]func(w *World){
	conf.ClientSecret: func(w *World) {
		w.Cfg.ClientSecret, w.Cfg.ClientSecretFile = "", w.Write("secret", Secret+"\n")
	},
	conf.ClientCertificate: func(w *World) {
		w.Svc.SetCertificates(ClientID, Certificate().Cert)
		w.Cfg.ClientCertificateFile = w.Write("app.pem", string(Certificate().PEM()))
	},
	conf.WorkloadIdentity: func(w *World) {
		w.Svc.SetFederation(ClientID, defendersim.Federation{Cluster: Cluster(), Subject: Account, Audience: Audience})
		w.Cfg.FederatedTokenFile = w.Write("token", w.Federated(time.Hour))
	},
	conf.ManagedIdentity: func(w *World) {
		w.Svc.SetIdentities(Identity)
		w.Cfg.TenantID, w.Cfg.ClientID, w.Cfg.TokenURL = conf.NoTenant, "", ""
		w.Cfg.ManagedIdentityEndpoint = defendersim.IdentityURL
		if w.Srv != nil {
			w.Cfg.ManagedIdentityEndpoint = w.Srv.IdentityURL()
		}
	},
	conf.AuthorizationCode: func(w *World) {
		w.Cfg.ClientID = LoginID
		w.Cfg.RefreshTokenFile = w.Write("refresh", w.Svc.Login(LoginID, defendersim.DefaultResource)+"\n")
	},
}

// simulated is a service whose clock goes on from Start.
func simulated() *defendersim.Service {
	start := time.Now()
	return defendersim.New(defendersim.Config{Now: func() time.Time { return Start.Add(time.Since(start)) }})
}

// Stanza makes a world in memory with a stanza for a credential. It is for use in a bubble, or out of one.
func Stanza(t *testing.T, auth string, v2 bool) *World {
	t.Helper()
	w := &World{T: t, Svc: simulated()}
	w.set(auth, v2)
	w.Wire = &Recorder{RoundTripper: w.Svc.Transport()}
	return w
}

// OverTLS makes a world behind real connections.
func OverTLS(t *testing.T, auth string, v2 bool) *World {
	t.Helper()
	w := &World{T: t, Svc: simulated()}
	srv, err := defendersim.Start(w.Svc, defendersim.ServerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(srv.Close)
	w.Srv = srv
	w.set(auth, v2)
	return w
}

func (w *World) set(auth string, v2 bool) {
	w.Helper()
	w.Dir, w.Logged = w.TempDir(), &LogBuffer{}
	w.Cfg = Settings()
	w.Cfg.Auth, w.Cfg.ClientSecret = auth, ""
	w.Cfg.URL = defendersim.AlertsHost + "/api/alerts"
	w.Cfg.TokenURL = defendersim.LoginHost + "/" + Tenant + "/oauth2/token"
	if v2 {
		w.Cfg.TokenURL = defendersim.LoginHost + "/" + Tenant + "/oauth2/v2.0/token"
	}
	if w.Srv != nil {
		w.Cfg.URL, w.Cfg.TokenURL = w.Srv.AlertsURL(), w.Srv.TokenURL()
		if v2 {
			w.Cfg.TokenURL = w.Srv.TokenURLV2()
		}
		w.Cfg.CAFile = filepath.Join(w.Dir, "ca.pem")
		if err := w.Srv.WriteCA(w.Cfg.CAFile); err != nil {
			w.Fatal(err)
		}
	}
	Credentials[auth](w)
}

// NoSecrets fails when the log shows 12 bytes in a row of one of the secrets.
func (w *World) NoSecrets(secrets ...string) {
	w.Helper()
	Hides(w.T, w.Logged.String(), secrets...)
}

// RoundTripper is the wire of a world in memory; nil behind real connections.
func (w *World) RoundTripper() http.RoundTripper {
	if w.Srv == nil {
		return w.Wire
	}
	return nil
}

// Write puts a file into the world's directory and returns its path.
func (w *World) Write(name, text string) string {
	w.Helper()
	path := filepath.Join(w.Dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		w.Fatal(err)
	}
	return path
}

// Read is the text of a file.
func (w *World) Read(path string) string {
	w.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		w.Fatal(err)
	}
	return string(text)
}

// Federated is a token of the cluster that lives so long from now on, by the service's clock.
func (w *World) Federated(life time.Duration) string {
	w.Helper()
	now := w.Svc.Now()
	token, err := Cluster().Token(Account, Audience, now, now.Add(life))
	if err != nil {
		w.Fatal(err)
	}
	return token
}

// Versions runs a test in a bubble for both versions of the token endpoint.
func Versions(t *testing.T, auth string, f func(w *World)) {
	t.Helper()
	Certificate() // before any bubble
	NextCertificate()
	Cluster()
	for _, v := range []struct {
		name string
		v2   bool
	}{{"v1", false}, {"v2", true}} {
		t.Run(v.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { f(Stanza(t, auth, v.v2)) })
		})
	}
}

// Person opens the login's page, presses a button, and returns what the browser brings back.
func (w *World) Person(page, button string) url.Values {
	w.Helper()
	browser := &http.Client{CheckRedirect: func(*http.Request,
		[]*http.Request) error {
		return http.ErrUseLastResponse
	}}
	if w.Srv == nil {
		browser.Transport = w.Svc.Transport()
	} else {
		t := &http.Transport{TLSClientConfig: w.Srv.TLSConfig()}
		defer t.CloseIdleConnections()
		browser.Transport = t
	}
	read := func(resp *http.Response, err error) string {
		w.Helper()
		if err != nil {
			w.Fatal(err)
		}
		defer resp.Body.Close()
		text, _ := io.ReadAll(resp.Body)
		return string(text)
	}
	resp, err := browser.Get(page)
	text := read(resp, err)
	form := url.Values{"consent": {button}}
	hidden := regexp.MustCompile(`<input type="hidden" name="([^"]*)" value="([^"]*)">`)
	for _, m := range hidden.FindAllStringSubmatch(text, -1) {
		form.Set(html.UnescapeString(m[1]), html.UnescapeString(m[2]))
	}
	at, _, _ := strings.Cut(page, "?")
	resp, err = browser.PostForm(at, form)
	text = read(resp, err)
	back, err := url.Parse(resp.Header.Get("Location"))
	if err != nil || back.Host != "localhost:8400" || back.Path != "/" {
		w.Fatalf("led to %q: %s", resp.Header.Get("Location"), text)
	}
	return back.Query()
}
