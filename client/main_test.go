package client

import (
	"context"
	"io"
	"net/http"
	"testing"

	"go.uber.org/goleak"

	"fluent-bit-defender/conf"
	"fluent-bit-defender/entra"
	"fluent-bit-defender/internal/simtest"
	"fluent-bit-defender/transport"
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
	return simtest.Failure[*transport.Error](t, err)
}

// clientOf builds a client for the stanza; the test's end closes it.
func clientOf(w *simtest.World) *Client {
	w.Helper()
	return connect(w.T, w.Cfg, w.RoundTripper(), WithLogger(w.Logged.Logger()))
}

// good fails unless a fetch succeeds.
func good(w *simtest.World, c *Client, what string) {
	w.Helper()
	if _, err := fetch(c, Query{}); err != nil {
		w.Fatalf("%s: %v", what, err)
	}
}

// bad returns the error of a fetch that must fail.
func bad(w *simtest.World, c *Client, what string) *transport.Error {
	w.Helper()
	_, err := fetch(c, Query{})
	if err == nil {
		w.Fatalf("%s: no error", what)
	}
	return failure(w.T, err)
}

// loginOf prepares a login for the stanza.
func loginOf(w *simtest.World) *entra.Login {
	w.Helper()
	l, err := NewLogin(w.Cfg, 8400, WithTransport(w.RoundTripper()), WithLogger(w.Logged.Logger()))
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(l.Close)
	return l
}
