package e2e

import (
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"fluent-bit-defender/internal/defendersim"
)

// 200 detections come by the SIEM API, then it answers 410 for good: within successor_after Microsoft Graph goes on.
// The alerts of those detections do not come again, the 50 that Graph alone has come once each, and so it stays over
// a restart.
func TestTheSuccessorGoesOn(t *testing.T) {
	t.Parallel()
	needFluentBit(t)
	const detections, alone = 200, 50
	svc := defendersim.New(defendersim.Config{})
	srv, err := defendersim.Start(svc, defendersim.ServerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(srv.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := srv.WriteCA(ca); err != nil {
		t.Fatal(err)
	}
	rnd := rand.New(rand.NewPCG(1, 9))
	gen, graph := defendersim.NewGenerator(rnd, defendersim.Mix{}), defendersim.NewGraphGenerator(rnd,
		defendersim.GraphMix{})
	begin := svc.Now()
	for i := range detections {
		a := gen.Alert(begin.Add(-time.Duration(detections-i) * 100 * time.Millisecond))
		svc.Add(a)
		svc.AddGraph(graph.Of(a, a.LastProcessed.Add(time.Second)))
	}
	f := newFluentBit(t, "    storage.path "+t.TempDir(), stanza(srv, ca, "alerts", "db "+filepath.Join(t.TempDir(),
		"defender.db"), "storage.type filesystem",
		"initial_lookback 5m", "overlap 30s", "successor graph", "successor_after 1m", "successor_url "+srv.GraphURL()))
	f.start()
	f.await(60*time.Second, "the detections", func() bool { return len(f.lines("alerts")) >= detections })
	ended := time.Now()
	svc.OnRequest(func(r defendersim.Request) *defendersim.Fault {
		if r.Kind == defendersim.KindAlerts {
			return defendersim.Status(410)
		}
		return nil
	})
	add := func(n int) {
		for range n {
			svc.AddGraph(graph.Alert(svc.Now()))
		}
	}
	add(alone - 10)
	f.await(150*time.Second, "the alerts of Graph alone", func() bool {
		return len(f.lines("alerts")) >= detections+
			alone-10
	})
	took := time.Since(ended)
	f.stop(10 * time.Second)
	add(10)
	f.start()
	f.await(60*time.Second, "the alerts of Graph after a restart",
		func() bool { return len(f.lines("alerts")) >= detections+alone })
	asked := svc.Stats().Graph
	f.await(60*time.Second, "some more polls", func() bool { return svc.Stats().Graph > asked+5 })
	f.stop(10 * time.Second)

	came := f.arrived("alerts")
	for key, n := range came {
		if n != 1 {
			t.Errorf("%s came %d times", key, n)
		}
	}
	if len(came) != detections+alone {
		t.Errorf("%d records came, want %d detections and %d alerts", len(came), detections, alone)
	}
	t.Logf("Graph went on %s after the SIEM API ended", took.Round(time.Second))
}
