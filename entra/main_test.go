package entra

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"os"
	"testing"

	"go.uber.org/goleak"

	"fluent-bit-defender/conf"
	"fluent-bit-defender/internal/simtest"
	"fluent-bit-defender/transport"
)

func TestMain(m *testing.M) {
	if os.Getenv(asChild) != "" {
		child()
		return
	}
	goleak.VerifyTestMain(m)
}

var discard = slog.New(slog.DiscardHandler)

// needs are those of the SIEM API.
var needs = &Needs{Audiences: []string{"https://graph.windows.net", "https://WDATPAlertExport.Seville.onmicrosoft.com"}}

// asker gets tokens and asks an API with them, as a client does.
type asker struct {
	*Tokens
	api string
}

// open makes an asker for a configuration.
func open(cfg *conf.Config, rt http.RoundTripper, log *slog.Logger) (*asker, error) {
	net, err := transport.Open(cfg, "test", rt, log)
	if err != nil {
		return nil, err
	}
	tokens, err := New(net, needs, cfg)
	if err != nil {
		net.Close()
		return nil, err
	}
	return &asker{tokens, cfg.URL}, nil
}

func (c *asker) Close() {
	c.net.Close()
	c.Tokens.Close()
}

// fetch asks the API once, and once more with a new token where it refuses the held one.
func (c *asker) fetch(ctx context.Context) (string, error) {
	to := transport.Target{Name: "alerts request", Keys: "url, cloud and region"}
	for again := false; ; again = true {
		tok, err := c.Get(ctx)
		if err != nil {
			return "", err
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.api, nil)
		if err != nil {
			return "", err
		}
		req.Header.Set("Authorization", "Bearer "+tok.Value)
		resp, body, came, err := c.net.Exchange(ctx, to, req, c.api)
		if err != nil {
			return "", err
		}
		text, err := io.ReadAll(body)
		body.Close()
		switch {
		case resp.StatusCode == http.StatusUnauthorized && !again:
			c.Drop(tok)
			continue
		case resp.StatusCode != http.StatusOK:
			return "", c.net.StatusError(to, resp, c.net.Mask.Text(string(text), 200))
		}
		c.net.Clock.Observe(resp.Header, came)
		return string(text), err
	}
}

func fetch(c *asker) (string, error) { return c.fetch(context.Background()) }

// connect builds an asker on the service's wire; the test's end closes it.
func connect(t *testing.T, cfg *conf.Config, s http.RoundTripper, log ...*slog.Logger) *asker {
	t.Helper()
	c, err := open(cfg, s, append(log, discard)[0])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// failure returns err as one of ours, with all its texts free of secrets.
func failure(t *testing.T, err error) *transport.Error {
	t.Helper()
	return simtest.Failure[*transport.Error](t, err)
}

// clientOf builds an asker for the stanza; the test's end closes it.
func clientOf(w *simtest.World) *asker {
	w.Helper()
	return connect(w.T, w.Cfg, w.RoundTripper(), w.Logged.Logger())
}

// good fails unless a fetch succeeds.
func good(w *simtest.World, c *asker, what string) {
	w.Helper()
	if _, err := fetch(c); err != nil {
		w.Fatalf("%s: %v", what, err)
	}
}

// bad returns the error of a fetch that must fail.
func bad(w *simtest.World, c *asker, what string) *transport.Error {
	w.Helper()
	_, err := fetch(c)
	if err == nil {
		w.Fatalf("%s: no error", what)
	}
	return failure(w.T, err)
}

// anew drops the held token.
func anew(c *asker) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.held = nil
}

// renewal gets a new token, or the error.
func renewal(c *asker) error {
	anew(c)
	_, err := c.Get(context.Background())
	return err
}

// token is the error of a renewal that must fail.
func token(w *simtest.World, c *asker) *transport.Error {
	w.Helper()
	anew(c)
	return bad(w, c, "a renewal")
}
