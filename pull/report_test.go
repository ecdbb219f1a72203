package pull

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fluent-bit-defender/internal/defendersim"
)

// written is a log without times.
func written(out *strings.Builder) *slog.Logger {
	return slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
}

// A failure that lasts is told at once, when it turns into one of another kind, every ten minutes with a count, and
// when it is over.
func TestStreakDoesNotFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out strings.Builder
		log := written(&out)
		var tr streak
		for range 12 * 60 {
			tr.failed(log, slog.LevelWarn, "500", "the service fails")
			time.Sleep(time.Second)
		}
		tr.failed(log, slog.LevelError, "403", "forbidden")
		tr.recovered(log, "all is well")
		tr.recovered(log, "all is well")
		tr.failed(log, slog.LevelWarn, "500", "the service fails")
		tr.recovered(log, "all is well")
		want := `level=WARN msg="the service fails"
level=WARN msg="the service fails (601 failures since 2000-01-01T00:00:00Z)"
level=ERROR msg="forbidden (721 failures since 2000-01-01T00:00:00Z)"
level=INFO msg="all is well after 721 failures"
level=WARN msg="the service fails"
level=INFO msg="all is well after 1 failure"
`
		if out.String() != want {
			t.Errorf("got\n%swant\n%s", out.String(), want)
		}
	})
}

// Causes that alternate at every request are each told once in ten minutes.
func TestAlternatingFailuresDoesNotFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out strings.Builder
		log := written(&out)
		var tr streak
		for i := range 15 * 60 {
			tr.failed(log, slog.LevelWarn, fmt.Sprint(i%3), fmt.Sprintf("cause %d", i%3))
			time.Sleep(time.Second)
		}
		want := `level=WARN msg="cause 0"
level=WARN msg="cause 1 (2 failures since 2000-01-01T00:00:00Z)"
level=WARN msg="cause 2 (3 failures since 2000-01-01T00:00:00Z)"
level=WARN msg="cause 0 (601 failures since 2000-01-01T00:00:00Z)"
level=WARN msg="cause 1 (602 failures since 2000-01-01T00:00:00Z)"
level=WARN msg="cause 2 (603 failures since 2000-01-01T00:00:00Z)"
`
		if out.String() != want {
			t.Errorf("got\n%swant\n%s", out.String(), want)
		}
	})
}

// Neither a cause that is new at every request nor one that goes and comes again makes more than a few lines a
// minute, or memory that grows.
func TestNewFailuresAtEveryRequestDoesNotFlood(t *testing.T) {
	const minutes = 30
	for name, heals := range map[string]bool{"always new": false, "it comes and goes": true} {
		synctest.Test(t, func(t *testing.T) {
			var out strings.Builder
			log := written(&out)
			var tr streak
			for i := range minutes * 60 {
				tr.failed(log, slog.LevelWarn, fmt.Sprint(i), "cause")
				if heals {
					tr.recovered(log, "all is well")
				}
				if len(tr.kinds) > 50 || len(tr.lines) > mostLines {
					t.Fatalf("%s: %d kinds and %d lines are kept", name, len(tr.kinds), len(tr.lines))
				}
				time.Sleep(time.Second)
			}
			told, healed := strings.Count(out.String(), "level=WARN"), strings.Count(out.String(), "level=INFO")
			if told < minutes || told > minutes*mostLines || heals && healed != told || !heals && healed != 0 {
				t.Errorf("%s: %d failures and %d ends of them were told in %d minutes", name, told, healed, minutes)
			}
		})
	}
}

// A failure after which nothing comes for long is told at once also when much else was.
func TestStreakMakesRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out strings.Builder
		log := written(&out)
		var tr streak
		tr.makeRoom()
		for i := range 20 {
			tr.failed(log, slog.LevelWarn, fmt.Sprint(i), "cause")
		}
		tr.makeRoom()
		for i := range 20 {
			tr.failed(log, slog.LevelError, fmt.Sprint("worse ", i), "worse")
		}
		if warned, worse := strings.Count(out.String(), "WARN"), strings.Count(out.String(),
			"ERROR"); warned != mostLines || worse != 1 {
			t.Errorf("%d and %d lines", warned, worse)
		}
	})
}

// Texts that tell of the same at another byte or time are of one sort; others are not.
func TestSortOf(t *testing.T) {
	f := func(same bool, a, b string) {
		t.Helper()
		if (sortOf(a) == sortOf(b)) != same {
			t.Errorf("%q and %q become %q and %q", a, b, sortOf(a), sortOf(b))
		}
	}
	f(true, "the answer ends at byte 17 before", "the answer ends at byte 4 before")
	f(true, `no list of alerts: HTML or XML: "<a>"`, `no list of alerts: HTML or XML: "<b> c 'd"`)
	f(false, `no list of alerts: HTML or XML: "<a>"`, "no list of alerts: an empty body")
	f(true, "byte 0x01 in a string", "byte 0x1f in a string")
	f(true, "'N' where a value must stand", `'\'' where a value must stand`)
	f(true, "cut after 46 bytes: x", "cut after 46000 bytes: x")
	f(false, "this machine's clock is a", "this machine's clock is b")
	f(false, "login.example refused the connection", "login.example closed the connection before it answered")
	f(true, `; the service says "At 10:00. (invalid_client, trace 255d1aef)"`,
		`; the service says "At 11:00. (invalid_grant, trace a)"`)
}

// What one request after the other fails for is told each time, in the words that say what to do.
func TestEachCauseIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := scene(60, 30*time.Minute, func(p *life) { p.cfg.RetryMax = time.Second })
		h.liveFor(2 * time.Minute)
		h.svc.Queue(defendersim.KindAlerts, defendersim.HTML(), defendersim.EmptyBody(),
			defendersim.CutOf(0.5, defendersim.CutText), defendersim.Status(500))
		h.liveFor(5 * time.Minute)
		h.svc.RevokeTokens()
		h.svc.Queue(defendersim.KindToken, defendersim.Entra(7000222), defendersim.Entra(7000215))
		h.liveFor(25 * time.Minute)
		h.stop(false)
		log := h.log.String()
		for _, want := range []string{
			"alerts request: the answer is no list of alerts: HTML or XML", "alerts request: the answer is no list " +
				"of alerts: an empty body; if it lasts, look for a proxy with a login page",
			"alerts request: the answer ends at byte ", "alerts request: error in the service (500)", "pulled again " +
				"after 4 failures",
			"AADSTS7000222", "AADSTS7000215", "pulled again after 2 failures",
		} {
			if n := strings.Count(log, want); n != 1 {
				t.Errorf("%q was told %d times:\n%s", want, n, log)
			}
		}
		h.check()
		for _, f := range h.faults {
			t.Error(f)
		}
	})
}

// An error of the reader gets the name of its request, one of the client has it.
func TestNamed(t *testing.T) {
	base := errors.New("it broke")
	once := named(base)
	if once.Error() != "alerts request: it broke" || !errors.Is(once, base) || named(once) != once ||
		named(nil) != nil {
		t.Errorf("%v, then %v; of nil %v", once, named(once), named(nil))
	}
}
