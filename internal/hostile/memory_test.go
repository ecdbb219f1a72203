package hostile

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	"fluent-bit-defender/internal/flbhost"
)

const mb = 1 << 20

// over is the most memory that any answer may take beyond what the idle plugin has.
const over = 64 * mb

// memory reads a line of /proc/PID/status, in bytes.
func memory(pid int, name string) (int64, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if text, ok := strings.CutPrefix(lines.Text(), name+":"); ok {
			kb, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(text), " kB"), 10, 64)
			return kb << 10, err
		}
	}
	return 0, fmt.Errorf("no %s in the status of process %d", name, pid)
}

// gauge measures how far the resident memory of a host rises above what it is now.
type gauge struct {
	t    *testing.T
	pid  int
	idle int64
	peak int64

	reset bool // the kernel's own mark begins with this measurement
	stop  chan struct{}
	done  sync.WaitGroup
}

// newGauge begins to measure. The kernel keeps the highest mark itself, where it may be reset; elsewhere it is sampled.
func newGauge(t *testing.T, h *flbhost.Host) *gauge {
	t.Helper()
	g := &gauge{t: t, pid: h.Pid(), stop: make(chan struct{})}
	err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", g.pid), []byte("5"), 0)
	if g.reset = err == nil; !g.reset {
		t.Logf("the kernel does not reset VmHWM (%v): only samples count", err)
	}
	if g.idle, err = memory(g.pid, "VmRSS"); err != nil {
		t.Fatal(err)
	}
	if !g.reset {
		g.done.Go(g.sample)
	}
	t.Cleanup(g.end)
	return g
}

func (g *gauge) sample() {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if rss, err := memory(g.pid, "VmRSS"); err == nil {
			g.peak = max(g.peak, rss)
		}
		select {
		case <-tick.C:
		case <-g.stop:
			return
		}
	}
}

func (g *gauge) end() {
	select {
	case <-g.stop:
	default:
		close(g.stop)
		g.done.Wait()
	}
}

// measured is the table of all cases, in the order in which they ended.
var measured struct {
	sync.Mutex
	rows []string
}

// note ends the measurement, fails when the rise is more than allowed, and keeps it for the table.
func (g *gauge) note(name string) {
	g.t.Helper()
	g.end()
	if g.reset {
		high, err := memory(g.pid, "VmHWM")
		if err != nil {
			g.t.Error(err)
		}
		g.peak = max(g.peak, high)
	}
	rise := g.peak - g.idle
	if rise > over {
		g.t.Errorf("resident memory rose by %.1f MB over the idle %.1f MB; %d MB are allowed", mbs(rise), mbs(g.idle),
			over/mb)
	}
	measured.Lock()
	defer measured.Unlock()
	measured.rows = append(measured.rows, fmt.Sprintf("%s\t%.1f\t%.1f", name, mbs(g.idle), mbs(rise)))
}

func mbs(n int64) float64 { return float64(n) / mb }

func printMeasured(w io.Writer) {
	measured.Lock()
	defer measured.Unlock()
	if len(measured.rows) == 0 {
		return
	}
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "case\tidle MB\tpeak over idle MB")
	for _, row := range measured.rows {
		fmt.Fprintln(t, row)
	}
	t.Flush()
}
