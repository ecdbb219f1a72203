package main

import (
	"fmt"
	"maps"
	"math"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"fluent-bit-defender/internal/defendersim"
	"fluent-bit-defender/internal/flbhost"
	"fluent-bit-defender/pull"
)

// told reads the endpoint of the host until cond holds and returns what it showed then.
func told(t *testing.T, h *flbhost.Host, what string, cond func(s flbhost.Samples) bool) flbhost.Samples {
	t.Helper()
	var s flbhost.Samples
	await(t, h, what, func() bool {
		var err error
		if s, err = h.Metrics(); err != nil {
			t.Fatal(err)
		}
		return cond(s)
	})
	return s
}

// value is the number of one instance's metric.
func value(s flbhost.Samples, instance, name string, labels ...string) float64 {
	return s.Sum(metricsPrefix+name, append([]string{"name", instance}, labels...)...)
}

// settledDown tells whether nothing is queued and each row that came was either delivered or dropped.
func settledDown(s flbhost.Samples, instance string) bool {
	rows := value(s, instance, "rows_received_total")
	return rows > 0 && value(s, instance, "queue_bytes") == 0 &&
		rows == value(s, instance, "alerts_delivered_total")+value(s, instance, "rows_raw_total")+
			value(s, instance, "duplicates_dropped_total")
}

// A run with a fault of each kind: every row that came is accounted for, and so is every request.
func TestMetricsAddUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	asked := map[string]int{
		"broken": 2, "network": 1, "throttled": 1, "service": 1,
		"refused": 1, "unauthorized": 1, "forbidden": 1, "token": 1,
	}
	unauthorized := defendersim.Status(http.StatusUnauthorized)
	w.svc.Queue(defendersim.KindAlerts,
		defendersim.Status(http.StatusInternalServerError), defendersim.Throttle(time.Second), defendersim.Hang(),
		defendersim.Status(http.StatusBadRequest), defendersim.Status(http.StatusForbidden),
		defendersim.CutOf(0.5, defendersim.CutBroken), defendersim.CutOf(0.3, defendersim.CutText),
		unauthorized, unauthorized, unauthorized)
	w.svc.Queue(defendersim.KindToken, nil, defendersim.Entra(7000215)) // the first comes, that after a 401 does not
	good := w.add(40)
	stamp := w.svc.Now().Add(-time.Second).UTC().Format("2006-01-02T15:04:05.9999999Z")
	odd := func(id, field string) {
		a, err := defendersim.ParseAlert(fmt.Appendf(nil,
			`{"FullId":%q,"AlertId":%q,"LastProcessedTimeUtc":%q,"Odd":%s}`, id, id, stamp, field))
		if err != nil {
			t.Fatal(err)
		}
		w.svc.Add(a)
	}
	odd("deep", strings.Repeat("[", 40)+strings.Repeat("]", 40))
	odd("bad", "\"\xff\"")
	h := flbhost.Run(t, w.options(service("")+w.stanza("alias one; retry_max 1s; read_timeout 1s")))
	h.MustAwait(t, limit, "all alerts", func(v *flbhost.View) bool { return v.Count >= len(good)+2 })
	s := told(t, h, "metrics that add up", func(s flbhost.Samples) bool {
		return settledDown(s, "one") && value(s, "one", "duplicates_dropped_total") > 40 &&
			value(s, "one", "commits_total") > 0 && value(s, "one", "requests_total", "outcome", "token") > 0
	})
	is := func(want float64, name string, labels ...string) {
		t.Helper()
		if got := value(s, "one", name, labels...); got != want {
			t.Errorf("%s %q is %v, want %v", name, labels, got, want)
		}
	}
	is(41, "alerts_delivered_total")
	is(1, "rows_raw_total")
	is(1, "rows_repaired_total")
	for _, outcome := range pull.Outcomes {
		if outcome != "ok" {
			is(float64(asked[outcome]), "requests_total", "outcome", outcome)
		}
	}
	requests := value(s, "one", "requests_total")
	is(requests, "request_duration_seconds_count")
	is(requests, "request_duration_seconds_bucket", "le", "+Inf")
	is(0, "paused")
	is(0, "unread_ranges")
	is(0, "commit_failures_total")
	is(0, "throttled_seconds_total", "by", "plugin")
	if n := value(s, "one", "throttled_seconds_total", "by", "service"); n < 1 {
		t.Errorf("throttled for %v s, the service asked for 1", n)
	}
	if n := value(s, "one", "retries_total"); n < 7 {
		t.Errorf("%v retries", n)
	}
	if n := value(s, "one", "token_renewals_total"); n < 2 {
		t.Errorf("%v tokens came", n)
	}
	near := func(name string, at time.Time, by time.Duration) {
		t.Helper()
		if d := value(s, "one", name) - float64(at.Unix()); math.Abs(d) > by.Seconds() || math.IsNaN(d) {
			t.Errorf("%s is %v s off", name, d)
		}
	}
	now := w.svc.Now()
	near("watermark_timestamp_seconds", now.Add(-time.Minute), limit) // overlap 1m
	near("last_success_timestamp_seconds", now, limit)
	near("start_timestamp_seconds", time.Now(), limit)
	if n := value(s, "one", "behind_seconds"); n < 58 || n > 60+limit.Seconds() {
		t.Errorf("%v s behind with an overlap of a minute", n)
	}
	if n := value(s, "one", "token_expiry_timestamp_seconds"); n < float64(time.Now().Unix()) {
		t.Errorf("the token ends at %v", n)
	}
	if !math.IsNaN(value(s, "one", "certificate_expiry_timestamp_seconds")) {
		t.Error("a certificate without one")
	}
	h.MustStop(t, limit)
}

