package main

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fluent-bit-defender/internal/simtest"
)

// A stanza that Fluent Bit runs without is told of again and again, and no more once the configuration is another.
func TestFaultsAreRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out simtest.LogBuffer
		ctx, cancel := context.WithCancel(t.Context())
		go remind(ctx, []string{"limit: x", "region: y"}, out.Logger())
		after := func(d time.Duration, want int) {
			t.Helper()
			time.Sleep(d)
			synctest.Wait()
			if n := strings.Count(out.String(), "this input does not run, and pulls nothing: limit: x"); n != want {
				t.Errorf("after %s more it was said %d times, want %d", d, n, want)
			}
		}
		after(59*time.Second, 0)
		after(2*time.Second, 1)
		after(9*time.Minute, 10)
		after(9*time.Minute, 10)
		after(2*time.Minute, 11)
		after(time.Hour, 17)
		cancel()
		after(time.Hour, 17)
		if a, b := strings.Count(out.String(), "limit"), strings.Count(out.String(), "region"); a != b {
			t.Errorf("%d lines of one fault, %d of the other", a, b)
		}
	})
}
