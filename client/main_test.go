package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"

	"go.uber.org/goleak"

	"fluent-bit-defender/conf"
	"fluent-bit-defender/entra"
	"fluent-bit-defender/internal/simtest"
	"fluent-bit-defender/transport"
)

// What the tests here take of simtest.
const (
	theSecret = simtest.Secret
	theClient = simtest.ClientID
	theTenant = simtest.Tenant
	theToken  = simtest.Token
	oneAlert  = simtest.Alert
	theLogin  = simtest.LoginID
)

type service = simtest.Service

var (
	settings       = simtest.Settings
	reply          = simtest.Reply
	always         = simtest.Always
	tokenJSON      = simtest.TokenJSON
	noSecret       = simtest.NoSecret
	credentials    = simtest.Credentials
	theCertificate = simtest.Certificate
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

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

// failure returns err as the client's own error, with all its texts free of secrets.
func failure(t *testing.T, err error) *transport.Error {
	t.Helper()
	var e *transport.Error
	if !errors.As(err, &e) {
		t.Fatalf("error is %T %v, want *transport.Error", err, err)
	}
	for sub := err; sub != nil; sub = errors.Unwrap(sub) {
		noSecret(t, fmt.Sprintf("%v %+v %#v %q", sub, sub, sub, sub))
	}
	return e
}

// world is a simulated service with an application for each credential, and a stanza for one.
type world struct{ *simtest.World }

func stanza(t *testing.T, auth string, v2 bool) *world {
	t.Helper()
	return &world{simtest.Stanza(t, auth, v2)}
}

func versions(t *testing.T, auth string, f func(w *world)) {
	t.Helper()
	simtest.Versions(t, auth, func(w *simtest.World) { f(&world{w}) })
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
	opts := []Option{WithLogger(w.Logged.Logger())}
	if w.Srv == nil {
		opts = append(opts, WithTransport(w.Wire))
	}
	c, err := New(w.Cfg, opts...)
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
func (w *world) bad(c *Client, what string) *transport.Error {
	w.Helper()
	_, err := fetch(c, Query{})
	if err == nil {
		w.Fatalf("%s: no error", what)
	}
	var e *transport.Error
	if !errors.As(err, &e) {
		w.Fatalf("%s: error is %T %v", what, err, err)
	}
	return e
}

// login prepares a login for the stanza.
func (w *world) login() *entra.Login {
	w.Helper()
	opts := []Option{WithLogger(w.Logged.Logger())}
	if w.Srv == nil {
		opts = append(opts, WithTransport(w.Wire))
	}
	l, err := NewLogin(w.Cfg, 8400, opts...)
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(l.Close)
	return l
}
