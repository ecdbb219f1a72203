package defendersim

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestGraphUpdatesTakeThePlaceOfTheirAlert(t *testing.T) {
	graphBothWays(t, Config{}, func(t *graphRig) {
		a := galert("a", noon.Add(-time.Minute))
		a.Status = "new"
		soon := galert("a", noon.Add(10*time.Second))
		soon.Status, soon.VisibleAt = "resolved", noon.Add(15*time.Second)
		t.svc.AddGraph(soon, a)
		seen := func(filter string) string { return t.query("$filter", filter).ids }
		want(t, "before", seen("status eq 'new'"), "a")
		t.clk.advance(14 * time.Second)
		want(t, "not yet visible", seen("status eq 'new'"), "a")
		t.clk.advance(time.Second)
		want(t, "gone", seen("status eq 'new'"), "")
		want(t, "here", seen("status eq 'resolved'"), "a")
		want(t, "in its new window only", seen(windowOf(noon.Add(-time.Hour), noon)), "")
		v, ok := t.svc.LookupGraph(a.Key())
		want(t, "found", ok, true)
		want(t, "key", a.Key(), "a|2024-05-06T11:59:00Z")
		want(t, "visible", v.Visible, noon)
		want(t, "replaced", v.Replaced, noon.Add(15*time.Second))
		_, ok = t.svc.LookupGraph("b|")
		want(t, "not found", ok, false)
	})
}

func TestAGraphUpdateThatOvertakesAnother(t *testing.T) {
	graphMemory(t, Config{}, func(t *graphRig) {
		one := galert("a", noon.Add(-3*time.Second))
		two, three := galert("a", noon.Add(-2*time.Second)), galert("a", noon.Add(-time.Second))
		two.VisibleAt, three.VisibleAt = noon.Add(time.Minute), noon.Add(time.Second)
		t.svc.AddGraph(one, two, three)
		t.clk.advance(2 * time.Minute)
		contains(t, "the last", t.query().body, three.UpdatedText)
		ledger := t.svc.GraphLedger()
		want(t, "the one between was never seen", ledger[1].Replaced.After(ledger[1].Visible), false)
		due := t.svc.DueGraph(GraphDue{At: t.clk.Now(), Overlap: time.Hour})
		want(t, "so it is not due", len(due), 2)
	})
}

