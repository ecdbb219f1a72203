package transport

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"testing"

	"go.uber.org/goleak"

	"fluent-bit-defender/conf"
	"fluent-bit-defender/internal/simtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The two that are asked in reality.
var (
	grants = Target{Name: "token request", Keys: "authority, token_url and cloud", Slow: "raise read_timeout"}
	alerts = Target{Name: "alerts request", Keys: "url, cloud and region", Slow: "raise read_timeout or " +
		"lower max_window", API: true}
)

// caller asks for a token, and for alerts with it.
type caller struct {
	*Network
	cfg *conf.Config
}

// open makes a caller, which rt carries if it is not nil.
func open(cfg *conf.Config, rt http.RoundTripper) (*caller, error) {
	n, err := Open(cfg, "test", rt, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	n.Mask.Hide(simtest.Secret)
	n.Mask.Hide(simtest.Token)
	return &caller{n, cfg}, nil
}

// fetch returns the decoded body of the alerts' answer.
func (c *caller) fetch(ctx context.Context) (io.ReadCloser, error) {
	token, err := c.ask(ctx, grants, http.MethodPost, c.cfg.TokenURL)
	if err != nil {
		return nil, err
	}
	_, err = io.Copy(io.Discard, token)
	token.Close()
	if err != nil {
		return nil, err
	}
	return c.ask(ctx, alerts, http.MethodGet, c.cfg.URL)
}

func (c *caller) ask(ctx context.Context, to Target, method, address string) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, method, address, http.NoBody)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept-Encoding", "gzip")
	resp, body, _, err := c.Exchange(ctx, to, req, address)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		body.Close()
		return nil, c.StatusError(to, resp, "")
	}
	return Decoded(resp.Header, body)
}

// fetch reads one whole answer.
func fetch(c *caller) (string, error) {
	body, err := c.fetch(context.Background())
	if err != nil {
		return "", err
	}
	defer body.Close()
	text, err := io.ReadAll(body)
	return string(text), err
}

// connect builds a caller on the service's wire; the test's end closes it.
func connect(t *testing.T, cfg *conf.Config, rt http.RoundTripper) *caller {
	t.Helper()
	c, err := open(cfg, rt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// failure returns err as an Error, with all its texts free of secrets.
func failure(t *testing.T, err error) *Error {
	t.Helper()
	return simtest.Failure[*Error](t, err)
}
