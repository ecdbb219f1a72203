package defendersim

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

// all follows next links, at most so many, and returns each page's ids.
func (t *graphRig) all(most int, options ...string) (pages []string) {
	t.Helper()
	p := t.query(options...)
	for {
		want(t, "status", p.status, 200)
		pages = append(pages, p.ids)
		if p.next == "" || len(pages) == most {
			return pages
		}
		p = t.page(p.next)
	}
}

// fill adds alerts named from a, a second apart, the last at noon.
func (t *graphRig) fill(n int) {
	for i := range n {
		t.svc.AddGraph(galert(string(rune('a'+i)), noon.Add(time.Duration(i-n+1)*time.Second)))
	}
}

func TestGraphPages(t *testing.T) {
	graphBothWays(t, Config{}, func(t *graphRig) {
		t.fill(7)
		want(t, "pages", strings.Join(t.all(9, "$top", "3"), "|"), "g f e|d c b|a")
		want(t, "pages of just that size", strings.Join(t.all(9, "$top", "7"), "|"), "g f e d c b a")
		want(t, "after $skip", strings.Join(t.all(9, "$top", "3", "$skip", "2"), "|"), "e d c|b a")
		window := windowOf(noon.Add(-2*time.Second), noon)
		want(t, "under a filter", strings.Join(t.all(9, "$top", "2", "$filter", window), "|"), "g f|e")
		p := t.query("$top", "3", "$count", "true")
		want(t, "link to the same address", strings.HasPrefix(p.next, t.url+"?$skiptoken="), true)
		want(t, "count on the next page", t.page(p.next).count, 7)
		for name, link := range map[string]string{
			"changed": p.next[:len(p.next)-3] + "AAA", "cut": p.next[:len(p.next)-4],
			"with more": p.next + "&$top=5",
			"of another service": t.url + "?$skiptoken=" +
				GraphQuery{Top: 3}.token(3, noon, New(Config{Seed: 5}).issuer.key),
		} {
			want(t, "a link "+name, t.page(link).status, 400)
		}
	})
}

func TestGraphPagesAreOfTheAlertsAsTheyAre(t *testing.T) {
	graphMemory(t, Config{}, func(t *graphRig) {
		t.fill(6)
		window := windowOf(noon.Add(-time.Hour), noon)
		first := t.query("$top", "2", "$filter", window)
		want(t, "first page", first.ids, "f e")
		t.clk.advance(time.Second)
		e := galert("e", t.clk.Now())
		t.svc.AddGraph(e)
		want(t, "a row that left the window moves the rest up: d is missed", t.page(first.next).ids, "c b")
		want(t, "as a further pass shows", strings.Join(t.all(9, "$top", "2", "$filter", window), "|"), "f d|c b|a")

		open := t.query("$top", "2")
		want(t, "first page without a window", open.ids, "e f")
		late := galert("late", noon.Add(time.Millisecond))
		late.Created, late.VisibleAt = noon.Add(time.Minute), t.clk.Now()
		t.svc.AddGraph(late)
		want(t, "a row that came moves the rest down: f comes twice", t.page(open.next).ids, "f d")
	})
}

func TestGraphModesOfLinks(t *testing.T) {
	graphBothWays(t, Config{}, func(t *graphRig) {
		t.fill(5)
		mode := func(m GraphModes) { t.svc.SetModes(func(all *Modes) { all.Graph = m }) }
		next := t.query("$top", "2").next
		mode(GraphModes{RefuseLinks: true})
		p := t.page(next)
		want(t, "refused link", fmt.Sprint(p.status, p.code), "400BadRequest")
		want(t, "the query itself", t.query("$top", "2").ids, "e d")

		mode(GraphModes{LinkLife: time.Minute})
		want(t, "young link", t.page(next).ids, "c b")
		t.clk.advance(time.Minute + 1)
		want(t, "expired link", t.page(next).status, 400)
		want(t, "its pages", len(t.all(9, "$top", "2")), 3)

		mode(GraphModes{LinkHost: "https://elsewhere.example"})
		u, err := url.Parse(t.query("$top", "2").next)
		want(t, "error", err, nil)
		want(t, "link to another host", u.Scheme+"://"+u.Host+u.Path,
			"https://elsewhere.example/v1.0/security/alerts_v2")

		mode(GraphModes{LoopLinks: true})
		want(t, "loop", strings.Join(t.all(4, "$top", "2"), "|"), "e d|e d|e d|e d")

		mode(GraphModes{LastLink: true})
		want(t, "empty last page", strings.Join(t.all(9, "$top", "2"), "|"), "e d|c b|a|")
		mode(GraphModes{PageCap: 1})
		want(t, "smaller pages than asked for", strings.Join(t.all(9, "$top", "2"), "|"), "e|d|c|b|a")
		mode(GraphModes{LateLink: true})
		p = t.query("$top", "4")
		want(t, "link behind the alerts", strings.HasSuffix(string(p.body), `],"@odata.nextLink":"`+p.next+`"}`), true)
		want(t, "leads on", t.page(p.next).ids, "a")
	})
}

