package pull

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// lockedText is what was logged since it was last taken: lines come from timers.
type lockedText struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lockedText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lockedText) take() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.text.Reset()
	return l.text.String()
}

// gathers runs a test with a Gatherer that waits a minute, in virtual time. logged returns what was logged since its
// last call.
func gathers(t *testing.T, test func(g *Gatherer, logged func() string)) {
	synctest.Test(t, func(*testing.T) {
		var text lockedText
		h := slog.NewTextHandler(&text, &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: func(_ []string,
			a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		}})
		g := NewGatherer(slog.New(h), time.Minute)
		defer g.Close()
		test(g, func() string {
			synctest.Wait()
			return text.take()
		})
	})
}

func TestAThousandTenantsThatFailForOneReasonMakeOneLine(t *testing.T) {
	gathers(t, func(g *Gatherer, logged func() string) {
		id := func(i int) string { return strings.Repeat("x", i%50+3) + ".com" } // without a digit
		for i := range 1000 {
			g.Logger(fmt.Sprint("customer ", i), id(i)).Error(fmt.Sprintf("token request: https://login/%s: no such "+
				"host; trying again in %ds", id(i), i))
			time.Sleep(50 * time.Millisecond)
		}
		time.Sleep(10 * time.Second)
		want := `level=ERROR msg="1000 tenants (customer 0, customer 1, customer 2 and 997 more): token request: https://login/xxx.com: no such host; trying again in 0s"` + "\n"
		if got := logged(); got != want {
			t.Errorf("got  %swant %s", got, want)
		}
		for i := range 1000 {
			g.Logger(fmt.Sprint("customer ", i), id(i)).Info(fmt.Sprintf("alerts are pulled again after %d failures",
				i+2))
		}
		time.Sleep(time.Minute)
		if got := logged(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "1000 tenants (customer 0, "+
			"customer 1, customer 2 and 997 more): alerts are pulled again") {
			t.Error(got)
		}
	})
}

func TestLinesNameTheirTenants(t *testing.T) {
	gathers(t, func(g *Gatherer, logged func() string) {
		a, b := g.Logger("a", "a.com"), g.Logger("b", "b.com")
		a.Debug("one request", "rows", 5) // of use at its own time only
		if got := logged(); got != `level=DEBUG msg="tenant a: one request rows=5"`+"\n" {
			t.Error(got)
		}
		for range 3 {
			a.Warn("throttled for 5s")
		}
		a.With("every", "5m").Info("begins", "place", "eu")
		b.Error("throttled for 7s") // another level is another line
		b.Warn("refused")
		a.Warn("refused")
		if got := logged(); got != "" {
			t.Error(got)
		}
		time.Sleep(time.Minute)
		got := logged()
		for _, want := range []string{
			`level=WARN msg="tenant a: throttled for 5s"`, `level=INFO msg="tenant a: begins every=5m place=eu"`,
			`level=ERROR msg="tenant b: throttled for 7s"`, `level=WARN msg="2 tenants (b, a): refused"`,
		} {
			if !strings.Contains(got, want+"\n") {
				t.Errorf("no %s in %s", want, got)
			}
		}
		if strings.Count(got, "\n") != 4 {
			t.Error(got)
		}
	})
}

func TestWhatWaitsIsLoggedAtTheEnd(t *testing.T) {
	gathers(t, func(g *Gatherer, logged func() string) {
		g.Logger("a", "a.com").Info("first")
		g.Logger("a", "a.com").Error("second")
		g.Close()
		want := `level=ERROR msg="tenant a: second"` + "\n" + `level=INFO msg="tenant a: first"` + "\n"
		if got := logged(); got != want {
			t.Error(got)
		}
		g.Logger("a", "a.com").Info("late")
		if got := logged(); !strings.Contains(got, "late") {
			t.Error(got)
		}
		time.Sleep(time.Hour)
		if got := logged(); got != "" {
			t.Error(got)
		}
	})
}

func TestKindsOfLinesThatWaitAreBounded(t *testing.T) {
	gathers(t, func(g *Gatherer, logged func() string) {
		word := func(i int) string { return strings.Repeat("x", i+1) }
		for i := range mostGathered + 5 {
			g.Logger("a", "a.com").Warn(word(i))
		}
		if got := logged(); strings.Count(got, "\n") != 5 {
			t.Errorf("%d lines at once", strings.Count(got, "\n"))
		}
	})
}
