package e2e

import (
	"bytes"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"fluent-bit-defender/internal/defendersim"
	"fluent-bit-defender/internal/flbhost"
)

// token is what an access token looks like, in whole or in part.
var token = regexp.MustCompile(`eyJ[A-Za-z0-9_-]{8,}|Bearer [A-Za-z0-9]|access_token`)

// log_level debug shows each request, those that failed among them, and nothing shows a secret or a token.
func TestDebugShowsEachRequestAndNoSecret(t *testing.T) {
	everywhere(t, func(w *world) {
		history(w.svc, 100, 10*time.Minute)
		w.svc.Queue(defendersim.KindToken, defendersim.Entra(7000215), defendersim.Status(500), defendersim.HTML())
		w.svc.Queue(defendersim.KindAlerts, defendersim.Status(401), defendersim.Status(403), defendersim.Status(500),
			defendersim.Status(500),
			defendersim.Throttle(time.Second), defendersim.HTML(), defendersim.CutOf(0.5, defendersim.CutBroken))
		db := filepath.Join(w.TempDir(), "defender.db")
		h := w.start("    log_level debug", w.stanza("db "+db, "initial_lookback 15m", "retry_max 1s"))
		w.awaitAll(40*time.Second, of(w.svc))
		w.polls(2)
		h.MustStop(w.T, grace)
		exactly(w.T, "alerts", of(w.svc), w.arrived())

		stats := w.svc.Stats()
		var shown struct{ tokens, alerts int }
		for _, line := range ours(h, "debug") {
			switch {
			case !strings.HasPrefix(line, "request method="):
			case strings.Contains(line, w.srv.TokenURL()):
				shown.tokens++
			case strings.Contains(line, w.srv.AlertsURL()):
				shown.alerts++
			}
		}
		// More is possible: the stop may end one before it is sent.
		if shown.tokens < stats.Tokens || shown.alerts < stats.Alerts {
			w.Errorf("%d token requests and %d of alerts; the log shows %+v", stats.Tokens, stats.Alerts, shown)
		}
		stored, err := os.ReadFile(db)
		if err != nil {
			w.Fatal(err)
		}
		for _, secret := range []string{defendersim.DefaultSecret, url.QueryEscape(defendersim.DefaultSecret)} {
			h.Look(func(v *flbhost.View) {
				if v.HasLog("", secret) {
					w.Errorf("%q is in the log", secret)
				}
			})
			if bytes.Contains(stored, []byte(secret)) {
				w.Errorf("%q is in the state file", secret)
			}
		}
		h.Look(func(v *flbhost.View) {
			for _, l := range v.Logs {
				if found := token.FindString(l.Text); found != "" {
					w.Errorf("%q is in the log: %s", found, l.Text)
				}
			}
		})
		if found := token.Find(stored); found != nil {
			w.Errorf("%q is in the state file", found)
		}
	})
}
