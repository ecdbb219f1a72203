package flb

import (
	"bytes"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
)

// fixture is a log whose thread is 1; self says which thread the next lines come from.
type fixture struct {
	*Log
	mu      sync.Mutex
	current int
	printed []string
	stderr  bytes.Buffer
}

func newFixture(level slog.Level) *fixture {
	f := &fixture{current: 1}
	f.Log = newLog("[input:defender:defender.0] ", level, 1, func(l slog.Level, text string) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.printed = append(f.printed, fmt.Sprintf("%d %s", number(l), text))
	})
	f.Log.stderr, f.Log.self = &f.stderr, func() int { return f.current }
	return f
}

func (f *fixture) want(t *testing.T, lines ...string) {
	t.Helper()
	if !slices.Equal(f.printed, lines) {
		t.Errorf("printed %q, want %q", f.printed, lines)
	}
	f.printed = nil
}

func TestLinesOfTheOwnThreadArePrintedAtOnceAfterThoseThatWait(t *testing.T) {
	f := newFixture(slog.LevelInfo)
	log := f.Logger()
	f.current = 2
	log.Error("from a goroutine")
	f.want(t)
	f.current = 1
	log.Warn("from the thread")
	f.want(t, "1 [input:defender:defender.0] from a goroutine", "2 [input:defender:defender.0] from the thread")
	f.current = 2
	log.Info("again")
	f.Flush()
	f.want(t, "3 [input:defender:defender.0] again")
	f.Flush()
	f.want(t)
}

func TestAFullQueueDropsAndTells(t *testing.T) {
	f := newFixture(slog.LevelInfo)
	f.current = 2
	for i := range queueLines + 7 {
		f.Logger().Info("line", "n", i)
	}
	f.Flush()
	if len(f.printed) != queueLines+1 {
		t.Fatalf("%d lines printed", len(f.printed))
	}
	want := "2 [input:defender:defender.0] 7 log lines were dropped: 256 waited already for the next callback"
	if got := f.printed[queueLines]; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	f.printed = nil
	f.Logger().Info("room again")
	f.Flush()
	f.want(t, "3 [input:defender:defender.0] room again")
}

func TestAfterCloseLinesGoToStderr(t *testing.T) {
	f := newFixture(slog.LevelInfo)
	f.current = 2
	f.Logger().Info("waits")
	f.Close()
	f.want(t, "3 [input:defender:defender.0] waits")
	f.Logger().Error("late")
	f.Flush()
	f.want(t)
	if got, want := f.stderr.String(), "[error] [input:defender:defender.0] late\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestWithoutLogPrintLinesGoToStderr(t *testing.T) {
	var stderr bytes.Buffer
	l := newLog("[input:defender:defender.3] ", slog.LevelInfo, ThreadID(), nil)
	l.stderr = &stderr
	l.Logger().Warn("no core")
	if got, want := stderr.String(), "[warn] [input:defender:defender.3] no core\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestLevelsFollowTheStanza(t *testing.T) {
	for n, want := range []int{0, 1, 2, 3, 4, 5} {
		f := newFixture(levelOf(n))
		for _, l := range []slog.Level{
			slog.LevelError, slog.LevelWarn, slog.LevelInfo, slog.LevelDebug, slog.LevelDebug - 4,
		} {
			f.Logger().Log(t.Context(), l, "x")
		}
		if len(f.printed) != want {
			t.Errorf("log level %d printed %q", n, f.printed)
		}
	}
}

type secret string

func (secret) LogValue() slog.Value { return slog.StringValue("[redacted]") }

func TestAttributesFollowTheMessage(t *testing.T) {
	f := newFixture(slog.LevelInfo)
	log := f.Logger().With("tenant", "t 1").WithGroup("http").With("status", 503)
	log.Info("asked", "secret", secret("hunter2"),
		slog.Group("row", "n", 1, "empty", ""), slog.Group("", "flat", true), "a=b", `"`)
	f.want(t, `3 [input:defender:defender.0] asked tenant="t 1" http.status=503 http.secret=[redacted] http.row.n=1 `+
		`http.row.empty="" http.flat=true http.a=b="\""`)
}

func TestALineIsOneLine(t *testing.T) {
	f := newFixture(slog.LevelInfo)
	f.Logger().Info("one\ntwo\r\x00\x1b[31m \u2028 100 % é")
	f.want(t, `3 [input:defender:defender.0] one\ntwo\r\x00\x1b[31m \u2028 100 % é`)
	f.Logger().Info(strings.Repeat("é", lineBytes))
	if got := f.printed[0]; len(got) > lineBytes+50 || !strings.HasSuffix(got, "é...") {
		t.Errorf("a long line was cut to %d bytes, ending in %q", len(got), got[len(got)-5:])
	}
}

func TestGoroutinesMayLogWhileTheThreadFlushes(t *testing.T) {
	f := newFixture(slog.LevelInfo)
	f.self = func() int { return 2 }
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 200 {
				f.Logger().Info("x")
			}
		})
	}
	for range 50 {
		f.Flush()
	}
	wg.Wait()
	f.Close()
	total := 0
	for _, p := range f.printed {
		if strings.HasSuffix(p, "] x") {
			total++
			continue
		}
		var n int
		if _, err := fmt.Sscanf(p, "2 [input:defender:defender.0] %d log lines", &n); err != nil {
			t.Fatal(p)
		}
		total += n
	}
	if total != 800 {
		t.Errorf("%d of 800 lines accounted for", total)
	}
}
