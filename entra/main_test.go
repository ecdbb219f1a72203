package entra

import (
	"context"
	"errors"
	"fmt"
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

// What the tests here take of simtest.
const (
	theSecret   = simtest.Secret
	theClient   = simtest.ClientID
	theTenant   = simtest.Tenant
	theToken    = simtest.Token
	theAccount  = simtest.Account
	theAudience = simtest.Audience
	theLogin    = simtest.LoginID
	theIdentity = simtest.Identity
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
	theNext        = simtest.NextCertificate
	theCluster     = simtest.Cluster
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

func overTLS(t *testing.T, auth string, v2 bool) *world {
	t.Helper()
	return &world{simtest.OverTLS(t, auth, v2)}
}

func versions(t *testing.T, auth string, f func(w *world)) {
	t.Helper()
	simtest.Versions(t, auth, func(w *simtest.World) { f(&world{w}) })
}

// client builds an asker for the stanza; the test's end closes it.
func (w *world) client() *asker {
	w.Helper()
	c, err := w.tryClient()
	if err != nil {
		w.Fatal(err)
	}
	return c
}

func (w *world) tryClient() (*asker, error) {
	c, err := open(w.Cfg, w.roundTripper(), w.Logged.Logger())
	if err == nil {
		w.Cleanup(c.Close)
	}
	return c, err
}

// roundTripper is nil where the world is behind real connections.
func (w *world) roundTripper() http.RoundTripper {
	if w.Srv == nil {
		return w.Wire
	}
	return nil
}

// good fails unless a fetch succeeds.
func (w *world) good(c *asker, what string) {
	w.Helper()
	if _, err := fetch(c); err != nil {
		w.Fatalf("%s: %v", what, err)
	}
}

// bad returns the error of a fetch that must fail.
func (w *world) bad(c *asker, what string) *transport.Error {
	w.Helper()
	_, err := fetch(c)
	if err == nil {
		w.Fatalf("%s: no error", what)
	}
	var e *transport.Error
	if !errors.As(err, &e) {
		w.Fatalf("%s: error is %T %v", what, err, err)
	}
	return e
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
func (w *world) token(c *asker) *transport.Error {
	w.Helper()
	anew(c)
	return w.bad(c, "a renewal")
}
