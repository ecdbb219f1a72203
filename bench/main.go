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
	flag.Parse()
	var err error
	if *size > 0 {
		err = serve(*size, *plainHTTP, *zip, *ca)
	} else {
		err = report(*rows, *runs)
		if err == nil {
			err = growth(*most)
		}
		if err == nil && *so != "" {
			err = memory(*so)
		}
		if err == nil && *so != "" && *backlog > 0 {
			err = catchUp(*so, *backlog)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func report(rows, runs int) error {
	s := newSample(rows)
	mb := float64(len(s.body)) / 1e6
	fmt.Printf("%d rows, %.0f MB of JSON; %s, %s/%s, %d processors\n\n", rows, mb, runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU())
	fmt.Println("| JSON to records | ms | MB/s | allocations a row | times ours |")
	fmt.Println("|---|---|---|---|---|")
	var base float64
	for _, c := range []struct {
		name string
		run  func(sample) func(*testing.B)
	}{
		{"this plugin, all checks, time and identity", ours},
		{"valyala/fastjson and tinylib/msgp", fast},
		{"encoding/json into maps and fluent-bit-go's encoder", plain},
	} {
		r := best(c.run(s))
		ms := float64(r.NsPerOp()) / 1e6
		if base == 0 {
			base = ms
		}
		fmt.Printf("| %s | %.0f | %.0f | %.1f | %.2f |\n", c.name, ms, mb/ms*1000, float64(r.AllocsPerOp())/float64(rows), ms/base)
	}
	fmt.Println("\n| whole pull over loopback | CPU s | wall s | times transcoding alone |")
	fmt.Println("|---|---|---|---|")
	for _, c := range []struct {
		name       string
		plain, zip bool
	}{{"plain HTTP", true, false}, {"plain HTTP, gzip", true, true}, {"TLS", false, false}, {"TLS, gzip", false, true}} {
		var all []pulled
		for range runs {
			p, err := whole(int64(rows)*1750, c.plain, c.zip)
			if err != nil {
				return err
			}
			all = append(all, p)
		}
		slices.SortFunc(all, func(a, b pulled) int { return int(a.cpu - b.cpu) })
		p := all[len(all)/2]
		fmt.Printf("| %s | %.3f | %.3f | %.1f |\n", c.name, p.cpu.Seconds(), p.wall.Seconds(), p.cpu.Seconds()*1000/base)
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
	return pullOnce(s, uint64(size/1750)+1)
}
