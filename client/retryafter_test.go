package client

import (
	"context"
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

func TestRetryAfter(t *testing.T) {
	now := time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC)
	f := func(value string, want time.Duration) {
		t.Helper()
		if got := retryAfter(value, now); got != want {
			t.Errorf("%q: %v, want %v", value, got, want)
		}
	}
	f("", 0)
	f("0", 0)
	f("30", 30*time.Second)
	f(" 30 ", 30*time.Second)
	f("0030", 30*time.Second)
	f("3600", time.Hour)
	f("3601", time.Hour)
	f("99999999999999999999999999999999999", time.Hour)
	f("-1", 0)
	f("1.5", 0)
	f("1e3", 0)
	f("soon", 0)
	f("Thu, 02 Jan 2020 03:05:05 GMT", time.Minute)
	f("Thursday, 02-Jan-20 03:05:05 GMT", time.Minute)
	f("Thu Jan  2 03:05:05 2020", time.Minute)
	f("Thu, 02 Jan 2020 03:04:05 GMT", 0)
	f("Thu, 02 Jan 2020 03:00:00 GMT", 0)
	f("Fri, 31 Dec 9999 23:59:59 GMT", time.Hour)
	f("Mon, 01 Jan 0001 00:00:00 GMT", 0)
	f("2020-01-02T03:05:05Z", 0)
}

// A date form is meant on the service's clock, not on ours.
func TestRetryAfterDateIsTheServices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ahead := time.Now().Add(time.Hour)
		date := func(t time.Time) string { return t.UTC().Format(http.TimeFormat) }
		f := func(name string, wait time.Duration, header ...string) {
			t.Helper()
			s := &service{token: always(200, tokenJSON(1), "Date: "+date(ahead))}
			c := connect(t, settings(), s)
			if _, err := c.Now(context.Background()); err != nil {
				t.Fatal(err)
			}
			s.alerts = always(429, "", header...)
			_, err := fetch(c, Query{})
			if e := failure(t, err); e.Kind != KindThrottled || e.RetryAfter != wait {
				t.Errorf("%s: wait %v, want %v", name, e.RetryAfter, wait)
			}
		}
		f("by the answer's own Date", 40*time.Second, "Date: "+date(ahead.Add(5*time.Minute)), "Retry-After: "+date(ahead.Add(5*time.Minute+40*time.Second)))
		f("without one by the clock", 30*time.Second, "Date: ", "Retry-After: "+date(ahead.Add(30*time.Second)))
	})
}

func FuzzRetryAfter(f *testing.F) {
	for _, seed := range []string{"", "30", "-1", "99999999999999999999", "Thu, 02 Jan 2020 03:05:05 GMT", "Fri, 31 Dec 9999 23:59:59 GMT", "1.5", "٣"} {
		f.Add(seed, int64(1577934245))
	}
	f.Fuzz(func(t *testing.T, value string, now int64) {
		d := retryAfter(value, time.Unix(now, 0))
		if d < 0 || d > time.Hour {
			t.Fatalf("%q gives %v", value, d)
		}
		if d%time.Second != 0 {
			t.Fatalf("%q gives %v: neither form is finer than a second", value, d)
		}
	})
}
