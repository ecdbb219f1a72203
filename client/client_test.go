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
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fluent-bit-defender/conf"
	"fluent-bit-defender/internal/simtest"
	"fluent-bit-defender/transport"
)

func TestRequestCarriesTokenAndHeaders(t *testing.T) {
	s := &simtest.Service{}
	c := connect(t, simtest.Settings(), s)
	got, err := fetch(c, Query{Ago: "PT10M"})
	if err != nil || got != simtest.Alert {
		t.Fatalf("got %q, %v", got, err)
	}
	want := map[string]string{
		"Authorization": "Bearer " + simtest.Token + "1", "Accept": "application/json",
		"Accept-Encoding": "gzip", "Cache-Control": "no-cache", "User-Agent": "fluent-bit-defender/dev",
	}
	for name, value := range want {
		if got := s.AlertHeads[0].Get(name); got != value {
			t.Errorf("alerts request has %s %q, want %q", name, got, value)
		}
	}
	if len(s.AlertHeads[0]) != len(want) {
		t.Errorf("alerts request has other headers too: %v", s.AlertHeads[0])
	}
}

func TestUnauthorizedRenewsOnce(t *testing.T) {
	t.Run("a new token helps", func(t *testing.T) {
		s := &simtest.Service{}
		s.Alerts = func(req *http.Request) (*http.Response, error) {
			if req.Header.Get("Authorization") == "Bearer "+simtest.Token+"1" {
				return simtest.Reply(req, 401, ""), nil
			}
			return simtest.Reply(req, 200, simtest.Alert), nil
		}
		c := connect(t, simtest.Settings(), s)
		if got, err := fetch(c, Query{}); err != nil || got != simtest.Alert {
			t.Fatalf("got %q, %v", got, err)
		}
		if tokens, alerts := s.Counts(); tokens != 2 || alerts != 2 {
			t.Fatalf("%d token and %d alerts requests, want 2 and 2", tokens, alerts)
		}
	})
	t.Run("a new token does not help", func(t *testing.T) {
		s := &simtest.Service{Alerts: simtest.Always(401, "")}
		c := connect(t, simtest.Settings(), s)
		_, err := fetch(c, Query{})
		if e := failure(t, err); e.Kind != transport.KindUnauthorized || e.Status != 401 {
			t.Fatalf("kind %v, status %d", e.Kind, e.Status)
		}
		if tokens, alerts := s.Counts(); tokens != 2 || alerts != 2 {
			t.Fatalf("%d token and %d alerts requests, want 2 and 2", tokens, alerts)
		}
	})
	t.Run("the renewal fails", func(t *testing.T) {
		s := &simtest.Service{Alerts: simtest.Always(401, "")}
		c := connect(t, simtest.Settings(), s)
		if _, err := c.Now(context.Background()); err != nil {
			t.Fatal(err)
		}
		s.Token = simtest.Always(503, "")
		_, err := fetch(c, Query{})
		if e := failure(t, err); e.Kind != transport.KindTokenTransient {
			t.Fatalf("kind %v, want token transient: the refused token must not serve on", e.Kind)
		}
	})
}

