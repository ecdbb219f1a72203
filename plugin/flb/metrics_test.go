package flb

import (
	"strings"
	"testing"
)

func TestACoreWithoutMetricsIsTold(t *testing.T) {
	one := []Metric{{Kind: Gauge, Name: "paused", Help: "Paused."}}
	m, err := (&Core{name: "defender.0"}).Metrics("defender", one, []float64{0})
	// A test is no Fluent Bit.
	if m != nil || err == nil || !strings.Contains(err.Error(), "it has no flb_input_get_cmt_instance") {
		t.Errorf("%v, %v", m, err)
	}
	m.Set([]float64{1}) // nothing, and no crash
	m.Close()
}

func TestWidth(t *testing.T) {
	f := func(m Metric, want int) {
		t.Helper()
		if got := m.Width(); got != want {
			t.Errorf("%+v takes %d numbers, want %d", m, got, want)
		}
	}
	f(Metric{Kind: Counter}, 1)
	f(Metric{Kind: Gauge, Label: "by", Values: []string{"a", "b", "c"}}, 3)
	f(Metric{Kind: Histogram, Bounds: []float64{1, 2}}, 4)
}
