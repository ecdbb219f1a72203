package entra

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"fluent-bit-defender/internal/defendersim"
	"fluent-bit-defender/internal/simtest"
	"fluent-bit-defender/transport"
)

// seedForm is the body of the sample token request in the seed.
const seedForm = "resource=https%3A%2F%2Fgraph.windows.net&client_id=35e0f735-5fe4-4693-9e68-3de80f1d3745" +
	"&client_secret=IKXc6PxB2eoFNJ%2FIT%2Bl2JZZD9d9032VXz6Ul3D2WyUQ%3D&grant_type=client_credentials"

func TestTokenRequestIsTheSeeds(t *testing.T) {
	s := &simtest.Service{}
	c := connect(t, simtest.Settings(), s)
	if _, err := fetch(c); err != nil {
		t.Fatal(err)
	}
	got, want := strings.Split(s.Forms[0], "&"), strings.Split(seedForm, "&")
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("form is\n%s\nthe seed's is\n%s", got, want)
	}
	h := s.TokenHeads[0]
	if h.Get("Content-Type") != "application/x-www-form-urlencoded" || h.Get("Authorization") != "" {
		t.Errorf("headers are %v", h)
	}
}

func TestTokenRequestOfV2(t *testing.T) {
	s := &simtest.Service{}
	s.Token = simtest.Always(200, `{"token_type":"Bearer","expires_in":3599,"access_token":"`+simtest.Token+`"}`)
	cfg := simtest.Settings()
	cfg.TokenURL = "https://login.test/" + simtest.Tenant + "/oauth2/v2.0/token"
	c := connect(t, cfg, s)
	if _, err := fetch(c); err != nil {
		t.Fatal(err)
	}
	form := s.Forms[0]
	if !strings.Contains(form, "scope=https%3A%2F%2Fgraph.windows.net%2F.default") ||
		strings.Contains(form, "resource") {
		t.Errorf("form is %s", form)
	}
}

func TestTokenLife(t *testing.T) {
	// asked after d, how many token requests were there?
	f := func(name, expires string, steps map[time.Duration]int) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			s := &simtest.Service{Token: simtest.Always(200, `{"token_type":"Bearer",`+expires+`"access_token":"abc"}`)}
			c := connect(t, simtest.Settings(), s)
			start := time.Now()
			var times []time.Duration
			for d := range steps {
				times = append(times, d)
			}
			slices.Sort(times)
			for _, d := range times {
				time.Sleep(d - time.Since(start))
				if _, err := fetch(c); err != nil {
					t.Fatal(err)
				}
				if tokens, _ := s.Counts(); tokens != steps[d] {
					t.Errorf("%s: %d token requests after %v, want %d", name, tokens, d, steps[d])
				}
			}
		})
	}
	const second, minute = time.Second, time.Minute
	f("an hour as a string: renewed 5 min before", `"expires_in":"3600",`,
		map[time.Duration]int{0: 1, 55*minute - second: 1, 55 * minute: 2, 109 * minute: 2, 110 * minute: 3})
	f("an hour as a number", `"expires_in":3600,`, map[time.Duration]int{0: 1, 55*minute - second: 1, 55 * minute: 2})
	hour := map[time.Duration]int{0: 1, 55*minute - second: 1, 55 * minute: 2}
	f("an hour with a fraction", `"expires_in":3600.0,`, hour)
	f("the same as a string", `"expires_in":"3600.9",`, hour)
	f("an exponent", `"expires_in":3.6e3,`, hour)
	five := map[time.Duration]int{0: 1, 4*minute - second: 1, 4 * minute: 2}
	f("an empty string", `"expires_in":"",`, five)
	f("an object", `"expires_in":{"a":1},`, five)
	f("a word", `"expires_in":"soon","expires_on":"later",`, five)
	f("a short life: renewed a fifth before", `"expires_in":"100",`,
		map[time.Duration]int{0: 1, 79 * second: 1, 80 * second: 2})
	f("no life told: 5 min", ``, map[time.Duration]int{0: 1, 239 * second: 1, 240 * second: 2})
	f("ended already: used once", `"expires_in":"-5",`, map[time.Duration]int{0: 1, second: 2})
}

func TestLifeCountsFromTheRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &simtest.Service{}
		s.Token = func(req *http.Request) (*http.Response, error) {
			time.Sleep(20 * time.Second)
			return simtest.Reply(req, 200, `{"expires_in":"100","access_token":"abc"}`), nil
		}
		c := connect(t, simtest.Settings(), s)
		tok, err := c.Get(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if left := time.Until(tok.expires); left != 80*time.Second {
			t.Fatalf("the token has %v left after a request of 20s, want 80s", left)
		}
	})
}

func TestHeldTokenServesWhileRenewalFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &simtest.Service{}
		c := connect(t, simtest.Settings(), s)
		fetch(c)
		s.Token = simtest.Always(503, "")
		time.Sleep(55 * time.Minute)
		for range 8 {
			if _, err := fetch(c); err != nil {
				t.Fatal(err)
			}
			time.Sleep(15 * time.Second)
			if _, err := fetch(c); err != nil {
				t.Fatal(err)
			}
			time.Sleep(15 * time.Second)
		}
		if tokens, _ := s.Counts(); tokens != 9 {
			t.Errorf("%d token requests, want the first and one each half minute", tokens)
		}
		time.Sleep(2 * time.Minute)
		_, err := fetch(c)
		if e := failure(t, err); e.Kind != transport.KindTokenTransient {
			t.Errorf("after the token's end: kind %v", e.Kind)
		}
	})
}

func TestManyFetchesShareOneToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &simtest.Service{}
		s.Token = func(req *http.Request) (*http.Response, error) {
			time.Sleep(time.Second)
			return simtest.Reply(req, 200, simtest.TokenJSON(1)), nil
		}
		c := connect(t, simtest.Settings(), s)
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				if _, err := fetch(c); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if tokens, alerts := s.Counts(); tokens != 1 || alerts != 20 {
			t.Fatalf("%d token and %d alerts requests, want 1 and 20", tokens, alerts)
		}
	})
}

func TestDropSparesANewerToken(t *testing.T) {
	s := &simtest.Service{}
	c := connect(t, simtest.Settings(), s)
	first, _ := c.Get(context.Background())
	c.Drop(first)
	second, _ := c.Get(context.Background())
	c.Drop(first) // a second request that had the first token comes back late
	third, err := c.Get(context.Background())
	if err != nil || third != second || second.Value == first.Value {
		t.Fatalf("got %p, want %p; %v", third, second, err)
	}
}

func TestTokenAnswersThatAreNone(t *testing.T) {
	f := func(name string, answer func(*http.Request) (*http.Response, error), kind transport.Kind, want string) {
		t.Helper()
		c := connect(t, simtest.Settings(), &simtest.Service{Token: answer})
		_, err := fetch(c)
		e := failure(t, err)
		if e.Kind != kind || e.Error() != want {
			t.Errorf("%s: %v\n got %s\nwant %s", name, e.Kind, e, want)
		}
	}
	const check = "check authority, token_url and cloud"
	f("a login page", simtest.Always(200, "<html>"+simtest.Secret, "Content-Type: text/html"),
		transport.KindTokenTransient,
		"token request: the answer holds no token; "+check+", and proxy_url for a proxy with a login page")
	f("no access_token", simtest.Always(200, `{"expires_in":"3599"}`), transport.KindTokenTransient,
		"token request: the answer holds no token; "+check+", and proxy_url for a proxy with a login page")
	f("another type", simtest.Always(200, `{"token_type":"pop","access_token":"abc"}`), transport.KindTokenTransient,
		`token request: the token is of type 'pop' instead of Bearer; `+check+" and proxy_url")
	f("a line break in the token", simtest.Always(200, `{"access_token":"`+simtest.Token+`\r\nX: y"}`),
		transport.KindTokenTransient,
		"token request: the token holds bytes that no header can carry; "+check+" and proxy_url")
	f("an endless token", simtest.Always(200, `{"access_token":"`+strings.Repeat("a", maxToken+1)+`"}`),
		transport.KindTokenTransient,
		"token request: the token is longer than 32 KiB; "+check+" and proxy_url")
	f("an endless answer", simtest.Always(200, strings.Repeat(" ", maxTokenAnswer+1)), transport.KindConfig,
		"token request: the answer is larger than 256 KiB: this is no token endpoint; "+check)
	f("a cut answer", func(req *http.Request) (*http.Response, error) {
		r := simtest.Reply(req, 200, simtest.TokenJSON(1)[:100])
		r.ContentLength = 200
		return r, nil
	}, transport.KindNetwork, "token request: answer cut after 100 of 200 bytes: unexpected EOF; "+
		"if it lasts, check the network, authority, token_url and cloud and proxy_url")
}