func TestCancelEndsARequestAtOnce(t *testing.T) {
	hang := func(req *http.Request) (*http.Response, error) {
		<-req.Context().Done()
		return nil, context.Cause(req.Context())
	}
	for name, s := range map[string]*simtest.Service{
		"token request":  {Token: hang},
		"alerts request": {Alerts: hang},
		"body": {Alerts: func(req *http.Request) (*http.Response, error) {
			r := simtest.Reply(req, 200, "")
			r.Body, _ = io.Pipe()
			r.ContentLength = -1
			return r, nil
		}},
	} {
		for _, how := range []string{"cancel", "close"} {
			t.Run(name+" by "+how, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c := connect(t, simtest.Settings(), s)
					ctx, cancel := context.WithCancel(context.Background())
					end, want := cancel, context.Canceled
					if how == "close" {
						end, want = c.Close, transport.ErrClosed
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
	s := &simtest.Service{}
	c := connect(t, simtest.Settings(), s)
	c.Close()
	if _, err := c.Fetch(context.Background(), Query{}); !errors.Is(err, transport.ErrClosed) {
		t.Fatalf("Fetch gave %v", err)
	}
	if _, err := c.Now(context.Background()); !errors.Is(err, transport.ErrClosed) {
		t.Fatalf("Now gave %v", err)
	}
	if tokens, alerts := s.Counts(); tokens+alerts != 0 {
		t.Fatal("a closed client sent a request")
	}
}

func TestNewRefuses(t *testing.T) {
	f := func(name string, change func(*conf.Config), want string) {
		t.Helper()
		cfg := simtest.Settings()
		change(cfg)
		_, err := New(cfg)
		if err == nil || err.Error() != want {
			t.Errorf("%s: got %v, want %s", name, err, want)
		}
	}
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
		cfg := simtest.Settings()
		cfg.URL += "?key=" + url.QueryEscape(simtest.Secret)
		cfg.MachineGroups = []string{"UKMachines"}
		s := &simtest.Service{Alerts: func(req *http.Request) (*http.Response, error) {
			time.Sleep(1500 * time.Millisecond)
			return simtest.Reply(req, 503, ""), nil
		}}
		c := connect(t, cfg, s, WithLogger(log))
		fetch(c, Query{Limit: 20})
		want := "level=DEBUG msg=request method=POST url=https://login.test/" + simtest.Tenant +
			"/oauth2/token status=200 took=0s\n" +
			`level=DEBUG msg=request method=GET ` +
			`url="https://alerts.test/api/alerts?limit=20&machinegroups=UKMachines" status=503 took=1.5s` + "\n"
		if out.String() != want {
			t.Fatalf("log is\n%s\nwant\n%s", out.String(), want)
		}
		simtest.NoSecret(t, out.String())
	})
}

func TestPrintingAClientShowsNoSecret(t *testing.T) {
	c := connect(t, simtest.Settings(), &simtest.Service{})
	if _, err := fetch(c, Query{}); err != nil {
		t.Fatal(err)
	}
	simtest.NoSecret(t, fmt.Sprintf("%v %+v %#v", c, c, c))
	simtest.NoSecret(t, fmt.Sprintf("%v %+v", c.tokens, c.tokens))
}

func TestNow(t *testing.T) {
	// offset is that of the service's clock from the local one.
	f := func(name string, offset time.Duration) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			stamp := func(status int, body string) func(*http.Request) (*http.Response, error) {
				return func(req *http.Request) (*http.Response, error) {
					time.Sleep(400 * time.Millisecond) // the Date is older than the answer's arrival
					r := simtest.Reply(req, status, body)
					date := time.Now().Add(offset - 300*time.Millisecond).UTC().Format(http.TimeFormat)
					r.Header = http.Header{"Date": {date}}
					return r, nil
				}
			}
			s := &simtest.Service{Token: stamp(200, simtest.TokenJSON(1)), Alerts: stamp(200, simtest.Alert)}
			c := connect(t, simtest.Settings(), s)
			check := func() {
				t.Helper()
				got, err := c.Now(context.Background())
				if late := time.Now().Add(offset).Sub(got); err != nil || late < 0 || late > 1300*time.Millisecond {
					t.Errorf("%s: %v after the service's clock, want 0 to 1.3s before: %v", name, -late, err)
				}
				if got.Location() != time.UTC {
					t.Errorf("%s: time is in %v", name, got.Location())
				}
			}
			check()
			if tokens, alerts := s.Counts(); tokens != 1 || alerts != 0 {
				t.Errorf("%s: %d token and %d alerts requests, want one for a token", name, tokens, alerts)
			}
			for range 20 {
				time.Sleep(777 * time.Millisecond)
				check()
				if _, err := fetch(c, Query{}); err != nil {
					t.Fatal(err)
				}
				check()
			}
		})
	}
	f("clocks agree", 0)
	f("the local clock is an hour behind", time.Hour)
	f("the local clock is years ahead", -5*365*24*time.Hour)
}

func TestOnlySuccessfulAnswersTellTheTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &simtest.Service{}
		c := connect(t, simtest.Settings(), s)
		first, err := c.Now(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		wrong := time.Now().Add(time.Hour).UTC().Format(http.TimeFormat)
		for _, status := range []int{500, 429, 403, 302, 204} {
			s.Alerts = simtest.Always(status, "", "Date: "+wrong)
			fetch(c, Query{})
		}
		s.Alerts = nil
		s.Token = simtest.Always(400, `{"error":"invalid_client"}`, "Date: "+wrong)
		tok, _ := c.tokens.Get(context.Background())
		c.tokens.Drop(tok)
		fetch(c, Query{})
		s.Token = simtest.Always(200, `<html>`, "Date: "+wrong)
		fetch(c, Query{})
		if now, _ := c.Now(context.Background()); !now.Equal(first) {
			t.Fatalf("now is %v, was %v at the same moment", now, first)
		}
	})
}

func TestNoDateMeansTheLocalClockAndOneWarning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		s := &simtest.Service{Token: simtest.Always(200, simtest.TokenJSON(1), "Date: "), Alerts: simtest.Always(200,
			simtest.Alert, "Date: ")}
		c := connect(t, simtest.Settings(), s, WithLogger(slog.New(slog.NewTextHandler(&out, nil))))
		for range 3 {
			time.Sleep(time.Second)
			now, err := c.Now(context.Background())
			if err != nil || !now.Equal(time.Now()) {
				t.Fatalf("now is %v, %v, want the local %v", now, err, time.Now())
			}
			if _, err := fetch(c, Query{}); err != nil {
				t.Fatal(err)
			}
		}
		if tokens, _ := s.Counts(); tokens != 1 {
			t.Errorf("%d token requests, want one", tokens)
		}
		if n := strings.Count(out.String(), "level=WARN"); n != 1 || strings.Count(out.String(), "\n") != 1 {
			t.Errorf("%d warnings, want one line: %s", n, out.String())
		}
	})
}

func TestNowGivesTheTokensError(t *testing.T) {
	c := connect(t, simtest.Settings(),
		&simtest.Service{Token: simtest.Always(401, `{"error":"invalid_client","error_codes":[7000222]}`)})
	_, err := c.Now(context.Background())
	if e := failure(t, err); e.Kind != transport.KindToken || e.Code != 7000222 {
		t.Fatalf("got %v", err)
	}
}

// A thousand tenants of one stanza: a client that waits for its next poll has no goroutine and no connection of its
// own, and little memory.
func TestAnIdleClientIsSmall(t *testing.T) {
	const clients, most = 1000, 6 << 10 // bytes each
	s := &simtest.Service{}
	all := make([]*Client, clients)
	measure := func() (heap uint64) {
		runtime.GC()
		runtime.GC() // what the first one left to finalizers and pools
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	warm := connect(t, simtest.Settings(), s)
	if _, err := fetch(warm, Query{}); err != nil {
		t.Fatal(err)
	}
	before, goroutines := measure(), runtime.NumGoroutine()
	for i := range all {
		cfg := simtest.Settings()
		cfg.TenantID = fmt.Sprintf("%08d-2222-3333-4444-555555555555", i)
		all[i] = connect(t, cfg, s)
		if _, err := fetch(all[i], Query{}); err != nil {
			t.Fatal(err)
		}
		s.Forget()
	}
	each := int64(measure()-before) / clients
	t.Logf("%d bytes a client", each)
	if each > most {
		t.Errorf("%d bytes a client, want at most %d", each, most)
	}
	if more := runtime.NumGoroutine() - goroutines; more > 0 {
		t.Errorf("%d more goroutines", more)
	}
	runtime.KeepAlive(all)
}
