package flb

/*
#include "flb.h"
#include "metrics.h"
*/
import "C"

import (
	"fmt"
	"time"
	"unsafe"
)

// Kind is what a metric is to Prometheus.
type Kind int

// Kinds of metrics.
const (
	Counter   Kind = C.CORE_COUNTER
	Gauge     Kind = C.CORE_GAUGE
	Histogram Kind = C.CORE_HISTOGRAM
)

func (k Kind) String() string { return [...]string{"counter", "gauge", "histogram"}[k] }

// Metric describes a metric. Each of its series has the label name, which is the instance's, as Fluent Bit's own
// metrics have.
type Metric struct {
	Kind   Kind
	Name   string // what follows fluentbit_ and the subsystem
	Help   string
	Label  string    // a second label; "": none
	Values []string  // of Label: a series each
	Bounds []float64 // of a histogram: the upper bounds of its buckets, rising, 31 at most
}

// Width is how many numbers Metrics.Set takes for a metric: one for each series, and for a histogram the counts of its
// buckets (each without those before it), of what is beyond the last one, and the sum.
func (m *Metric) Width() int {
	switch {
	case m.Kind == Histogram:
		return len(m.Bounds) + 2
	case m.Label != "":
		return len(m.Values)
	}
	return 1
}

// Metrics are the metrics of one instance in Fluent Bit's own endpoint. All calls belong on the instance's thread,
// between Init and the end of Exit. Those of a nil Metrics do nothing.
type Metrics struct {
	core  *C.struct_core_metrics
	width int
}

// Metrics makes metrics, and every series of them with the numbers of start (see Set): series can be made in Init
// only, since the core reads its lists from a thread of its own later and nothing locks them. Where the core's
// histograms are missing or unsound (cmetrics before 1.0.6), two counters stand in for each: NAME_count and NAME_sum.
// The error says what the core lacks.
func (c *Core) Metrics(subsystem string, all []Metric, start []float64) (*Metrics, error) {
	var a arena
	defer a.free()
	var missing *C.char
	core := C.core_metrics_open(c.ins, a.text(subsystem), a.text(c.name), &missing)
	if core == nil {
		return nil, fmt.Errorf("it has no %s", C.GoString(missing))
	}
	m := &Metrics{core: core}
	for i := range all {
		m.width += all[i].Width()
		if !m.add(&a, &all[i]) {
			m.Close()
			return nil, fmt.Errorf("it refuses the metric %s", all[i].Name)
		}
	}
	m.Set(start)
	return m, nil
}

func (m *Metrics) add(a *arena, one *Metric) bool {
	name, help := a.text(one.Name), a.text(one.Help)
	if one.Kind == Histogram {
		bounds := (*C.double)(unsafe.SliceData(one.Bounds))
		return C.core_metrics_add_histogram(m.core, name, help, C.int(len(one.Bounds)), bounds) == 0
	}
	if one.Label == "" {
		return C.core_metrics_add(m.core, C.int(one.Kind), name, help, nil, 0, nil) == 0
	}
	values := make([]*C.char, len(one.Values))
	for i, v := range one.Values {
		values[i] = a.text(v)
	}
	count, label := C.int(len(values)), a.text(one.Label)
	return C.core_metrics_add(m.core, C.int(one.Kind), name, help, label, count, unsafe.SliceData(values)) == 0
}

// Set sets every series: the numbers of each metric, as many as its Width, in the order in which they were made. A
// counter must not go down: the core refuses that. A gauge may be NaN.
func (m *Metrics) Set(numbers []float64) {
	if m == nil || m.core == nil {
		return
	}
	if len(numbers) != m.width {
		panic(fmt.Sprintf("%d numbers for metrics of %d", len(numbers), m.width))
	}
	C.core_metrics_set(m.core, C.uint64_t(time.Now().UnixNano()), (*C.double)(unsafe.SliceData(numbers)))
}

// Close lets go of the core's metrics. What was set last stands in the endpoint until the core ends the instance.
func (m *Metrics) Close() {
	if m == nil || m.core == nil {
		return
	}
	C.core_metrics_close(m.core)
	m.core = nil
}

// arena holds C strings for as long as a call needs them.
type arena []unsafe.Pointer

func (a *arena) text(s string) *C.char {
	c := C.CString(s)
	*a = append(*a, unsafe.Pointer(c))
	return c
}

func (a *arena) free() {
	for _, p := range *a {
		C.free(p)
	}
}