func TestSlowTokenAnswersEnd(t *testing.T) {
	f := func(name string, answer func(*http.Request) (*http.Response, error), after time.Duration, want string) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			c := connect(t, simtest.Settings(), &simtest.Service{Token: answer})
			start := time.Now()
			_, err := fetch(c)
			// How much was read by then is up to io.ReadAll's buffer.
			got := regexp.MustCompile(`after \d+`).ReplaceAllString(err.Error(), "after N")
			if e := failure(t, err); e.Kind != transport.KindNetwork || got != want {
				t.Errorf("%s: %v\n got %s\nwant %s", name, e.Kind, got, want)
			}
			if took := time.Since(start); took != after {
				t.Errorf("%s: ended after %v, want %v", name, took, after)
			}
		})
	}
	f("no head", func(req *http.Request) (*http.Response, error) {
		<-req.Context().Done()
		return nil, req.Context().Err()
	}, time.Minute,
		"token request: no answer from login.test within 1m0s (read_timeout); if it lasts, raise read_timeout")
	f("a body without end", func(req *http.Request) (*http.Response, error) {
		r := simtest.Reply(req, 200, "")
		r.Body, r.ContentLength = simtest.Drip(1100*time.Millisecond, 100), -1
		return r, nil
	}, time.Minute, "token request: answer not whole in time (read_timeout), after N bytes; "+
		"if it lasts, check the network, authority, token_url and cloud and proxy_url")
}

