package shape

import (
	"testing"

	"fluent-bit-defender/internal/sample"
	"fluent-bit-defender/record"
)

// BenchmarkShapes reads the same alerts in each shape in turns, and states what each takes beside native.
func BenchmarkShapes(b *testing.B) {
	const rows = 100
	var all []*sample.Contender
	for _, api := range []string{siem, graph} {
		body := sample.Alerts(rows)
		if api == graph {
			body = list(graphRows(rows, 0)...)
		}
		for _, format := range append([]string{"native"}, Formats...) {
			r := record.NewReader(optionsOf(b, format, api, false))
			all = append(all, &sample.Contender{Name: format + "-" + api, Run: sample.Reading(r, body, rows)})
		}
	}
	for b.Loop() {
		if err := sample.Turn(all); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(0, "ns/op")
	kinds := 1 + len(Formats)
	for i, c := range all {
		b.ReportMetric(float64(c.Best.Nanoseconds())/rows, c.Name+"-ns/row")
		b.ReportMetric(float64(c.Best)/float64(all[i/kinds*kinds].Best), c.Name+"/native")
	}
}
