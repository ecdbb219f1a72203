package deploy

import (
	"context"
	"maps"
	"math"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/template"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/util/annotations"
)

// minute is how often the tests scrape and evaluate.
const minute = time.Minute

// begin is when the series of a test begin.
var begin = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// sample is one value of a series.
type sample struct {
	t int64 // ms
	f float64
}

func (s sample) T() int64                      { return s.t }
func (s sample) F() float64                    { return s.f }
func (s sample) H() *histogram.Histogram       { return nil }
func (s sample) FH() *histogram.FloatHistogram { return nil }
func (s sample) ST() int64                     { return 0 }
func (s sample) Type() chunkenc.ValueType      { return chunkenc.ValFloat }
func (s sample) Copy() chunks.Sample           { return s }

// series are those of a test. They are a storage.Queryable and its Querier, as far as the engine asks.
type series []*storage.SeriesEntry

// repeatedNaN is what promtool's notation lacks.
var repeatedNaN = regexp.MustCompile(`NaNx(\d+)`)

// scraped makes series of promtool's notation: "metric{labels} 0+60x30", a value a minute; NaN may be repeated too.
// In a line with "now" all values count from the series' begin, as Unix times do.
func scraped(t *testing.T, lines ...string) series {
	t.Helper()
	var all series
	for _, line := range lines {
		now := 0.0
		if strings.Contains(line, " now") {
			line = strings.ReplaceAll(line, " now", " ")
			now = float64(begin.Unix())
		}
		line = repeatedNaN.ReplaceAllStringFunc(line, func(s string) string {
			n, _ := strconv.Atoi(strings.TrimPrefix(s, "NaNx"))
			return strings.TrimSpace(strings.Repeat("NaN ", n+1))
		})
		lset, values, err := parser.ParseSeriesDesc(line)
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		var samples []chunks.Sample
		for i, v := range values {
			at := begin.Add(time.Duration(i) * minute)
			if !v.Omitted {
				samples = append(samples, sample{at.UnixMilli(), v.Value + now})
			}
		}
		all = append(all, storage.NewListSeries(lset, samples))
	}
	slices.SortFunc(all, func(a, b *storage.SeriesEntry) int { return labels.Compare(a.Labels(), b.Labels()) })
	return all
}

func (s series) Querier(int64, int64) (storage.Querier, error) { return s, nil }
func (series) Close() error                                    { return nil }

func (s series) Select(_ context.Context, _ bool, _ *storage.SelectHints,
	matchers ...*labels.Matcher) storage.SeriesSet {
	found := &seriesSet{}
	for _, one := range s {
		if !slices.ContainsFunc(matchers,
			func(m *labels.Matcher) bool { return !m.Matches(one.Labels().Get(m.Name)) }) {
			found.all = append(found.all, one)
		}
	}
	return found
}

func (series) LabelValues(context.Context, string, *storage.LabelHints, ...*labels.Matcher) ([]string,
	annotations.Annotations, error) {
	return nil, nil, nil
}

func (series) LabelNames(context.Context, *storage.LabelHints, ...*labels.Matcher) ([]string, annotations.Annotations,
	error) {
	return nil, nil, nil
}

// seriesSet goes through series one by one.
type seriesSet struct {
	all []*storage.SeriesEntry
	at  int
}

func (s *seriesSet) Next() bool                        { s.at++; return s.at <= len(s.all) }
func (s *seriesSet) At() storage.Series                { return s.all[s.at-1] }
func (s *seriesSet) Err() error                        { return nil }
func (s *seriesSet) Warnings() annotations.Annotations { return nil }

// vector evaluates an expression at one time; a scalar becomes a vector without labels.
func (s series) vector(t *testing.T, engine *promql.Engine, expr string, at time.Time) promql.Vector {
	t.Helper()
	query, err := engine.NewInstantQuery(t.Context(), s, nil, expr, at)
	if err != nil {
		t.Fatal(err)
	}
	defer query.Close()
	result := query.Exec(t.Context())
	if result.Err != nil {
		t.Fatalf("%s: %v", expr, result.Err)
	}
	if len(result.Warnings) > 0 {
		t.Errorf("%s: %v", expr, result.Warnings)
	}
	if scalar, is := result.Value.(promql.Scalar); is {
		return promql.Vector{{F: scalar.V}}
	}
	v, err := result.Vector()
	if err != nil {
		t.Fatal(err)
	}
	return slices.Clone(v)
}

func newEngine() *promql.Engine {
	return promql.NewEngine(promql.EngineOpts{
		MaxSamples: 1e6, Timeout: time.Minute, LookbackDelta: 5 * time.Minute,
		NoStepSubqueryIntervalFn: func(int64) int64 { return minute.Milliseconds() },
	})
}

// firing evaluates a rule each minute from the series' begin on, as Prometheus does: it fires once its expression has
// held for the time that "for" says. It returns the summaries of what fires after the given time.
func (s series) firing(t *testing.T, rule rulefmt.Rule, after time.Duration) []string {
	t.Helper()
	engine := newEngine()
	since := map[string]time.Time{}
	var summaries []string
	for at := begin; !at.After(begin.Add(after)); at = at.Add(minute) {
		holds := map[string]bool{}
		summaries = nil
		for _, one := range s.vector(t, engine, rule.Expr, at) {
			key := one.Metric.String()
			holds[key] = true
			if _, known := since[key]; !known {
				since[key] = at
			}
			if at.Sub(since[key]) < time.Duration(rule.For) {
				continue
			}
			for name, text := range rule.Annotations {
				told := expand(t, text, one, at)
				if name == "summary" {
					summaries = append(summaries, told)
				}
			}
		}
		maps.DeleteFunc(since, func(key string, _ time.Time) bool { return !holds[key] })
	}
	slices.Sort(summaries)
	return summaries
}

// expand fills in an annotation as Prometheus does. A label that is not there would leave a hole.
func expand(t *testing.T, text string, one promql.Sample, at time.Time) string {
	t.Helper()
	if math.IsNaN(one.F) {
		t.Errorf("%s fires on NaN", one.Metric)
	}
	data := template.AlertTemplateData(one.Metric.Map(), nil, "", one)
	defs := "{{$labels := .Labels}}{{$value := .Value}}"
	query := func(context.Context, string, time.Time) (promql.Vector, error) { return nil, nil }
	told, err := template.NewTemplateExpander(t.Context(), defs+text, "alert", data,
		model.TimeFromUnixNano(at.UnixNano()),
		query, &url.URL{}, []string{"missingkey=error"}).Expand()
	if err != nil {
		t.Errorf("%v\nin %s", err, text)
	}
	return told
}
