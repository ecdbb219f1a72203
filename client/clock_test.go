package client

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// dated is a head whose Date is t.
func dated(t time.Time, more ...string) http.Header {
	h := http.Header{"Date": {t.UTC().Format(http.TimeFormat)}}
	for _, name := range more {
		h.Set(name, "0")
	}
	return h
}

func TestClock(t *testing.T) {
	epoch := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	local := time.Now()
	type came struct {
		after time.Duration // since the first, on the monotonic clock
		off   time.Duration // of the Date from the true service time
		cache bool
	}
	f := func(name string, dates []came, at, want time.Duration) {
		t.Helper()
		var c clock
		for _, d := range dates {
			h := dated(epoch.Add(d.after + d.off))
			if d.cache {
				h.Set("Age", "5")
			}
			c.observe(h, local.Add(d.after))
		}
		got, ok := c.now(local.Add(at))
		if !ok || !got.Equal(epoch.Add(want)) {
			t.Errorf("%s: %v, %v, want %v", name, got, ok, epoch.Add(want))
		}
	}
	const s, h = time.Second, time.Hour
	f("a Date and the time since", []came{{}}, 90*s, 90*s)
	f("the newest within 10 s counts", []came{{}, {after: 60 * s, off: -10 * s}}, 70*s, 60*s)
	f("forwards too", []came{{}, {after: 60 * s, off: 10 * s}}, 70*s, 80*s)
	f("a single Date far off is ignored", []came{{}, {after: 1 * s}, {after: 60 * s, off: h}}, 70*s, 70*s)
	f("also backwards", []came{{}, {after: 1 * s}, {after: 60 * s, off: -h}}, 70*s, 70*s)
	f("a second one makes it believed", []came{{}, {after: 1 * s}, {after: 60 * s, off: h}, {after: 120 * s, off: h + 5*s}}, 130*s, 130*s+h+5*s)
	f("not one that says something else", []came{{}, {after: 1 * s}, {after: 60 * s, off: h}, {after: 120 * s, off: 2 * h}}, 130*s, 130*s)
	f("which then waits itself", []came{{}, {after: 1 * s}, {after: 60 * s, off: h}, {after: 120 * s, off: 2 * h}, {after: 180 * s, off: 2 * h}}, 180*s, 180*s+2*h)
	f("nor one after a good Date", []came{{}, {after: 1 * s}, {after: 60 * s, off: h}, {after: 90 * s}, {after: 120 * s, off: h}}, 130*s, 130*s)
	f("the first is a guess until one agrees", []came{{off: h}, {after: 60 * s}}, 70*s, 70*s)
	f("whatever comes between", []came{{off: h}, {after: 60 * s}, {after: 70 * s, off: h}, {after: 80 * s}, {after: 90 * s}}, 90*s, 90*s)
	f("cached answers do not count", []came{{}, {after: 60 * s, off: 5 * s, cache: true}}, 70*s, 70*s)
	f("nor confirm", []came{{}, {after: 1 * s}, {after: 60 * s, off: h}, {after: 120 * s, off: h, cache: true}}, 130*s, 130*s)

	t.Run("doubt", func(t *testing.T) {
		var c clock
		check := func(what string, h http.Header, after time.Duration, want bool) {
			t.Helper()
			if h != nil {
				c.observe(h, local.Add(after))
			}
			if got := c.disputed(); got != want {
				t.Errorf("%s: %t", what, got)
			}
		}
		check("nothing known", nil, 0, false)
		check("one Date", dated(epoch), 0, true)
		check("one that disagrees", dated(epoch.Add(h)), s, true)
		check("one that agrees with it", dated(epoch.Add(h)), s, false)
		check("one far off", dated(epoch), 2*s, true)
		check("and a good one", dated(epoch.Add(h+2*s)), 2*s, false)
		if !c.trusted() {
			t.Error("two Dates agreed, and the time is not trusted")
		}
		c = clock{}
		check("one Date again", dated(epoch), 0, true)
		if c.trusted() {
			t.Error("one Date alone is trusted")
		}
		check("an answer without", http.Header{}, s, true)
		check("and another", http.Header{}, 2*s, false)
		check("the next token's, an hour off", dated(epoch.Add(2*h)), h, true)
		check("an answer without", http.Header{}, h+s, true)
		check("and another", http.Header{}, h+2*s, false)
		if now, _ := c.now(local.Add(h)); !now.Equal(epoch.Add(2 * h)) {
			t.Errorf("it is %v", now)
		}
	})
	t.Run("nothing known", func(t *testing.T) {
		var c clock
		for _, h := range []http.Header{nil, {"Date": {"yesterday"}}, dated(epoch, "Age")} {
			c.observe(h, local)
		}
		if got, ok := c.now(local); ok {
			t.Fatalf("knows %v", got)
		}
	})
}

func TestNow(t *testing.T) {
	// offset is that of the service's clock from the local one.
	f := func(name string, offset time.Duration) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			stamp := func(status int, body string) func(*http.Request) (*http.Response, error) {
				return func(req *http.Request) (*http.Response, error) {
					time.Sleep(400 * time.Millisecond) // the Date is older than the answer's arrival
					r := reply(req, status, body)
					r.Header = dated(time.Now().Add(offset - 300*time.Millisecond))
					return r, nil
				}
			}
			s := &service{token: stamp(200, tokenJSON(1)), alerts: stamp(200, oneAlert)}
			c := connect(t, settings(), s)
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
			if tokens, alerts := s.counts(); tokens != 1 || alerts != 0 {
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
		s := &service{}
		c := connect(t, settings(), s)
		first, err := c.Now(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		wrong := dated(time.Now().Add(time.Hour)).Get("Date")
		for _, status := range []int{500, 429, 403, 302, 204} {
			s.alerts = always(status, "", "Date: "+wrong)
			fetch(c, Query{})
		}
		s.alerts = nil
		s.token = always(400, `{"error":"invalid_client"}`, "Date: "+wrong)
		c.token.held = nil
		fetch(c, Query{})
		s.token = always(200, `<html>`, "Date: "+wrong)
		fetch(c, Query{})
		if now, _ := c.Now(context.Background()); !now.Equal(first) {
			t.Fatalf("now is %v, was %v at the same moment", now, first)
		}
	})
}

func TestNoDateMeansTheLocalClockAndOneWarning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		s := &service{token: always(200, tokenJSON(1), "Date: "), alerts: always(200, oneAlert, "Date: ")}
		c := connect(t, settings(), s, WithLogger(slog.New(slog.NewTextHandler(&out, nil))))
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
		if tokens, _ := s.counts(); tokens != 1 {
			t.Errorf("%d token requests, want one", tokens)
		}
		if n := strings.Count(out.String(), "level=WARN"); n != 1 || strings.Count(out.String(), "\n") != 1 {
			t.Errorf("%d warnings, want one line: %s", n, out.String())
		}
	})
}

func TestNowGivesTheTokensError(t *testing.T) {
	c := connect(t, settings(), &service{token: always(401, `{"error":"invalid_client","error_codes":[7000222]}`)})
	_, err := c.Now(context.Background())
	if e := failure(t, err); e.Kind != KindToken || e.Code != 7000222 {
		t.Fatalf("got %v", err)
	}
}