func TestSecretFileIsReadAgain(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secret")
	write := func(secret string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(secret), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cfg := simtest.Settings()
	cfg.ClientSecret, cfg.ClientSecretFile = "", file
	s := &simtest.Service{}
	c := connect(t, cfg, s)
	ask := func() error {
		t.Helper()
		if tok, _ := c.Get(context.Background()); tok != nil {
			c.Drop(tok)
		}
		_, err := c.Get(context.Background())
		return err
	}
	has := func(form, secret string) bool { return strings.Contains(form, "client_secret="+secret+"&") }

	write("first\r\n")
	if err := ask(); err != nil || !has(s.Forms[len(s.Forms)-1], "first") {
		t.Fatalf("%v, forms %v", err, s.Forms)
	}
	write("second\n")
	if err := ask(); err != nil || !has(s.Forms[len(s.Forms)-1], "second") {
		t.Fatalf("%v, forms %v", err, s.Forms)
	}
	os.Remove(file)
	e := failure(t, ask())
	want := "token request: client_secret_file: open " + file + ": no such file or directory; " +
		"put the client secret's value into it, readable for Fluent Bit"
	if e.Kind != transport.KindToken || e.Error() != want || !errors.Is(e, os.ErrNotExist) {
		t.Fatalf("%v\n got %s\nwant %s", e.Kind, e, want)
	}
	write("third")
	if err := ask(); err != nil {
		t.Fatalf("a restored file does not heal: %v", err)
	}
}

func TestInvalidClientReadsTheFileAtOnce(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := simtest.Settings()
	cfg.ClientSecret, cfg.ClientSecretFile = "", file
	s := &simtest.Service{}
	rotate := "new"
	s.Token = func(req *http.Request) (*http.Response, error) {
		if strings.Contains(s.Forms[len(s.Forms)-1], "client_secret=new&") {
			return simtest.Reply(req, 200, simtest.TokenJSON(1)), nil
		}
		if err := os.WriteFile(file, []byte(rotate), 0o600); err != nil {
			return nil, err
		}
		return simtest.Reply(req, 401, `{"error":"invalid_client","error_codes":[7000222]}`), nil
	}
	c := connect(t, cfg, s)
	if _, err := fetch(c); err != nil || len(s.Forms) != 2 {
		t.Fatalf("%v after %d token requests, want none after 2", err, len(s.Forms))
	}

	t.Run("not when it is unchanged", func(t *testing.T) {
		if err := os.WriteFile(file, []byte("old"), 0o600); err != nil {
			t.Fatal(err)
		}
		s.Forms, rotate = nil, "old"
		c := connect(t, cfg, s)
		_, err := fetch(c)
		if e := failure(t, err); e.Kind != transport.KindToken || e.Code != 7000222 || len(s.Forms) != 1 {
			t.Fatalf("%v after %d token requests, want one", e, len(s.Forms))
		}
	})
}

// The page of a proxy may have hundreds of kilobytes, and the mask's work grows with them.
func TestOnlyTheBeginningOfAForeignAnswerIsLookedAt(t *testing.T) {
	f := func(body, want string) {
		t.Helper()
		c := connect(t, simtest.Settings(), &simtest.Service{Token: simtest.Always(403, body)})
		_, err := fetch(c)
		if e := failure(t, err); e.Said != want {
			t.Errorf("says %q, want %q", e.Said, want)
		}
	}
	f(strings.Repeat(" ", 4<<10-6)+"denied by the gateway", "denied")
	f(strings.Repeat(" ", 250<<10)+"denied", "")
	f(strings.Repeat(" ", 4<<10-20)+simtest.Secret, "[masked]")
	f("<p>denied</p>"+strings.Repeat(" ", 250<<10), "<p>denied</p>")
}

// Whatever the lifetime is, the answer stays the object it was but for expires_in, which is an integer or not there.
func FuzzPlainLifetime(f *testing.F) {
	for _, seed := range []string{
		`{"access_token":"a","expires_in":3599}`, `{"expires_in":"3599.0","expires_on":"1715000399"}`,
		`{"expires_in":"","expires_on":1e3}`, `{"expires_in":-1e300}`, `{"expires_in":{"a":[1]}}`,
		`{"expires_in":"NaN"}`, `[]`, `null`, `{`, ``,
	} {
		f.Add([]byte(seed))
	}
	now := time.Unix(1715000000, 0)
	f.Fuzz(func(t *testing.T, text []byte) {
		plain := plainLifetime(text, now)
		var before, after map[string]json.RawMessage
		if json.Unmarshal(text, &before) != nil || before == nil {
			if !bytes.Equal(plain, text) {
				t.Fatalf("%q became %q", text, plain)
			}
			return
		}
		if err := json.Unmarshal(plain, &after); err != nil {
			t.Fatalf("%q: %v", plain, err)
		}
		if life, there := after["expires_in"]; there {
			if n, err := strconv.ParseInt(string(life), 10, 64); err != nil || n > 1<<33 || n < -1<<34 {
				t.Fatalf("expires_in is %s", life)
			}
		}
		delete(before, "expires_in")
		delete(after, "expires_in")
		if len(before) != len(after) {
			t.Fatalf("%q became %q", text, plain)
		}
	})
}

// While a token serves, a renewal that fails is told once, and asked again when the service allows it.
func TestARenewalThatFailsIsToldOnceAndKeepsTheWaitAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &simtest.Service{}
		var log bytes.Buffer
		c := connect(t, simtest.Settings(), s, slog.New(slog.NewTextHandler(&log, nil)))
		poll := func(n int) {
			t.Helper()
			for range n {
				if _, err := fetch(c); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Second)
			}
		}
		want := func(requests, lines int) {
			t.Helper()
			if tokens, _ := s.Counts(); tokens != requests {
				t.Errorf("%d token requests, want %d", tokens, requests)
			}
			if n := strings.Count(log.String(), "level=WARN"); n != lines {
				t.Errorf("%d warnings, want %d: %s", n, lines, log.String())
			}
		}
		poll(1)
		time.Sleep(55 * time.Minute) // five minutes are left
		s.Token = simtest.Always(500, "")
		poll(61)
		want(4, 1) // every 30 s
		line := "cannot renew the token: token request: error in the service (500); " +
			"if it lasts, look at the service's health; " +
			"the present one serves for another 4m58s, and no alert waits"
		if !strings.Contains(log.String(), line) {
			t.Errorf("not %s: %s", line, log.String())
		}
		s.Token = simtest.Always(429, `{"error":"temporarily_unavailable"}`, "Retry-After: 120")
		poll(130)
		want(5, 1)
		s.Token = nil
		poll(30)
		want(6, 1)

		time.Sleep(55 * time.Minute)
		s.Token = simtest.Always(429, `{"error":"temporarily_unavailable"}`, "Retry-After: 3600")
		poll(200)
		want(7, 2)
		time.Sleep(5 * time.Minute) // it has ended: no wait is longer than it lives
		_, err := fetch(c)
		if e := failure(t, err); e.Kind != transport.KindTokenTransient || e.RetryAfter != time.Hour {
			t.Errorf("%v", err)
		}
		want(8, 2)
	})
}

