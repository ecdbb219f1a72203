package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"fluent-bit-defender/conf"
)

// The seed's own sample values.
const (
	theSecret = "IKXc6PxB2eoFNJ/IT+l2JZZD9d9032VXz6Ul3D2WyUQ="
	theClient = "35e0f735-5fe4-4693-9e68-3de80f1d3745"
	theTenant = "72f988bf-86f1-41af-91ab-2d7cd011db47"
	theToken  = "eyJ0eXaioJJOIneiowiouqSuzNiZ345FYOVkaJL0625TueyaJasjhIjEnbMlWqP"
	oneAlert  = `[{"AlertId":"636207535742330111_-1114309685"}]`
)

func TestMain(m *testing.M) {
	if os.Getenv(asChild) != "" {
		child()
		return
	}
	goleak.VerifyTestMain(m)
}

// settings is a configuration as conf would give it.
func settings() *conf.Config {
	return &conf.Config{
		API: "siem", Auth: "client_secret",
		TenantID: theTenant, ClientID: theClient, ClientSecret: theSecret,
		URL:            "https://alerts.test/api/alerts",
		TokenURL:       "https://login.test/" + theTenant + "/oauth2/token",
		Resource:       "https://graph.windows.net",
		ConnectTimeout: 10 * time.Second, ReadTimeout: time.Minute,
	}
}

// service is Microsoft's side on an in-memory wire: it gives out numbered tokens
// and answers alerts, unless a test puts its own functions in place.
type service struct {
	token  func(*http.Request) (*http.Response, error)
	alerts func(*http.Request) (*http.Response, error)

	mu           sync.Mutex
	forms        []string // bodies of the token requests
	tokenHeads   []http.Header
	alertQueries []string
	alertHeads   []http.Header
}

func (s *service) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := req.Context().Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	if req.URL.Host == "login.test" {
		form, _ := io.ReadAll(req.Body)
		req.Body.Close()
		s.forms = append(s.forms, string(form))
		s.tokenHeads = append(s.tokenHeads, req.Header.Clone())
		n := len(s.forms)
		s.mu.Unlock()
		if s.token != nil {
			return s.token(req)
		}
		return reply(req, 200, tokenJSON(n)), nil
	}
	s.alertQueries = append(s.alertQueries, req.URL.RawQuery)
	s.alertHeads = append(s.alertHeads, req.Header.Clone())
	s.mu.Unlock()
	if s.alerts != nil {
		return s.alerts(req)
	}
	return reply(req, 200, oneAlert), nil
}

func (s *service) counts() (tokens, alerts int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.forms), len(s.alertQueries)
}

// tokenJSON is the seed's answer with the n-th token; its numbers are strings.
func tokenJSON(n int) string {
	return fmt.Sprintf(`{"token_type": "Bearer", "expires_in": "3599", "ext_expires_in": "0", "expires_on": "1488720683",
		"not_before": "1488720683", "resource": "https://graph.windows.net", "access_token": "%s%d"}`, theToken, n)
}

