package e2e

import (
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"fluent-bit-defender/internal/defendersim"
)

// Issue 1: 10,000 alerts over three machine groups, two stanzas with different filters, a limit of 100, rows that become visible
// late, a restart in the middle: every alert of each filter exactly once at the output.
func TestEveryAlertExactlyOnceOverARestart(t *testing.T) {
	t.Parallel()
	needFluentBit(t)
	const overlap = 15 * time.Second
	svc, srv, ca := service(t, defendersim.Config{})
	begin := time.Now().UTC()
	rnd := rand.New(rand.NewPCG(1, 2))
	mix := defendersim.Mix{
		Style: defendersim.MixedStyle, Groups: []string{"UKMachines", "FranceMachines", "Rest & more"},
		LateShare: 0.3, Late: overlap - 3*time.Second, TieShare: 0.1, UpdateShare: 0.05, PartShare: 0.05,
	}
	svc.Add(defendersim.Generate(rnd, 9_000, begin.Add(-time.Hour), begin.Add(-time.Minute), mix)...)
	mix.Groups = mix.Groups[:]
	svc.Add(defendersim.Generate(rand.New(rand.NewPCG(3, 4)), 1_000, begin, begin.Add(20*time.Second), mix)...)

	db := filepath.Join(t.TempDir(), "defender.db")
	common := []string{"db " + db, "limit 100", "overlap 15s", "max_window 10m", "storage.type filesystem"}
	uk := stanza(srv, ca, "uk", append(common, "machine_groups UKMachines")...)
	rest := stanza(srv, ca, "rest", append(common, "machine_groups Rest & more, FranceMachines")...)
	f := newFluentBit(t, "    storage.path "+t.TempDir(), uk+rest)
	f.start()
	f.await(60*time.Second, "a third of the alerts", func() bool { return len(f.lines("uk"))+len(f.lines("rest")) > 3_000 })
	f.stop(10 * time.Second)
	before := len(f.lines("uk")) + len(f.lines("rest"))
	if before == 10_000 {
		t.Fatal("all alerts came before the restart: it was in no middle")
	}
	t.Logf("%d of 10000 alerts came before the restart", before)
	f.start()

	filters := map[string]defendersim.Filter{
		"uk":   {MachineGroups: []string{"UKMachines"}},
		"rest": {MachineGroups: []string{"FranceMachines", "Rest & more"}},
	}
	end := begin.Add(20*time.Second + overlap)
	f.await(90*time.Second, "all alerts", func() bool {
		return time.Now().After(end) && len(f.lines("uk"))+len(f.lines("rest")) >= 10_000
	})
	asked := svc.Stats().Alerts
	f.await(30*time.Second, "some more polls", func() bool { return svc.Stats().Alerts > asked+10 })
	f.stop(10 * time.Second)
	total := 0
	for tag, filter := range filters {
		due := svc.Due(filter, begin.Add(-2*time.Hour+time.Minute), end, overlap)
		total += len(due)
		exactly(t, tag, due, f.arrived(tag))
	}
	if total != 10_000 {
		t.Fatalf("the filters have %d alerts together", total)
	}
}
