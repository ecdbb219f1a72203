package e2e

import (
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fluent-bit-defender/internal/defendersim"
)

// graphStanza is an input of Microsoft Graph at the simulated service.
func graphStanza(srv *defendersim.Server, ca, tag string, more ...string) string {
	more = append(more, "api graph", "url "+srv.GraphURL(), "token_url "+srv.TokenURLV2())
	return strings.ReplaceAll(stanza(srv, ca, tag, more...), "    url "+srv.AlertsURL()+"\n    token_url "+
		srv.TokenURL()+"\n", "")
}

// 5,000 alerts with 2,000 updates of Microsoft Graph, over more than 40 pages with faults between them, 1,500 alerts
// of one moment among them, which only paging can tell apart: each update that a poll could see comes exactly once,
// and with `updates first` each alert exactly once.
func TestGraphGivesEachUpdateOnce(t *testing.T) {
	t.Parallel()
	needFluentBit(t)
	all, first := newGraphWorld(t), newGraphWorld(t) // apart, so that each tells what its own stanza was given
	db := "db " + filepath.Join(t.TempDir(), "defender.db")
	common := []string{db, "initial_lookback 37m", "overlap 10s", "max_window 1m", "limit 170",
		"storage.type filesystem"}
	f := newFluentBit(t, "    storage.path "+t.TempDir(),
		graphStanza(all.srv, all.ca, "all", common...)+graphStanza(first.srv, first.ca, "first",
			append(common, "updates first")...))
	f.start()
	f.await(60*time.Second, "the first alerts", func() bool {
		return len(f.lines("all")) > 100 &&
			len(f.lines("first")) > 100
	})
	all.update()
	first.update()
	f.await(150*time.Second, "every alert", func() bool {
		return all.svc.Now().After(all.end) && first.svc.Now().After(first.end) &&
			len(f.lines("first")) >= len(first.ids) && all.unseen(f.arrived("all")) == 0
	})
	asked := all.svc.Stats().Graph
	f.await(60*time.Second, "some more polls", func() bool { return all.svc.Stats().Graph > asked+20 })
	f.stop(10 * time.Second)

	came := f.arrived("all")
	seen := 0
	for _, v := range all.svc.GraphLedger() {
		if v.ServedWhole == 0 && !v.Replaced.IsZero() {
			continue // it was gone before a poll could see it
		}
		if seen++; came[v.Key()] != 1 {
			t.Errorf("%s came %d times (visible %s, replaced %s, served %d times)", v.Key(), came[v.Key()], v.Visible,
				v.Replaced, v.Served)
		}
	}
	for key, n := range came {
		if v, ok := all.svc.LookupGraph(key); n != 1 || !ok || v.Served == 0 {
			t.Errorf("%s came %d times, known %t, served %d times", key, n, ok, v.Served)
		}
	}
	once := map[string]int{}
	for key, n := range f.arrived("first") {
		id, _, _ := strings.Cut(key, "|")
		once[id] += n
	}
	for _, id := range first.ids {
		if once[id] != 1 {
			t.Errorf("updates first: %s came %d times", id, once[id])
		}
	}
	pages := 0
	for _, e := range all.svc.Journal() {
		if e.Graph.Page && e.Status == 200 {
			pages++
		}
	}
	stats := all.svc.Stats()
	if len(all.ids) != graphAlerts || len(once) != graphAlerts || seen <= graphAlerts || pages < 2 ||
		stats.Graph < 40 || len(stats.Faults) < 4 {
		t.Errorf("%d and %d alerts, %d versions that could be seen, %d second pages of %d requests, faults %v",
			len(all.ids), len(once), seen, pages, stats.Graph, stats.Faults)
	}
	t.Logf("%d records of %d alerts with %d updates; %d requests, %d of them for further pages; faults: %v",
		len(f.lines("all")), graphAlerts, graphUpdates, stats.Graph, pages, stats.Faults)
}

const (
	graphAlerts  = 5_000
	graphTies    = 1_500 // of them
	graphUpdates = 2_000
	graphLive    = 500 // of them, while the alerts are pulled
)

// graphWorld is a simulated Graph with a history, updates to come, and faults.
type graphWorld struct {
	svc *defendersim.Service
	srv *defendersim.Server
	ca  string
	ids []string
	end time.Time // of the last update

	rnd  *rand.Rand
	gen  *defendersim.GraphGenerator
	last map[string]defendersim.GraphAlert // by id
}

func newGraphWorld(t *testing.T) *graphWorld {
	w := &graphWorld{
		rnd: rand.New(rand.NewPCG(11, 12)), gen: defendersim.NewGraphGenerator(rand.New(rand.NewPCG(13, 14)),
			defendersim.GraphMix{}),
		last: map[string]defendersim.GraphAlert{},
	}
	w.svc, w.srv, w.ca = service(t, defendersim.Config{})
	begin := w.svc.Now()
	backlog := defendersim.GenerateGraph(w.rnd, graphAlerts-graphTies, graphUpdates-graphLive,
		begin.Add(-36*time.Minute), begin.Add(-time.Minute), defendersim.GraphMix{TieShare: 0.1})
	for range graphTies {
		backlog = append(backlog, w.gen.Alert(begin.Add(-20*time.Minute)))
	}
	w.svc.AddGraph(backlog...)
	for _, a := range backlog {
		if _, known := w.last[a.ID]; !known {
			w.ids = append(w.ids, a.ID)
		}
		w.last[a.ID] = a
	}
	faults, err := defendersim.RandomFaults(15, 0.08, "500", "429", "reset", "cut", "partial", "401", "html")
	if err != nil {
		t.Fatal(err)
	}
	w.svc.OnRequest(faults)
	return w
}

// update adds the updates of the next seconds.
func (w *graphWorld) update() {
	begin := w.svc.Now()
	w.end = begin.Add(14 * time.Second)
	for i := range graphLive {
		id := w.ids[w.rnd.IntN(len(w.ids))]
		a := w.gen.Update(w.last[id], begin.Add(2*time.Second+12*time.Second*time.Duration(i)/graphLive))
		w.last[id] = a
		w.svc.AddGraph(a)
	}
}

// unseen counts the alerts whose last version has not come.
func (w *graphWorld) unseen(arrived map[string]int) int {
	n := 0
	for _, v := range w.svc.GraphLedger() {
		if v.Replaced.IsZero() && arrived[v.Key()] == 0 {
			n++
		}
	}
	return n
}
