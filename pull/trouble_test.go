package pull

import (
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A failure that lasts is told at once, at each change of its kind, every ten minutes with a count, and when it is over.
func TestTroubleDoesNotFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out strings.Builder
		log := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		}}))
		var tr trouble
		for range 12 * 60 {
			tr.failed(log, slog.LevelWarn, "500", "the service fails")
			time.Sleep(time.Second)
		}
		tr.failed(log, slog.LevelError, "403", "forbidden")
		tr.healed(log, "all is well")
		tr.healed(log, "all is well")
		want := `level=WARN msg="the service fails"
level=WARN msg="the service fails (601 failures since 2000-01-01T00:00:00Z)"
level=ERROR msg="forbidden (721 failures since 2000-01-01T00:00:00Z)"
level=INFO msg="all is well after 721 failures"
`
		if out.String() != want {
			t.Errorf("got\n%swant\n%s", out.String(), want)
		}
	})
}
