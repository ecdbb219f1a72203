package e2e

import (
	"path/filepath"
	"testing"
	"time"

	"fluent-bit-defender/internal/defendersim"
	"fluent-bit-defender/internal/flbhost"
)

// grace is Fluent Bit's own default, and how long it may take to end.
const grace = 5 * time.Second

// SIGTERM under load: gone within the grace period, nothing lost or twice after a restart.
func TestStoppedUnderLoad(t *testing.T) {
	everywhere(t, func(w *world) {
		history(w.svc, 800, 10*time.Minute)
		common := []string{"db " + filepath.Join(w.TempDir(), "defender.db"), "initial_lookback 15m", "overlap 10s",
			"batch_size 128k", "max_alert_size 64k", "queue_limit 256k"} // twice what the load brings in a second
		service := "    storage.path " + w.TempDir()
		inputs := w.stanza(append(common, "machine_groups UKMachines, FranceMachines", "storage.type filesystem")...) +
			w.stanza(append(common, "machine_groups Rest & more")...)
		load := startLoad(w.T, w.svc, 60)
		for range times(3, 100) {
			before := w.count()
			h := w.start(service, inputs)
			await(w.T, 20*time.Second, "alerts after a start", func() bool { return w.count() > before+50 })
			h.MustStop(w.T, grace)
			h.Look(func(v *flbhost.View) {
				if v.HasLog("", "stopping: ") {
					w.Error("the plugin did not stop as it should")
				}
			})
		}
		h := w.start(service, inputs)
		load.stop()
		w.awaitAll(60*time.Second, of(w.svc))
		w.polls(4)
		h.MustStop(w.T, grace)
		exactly(w.T, "alerts", of(w.svc), w.arrived())
	})
}

// SIGTERM while the service hangs: gone within 3 s.
func TestStoppedWhileTheServiceHangs(t *testing.T) {
	f := func(name string, kind defendersim.Kind) {
		t.Run(name, func(t *testing.T) {
			everywhere(t, func(w *world) {
				w.svc.OnRequest(func(r defendersim.Request) *defendersim.Fault {
					if r.Kind == kind {
						return defendersim.Hang()
					}
					return nil
				})
				h := w.start("", w.stanza("machine_groups UKMachines")+w.stanza("machine_groups FranceMachines"))
				await(w.T, 20*time.Second, "two requests that hang", func() bool {
					s := w.svc.Stats()
					return s.Open >= 2 && (kind == defendersim.KindToken || s.Alerts >= 2)
				})
				h.MustStop(w.T, 3*time.Second)
			})
		})
	}
	f("alerts", defendersim.KindAlerts)
	f("token", defendersim.KindToken)
}
