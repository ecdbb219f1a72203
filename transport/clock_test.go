package transport

import (
	"net/http"
	"testing"
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
		var c Clock
		for _, d := range dates {
			h := dated(epoch.Add(d.after + d.off))
			if d.cache {
				h.Set("Age", "5")
			}
			c.Observe(h, local.Add(d.after))
		}
		got, ok := c.Now(local.Add(at))
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
	f("a second one makes it believed", []came{{}, {after: 1 * s}, {after: 60 * s, off: h},
		{after: 120 * s, off: h + 5*s}}, 130*s, 130*s+h+5*s)
	f("not one that says something else", []came{{}, {after: 1 * s}, {after: 60 * s, off: h},
		{after: 120 * s, off: 2 * h}}, 130*s, 130*s)
	f("which then waits itself", []came{{}, {after: 1 * s}, {after: 60 * s, off: h}, {after: 120 * s, off: 2 * h},
		{after: 180 * s, off: 2 * h}}, 180*s, 180*s+2*h)
	f("nor one after a good Date", []came{{}, {after: 1 * s}, {after: 60 * s, off: h}, {after: 90 * s},
		{after: 120 * s, off: h}}, 130*s, 130*s)
	f("the first is a guess until one agrees", []came{{off: h}, {after: 60 * s}}, 70*s, 70*s)
	f("whatever comes between", []came{{off: h}, {after: 60 * s}, {after: 70 * s, off: h}, {after: 80 * s},
		{after: 90 * s}}, 90*s, 90*s)
	f("cached answers do not count", []came{{}, {after: 60 * s, off: 5 * s, cache: true}}, 70*s, 70*s)
	f("nor confirm", []came{{}, {after: 1 * s}, {after: 60 * s, off: h}, {after: 120 * s, off: h, cache: true}}, 130*s,
		130*s)

	t.Run("doubt", func(t *testing.T) {
		var c Clock
		check := func(what string, h http.Header, after time.Duration, want bool) {
			t.Helper()
			if h != nil {
				c.Observe(h, local.Add(after))
			}
			if got := c.Disputed(); got != want {
				t.Errorf("%s: %t", what, got)
			}
		}
		check("nothing known", nil, 0, false)
		check("one Date", dated(epoch), 0, true)
		check("one that disagrees", dated(epoch.Add(h)), s, true)
		check("one that agrees with it", dated(epoch.Add(h)), s, false)
		check("one far off", dated(epoch), 2*s, true)
		check("and a good one", dated(epoch.Add(h+2*s)), 2*s, false)
		if !c.Trusted() {
			t.Error("two Dates agreed, and the time is not trusted")
		}
		c = Clock{}
		check("one Date again", dated(epoch), 0, true)
		if c.Trusted() {
			t.Error("one Date alone is trusted")
		}
		check("an answer without", http.Header{}, s, true)
		check("and another", http.Header{}, 2*s, false)
		check("the next token's, an hour off", dated(epoch.Add(2*h)), h, true)
		check("an answer without", http.Header{}, h+s, true)
		check("and another", http.Header{}, h+2*s, false)
		if now, _ := c.Now(local.Add(h)); !now.Equal(epoch.Add(2 * h)) {
			t.Errorf("it is %v", now)
		}
	})
	t.Run("nothing known", func(t *testing.T) {
		var c Clock
		for _, h := range []http.Header{nil, {"Date": {"yesterday"}}, dated(epoch, "Age")} {
			c.Observe(h, local)
		}
		if got, ok := c.Now(local); ok {
			t.Fatalf("knows %v", got)
		}
	})
}
