package e2e

import (
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"fluent-bit-defender/internal/defendersim"
)

// Kill -9 at random moments with db and storage.type filesystem: no alert is missing, and what comes twice was handed
// over in the last seconds before a kill.
//
// Two things repeat after a kill, and the output cannot tell them apart. The plugin hands over again what it had not made
// durable: that was handed over at most 5 s before the kill (the time a batch may lie in Fluent Bit's ring), plus up to 1 s until
// the next commit. And Fluent Bit sends again the chunks of its storage that it had sent but not yet deleted: those were
// under way at the kill. Either way the record had arrived, if it had, after the moment of the kill less those 6 s; lately adds what
// a busy machine takes for a commit.
func TestKilledAtRandomMoments(t *testing.T) {
	t.Parallel()
	needFluentBit(t)
	const lately = 8 * time.Second
	seed := rand.Uint64()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the moments came from seed %d", seed)
		}
	})
	rnd := rand.New(rand.NewPCG(seed, 0))

	svc, srv, ca := service(t, defendersim.Config{})
	history(svc, 600, 10*time.Minute)
	out := newSink(t)
	f := newFluentBit(t, "    scheduler.base 1\n    scheduler.cap 2\n    storage.path "+t.TempDir(), stanza(srv, ca, "all", "storage.type filesystem",
		"db "+filepath.Join(t.TempDir(), "defender.db"), "initial_lookback 15m", "overlap 10s",
		"batch_size 512k", "max_alert_size 64k"), out.output("all"))
	load := startLoad(t, svc, 50)
	var starts, kills []time.Time
	for i := range times(10, 100) {
		life := time.Duration(rnd.Int64N(int64(2500 * time.Millisecond)))
		if i%5 == 1 { // long enough for something to be older than the last seconds
			life = lately + 2*time.Second + time.Duration(rnd.Int64N(int64(3*time.Second)))
		}
		out.refuse(i%10 == 6)
		f.start()
		starts = append(starts, time.Now())
		over := time.NewTimer(life)
		select {
		case <-over.C:
		case <-f.done:
			t.Fatalf("fluent-bit ended by itself: %v", f.err)
		}
		f.kill()
		kills = append(kills, time.Now())
	}
	if out.refuse(false) == 0 {
		t.Error("no request was refused")
	}
	f.start()
	starts = append(starts, time.Now())
	load.stop()
	due := of(svc)
	f.await(30*time.Second, "all alerts", func() bool { return missing(due, out.arrived()) == 0 })
	asked := svc.Stats().Alerts
	f.await(10*time.Second, "some more polls", func() bool { return svc.Stats().Alerts > asked+3 })
	f.stop(10 * time.Second)

	allowed := func(first, again time.Time) bool {
		for i, kill := range kills {
			if first.After(kill.Add(-lately)) && first.Before(kill) && again.After(kill) {
				return true
			}
			// What was under way at the kill may come both from Fluent Bit's storage and from the plugin after it.
			if next := starts[i+1]; first.After(next) && again.Before(next.Add(lately)) {
				return true
			}
		}
		return false
	}
	wrong := 0
	for key, came := range out.times() {
		for i := 1; i < len(came); i++ {
			if allowed(came[i-1], came[i]) {
				continue
			}
			if wrong++; wrong <= 5 {
				t.Errorf("%s came at %s and again at %s; kills at %s", key, came[i-1], came[i], kills)
			}
		}
	}
	if wrong > 5 {
		t.Errorf("and %d more", wrong-5)
	}
}
