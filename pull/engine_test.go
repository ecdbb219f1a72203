package pull

import (
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fluent-bit-defender/conf"
	"fluent-bit-defender/internal/defendersim"
)

// scene is a history without chance: a service with alerts evenly spread over a span, and an engine that polls it
// every minute.
func scene(rows int, span time.Duration, change func(*life)) *history {
	p := life{seed: 7, span: span, cfg: conf.Config{
		Windows: conf.Windows{
			PollInterval: time.Minute, Overlap: 2 * time.Minute, MaxWindow: time.Hour,
			InitialLookback: 10 * time.Minute,
		},
		Network: conf.Network{
			RetryMax: 5 * time.Minute, ConnectTimeout: 10 * time.Second, ReadTimeout: 20 * time.Second,
		},
		Memory: conf.Memory{BatchSize: 1 << 20, QueueLimit: 8 << 20, MaxAlertSize: 1 << 20},
	}}
	if change != nil {
		change(&p)
	}
	h := newHistory(p)
	gen := defendersim.NewGenerator(rand.New(rand.NewPCG(1, 1)), defendersim.Mix{})
	for i := range rows {
		h.svc.Add(gen.Alert(h.began.Add(span * time.Duration(i) / time.Duration(rows))))
	}
	h.start()
	return h
}

// liveFor lets d pass in the core's seconds.
func (h *history) liveFor(d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); {
		h.core.live(time.Second)
		h.core.take()
	}
}

// A span that cannot be read for two days delays what is newer by minutes, is known as an unread range meanwhile,
// also over a restart, and comes when the service heals.
func TestAStuckSpanDoesNotHoldWhatIsNewer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const span = 48 * time.Hour
		h := scene(500, span, nil)
		from, to := h.began.Add(time.Hour), h.began.Add(time.Hour+20*time.Second)
		h.svc.FailSpan(from, to, h.began.Add(span), defendersim.Status(500))
		h.liveFor(3 * time.Hour)
		gaps := h.core.engine.Stats().Unread
		if gaps < 1 || gaps > 4 {
			t.Errorf("%d unread ranges are open", gaps)
		}
		h.stop(false)
		if len(h.disk.gaps) != gaps {
			t.Errorf("%d unread ranges are stored, %d were open", len(h.disk.gaps), gaps)
		}
		h.start()
		h.liveFor(span - 3*time.Hour)
		late := 0
		for _, row := range h.svc.Due(defendersim.Filter{}, h.began, h.began.Add(span-10*time.Minute), h.cfg.Overlap) {
			came := h.core.arrived[row.ID]
			if row.LastProcessed.After(from.Add(-2*time.Minute)) && row.LastProcessed.Before(to.Add(2*time.Minute)) {
				continue // of the span itself
			}
			if len(came) != 1 {
				t.Fatalf("%s processed %s came %d times", row.ID, row.LastProcessed, len(came))
			}
			if delay := came[0].at.Sub(row.VisibleAt); delay > 2*time.Minute {
				late++
				if delay > 10*time.Minute {
					t.Errorf("processed at %s, came %s later", row.LastProcessed, delay)
				}
			}
		}
		if late > 5 {
			t.Errorf("%d alerts came late", late)
		}
		requests := h.svc.Stats().Alerts
		if most := int(span/time.Minute) * 3 / 2; requests > most {
			t.Errorf("%d requests in %s", requests, span)
		}
		h.liveFor(time.Hour)
		h.stop(false)
		if len(h.disk.gaps) != 0 {
			t.Errorf("unread ranges left: %v", h.disk.gaps)
		}
		h.check()
		for _, f := range h.faults {
			t.Error(f)
		}
	})
}

// A row that is broken for ever comes raw, once, with its text; all others come as they are.
func TestABrokenRowComesRawOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := scene(60, time.Hour, nil)
		rows := h.svc.Ledger()
		bad := rows[30]
		h.svc.Poison(bad.ID, time.Time{}, "")
		h.liveFor(80 * time.Minute)
		h.stop(false)
		for _, row := range rows {
			want := 1
			if row.ID == bad.ID {
				want = 0
			}
			if n := len(h.core.arrived[row.ID]); n != want {
				t.Errorf("%s came %d times", row.ID, n)
			}
		}
		var raws []string
		for key, came := range h.core.arrived {
			if text, ok := strings.CutPrefix(key, "raw|"); ok {
				raws = append(raws, text)
				if len(came) != 1 {
					t.Errorf("a raw row came %d times", len(came))
				}
			}
		}
		broken, _ := h.svc.Lookup(bad.ID)
		if got := strings.Join(raws, ""); got != string(broken.Broken) {
			t.Errorf("raw text\n%q\nis not the broken row\n%q", got, broken.Broken)
		}
		if n := strings.Count(h.log.String(), "same syntax error"); n != 1 {
			t.Errorf("the invalid text was told of %d times:\n%s", n, h.log.String())
		}
	})
}

