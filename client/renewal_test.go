package client

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// While a token serves, a renewal that fails is told once, and asked again when the service allows it.
func TestARenewalThatFailsIsToldOnceAndKeepsTheWaitAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &service{}
		var log bytes.Buffer
		c := connect(t, settings(), s, WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
		poll := func(n int) {
			t.Helper()
			for range n {
				if _, err := fetch(c, Query{}); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Second)
			}
		}
		want := func(requests, lines int) {
			t.Helper()
			if tokens, _ := s.counts(); tokens != requests {
				t.Errorf("%d token requests, want %d", tokens, requests)
			}
			if n := strings.Count(log.String(), "level=WARN"); n != lines {
				t.Errorf("%d warnings, want %d: %s", n, lines, log.String())
			}
		}
		poll(1)
		time.Sleep(55 * time.Minute) // five minutes are left
		s.token = always(500, "")
		poll(61)
		want(4, 1) // every 30 s
		line := "cannot renew the token: token request: error in the service (500); if it lasts, look at the service's health" +
			"; the present one serves for another 4m58s, and no alert waits"
		if !strings.Contains(log.String(), line) {
			t.Errorf("not %s: %s", line, log.String())
		}
		s.token = always(429, `{"error":"temporarily_unavailable"}`, "Retry-After: 120")
		poll(130)
		want(5, 1)
		s.token = nil
		poll(30)
		want(6, 1)

		time.Sleep(55 * time.Minute)
		s.token = always(429, `{"error":"temporarily_unavailable"}`, "Retry-After: 3600")
		poll(200)
		want(7, 2)
		time.Sleep(5 * time.Minute) // it has ended: no wait is longer than it lives
		_, err := fetch(c, Query{})
		if e := failure(t, err); e.Kind != KindTokenTransient || e.RetryAfter != time.Hour {
			t.Errorf("%v", err)
		}
		want(8, 2)
	})
}
