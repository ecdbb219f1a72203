package flbhost_test

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"fluent-bit-defender/internal/flbhost"
)

const endpoint = `# HELP a_total Alerts.
# TYPE a_total counter
a_total{name="eu",outcome="ok"} 3
a_total{name="eu",outcome="not \"ok\""} 4
# TYPE g gauge
g nan
# TYPE h histogram
h_bucket{le="0.1",name="eu"} 1
h_bucket{le="+Inf",name="eu"} 2
h_sum{name="eu"} 0.75
h_count{name="eu"} 2
`

func TestMetricsAreParsed(t *testing.T) {
	s, err := flbhost.ParseMetrics(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	if got := s.Sum("a_total", "name", "eu"); got != 7 {
		t.Errorf("the sum of a_total is %g", got)
	}
	if got := s.Sum("a_total", "name", "eu", "outcome", `not "ok"`); got != 4 {
		t.Errorf("a_total that is not ok is %g", got)
	}
	if len(s) != 7 || !math.IsNaN(s.Sum("g")) || !math.IsNaN(s.Sum("other")) ||
		s.Sum("h_bucket", "le", "+Inf") != 2 || s.Of("h_sum")[0].Kind != "histogram" {
		t.Errorf("%+v", s)
	}
}

func TestMetricsThatPrometheusWouldMisread(t *testing.T) {
	f := func(text, want string) {
		t.Helper()
		if _, err := flbhost.ParseMetrics(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	f("a 1\n", "no type was said")
	f("# TYPE a counter\n# TYPE a gauge\n", "said twice")
	f("# TYPE a counter\na{x=\"1\",y=\"2\"} 1\na{y=\"2\",x=\"1\"} 1\n", "comes twice")
	f("# TYPE a counter\na{x=\"1\",x=\"2\"} 1\n", "a label comes twice")
	f("# TYPE a counter\na{x=1} 1\n", "no label")
	f("# TYPE a counter\na{x=\"1\" 1\n", "no label")
	f("# TYPE a counter\na one\n", "invalid syntax")
	f("# TYPE a counter\na\n", "no sample")
	f("# TYPE a gauge\na_sum 1\n", "no type was said")
}

func FuzzParseMetrics(f *testing.F) {
	f.Add(endpoint)
	f.Add("# TYPE a counter\na{x=\"\\n\"} +Inf\n")
	f.Add("# TYPE a counter\na{ 1\n")
	f.Add("{} 1\n# TYPE\n# TYPE  a\n 1")
	f.Fuzz(func(t *testing.T, text string) {
		all, err := flbhost.ParseMetrics(text)
		if err == nil && slices.ContainsFunc(all, func(s flbhost.Sample) bool { return s.Name == "" || s.Kind == "" }) {
			t.Errorf("%+v of %q", all, text)
		}
	})
}

func TestTheHostHasTheMetricsOfItsInstances(t *testing.T) {
	t.Parallel()
	h := flbhost.Run(t, fast(t, stanzas("tag a", "tag b; alias bee")))
	ticks := func(name string) float64 {
		t.Helper()
		s, err := h.Metrics()
		if err != nil {
			t.Fatal(err)
		}
		return s.Sum("fluentbit_probe_ticks_total", "name", name)
	}
	for _, name := range []string{"probe.0", "bee"} {
		h.MustAwait(t, limit, "records of "+name, records(3, name))
		if n := ticks(name); n < 3 {
			t.Errorf("%s ticked %g times", name, n)
		}
	}
	if err := h.Reload(stanzas("tag a; alias new; count 0"), limit); err != nil {
		t.Fatal(err)
	}
	if !math.IsNaN(ticks("bee")) || math.IsNaN(ticks("new")) {
		t.Error("the endpoint shows the instances from before the reload")
	}
}

func TestMetricsThatTheCoreLacks(t *testing.T) {
	t.Parallel()
	for _, without := range []flbhost.Without{flbhost.WithoutContext, flbhost.WithoutMetrics} {
		o := fast(t, stanzas("count 3"))
		o.Without = without
		h := flbhost.Run(t, o)
		h.MustAwait(t, limit, "records", records(3, "probe.0"))
		if s, err := h.Metrics(); err != nil || len(s) > 0 {
			t.Errorf("without %s: %v, %v", without, s, err)
		}
		h.MustStop(t, limit)
	}
}

func TestSinsAgainstMetrics(t *testing.T) {
	t.Parallel()
	f := func(bad, sin string) {
		t.Run(bad, func(t *testing.T) {
			t.Parallel()
			h := flbhost.Launch(t, fast(t, stanzas("count 3; bad "+bad)))
			h.MustAwait(t, limit, "the start", func(v *flbhost.View) bool { return v.HasEvent("started") })
			h.MustAwait(t, limit, "records", records(3, "probe.0"))
			h.MustStop(t, 5*time.Second)
			h.Look(func(v *flbhost.View) {
				if !slices.ContainsFunc(v.Sins, func(s string) bool { return strings.Contains(s, sin) }) {
					t.Errorf("sins %q, want %q", v.Sins, sin)
				}
			})
		})
	}
	f("latemetric", "a series of the metric fluentbit_probe_ticks_total was made after Init")
	f("downmetric", "was set to -1, it stands at 0")
	f("straymetric", "was used on a thread that is not the instance's")
	f("deadmetric", "was used after its instance had ended")
}