func TestGraphOrders(t *testing.T) {
	graphMemory(t, Config{}, func(t *graphRig) {
		t.fill(6)
		b := galert("b", noon)
		b.Created = noon.Add(-time.Hour)
		t.svc.AddGraph(b)
		orders := make(map[GraphOrder]string)
		for _, o := range []GraphOrder{NewestFirst, NewestUpdated, OldestUpdated, Shuffled} {
			t.svc.SetModes(func(m *Modes) { m.Graph.Order = o })
			orders[o] = strings.Join(t.all(9, "$top", "2"), " ")
		}
		want(t, "newest first", orders[NewestFirst], "f e d c a b")
		want(t, "newest update first", orders[NewestUpdated], "b f e d c a")
		want(t, "oldest update first", orders[OldestUpdated], "a c d e f b")
		ids := strings.Fields(orders[Shuffled])
		sorted := slices.Sorted(slices.Values(ids))
		want(t, "all in any order", strings.Join(sorted, " "), "a b c d e f")
		want(t, "shuffled", slices.Equal(ids, sorted), false)
	})
}

func TestGraphModesOfBounds(t *testing.T) {
	base := time.Date(2024, 5, 6, 11, 0, 0, 0, time.UTC)
	at := func(s float64) time.Time { return base.Add(time.Duration(s * 1e9)) }
	graphMemory(t, Config{}, func(t *graphRig) {
		for _, s := range []float64{10, 10.2, 10.5, 20.2, 20.5, 20.8} {
			t.svc.AddGraph(galert(fmt.Sprint(s), at(s)))
		}
		for _, c := range []struct {
			name  string
			modes Modes
			want  string
		}{
			{"both inclusive", Modes{}, "10.5 20.2 20.5"},
			{"since exclusive", Modes{SinceExclusive: true}, "20.2 20.5"},
			{"until exclusive", Modes{UntilExclusive: true}, "10.5 20.2"},
			{"bounds cut to seconds", Modes{TruncateBounds: time.Second}, "10 10.2 10.5"},
			{"bounds cut and exclusive", Modes{TruncateBounds: time.Second, SinceExclusive: true}, "10.2 10.5"},
			{"rows cut to seconds", Modes{TruncateRows: time.Second}, "20.2 20.5 20.8"},
		} {
			c.modes.Graph.Order = OldestUpdated
			t.svc.SetModes(func(m *Modes) { *m = c.modes })
			want(t, c.name, t.query("$filter", windowOf(at(10.5), at(20.5))).ids, c.want)
		}
	})
}

func TestGraphAnswersMayBePartial(t *testing.T) {
	graphBothWays(t, Config{Modes: Modes{Graph: GraphModes{Partial: 0.5}}}, func(t *graphRig) {
		t.svc.AddGraph(GenerateGraph(source(1), 200, 0, noon.Add(-time.Hour), noon.Add(-time.Minute), GraphMix{})...)
		p := t.query("$top", "150", "$count", "true")
		n := len(strings.Fields(p.ids))
		if p.status != http.StatusPartialContent || n < 40 || n > 110 {
			t.Errorf("%d rows of 150 under %d", n, p.status)
		}
		contains(t, "Warning", []byte(p.header.Get("Warning")), "/504/")
		want(t, "count", p.count, 200)
		rest := t.page(p.next)
		if n := len(strings.Fields(rest.ids)); n < 10 || n > 40 {
			t.Errorf("%d rows of the 50 of the second page", n)
		}
		t.svc.SetModes(func(m *Modes) { m.Graph.Partial = 0 })
		whole := t.query("$top", "150")
		got := fmt.Sprint(whole.status, len(strings.Fields(whole.ids)), len(whole.header.Get("Warning")))
		want(t, "then whole", got, "200 150 0")
	})
}

func TestGraphEnumsThatCameLater(t *testing.T) {
	graphMemory(t, Config{}, func(t *graphRig) {
		a, b := galert("a", noon), galert("b", noon)
		a.ServiceSource, b.ServiceSource = "microsoftDefenderForCloud", "dataLossPrevention"
		t.svc.AddGraph(withProps(a), withProps(b))
		contains(t, "unasked", t.page(t.url).body, `"serviceSource":"unknownFutureValue"`)
		p := t.page(t.url, "Prefer", "include-unknown-enum-members")
		contains(t, "asked for", p.body, `"serviceSource":"microsoftDefenderForCloud"`)
		contains(t, "older members", t.page(t.url).body, `"serviceSource":"dataLossPrevention"`)
		want(t, "Preference-Applied", p.header.Get("Preference-Applied"), "include-unknown-enum-members")
		want(t, "can be filtered on", t.query("$filter", "serviceSource eq 'microsoftDefenderForCloud'").ids, "a")
	})
}

func TestGraphRate(t *testing.T) {
	graphMemory(t, Config{Modes: Modes{Graph: GraphModes{PerMinute: 3}}}, func(t *graphRig) {
		for range 3 {
			want(t, "within the rate", t.query().status, 200)
			t.clk.advance(10 * time.Second)
		}
		p := t.query()
		want(t, "beyond", p.status, 429)
		want(t, "Retry-After", p.header.Get("Retry-After"), "30")
		t.clk.advance(30 * time.Second)
		want(t, "after the wait", t.query().status, 200)
		want(t, "one more", t.query().status, 429)
	})
}
