package shape

import (
	"bytes"
	"io"
	"testing"
	"time"

	"fluent-bit-defender/internal/sample"
	"fluent-bit-defender/record"
)

// BenchmarkShapes reads the same alerts in each shape in turns, and states what each takes beside native: the best of
// all turns, so that a busy machine spoils little.
func BenchmarkShapes(b *testing.B) {
	type kind struct {
		name string
		body []byte
		r    *record.Reader
		base int
		best time.Duration
	}
	var kinds []kind
	for _, api := range []string{siem, graph} {
		body, base := sample.Alerts(400), len(kinds)
		if api == graph {
			body = list(graphRows(400, 0)...)
		}
		for _, format := range append([]string{"native"}, Formats...) {
			kinds = append(kinds, kind{format + "-" + api, body, record.NewReader(optionsOf(b, format, api, false)), base, 0})
		}
	}
	dst := make([]byte, 0, 8<<20)
	turn := 0
	for b.Loop() {
		k := &kinds[turn%len(kinds)]
		turn++
		began := time.Now()
		k.r.Reset(bytes.NewReader(k.body), func() time.Time { return pulled })
		n := 0
		for dst = dst[:0]; ; n++ {
			var err error
			if dst, _, err = k.r.Next(dst); err == io.EOF {
				break
			} else if err != nil {
				b.Fatal(err)
			}
		}
		if took := time.Since(began); k.best == 0 || took < k.best {
			k.best = took
		}
		if n != 400 {
			b.Fatalf("%d rows", n)
		}
	}
	b.ReportMetric(0, "ns/op")
	for _, k := range kinds {
		b.ReportMetric(float64(k.best.Nanoseconds())/400, k.name+"-ns/row")
		b.ReportMetric(float64(k.best)/float64(kinds[k.base].best), k.name+"/native")
	}
}
