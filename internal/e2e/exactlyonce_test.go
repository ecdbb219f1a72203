package e2e

import (
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"fluent-bit-defender/internal/defendersim"
)

// 10,000 alerts over three machine groups, two stanzas with different filters, a limit of 100, rows that become visible
// late, a restart in the middle: every alert of each filter exactly once at the output.
func TestEveryAlertExactlyOnceOverARestart(t *testing.T) {
	t.Parallel()
	needFluentBit(t)
	const overlap, live = 12 * time.Second, 8 * time.Second
	svc, srv, ca := service(t, defendersim.Config{})
	begin := time.Now().UTC()
	mix := defendersim.Mix{
		Style: defendersim.MixedStyle, Groups: groups,
		LateShare: 0.3, Late: overlap - 3*time.Second, TieShare: 0.1, UpdateShare: 0.05, PartShare: 0.05,
	}
	svc.Add(defendersim.Generate(rand.New(rand.NewPCG(1, 2)), 9_000, begin.Add(-time.Hour), begin.Add(-time.Minute),
		mix)...)
	svc.Add(defendersim.Generate(rand.New(rand.NewPCG(3, 4)), 1_000, begin, begin.Add(live), mix)...)

	db := filepath.Join(t.TempDir(), "defender.db")
	common := []string{"db " + db, "limit 100", "overlap 12s", "max_window 10m", "batch_size 512k",
		"max_alert_size 512k", "storage.type filesystem"}
	uk := stanza(srv, ca, "uk", append(common, "machine_groups UKMachines")...)
	rest := stanza(srv, ca, "rest", append(common, "machine_groups Rest & more, FranceMachines")...)
	f := newFluentBit(t, "    storage.path "+t.TempDir(), uk+rest)
	came := func() int { return len(f.lines("uk")) + len(f.lines("rest")) }
	f.start()
	f.await(30*time.Second, "a third of the alerts", func() bool { return came() > 3_333 })
	f.stop(10 * time.Second)
	// However slow the machine was: these come after the restart.
	svc.Add(defendersim.Generate(rand.New(rand.NewPCG(5, 6)), 100, time.Now(), time.Now().Add(time.Second), mix)...)
	f.start()

	end := time.Now().Add(live + overlap)
	f.await(60*time.Second, "all alerts", func() bool { return time.Now().After(end) && came() >= 10_100 })
	asked := svc.Stats().Alerts
	f.await(30*time.Second, "some more polls", func() bool { return svc.Stats().Alerts > asked+10 })
	f.stop(10 * time.Second)
	exactly(t, "uk", of(svc, "UKMachines"), f.arrived("uk"))
	exactly(t, "rest", of(svc, "FranceMachines", "Rest & more"), f.arrived("rest"))
}
