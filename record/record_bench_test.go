package record

import (
	"bytes"
	"fluent-bit-defender/internal/sample"
	"io"
	"strconv"
	"testing"
	"time"
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
	benchReader(b, siemOptions(), sample.Alerts(benchRows), func(body []byte) io.Reader { return bytes.NewReader(body) })
}

// BenchmarkReaderOfGraph reads alerts with 8 pieces of evidence of six kinds, whose keys cannot be foretold as well as those of SIEM rows.
func BenchmarkReaderOfGraph(b *testing.B) {
	page := make([]string, benchRows)
	for i := range page {
		page[i] = graphAlertOf(strconv.Itoa(i), graphTime.Add(time.Duration(i)*time.Millisecond), 8)
	}
	benchReader(b, graphOptions(), []byte(graphPageOf("", "", page...)), func(body []byte) io.Reader { return bytes.NewReader(body) })
}

// BenchmarkReaderOfTLS reads no more at once than a TLS connection gives.
func BenchmarkReaderOfTLS(b *testing.B) {
	benchReader(b, siemOptions(), sample.Alerts(benchRows), func(body []byte) io.Reader { return smallReads{bytes.NewReader(body)} })
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