// reply is an answer with a Date of the (virtual) present and any further header
// lines as "Name: value".
func reply(req *http.Request, status int, body string, header ...string) *http.Response {
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

// always answers every request alike.
func always(status int, body string, header ...string) func(*http.Request) (*http.Response, error) {
	return func(req *http.Request) (*http.Response, error) { return reply(req, status, body, header...), nil }
}

// connect builds a client on the service's wire; the test's end closes it.
func connect(t *testing.T, cfg *conf.Config, s http.RoundTripper, opts ...Option) *Client {
	t.Helper()
	c, err := New(cfg, append([]Option{WithTransport(s)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// fetch reads one whole answer.
func fetch(c *Client, q Query) (string, error) {
	a, err := c.Fetch(context.Background(), q)
	if err != nil {
		return "", err
	}
	defer a.Body.Close()
	text, err := io.ReadAll(a.Body)
	return string(text), err
}

// noSecret fails when text holds the secret or a token in any usual form.
func noSecret(t *testing.T, text string) {
	t.Helper()
	for _, secret := range []string{theSecret, theToken} {
		for i := 0; i+12 <= len(secret); i++ {
			for _, form := range []string{secret[i : i+12], url.QueryEscape(secret[i : i+12])} {
				if strings.Contains(text, form) {
					t.Fatalf("%q shows %q of a secret", text, form)
				}
			}
		}
	}
}

// failure returns err as the client's own error, with all its texts free of secrets.
func failure(t *testing.T, err error) *Error {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("error is %T %v, want *Error", err, err)
	}
	for sub := err; sub != nil; sub = errors.Unwrap(sub) {
		noSecret(t, fmt.Sprintf("%v %+v %#v %q", sub, sub, sub, sub))
	}
	return e
}

func TestRequestCarriesTokenAndHeaders(t *testing.T) {
	s := &service{}
	c := connect(t, settings(), s)
	got, err := fetch(c, Query{Ago: "PT10M"})
	if err != nil || got != oneAlert {
		t.Fatalf("got %q, %v", got, err)
	}
	want := map[string]string{
		"Authorization": "Bearer " + theToken + "1", "Accept": "application/json",
		"Accept-Encoding": "gzip", "Cache-Control": "no-cache", "User-Agent": "fluent-bit-defender/dev",
	}
	for name, value := range want {
		if got := s.alertHeads[0].Get(name); got != value {
			t.Errorf("alerts request has %s %q, want %q", name, got, value)
		}
	}
	if len(s.alertHeads[0]) != len(want) {
		t.Errorf("alerts request has other headers too: %v", s.alertHeads[0])
	}
}

func TestUnauthorizedRenewsOnce(t *testing.T) {
	t.Run("a new token helps", func(t *testing.T) {
		s := &service{}
		s.alerts = func(req *http.Request) (*http.Response, error) {
			if req.Header.Get("Authorization") == "Bearer "+theToken+"1" {
				return reply(req, 401, ""), nil
			}
			return reply(req, 200, oneAlert), nil
		}
		c := connect(t, settings(), s)
		if got, err := fetch(c, Query{}); err != nil || got != oneAlert {
			t.Fatalf("got %q, %v", got, err)
		}
		if tokens, alerts := s.counts(); tokens != 2 || alerts != 2 {
			t.Fatalf("%d token and %d alerts requests, want 2 and 2", tokens, alerts)
		}
	})
	t.Run("a new token does not help", func(t *testing.T) {
		s := &service{alerts: always(401, "")}
		c := connect(t, settings(), s)
		_, err := fetch(c, Query{})
		if e := failure(t, err); e.Kind != KindUnauthorized || e.Status != 401 {
			t.Fatalf("kind %v, status %d", e.Kind, e.Status)
		}
		if tokens, alerts := s.counts(); tokens != 2 || alerts != 2 {
			t.Fatalf("%d token and %d alerts requests, want 2 and 2", tokens, alerts)
		}
	})
	t.Run("the renewal fails", func(t *testing.T) {
		s := &service{alerts: always(401, "")}
		c := connect(t, settings(), s)
		if _, err := c.Now(context.Background()); err != nil {
			t.Fatal(err)
		}
		s.token = always(503, "")
		_, err := fetch(c, Query{})
		if e := failure(t, err); e.Kind != KindTokenTransient {
			t.Fatalf("kind %v, want token transient: the refused token must not serve on", e.Kind)
		}
	})
}

func TestCancelEndsARequestAtOnce(t *testing.T) {
	hang := func(req *http.Request) (*http.Response, error) {
		<-req.Context().Done()
		return nil, context.Cause(req.Context())
	}
	for name, s := range map[string]*service{
		"token request":  {token: hang},
		"alerts request": {alerts: hang},
		"body": {alerts: func(req *http.Request) (*http.Response, error) {
			r := reply(req, 200, "")
			r.Body, _ = io.Pipe()
			r.ContentLength = -1
			return r, nil
		}},
	} {
		for _, how := range []string{"cancel", "close"} {
			t.Run(name+" by "+how, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c := connect(t, settings(), s)
					ctx, cancel := context.WithCancel(context.Background())
					end, want := cancel, context.Canceled
					if how == "close" {
						end, want = c.Close, ErrClosed
					}
					defer cancel()
					start := time.Now()
					time.AfterFunc(time.Second, end)
					a, err := c.Fetch(ctx, Query{})
					if err == nil {
						_, err = a.Body.Read(make([]byte, 10))
						a.Body.Close()
					}
					if !errors.Is(err, want) {
						t.Fatalf("error %v, want %v", err, want)
					}
					if took := time.Since(start); took != time.Second {
						t.Fatalf("ended after %v, want 1s", took)
					}
				})
			})
		}
	}
}

func TestClosedClientRefuses(t *testing.T) {
	s := &service{}
	c := connect(t, settings(), s)
	c.Close()
	if _, err := c.Fetch(context.Background(), Query{}); !errors.Is(err, ErrClosed) {
		t.Fatalf("Fetch gave %v", err)
	}
	if _, err := c.Now(context.Background()); !errors.Is(err, ErrClosed) {
		t.Fatalf("Now gave %v", err)
	}
	if tokens, alerts := s.counts(); tokens+alerts != 0 {
		t.Fatal("a closed client sent a request")
	}
}

func TestNewRefuses(t *testing.T) {
	f := func(name string, change func(*conf.Config), want string) {
		t.Helper()
		cfg := settings()
		change(cfg)
		_, err := New(cfg)
		if err == nil || err.Error() != want {
			t.Errorf("%s: got %v, want %s", name, err, want)
		}
	}
	f("another api", func(c *conf.Config) { c.API = "mde" }, `api "mde" is not known: use siem or graph`)
	f("another credential", func(c *conf.Config) { c.Auth = "password" }, `auth "password" is not known`)
	f("no timeouts", func(c *conf.Config) { c.ReadTimeout = 0 }, "connect_timeout and read_timeout must be longer than zero")
	f("url without scheme", func(c *conf.Config) { c.URL = "alerts.test/api" }, "url is not an http or https address")
	f("password in url", func(c *conf.Config) { c.TokenURL = "https://me:hunter22@login.test/" },
		"token_url must not hold a user name or password")
	f("broken url with a password", func(c *conf.Config) { c.URL = "https://me:hunter22@alerts.test:x/" },
		"url is not an http or https address")
	f("broken proxy with a password", func(c *conf.Config) { c.ProxyURL = "http://me:hunter22@proxy:x" },
		"proxy_url is not an address such as http://proxy.example:3128")
}

func TestDebugLineOfEachRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		log := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{
			Level: slog.LevelDebug,
			ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
				if a.Key == slog.TimeKey {
					return slog.Attr{}
				}
				return a
			},
		}))
		cfg := settings()
		cfg.URL += "?key=" + url.QueryEscape(theSecret)
		cfg.MachineGroups = []string{"UKMachines"}
		s := &service{alerts: func(req *http.Request) (*http.Response, error) {
			time.Sleep(1500 * time.Millisecond)
			return reply(req, 503, ""), nil
		}}
		c := connect(t, cfg, s, WithLogger(log))
		fetch(c, Query{Limit: 20})
		want := `level=DEBUG msg=request method=POST url=https://login.test/` + theTenant + `/oauth2/token status=200 took=0s
level=DEBUG msg=request method=GET url="https://alerts.test/api/alerts?limit=20&machinegroups=UKMachines" status=503 took=1.5s
`
		if out.String() != want {
			t.Fatalf("log is\n%s\nwant\n%s", out.String(), want)
		}
		noSecret(t, out.String())
	})
}

func TestPrintingAClientShowsNoSecret(t *testing.T) {
	c := connect(t, settings(), &service{})
	if _, err := fetch(c, Query{}); err != nil {
		t.Fatal(err)
	}
	noSecret(t, fmt.Sprintf("%v %+v %#v", c, c, c))
	noSecret(t, fmt.Sprintf("%v %+v", c.token, c.token))
}