// A throttled host is asked by one tenant, not by all; those that were put off come one after the other.
func TestAThrottledTokenHostIsLeftAloneByAll(t *testing.T) {
	cloud := defendersim.NewFleet(defendersim.Config{})
	srv, err := defendersim.StartFleet(cloud, defendersim.ServerOptions{Plain: true})
	if err != nil {
		t.Fatal(err)
	}
	defer srv.Close()
	var all []*asker
	var tokens int
	for i := range 10 {
		cfg := simtest.Settings()
		cfg.TenantID = fmt.Sprintf("%08d-2222-3333-4444-555555555555", i)
		cfg.URL, cfg.TokenURL = srv.AlertsURL(), srv.Authority()+"/"+cfg.TenantID+"/oauth2/token"
		cfg.ClientID, cfg.ClientSecret = defendersim.DefaultClientID, defendersim.DefaultSecret
		svc := cloud.Tenant(cfg.TenantID)
		svc.Queue(defendersim.KindToken, defendersim.Throttle(time.Second))
		c, err := open(cfg, nil, discard)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		all = append(all, c)
	}
	asked := func() (n int) {
		for _, id := range cloud.Tenants() {
			n += cloud.Tenant(id).Stats().Tokens
		}
		return n
	}
	const step = 20 * time.Millisecond // between those that were put off
	last := time.Duration(0)
	for i, c := range all {
		_, err := fetch(c)
		e := failure(t, err)
		if e.Kind != transport.KindTokenTransient || e.Status != 429 ||
			e.RetryAfter <= 0 || e.RetryAfter > time.Second+10*step {
			t.Errorf("client %d: %v, asks to wait %s", i, err, e.RetryAfter)
		}
		if i > 1 && e.RetryAfter <= last-step {
			t.Errorf("client %d comes with the one before it: %s, %s", i, last, e.RetryAfter)
		}
		last = e.RetryAfter
	}
	if tokens = asked(); tokens != 1 {
		t.Errorf("the host was asked %d times", tokens)
	}
	host := strings.TrimPrefix(srv.Authority(), "http://")
	deadline := time.Now().Add(20 * time.Second)
	for ; all[1].net.Resting(host) > 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the rest does not end")
		}
	}
	if _, err := fetch(all[0]); err != nil { // whose one answer of that kind it was
		t.Error(err)
	}
}