// With ago, each poll is one request without a window.
func TestAgoAsksForASpan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := scene(60, time.Hour, func(p *life) { p.cfg.Ago, p.cfg.AgoText = 10*time.Minute, "PT10M" })
		h.liveFor(time.Hour)
		windows, agos := 0, 0
		for _, en := range h.svc.Journal() {
			switch {
			case en.Kind != defendersim.KindAlerts:
			case en.Query.Ago == 10*time.Minute:
				agos++
			default:
				windows++
			}
		}
		if windows > 2 || agos < 50 {
			t.Errorf("%d requests by windows, %d by ago", windows, agos)
		}
		h.svc.Queue(defendersim.KindAlerts, defendersim.Status(500))
		h.liveFor(20 * time.Minute)
		h.stop(false)
		h.check()
		for _, f := range h.faults {
			t.Error(f)
		}
	})
}

// The queue holds no more than its limit and one row, however long nobody takes.
func TestTheQueueIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := scene(2000, 9*time.Minute, func(p *life) {
			p.cfg.BatchSize, p.cfg.QueueLimit, p.cfg.MaxAlertSize = 16_384,
				32_768, 16_384
		})
		h.core.pause()
		h.liveFor(30 * time.Minute)
		if q := h.core.engine.Stats().Queued; q < 30_000 || q > 32_768+2_000 {
			t.Errorf("%d bytes are queued", q)
		}
		h.core.resume()
		h.liveFor(10 * time.Minute)
		h.stop(false)
		h.check()
		for _, f := range h.faults {
			t.Error(f)
		}
	})
}

// The secret changes every ten minutes, in the file after the service has already dropped the old one, while tokens
// live for one minute: no alert is lost or comes twice.
func TestRotationLosesNothing(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secret")
	write := func(secret string) {
		if err := os.WriteFile(file, []byte(secret+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(defendersim.DefaultSecret)
	synctest.Test(t, func(t *testing.T) {
		h := scene(400, 2*time.Hour, func(p *life) { p.secretFile, p.cfg.RetryMax = file, time.Minute })
		h.svc.SetTokenLife(time.Minute)
		for i := range 12 {
			h.liveFor(9 * time.Minute)
			secret := fmt.Sprintf("rotated-secret-number-%d", i)
			h.svc.SetSecrets(defendersim.DefaultClientID, secret)
			h.svc.RevokeTokens()
			h.liveFor(time.Minute)
			write(secret)
		}
		h.liveFor(10 * time.Minute)
		h.stop(false)
		h.check()
		for _, f := range h.faults {
			t.Error(f)
		}
		if refused := h.svc.Stats().Status[401]; refused == 0 {
			t.Error("the service never refused anything: no rotation was felt")
		}
		if strings.Contains(h.log.String(), "rotated-secret-number") {
			t.Error("a secret is in the log")
		}
	})
}

// White space, or one alert over and over, without end: the answer is given up, and what is newer comes.
func TestAnAnswerWithoutEndIsGivenUp(t *testing.T) {
	for name, piece := range map[string]string{"white space": strings.Repeat(" ", 4096),
		"repetitions": `{"AlertId":"again","AlertTime":"2026-01-01T00:00:00Z"},`} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := scene(30, 20*time.Minute, func(p *life) { p.progress = 1 << 20 })
				h.svc.Queue(defendersim.KindAlerts, nil, defendersim.Page("endless", "", func(w io.Writer) error {
					_, err := io.WriteString(w, "[")
					for err == nil {
						_, err = io.WriteString(w, piece)
					}
					return err
				}))
				h.liveFor(30 * time.Minute)
				h.stop(false)
				h.check()
				if !strings.Contains(h.log.String(), "1 MiB came without a new alert: the answer has no end") {
					t.Errorf("nothing was said of it:\n%s", h.log.String())
				}
				for _, f := range h.faults {
					t.Error(f)
				}
			})
		})
	}
}
