package deploy

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// dashboard is the part of Grafana's model that these tests judge.
type dashboard struct {
	UID         string
	Title       string
	Panels      []panel
	Templating  struct{ List []variable }
	Annotations struct{ List []struct{ Name, Expr string } }
}

type panel struct {
	ID      int
	Type    string
	Title   string
	GridPos struct{ X, Y, W, H int }
	Targets []struct {
		RefID, Expr, LegendFormat string
		Datasource                source
	}
	Datasource source
}

type variable struct {
	Name, Type string
	Definition string
}

type source struct{ Type, UID string }

func readDashboard(t *testing.T) dashboard {
	t.Helper()
	text, err := os.ReadFile("grafana/dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	var d dashboard
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	if d.UID == "" || d.Title == "" || len(d.Panels) == 0 {
		t.Fatalf("%+v is no dashboard", d)
	}
	return d
}

// grafana puts in what Grafana would: its variables, and the shortest range of a rate.
var grafana = strings.NewReplacer("$__rate_interval", "5m", "$job", ".*", "$instance", ".*", "$name", ".*")

// exprs are all expressions of the dashboard, with Grafana's variables filled in, by the panel that has them.
func exprs(t *testing.T, d dashboard) map[string][]string {
	t.Helper()
	all := map[string][]string{}
	for _, p := range d.Panels {
		for _, target := range p.Targets {
			all[p.Title] = append(all[p.Title], grafana.Replace(target.Expr))
		}
	}
	for _, a := range d.Annotations.List {
		all["annotation "+a.Name] = append(all["annotation "+a.Name], grafana.Replace(a.Expr))
	}
	return all
}

func TestDashboardAsksForMetricsThatExist(t *testing.T) {
	d := readDashboard(t)
	shown := map[string]bool{}
	for title, list := range exprs(t, d) {
		for _, expr := range list {
			if strings.Contains(expr, "$") {
				t.Errorf("%s: a variable that is not there: %s", title, expr)
			}
			names := asked(t, expr)
			known(t, title, names)
			for _, name := range names {
				shown[name] = true
			}
		}
	}
	for _, name := range slices.Concat(documented(t), core) {
		if !shown[name] {
			t.Errorf("no panel shows %s", name)
		}
	}
}

func TestDashboardVariables(t *testing.T) {
	d := readDashboard(t)
	var names []string
	for _, v := range d.Templating.List {
		names = append(names, v.Name)
		if v.Type != "query" {
			continue
		}
		// label_values(SELECTOR, LABEL)
		m := regexp.MustCompile(`^label_values\((.*), ([a-z]+)\)$`).FindStringSubmatch(v.Definition)
		if m == nil || m[2] != v.Name {
			t.Errorf("variable %s is %s", v.Name, v.Definition)
			continue
		}
		known(t, "variable "+v.Name, asked(t, grafana.Replace(m[1])))
	}
	if want := []string{"datasource", "job", "instance", "name"}; !slices.Equal(names, want) {
		t.Errorf("variables %v", names)
	}
}

// Every panel has a number of its own and a place of its own in the grid of 24 columns, and its queries go to the
// chosen data source.
func TestDashboardPanels(t *testing.T) {
	d := readDashboard(t)
	ids := map[int]bool{}
	taken := map[[2]int]string{}
	for _, p := range d.Panels {
		if ids[p.ID] || p.ID == 0 || p.Title == "" {
			t.Errorf("panel %d %q", p.ID, p.Title)
		}
		ids[p.ID] = true
		if g := p.GridPos; g.W < 1 || g.H < 1 || g.X < 0 || g.X+g.W > 24 {
			t.Errorf("%s lies outside: %+v", p.Title, g)
		}
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other := taken[[2]int{x, y}]; other != "" {
					t.Fatalf("%s lies over %s", p.Title, other)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
		if p.Type == "row" {
			continue
		}
		if len(p.Targets) == 0 || p.Datasource != (source{"prometheus", "${datasource}"}) {
			t.Errorf("%s: %d queries to %+v", p.Title, len(p.Targets), p.Datasource)
		}
		refs := map[string]bool{}
		for _, target := range p.Targets {
			if refs[target.RefID] || target.RefID == "" || target.Datasource != p.Datasource {
				t.Errorf("%s: query %q to %+v", p.Title, target.RefID, target.Datasource)
			}
			refs[target.RefID] = true
		}
	}
}

// With what a healthy input shows, every panel has something to draw, and the stats of the first row say that all is
// well.
func TestDashboardShowsAHealthyInput(t *testing.T) {
	d := readDashboard(t)
	var lines []string
	for _, name := range slices.Concat(documented(t), core) {
		values := "0+7x60"
		switch strings.TrimPrefix(name, prefix) {
		case "start_timestamp_seconds":
			values = "now+0x60"
		case "last_success_timestamp_seconds", "watermark_timestamp_seconds":
			values = "now-60+60x60"
		case "token_expiry_timestamp_seconds", "certificate_expiry_timestamp_seconds":
			values = "now+9000000x60"
		case "unread_ranges", "paused":
			values = "0x60"
		case "behind_seconds":
			values = strings.Repeat("905 966 ", 30)
		case "requests_total":
			name = name + `{outcome="ok"}`
		case "request_duration_seconds_bucket":
			lines = append(lines, name+`{le="0.1"} 0+3x60`, name+`{le="1"} 0+7x60`)
			name += `{le="+Inf"}`
		}
		lines = append(lines, name+" "+values)
	}
	s := scraped(t, on(lines...)...)
	at, engine := begin.Add(50*minute), newEngine()
	healthy := map[string]float64{"Last success": 60, "Behind": 905, "Unread ranges": 0, "Input": 0,
		"Requests that failed": 0}
	for title, list := range exprs(t, d) {
		for _, expr := range list {
			got := s.vector(t, engine, expr, at)
			if len(got) == 0 && !strings.HasPrefix(title, "annotation ") {
				t.Errorf("%s is empty: %s", title, expr)
			}
			if want, judged := healthy[title]; judged && len(list) == 1 && got[0].F != want {
				t.Errorf("%s shows %v, want %v", title, got[0].F, want)
			}
		}
	}
}
