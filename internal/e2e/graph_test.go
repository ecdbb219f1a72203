package e2e

import (
	"math/rand/v2"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fluent-bit-defender/internal/defendersim"
)

// graphStanza is an input of Microsoft Graph at this host name of the simulated service: requests to one host share one pace.
func graphStanza(t *testing.T, srv *defendersim.Server, ca, tag, host string, more ...string) string {
	t.Helper()
	u, err := url.Parse(srv.GraphURL())
	if err != nil {
		t.Fatal(err)
	}
	u.Host = host + ":" + u.Port()
	more = append(more, "api graph", "url "+u.String(), "token_url "+srv.TokenURLV2())
	return strings.ReplaceAll(stanza(srv, ca, tag, more...), "    url "+srv.AlertsURL()+"\n    token_url "+srv.TokenURL()+"\n", "")
}

// 5,000 alerts with 2,000 updates of Microsoft Graph, over more than 40 pages with faults between them, 500 alerts of one second among
// them, which only paging can tell apart: each update that a poll could see comes exactly once, and with `updates first` each
// alert exactly once.
func TestGraphGivesEachUpdateOnce(t *testing.T) {
	t.Parallel()
	needFluentBit(t)
	const alerts, ties, before, live = 4_500, 500, 1_000, 20 * time.Second
	svc, srv, ca := service(t, defendersim.Config{})
	begin := svc.Now()
	rnd := rand.New(rand.NewPCG(11, 12))
	backlog := defendersim.GenerateGraph(rnd, alerts, before, begin.Add(-36*time.Minute), begin.Add(-time.Minute), defendersim.GraphMix{TieShare: 0.1})
	gen := defendersim.NewGraphGenerator(rand.New(rand.NewPCG(13, 14)), defendersim.GraphMix{})
	for range ties {
		backlog = append(backlog, gen.Alert(begin.Add(-20*time.Minute)))
	}
	svc.AddGraph(backlog...)
	last := map[string]defendersim.GraphAlert{}
	var ids []string
	for _, a := range backlog {
		if _, known := last[a.ID]; !known {
			ids = append(ids, a.ID)
		}
		last[a.ID] = a
	}
	for i := range 2_000 - before {
		id := ids[rnd.IntN(len(ids))]
		a := gen.Update(last[id], begin.Add(5*time.Second+live*time.Duration(i)/time.Duration(2_000-before)))
		last[id] = a
		svc.AddGraph(a)
	}
	faults, err := defendersim.RandomFaults(15, 0.15, "500", "429", "reset", "cut", "partial", "401", "garble")
	if err != nil {
		t.Fatal(err)
	}
	svc.OnRequest(faults)

	common := []string{"db " + filepath.Join(t.TempDir(), "defender.db"), "initial_lookback 37m", "overlap 10s", "max_window 1m", "limit 150", "storage.type filesystem"}
	f := newFluentBit(t, "    storage.path "+t.TempDir(),
		graphStanza(t, srv, ca, "all", "127.0.0.1", common...)+graphStanza(t, srv, ca, "first", "localhost", append(common, "updates first")...))
	f.start()
	// Beyond the last update by more than the longest poll: some ten windows at two requests a second.
	f.await(150*time.Second, "every alert", func() bool {
		return svc.Now().After(begin.Add(5*time.Second+live)) && len(f.lines("first")) >= alerts+ties && unseen(svc, f.arrived("all")) == 0
	})
	asked := svc.Stats().Graph
	f.await(60*time.Second, "some more polls", func() bool { return svc.Stats().Graph > asked+20 })
	f.stop(10 * time.Second)

	all := f.arrived("all")
	seen := 0
	for _, v := range svc.GraphLedger() {
		if v.ServedWhole == 0 && !v.Replaced.IsZero() {
			continue // it was gone before a poll could see it
		}
		if seen++; all[v.Key()] != 1 {
			t.Errorf("%s came %d times (visible %s, replaced %s, served %d times)", v.Key(), all[v.Key()], v.Visible, v.Replaced, v.Served)
		}
	}
	if seen < alerts+ties+500 {
		t.Errorf("only %d updates and alerts could be seen", seen)
	}
	for key, n := range all {
		if v, ok := svc.LookupGraph(key); n != 1 || !ok || v.Served == 0 {
			t.Errorf("%s came %d times, known %t, served %d times", key, n, ok, v.Served)
		}
	}
	first := map[string]int{}
	for key, n := range f.arrived("first") {
		id, _, _ := strings.Cut(key, "|")
		first[id] += n
	}
	for _, id := range ids {
		if first[id] != 1 {
			t.Errorf("updates first: %s came %d times", id, first[id])
		}
	}
	pages := 0
	for _, e := range svc.Journal() {
		if e.Graph.Page && e.Status == 200 {
			pages++
		}
	}
	stats := svc.Stats()
	if len(first) != alerts+ties || pages < 6 || stats.Graph < 40 || len(stats.Faults) < 5 {
		t.Errorf("%d alerts, %d second pages of %d requests, faults %v", len(first), pages, stats.Graph, stats.Faults)
	}
	t.Logf("%d records of %d alerts with %d updates; %d requests, %d of them for further pages; faults: %v", len(f.lines("all")), len(first), 2_000, stats.Graph, pages, stats.Faults)
}

// unseen counts the alerts whose last version has not come.
func unseen(svc *defendersim.Service, arrived map[string]int) int {
	n := 0
	for _, v := range svc.GraphLedger() {
		if v.Replaced.IsZero() && arrived[v.Key()] == 0 {
			n++
		}
	}
	return n
}
