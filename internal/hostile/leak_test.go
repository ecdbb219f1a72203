package hostile

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fluent-bit-defender/internal/defendersim"
	"fluent-bit-defender/internal/flbhost"
)

// alertFaults and tokenFaults are every fault that the simulated service knows. Those with Retry-After name a short
// one.
func alertFaults() []*defendersim.Fault {
	all := []*defendersim.Fault{
		defendersim.Throttle(time.Second), defendersim.ThrottleUntil(time.Second), defendersim.Refused(),
		defendersim.ResetEarly(),
		defendersim.Late(300 * time.Millisecond), defendersim.Hang(), defendersim.Slow(50), defendersim.EndlessHeader(),
		defendersim.EmptyBody(), defendersim.HTML(), defendersim.NoAlerts(), defendersim.NeverClosed(),
		defendersim.BigBody(64 << 10),
		defendersim.GzipBomb(4 * mb), defendersim.Nested(1000), defendersim.Body(`{"error":"Bearer"}`),
		defendersim.GarbleAt(100, "\x01"),
		defendersim.GarbleOf(0.9, "\x02"), defendersim.CutAt(10, defendersim.CutBroken),
		defendersim.CutOf(0.5, defendersim.CutReset),
		defendersim.CutOf(0.5, defendersim.CutText), defendersim.CutOf(0.9, defendersim.CutWire),
	}
	for _, code := range []int{300, 301, 302, 303, 307, 308, 400, 401, 401, 403, 404, 405, 407, 408, 410, 413, 421, 429,
		451, 500, 501, 502, 503, 504, 599} {
		all = append(all, defendersim.Status(code))
	}
	return all
}

func tokenFaults() []*defendersim.Fault {
	soon := &defendersim.Fault{RetryAfter: func(time.Time) string { return "1" }}
	all := []*defendersim.Fault{
		defendersim.Refused(), defendersim.ResetEarly(), defendersim.Late(300 * time.Millisecond), defendersim.Hang(),
		defendersim.Slow(50),
		defendersim.EndlessHeader(), defendersim.EmptyBody(), defendersim.HTML(), defendersim.NoAlerts(),
		defendersim.GzipBomb(4 * mb),
		defendersim.GarbleAt(10, "\x01"), defendersim.GarbleOf(0.9, `"`), defendersim.CutOf(0.5, defendersim.CutBroken),
		defendersim.CutOf(0.9, defendersim.CutReset), defendersim.CutOf(0.9, defendersim.CutText),
	}
	for _, code := range []int{302, 307, 308, 400, 401, 403, 404, 405, 429, 500, 502, 503, 504} {
		all = append(all, defendersim.Status(code).With(soon))
	}
	for _, code := range []int{
		7000215, 7000222, 7000218, 700016, 70001, 7000112, 90002, 500011, 65001, 650057, 700027, 50012, 50013, 500133,
		700024, 53003, 70008,
		700082, 50173, 54005, 900144, 900561, 901002, 70003, 1002012, 90055, 50033, 90006, 90012, 90024, 90033,
	} {
		all = append(all, defendersim.Entra(code).With(soon))
	}
	return all
}

// Whatever goes wrong, and however much is logged: no secret and no token in what the plugin writes.
func TestNoFaultBringsASecretToLight(t *testing.T) {
	t.Parallel()
	const hosts = 10
	for n := range hosts {
		level := []string{"debug", "trace"}[n%2]
		t.Run(fmt.Sprintf("log_level %s, part %d", level, n), func(t *testing.T) {
			t.Parallel()
			// Tokens end so soon that each poll needs a new one.
			f := newFront(t, defendersim.New(defendersim.Config{TokenLife: time.Second, Seed: uint64(n)}))
			w := &world{T: t, svc: f.svc, dir: t.TempDir()}
			w.gen = newGenerator()
			queued := 0
			queue := func(k defendersim.Kind, all []*defendersim.Fault) {
				for i := n; i < len(all); i += hosts {
					f.svc.Queue(k, all[i])
					queued++
				}
			}
			first := w.add()
			queue(defendersim.KindAlerts, alertFaults())
			queue(defendersim.KindToken, tokenFaults())
			secret := filepath.Join(w.dir, "client.secret")
			if err := os.WriteFile(secret, []byte(defendersim.DefaultSecret+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			o := options(w.config(level, f.stanza("client_secret_file "+secret, "db "+filepath.Join(w.dir,
				"state.db"))))
			said := &transcript{}
			o.Stderr = said
			h, got := w.run(o)
			w.arrive(h, got, first)
			await(t, h, "all faults", func() bool {
				befell := 0
				for _, count := range f.svc.Stats().Faults {
					befell += count
				}
				return befell == queued
			})
			last := w.add()
			w.arrive(h, got, last)
			if n == 0 { // the last one, since it asks for minutes of rest; a token at hand serves on at first
				f.svc.Queue(defendersim.KindToken, times(5, defendersim.Entra(50196))...)
				h.MustAwait(t, limit, "a line of it", func(v *flbhost.View) bool { return says(v, "AADSTS50196") })
			}
			h.MustStop(t, limit)
			quiet(t, h)
			got.whole(t, first)
			got.whole(t, last)
			f.search(t, "the log", said.text())
			f.search(t, "the frames", []byte(h.Transcript()))
			f.searchFiles(t, w.dir, func(name string) bool { return name != "client.secret" })
			if f.stray > 0 || f.svc.Stats().StrayTokens > 0 {
				t.Errorf("%d credentials went to the wrong side", f.stray+f.svc.Stats().StrayTokens)
			}
			if issued := f.svc.Stats().Issued; issued < 3 || len(f.known) < issued/2 {
				t.Errorf("%d tokens were issued, %d secrets are known", issued, len(f.known))
			}
			if !strings.Contains(string(said.text()), "[debug]") {
				t.Error("nothing was logged at debug level")
			}
			if dumps, err := filepath.Glob("core*"); err != nil || len(dumps) > 0 {
				t.Errorf("crash dumps %q", dumps)
			}
		})
	}
}

// stanza names the front's addresses.
func (f *front) stanza(more ...string) string {
	return strings.Join(append(more, "url "+f.api+"/api/alerts", "token_url "+f.login+"/"+defendersim.DefaultTenant+
		"/oauth2/token",
		"ca_file "+f.ca, "read_timeout 1s"), ";")
}
