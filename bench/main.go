package main

import (
	"compress/gzip"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"testing"
	"time"
)

func newGzipWriter(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) }

func main() {
	testing.Init()
	size := flag.Int64("serve", 0, "")
	plainHTTP := flag.Bool("plain", false, "")
	zip := flag.Bool("gzip", false, "")
	ca := flag.String("ca", "", "")
	rows := flag.Int("rows", 50_000, "rows of the sample")
	runs := flag.Int("runs", 5, "whole pulls of each kind; the median counts")
	so := flag.String("so", "../build/in_defender.so", "the shared object, for memory and backlog; empty: without them")
	most := flag.Int("most", 10_000_000, "rows of the largest window")
	backlog := flag.Int64("backlog", 1_000_000, "alerts of the backlog; 0: without it")
	tenantCounts := flag.String("tenants", "1,10,100,1000", "numbers of tenants in one stanza; empty: without")
	onlyPulls := flag.Bool("only-pulls", false, "nothing but the whole pulls")
	onlyShapes := flag.Bool("only-shapes", false, "nothing but the formats of records")
	onlyTenants := flag.Bool("only-tenants", false, "nothing but the stanzas of many tenants")
	flag.Parse()
	var err error
	switch {
	case *size > 0:
		err = serve(*size, *plainHTTP, *zip, *ca)
	case *onlyPulls:
		err = pulls(*rows, *runs, 0)
	case *onlyShapes:
		err = shapes(min(*rows, 500))
	case *onlyTenants:
		err = tenants(*so, *tenantCounts)
	default:
		err = report(*rows, *runs)
		if err == nil {
			err = shapes(min(*rows, 500))
		}
		if err == nil {
			err = growth(*most)
		}
		if err == nil && *so != "" {
			err = memory(*so)
		}
		if err == nil && *so != "" && *backlog > 0 {
			err = catchUp(*so, *backlog)
		}
		if err == nil && *so != "" && *tenantCounts != "" {
			err = tenants(*so, *tenantCounts)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func report(rows, runs int) error {
	fmt.Printf("%s, %s/%s, %d processors\n", runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU())
	var base float64
	for _, kind := range []struct {
		name string
		make func(int) answer
	}{
		{"rows like the seed's", seedLike},
		{"motley rows of the simulated service", motley},
		{"Graph alerts of the simulated service", graph},
	} {
		a := kind.make(rows)
		mb := float64(len(a.body)) / 1e6
		fmt.Printf("\n| JSON to records: %d %s, %.0f MB | ms | MB/s | allocations a row | times ours |\n", len(a.rows),
			kind.name, mb)
		fmt.Println("|---|---|---|---|---|")
		mine := 0.0
		for _, c := range []struct {
			name string
			run  func(answer) func(*testing.B)
		}{
			{"this plugin, all checks, time and identity", ours},
			{"valyala/fastjson and tinylib/msgp, rows given apart", fast},
			{"encoding/json into maps and fluent-bit-go's encoder, off the body", plain},
			{"the same, rows given apart", plainRows},
			{"the same, the whole list at once", plainList},
		} {
			r := best(c.run(a))
			ms := float64(r.NsPerOp()) / 1e6
			if mine == 0 {
				mine = ms
			}
			fmt.Printf("| %s | %.0f | %.0f | %.1f | %.2f |\n", c.name, ms, mb/ms*1000,
				float64(r.AllocsPerOp())/float64(rows), ms/mine)
		}
		if base == 0 {
			base = mine
		}
	}
	return pulls(rows, runs, base)
}

// pulls prints what whole pulls take, beside transcoding alone (base, in milliseconds; 0 where it was not measured).
func pulls(rows, runs int, base float64) error {
	fmt.Println("\n| whole pull over loopback | CPU s | wall s | times transcoding alone |")
	fmt.Println("|---|---|---|---|")
	for _, c := range []struct {
		name       string
		plain, zip bool
	}{{"plain HTTP", true, false}, {"plain HTTP, gzip", true, true}, {"TLS", false, false},
		{"TLS, gzip", false, true}} {
		var all []pulled
		for range runs {
			p, err := whole(int64(rows)*rowLike, c.plain, c.zip)
			if err != nil {
				return err
			}
			all = append(all, p)
		}
		slices.SortFunc(all, func(a, b pulled) int { return int(a.cpu - b.cpu) })
		p := all[len(all)/2]
		times := "-"
		if base > 0 {
			times = fmt.Sprintf("%.1f", p.cpu.Seconds()*1000/base)
		}
		fmt.Printf("| %s | %.3f | %.3f | %s |\n", c.name, p.cpu.Seconds(), p.wall.Seconds(), times)
	}
	return nil
}

// best is the fastest of three runs of the benchmark harness: noise only ever slows down.
func best(f func(*testing.B)) testing.BenchmarkResult {
	var results []testing.BenchmarkResult
	for range 3 {
		results = append(results, testing.Benchmark(f))
	}
	return slices.MinFunc(results, func(a, b testing.BenchmarkResult) int { return int(a.NsPerOp() - b.NsPerOp()) })
}

func whole(size int64, plainHTTP, zip bool) (pulled, error) {
	s, err := startService(size, plainHTTP, zip)
	if err != nil {
		return pulled{}, err
	}
	defer s.close()
	runtime.GC()
	time.Sleep(10 * time.Millisecond) // the service's process settles
	return pullOnce(s, uint64(size/rowLike)+1)
}
