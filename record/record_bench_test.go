package record

import (
	"bytes"
	"io"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"fluent-bit-defender/internal/defendersim"
	"fluent-bit-defender/internal/sample"
)

const benchRows = 50_000

func benchNow() time.Time { return time.Unix(1_700_000_000, 0) }

// BenchmarkTranscode is the transcoder alone, row by row out of one buffer.
func BenchmarkTranscode(b *testing.B) {
	body := sample.Alerts(benchRows)
	src := append(body, make([]byte, pad)...)
	r := NewReader(Options{Schema: SIEM, TimeKey: "AlertTime"})
	dst := make([]byte, 0, 1<<20)
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		rows := 0
		for i := 1; src[i-1] != ']'; rows++ {
			if len(dst) > 1<<19 {
				dst = dst[:0]
			}
			var row Row
			var out outcome
			dst, row, out = r.t.row(dst, src, i, benchNow)
			if out != whole {
				b.Fatal("a row did not become a record")
			}
			i += row.Size + 1
		}
		if rows != benchRows {
			b.Fatalf("%d rows", rows)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/benchRows, "ns/row")
}

// BenchmarkReader is the whole row stream, from a body in memory.
func BenchmarkReader(b *testing.B) {
	benchReader(b, siemOptions(), sample.Alerts(benchRows),
		func(body []byte) io.Reader { return bytes.NewReader(body) })
}

// BenchmarkReaderOfTLS reads no more at once than a TLS connection gives.
func BenchmarkReaderOfTLS(b *testing.B) {
	benchReader(b, siemOptions(), sample.Alerts(benchRows),
		func(body []byte) io.Reader { return smallReads{bytes.NewReader(body)} })
}

type smallReads struct{ r io.Reader }

func (s smallReads) Read(p []byte) (int, error) { return s.r.Read(p[:min(len(p), 16<<10)]) }

func benchReader(b *testing.B, opt Options, body []byte, open func(body []byte) io.Reader) {
	r := NewReader(opt)
	dst := make([]byte, 0, 1<<20)
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		rows := 0
		r.Reset(open(body), benchNow)
		for {
			if len(dst) > 1<<19 {
				dst = dst[:0]
			}
			var err error
			dst, _, err = r.Next(dst)
			if err == io.EOF {
				break
			}
			if err != nil {
				b.Fatal(err)
			}
			rows++
		}
		if rows != benchRows {
			b.Fatalf("%d rows", rows)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/benchRows, "ns/row")
}

// BenchmarkKinds measures kinds of rows in turns and states what a byte of each costs beside one of a SIEM row.
func BenchmarkKinds(b *testing.B) {
	const rows = 400
	alike := make([]string, rows)
	for i := range alike {
		alike[i] = graphAlertOf(strconv.Itoa(i), graphTime.Add(time.Duration(i)*time.Millisecond), 8)
	}
	var motleyGraph, motley [][]byte
	from := time.Date(2024, 3, 1, 0, 0, 0, 0, time.UTC)
	for _, a := range defendersim.GenerateGraph(rand.New(rand.NewPCG(1, 2)), rows, 0, from, from.Add(time.Hour),
		defendersim.GraphMix{}) {
		motleyGraph = append(motleyGraph, a.Text)
	}
	for _, a := range defendersim.Generate(rand.New(rand.NewPCG(1, 2)), rows, from, from.Add(time.Hour),
		defendersim.Mix{Style: defendersim.WideStyle}) {
		motley = append(motley, a.Text)
	}
	list := func(rows [][]byte) []byte { return append(append([]byte{'['}, bytes.Join(rows, []byte{','})...), ']') }
	var kinds []*sample.Contender
	var bodies [][]byte
	kind := func(name string, body []byte, opt Options) {
		bodies = append(bodies, body)
		kinds = append(kinds, &sample.Contender{Name: name, Run: sample.Reading(NewReader(opt), body, rows)})
	}
	kind("siem", sample.Alerts(rows), siemOptions())
	kind("siem-motley", list(motley), siemOptions())
	kind("graph", []byte(graphPageOf("", "", alike...)), graphOptions())
	kind("graph-motley", list(motleyGraph), graphOptions())
	kind("siem-encoded", sample.Alerts(rows), copied(siemOptions()))
	kind("graph-encoded", list(motleyGraph), copied(graphOptions()))
	for b.Loop() {
		if err := sample.Turn(kinds); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(0, "ns/op")
	per := func(k int) float64 { return float64(kinds[k].Best.Nanoseconds()) / float64(len(bodies[k])) }
	for i, k := range kinds {
		b.ReportMetric(1000/per(i), k.Name+"-MB/s")
		b.ReportMetric(per(i)/per(0), k.Name+"/siem")
	}
}

// copied adds an Encode that walks over the fields and copies them: what any other shape costs at least.
func copied(opt Options) Options {
	opt.Encode = verbatim
	return opt
}
