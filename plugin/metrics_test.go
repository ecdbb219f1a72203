package main

import (
	"maps"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"fluent-bit-defender/client"
	"fluent-bit-defender/entra"
	"fluent-bit-defender/pull"
	"fluent-bit-defender/share"
)

// numbers reads the table: each number under its metric's name, with the value of the second label where there is one.
func numbers(m *meter, s pull.Stats) map[string]float64 {
	all := map[string]float64{}
	rest := m.read(s)
	for _, one := range metrics {
		for i := range one.Width() {
			key := one.Name
			switch {
			case one.Label != "":
				key += " " + one.Values[i]
			case i < len(one.Bounds):
				key += " " + time.Duration(one.Bounds[i]*float64(time.Second)).String()
			case len(one.Bounds) > 0:
				key += []string{" more", " sum"}[i-len(one.Bounds)]
			}
			all[key] = rest[i]
		}
		rest = rest[one.Width():]
	}
	return all
}

func testMeter() *meter {
	width := 0
	for _, m := range metrics {
		width += m.Width()
	}
	return &meter{numbers: make([]float64, width)}
}

func TestEachMetricIsReadFromItsOwnNumber(t *testing.T) {
	at := time.Date(2026, 7, 1, 0, 0, 0, 250e6, time.UTC)
	s := pull.Stats{
		Retries: 1, Throttled: 2500 * time.Millisecond, BytesRead: 3,
		Rows: 4, Duplicates: 5, Delivered: 6, Raw: 7, Repaired: 8, DeliveredSize: 9,
		Forgotten: 10, Commits: 11, CommitFailures: 12, Sources: 17, Failing: 18, OnGraph: 23,
		Unread: 13, IDs: 14, Queued: 15, Paused: true,
		Watermark: at, Now: at.Add(90 * time.Second), LastSuccess: at.Add(time.Second),
		Client: client.Stats{Stats: entra.Stats{Tokens: 16, TokenEnds: at.Add(2 * time.Second),
			CertificateEnds: at.Add(3 * time.Second)}, Held: 4 * time.Second},
	}
	want := map[string]float64{}
	for i, outcome := range pull.Outcomes {
		s.Requests[i] = uint64(100 + i)
		want["requests_total "+outcome] = float64(100 + i)
	}
	for i, bound := range pull.SecondsBounds {
		s.Seconds.Counts[i] = uint64(200 + i)
		want["request_duration_seconds "+time.Duration(bound*float64(time.Second)).String()] = float64(200 + i)
	}
	s.Seconds.Counts[len(pull.SecondsBounds)], s.Seconds.Sum = 300, 1.5
	maps.Copy(want, map[string]float64{
		"request_duration_seconds more": 300, "request_duration_seconds sum": 1.5,
		"retries_total": 1, "throttled_seconds_total service": 2.5, "throttled_seconds_total plugin": 4,
		"received_bytes_total": 3, "rows_received_total": 4, "duplicates_dropped_total": 5,
		"alerts_delivered_total": 6, "rows_raw_total": 7, "rows_repaired_total": 8, "delivered_bytes_total": 9,
		"seen_forgotten_total": 10, "commits_total": 11, "commit_failures_total": 12, "unread_ranges": 13,
		"remembered_rows": 14, "queue_bytes": 15, "paused": 1, "token_renewals_total": 16,
		"watermark_timestamp_seconds": 1782864000.25, "behind_seconds": 90,
		"last_success_timestamp_seconds": 1782864001.25,
		"token_expiry_timestamp_seconds": 1782864002.25, "certificate_expiry_timestamp_seconds": 1782864003.25,
		"start_timestamp_seconds": 1782864010.25, "tenants": 17, "tenants_failing": 18, "api": 23,
		"worker": 1, "sources_owned": 19, "sources_configured": 24, "takeovers_total": 20,
		"fenced_total": 21, "lease_renew_failures_total": 22,
	})
	m := testMeter()
	m.now.started = at.Add(10 * time.Second)
	m.now.pods = &share.Stats{Worker: true, Owned: 19, Configured: 24, Takeovers: 20, Fenced: 21, RenewFailures: 22}
	got := numbers(m, s)
	for key, n := range want {
		if got[key] != n {
			t.Errorf("%s is %v, want %v", key, got[key], n)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d numbers, want %d", len(got), len(want))
	}
}

func TestNothingTheEngineCountsIsLeftOut(t *testing.T) {
	known := reflect.ValueOf(time.Unix(1e9, 0))
	before := numbers(testMeter(), pull.Stats{})
	// set makes one number of a struct another one and tells where.
	var set func(v reflect.Value, path string, check func(path string))
	set = func(v reflect.Value, path string, check func(path string)) {
		switch {
		case v.Type() == known.Type():
			v.Set(known)
		case v.Kind() == reflect.Struct:
			for i := range v.NumField() {
				set(v.Field(i), path+"."+v.Type().Field(i).Name, check)
			}
			return
		case v.Kind() == reflect.Array:
			for i := range v.Len() {
				set(v.Index(i), path+"[]", check)
			}
			return
		case v.Kind() == reflect.Bool:
			v.SetBool(true)
		case v.CanUint():
			v.SetUint(7)
		case v.CanInt():
			v.SetInt(7e9)
		default:
			v.SetFloat(7)
		}
		check(path)
		v.SetZero()
	}
	var s pull.Stats
	set(reflect.ValueOf(&s).Elem(), "Stats", func(path string) {
		if path == "Stats.Now" {
			s.Watermark = known.Interface().(time.Time).Add(-time.Minute) // it is told as how far settled is behind it
			defer func() { s.Watermark = time.Time{} }()
			if got := numbers(testMeter(), s)["behind_seconds"]; got != 60 {
				t.Errorf("a minute behind is %v", got)
			}
			return
		}
		equal := func(a, b float64) bool { return a == b || math.IsNaN(a) && math.IsNaN(b) }
		if maps.EqualFunc(numbers(testMeter(), s), before, equal) {
			t.Errorf("no metric tells %s", path)
		}
	})
}

func TestWhatIsNotKnownIsNaN(t *testing.T) {
	m := testMeter()
	m.now.started = time.Unix(1e9, 0)
	var unknown []string
	for key, n := range numbers(m, pull.Stats{}) {
		switch {
		case math.IsNaN(n):
			unknown = append(unknown, key)
		case n != 0 && key != "start_timestamp_seconds":
			t.Errorf("%s begins at %v", key, n)
		}
	}
	slices.Sort(unknown)
	want := "behind_seconds certificate_expiry_timestamp_seconds last_success_timestamp_seconds " +
		"sources_configured sources_owned token_expiry_timestamp_seconds watermark_timestamp_seconds worker"
	if got := strings.Join(unknown, " "); got != want {
		t.Errorf("NaN are %s, want %s", got, want)
	}
}

func TestATickAllocatesNothing(t *testing.T) {
	e, m := &fake{}, testMeter()
	e.calls = make([]string, 0, 1000)
	if n := testing.AllocsPerRun(100, func() { m.set(e) }); n != 0 {
		t.Errorf("%g allocations", n)
	}
}

func BenchmarkTick(b *testing.B) {
	m := testMeter()
	for b.Loop() {
		m.set(hanging{})
	}
}
