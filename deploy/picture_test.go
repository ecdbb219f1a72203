package deploy

import (
	"encoding/json"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunks"

	"fluent-bit-defender/internal/defendersim"
	"fluent-bit-defender/internal/flbhost"
)

// How long the run of the picture is, and how often Fluent Bit is asked for its metrics.
const (
	pictured = 12 * minute
	scrape   = 5 * time.Second
)

// drawn is a panel of the picture with what its queries came to.
type drawn struct {
	panel
	FieldConfig struct {
		Defaults map[string]any
	}
	Series []drawnSeries
}

type drawnSeries struct {
	Name   string
	Values []*float64
}

// Runs the plugin in a real Fluent Bit for twelve minutes against a simulated service that throttles, fails, is slow
// and sends garbage in turn, and evaluates the dashboard's queries with Prometheus' engine over what Fluent Bit showed
// meanwhile. make dashboard draws the result.
func TestPictureOfTheDashboard(t *testing.T) {
	out := os.Getenv("DASHBOARD_DATA")
	if out == "" {
		t.Skip("SKIPPED: no DASHBOARD_DATA; make dashboard sets it")
	}
	program, found := flbhost.FluentBit()
	if !found {
		t.Skip("SKIPPED: no Fluent Bit: set FLUENT_BIT or put fluent-bit on PATH")
	}
	svc, srv := serve(t)
	dir, port := t.TempDir(), freePort(t)
	write(t, filepath.Join(dir, "credential", "client_secret"), defendersim.DefaultSecret)
	conf := moved(t, systemdConf, dir, port, srv)
	text, err := os.ReadFile(conf)
	if err != nil {
		t.Fatal(err)
	}
	write(t, conf, regexp.MustCompile(`poll_interval .*`).ReplaceAllString(string(text), "poll_interval 5s"))
	run := start(t, program, os.Getenv("IN_DEFENDER_SO"), dir, conf)
	begin := time.Now()
	svc.OnRequest(func(r defendersim.Request) *defendersim.Fault {
		switch at := time.Since(begin); {
		case r.Kind == defendersim.KindAlerts && at > 3*minute && at < 4*minute:
			return defendersim.Throttle(20 * time.Second)
		case r.Kind == defendersim.KindAlerts && at > 6*minute && at < 7*minute:
			return defendersim.Status(503)
		case r.Kind == defendersim.KindAlerts && at > 8*minute && at < 8*minute+40*time.Second:
			return defendersim.Late(time.Second)
		}
		return nil
	})
	gen := defendersim.NewGenerator(rand.New(rand.NewPCG(5, 6)), defendersim.Mix{})
	samples := map[string][]chunks.Sample{}
	var ends []int64
	tick := time.NewTicker(scrape)
	defer tick.Stop()
	for n := 0; time.Since(begin) < pictured; n++ {
		for range 1 + int(3*(1+math.Sin(float64(n)/9))) {
			a := gen.Alert(svc.Now().Add(-time.Second))
			svc.Add(a)
			if n%40 == 39 {
				svc.Poison(a.Key(), svc.Now().Add(time.Minute), "")
			}
		}
		<-tick.C
		_, shown := get(port, "/api/v2/metrics/prometheus")
		now := time.Now().UnixMilli()
		for line := range strings.Lines(shown) {
			if i := strings.LastIndexByte(line, '}'); i > 0 && line[0] != '#' {
				if v, err := strconv.ParseFloat(strings.Fields(line[i+1:])[0], 64); err == nil {
					samples[line[:i+1]] = append(samples[line[:i+1]], sample{now, v})
				}
			}
		}
		ends = append(ends, now)
	}
	run.stop()
	writePicture(t, out, samples, ends)
}

// writePicture evaluates the queries and writes what the page draws.
func writePicture(t *testing.T, out string, samples map[string][]chunks.Sample, at []int64) {
	t.Helper()
	var all series
	for metric, values := range samples {
		lset, err := parser.ParseMetric(metric)
		if err != nil {
			t.Fatalf("%s: %v", metric, err)
		}
		b := labels.NewBuilder(lset)
		b.Set("job", "fluent-bit").Set("instance", "node-1:2020")
		all = append(all, storage.NewListSeries(b.Labels(), values))
	}
	slices.SortFunc(all, func(a, b *storage.SeriesEntry) int { return labels.Compare(a.Labels(), b.Labels()) })
	text, err := os.ReadFile("grafana/dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	var d struct{ Panels []drawn }
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	engine, legend := newEngine(), regexp.MustCompile(`{{\s*(\w+)\s*}}`)
	fill := strings.NewReplacer("$__rate_interval", "1m", "$job", ".*", "$instance", ".*", "$name", ".*")
	for i := range d.Panels {
		p := &d.Panels[i]
		for _, target := range p.Targets {
			byName := map[string][]*float64{}
			for j, ms := range at {
				for _, one := range all.vector(t, engine, fill.Replace(target.Expr), time.UnixMilli(ms)) {
					name := legend.ReplaceAllStringFunc(target.LegendFormat, func(s string) string {
						return one.Metric.Get(legend.FindStringSubmatch(s)[1])
					})
					if byName[name] == nil {
						byName[name] = make([]*float64, len(at))
					}
					if v := one.F; !math.IsNaN(v) && !math.IsInf(v, 0) {
						byName[name][j] = &v
					}
				}
			}
			for _, name := range slices.Sorted(maps.Keys(byName)) {
				p.Series = append(p.Series, drawnSeries{name, byName[name]})
			}
		}
	}
	data, err := json.Marshal(map[string]any{"at": at, "panels": d.Panels})
	if err != nil {
		t.Fatal(err)
	}
	write(t, out, "const data = "+string(data)+"\n")
}