func TestGraphLedger(t *testing.T) {
	graphMemory(t, Config{}, func(t *graphRig) {
		at := func(d time.Duration) time.Time { return noon.Add(d) }
		old := galert("old", at(-time.Hour))
		late := galert("late", at(time.Minute))
		late.VisibleAt = at(10 * time.Minute)
		high := galert("high", at(time.Minute))
		high.Severity = "high"
		t.svc.AddGraph(old, late, high,
			galert("v", at(2*time.Minute)), galert("v", at(3*time.Minute)), galert("v", at(20*time.Minute)))
		due := func(d GraphDue) string {
			var names []string
			for _, v := range t.svc.DueGraph(d) {
				names = append(names, strings.Replace(v.Key(), "|2024-05-06T", "@", 1))
			}
			return strings.Join(names, " ")
		}
		all := GraphDue{
			Since: at(-2 * time.Hour), Began: noon, At: at(time.Hour), Overlap: 5 * time.Minute, Stay: time.Minute,
		}
		f := func(name string, change func(d *GraphDue), expect string) {
			t.Helper()
			d := all
			change(&d)
			want(t, name, due(d), expect)
		}
		f("all in time", func(*GraphDue) {}, "old@11:00:00Z high@12:01:00Z v@12:02:00Z v@12:03:00Z v@12:20:00Z")
		f("what stayed longer", func(d *GraphDue) { d.Stay = 2 * time.Minute },
			"old@11:00:00Z high@12:01:00Z v@12:03:00Z v@12:20:00Z")
		f("what stayed", func(d *GraphDue) { d.Stay = -1 }, "old@11:00:00Z high@12:01:00Z v@12:20:00Z")
		f("a longer overlap", func(d *GraphDue) { d.Overlap = 10 * time.Minute; d.Stay = -1 },
			"old@11:00:00Z late@12:01:00Z high@12:01:00Z v@12:20:00Z")
		f("by an earlier end", func(d *GraphDue) { d.At = at(150 * time.Second) },
			"old@11:00:00Z high@12:01:00Z v@12:02:00Z")
		f("from a later time", func(d *GraphDue) { d.Since = at(-time.Minute) },
			"high@12:01:00Z v@12:02:00Z v@12:03:00Z v@12:20:00Z")
		f("a reader that began later", func(d *GraphDue) { d.Began = at(4 * time.Minute) },
			"old@11:00:00Z high@12:01:00Z v@12:03:00Z v@12:20:00Z")
		f("under a filter", func(d *GraphDue) { d.Filter = "severity eq 'high'" }, "high@12:01:00Z")
		f("no reader then: what came late is not due", func(d *GraphDue) { d.Began = time.Time{} },
			"high@12:01:00Z v@12:02:00Z v@12:03:00Z v@12:20:00Z")

		served := func(key string) [2]int {
			v, _ := t.svc.LookupGraph(key)
			return [2]int{v.Served, v.ServedWhole}
		}
		t.clk.advance(2 * time.Minute)
		want(t, "rows", t.query("$top", "2").ids, "v high")
		t.svc.Queue(KindGraph, CutOf(0.9, CutBroken))
		t.ask(t.url)
		synctest.Wait() // the service's own end of the exchange
		want(t, "served", served("high|2024-05-06T12:01:00Z"), [2]int{2, 1})
		want(t, "never", served(late.Key()), [2]int{})
		v, _ := t.svc.LookupGraph("high|2024-05-06T12:01:00Z")
		want(t, "first served", v.FirstServed, at(2*time.Minute))

		j := t.svc.Journal()
		e := j[len(j)-2]
		want(t, "kind", e.Kind, KindGraph)
		want(t, "rows of one", e.Rows, 2)
		want(t, "top", e.Graph.Top, 2)
		want(t, "no page", e.Graph.Page, false)
		t.page(t.query("$top", "1", "$filter", windowOf(noon.Add(-2*time.Hour), at(time.Hour))).next)
		synctest.Wait()
		j = t.svc.Journal()
		e = j[len(j)-1]
		want(t, "a page", e.Graph.Page, true)
		want(t, "its offset", e.Graph.Offset, 1)
		want(t, "its window", e.Query.Until.Sub(e.Query.Since), 3*time.Hour)
		want(t, "Graph's requests", t.svc.Stats().Graph, 4)
	})
}

func TestGraphAlertsCanBePoisoned(t *testing.T) {
	graphMemory(t, Config{}, func(t *graphRig) {
		a := galert("a", noon)
		t.svc.AddGraph(a)
		t.svc.Poison(a.Key(), noon.Add(time.Minute), "")
		contains(t, "broken", t.ask(t.url).body, "\x01")
		t.clk.advance(time.Minute)
		want(t, "healed", t.query().ids, "a")
	})
}

func TestRetainForgetsGraph(t *testing.T) {
	clk := &clock{now: noon}
	svc := New(Config{Now: clk.Now, Retain: time.Hour})
	svc.AddGraph(galert("a", noon), galert("b", noon))
	clk.advance(2 * time.Hour)
	svc.AddGraph(galert("a", clk.Now()))
	got := svc.GraphLedger()
	if len(got) != 1 || got[0].ID != "a" || !got[0].Updated.Equal(clk.Now()) ||
		len(svc.graph.byKey) != 1 || len(svc.graph.byID["a"]) != 1 {
		t.Errorf("left: %v", got)
	}
}

func TestGraphAddingTwiceIsRefused(t *testing.T) {
	defer func() {
		want(t, "panic", recover(), any("defendersim: alert added twice: a|2024-05-06T12:00:00Z"))
	}()
	New(Config{}).AddGraph(galert("a", noon), galert("a", noon))
}