// Metrics of the endpoint are those of the table, no more and no fewer, for each instance.
func TestTheEndpointShowsTheTable(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	h := flbhost.Run(t, w.options(service("")+w.stanza("alias one")+w.stanza("machine_groups a")))
	check := func(s flbhost.Samples, instances ...string) {
		t.Helper()
		want := map[string]string{}
		for _, m := range metrics {
			names := []string{m.Name}
			if len(m.Bounds) > 0 {
				names = []string{m.Name + "_bucket", m.Name + "_sum", m.Name + "_count"}
			}
			for _, name := range names {
				want[metricsPrefix+name] = m.Kind.String()
			}
		}
		got, who := map[string]string{}, map[string]bool{}
		for _, one := range s {
			got[one.Name] = one.Kind
			who[one.Labels["name"]] = true
		}
		if !maps.Equal(got, want) {
			t.Errorf("the endpoint shows\n%v\nwant\n%v", got, want)
		}
		if all := slices.Sorted(maps.Keys(who)); !slices.Equal(all, instances) {
			t.Errorf("instances %q, want %q", all, instances)
		}
	}
	read := func() flbhost.Samples {
		return told(t, h, "a poll", func(s flbhost.Samples) bool {
			return s.Sum(metricsPrefix+"requests_total", "outcome", "ok") > 0
		})
	}
	before := read()
	check(before, "defender.1", "one")
	if err := h.Reload(service("")+w.stanza("alias two"), limit); err != nil {
		t.Fatal(err)
	}
	s := read()
	check(s, "two")
	if value(s, "two", "start_timestamp_seconds") <= value(before, "one", "start_timestamp_seconds") {
		t.Error("the start is that of before the reload")
	}
	h.MustStop(t, limit)
}

func TestMetricsTellAPauseAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	h := flbhost.Run(t, w.options(service("")+w.stanza("alias one; batch_size 4k; max_alert_size 4k")))
	once(t, h, "one", w.add(5))
	paused := func(want float64) {
		t.Helper()
		told(t, h, fmt.Sprintf("paused %v", want), func(s flbhost.Samples) bool {
			return value(s, "one", "paused") == want
		})
	}
	if err := h.Pause("one"); err != nil {
		t.Fatal(err)
	}
	paused(1)
	if err := h.Resume("one"); err != nil {
		t.Fatal(err)
	}
	paused(0)
	h.MustStop(t, limit)
}

// Cores differ in what they offer. Alerts flow whatever it is, and what is missing is said once, not once for each
// stanza.
func TestCoresWithFewerMetrics(t *testing.T) {
	t.Parallel()
	f := func(without flbhost.Without, said int) {
		t.Run(strings.ToLower(string(without)), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			o := w.options(service("") + w.stanza("alias one; machine_groups a, b") + w.stanza("alias two"))
			o.Without = without
			h := flbhost.Run(t, o)
			want := w.add(20)
			once(t, h, "two", want)
			if without == flbhost.WithoutHistograms {
				told(t, h, "the parts of a histogram", func(s flbhost.Samples) bool {
					const name = metricsPrefix + "request_duration_seconds"
					sum, count := s.Of(name+"_sum", "name", "two"), s.Of(name+"_count", "name", "two")
					return len(sum) == 1 && sum[0].Kind == "counter" && sum[0].Value > 0 &&
						len(count) == 1 && count[0].Kind == "counter" && count[0].Value > 0 &&
						len(s.Of(name+"_bucket")) == 0
				})
			} else if s, err := h.Metrics(); err != nil || len(s) > 0 {
				t.Errorf("%v, %v", s, err)
			}
			if err := h.Reload(o.Config, limit); err != nil {
				t.Fatal(err)
			}
			once(t, h, "two", append(want, w.add(5)...))
			h.MustStop(t, limit)
			h.Look(func(v *flbhost.View) {
				if n := v.CountLogs("warn", "this Fluent Bit offers no metrics to a plugin: it has no "); n != said {
					t.Errorf("it was said %d times, want %d", n, said)
				}
			})
		})
	}
	f(flbhost.WithoutHistograms, 0)
	f(flbhost.WithoutContext, 1)
	f(flbhost.WithoutMetrics, 1)
}
