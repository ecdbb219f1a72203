package main

import (
	"fmt"
	"log/slog"
	"sync"
	"time"

	"fluent-bit-defender/plugin/flb"
	"fluent-bit-defender/pull"
	"fluent-bit-defender/share"
)

// meter brings an instance's metrics up to date, on its thread only. A nil meter does nothing.
type meter struct {
	core    *flb.Metrics
	now     reading
	pods    share.Stats // of a stanza that shares its work
	numbers []float64
}

var noMetrics sync.Once

// newMeter makes the metrics of an instance, in its Init. Where the core has none it says so, once for all stanzas,
// and returns nil.
func newMeter(core *flb.Core, log *slog.Logger, s pull.Stats) *meter {
	all, width := make([]flb.Metric, len(metrics)), 0
	for i, m := range metrics {
		all[i] = m.Metric
		width += m.Width()
	}
	m := &meter{now: reading{started: time.Now()}, numbers: make([]float64, width)}
	var err error
	if m.core, err = core.Metrics(kind, all, m.read(s)); err != nil {
		noMetrics.Do(func() {
			log.Warn(fmt.Sprintf("this Fluent Bit offers no metrics to a plugin: %v; "+
				"alerts flow all the same, but its endpoint shows no fluentbit_%s_ metrics", err, kind))
		})
		return nil
	}
	return m
}

// read returns the numbers of all metrics, in the order of the table. They are overwritten by the next call.
func (m *meter) read(s pull.Stats) []float64 {
	m.now.Stats = s
	rest := m.numbers
	for i := range metrics {
		n := metrics[i].Width()
		metrics[i].read(&m.now, rest[:n])
		rest = rest[n:]
	}
	return m.numbers
}

func (m *meter) set(e engine) {
	if m != nil {
		if s, ok := e.(*stanza); ok && s.shared != nil {
			m.pods = s.shared.pod.Stats()
			m.now.pods = &m.pods
		}
		m.core.Set(m.read(e.Stats()))
	}
}

func (m *meter) close() {
	if m != nil {
		m.core.Close()
	}
}
