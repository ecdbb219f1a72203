package pull

import (
	"flag"
	"fmt"
	"os"
	"runtime/debug"
	"strconv"
	"sync"
	"testing"

	"go.uber.org/goleak"
)

// lives has rapid live the histories of a test: as many as HISTORIES says (a thousand in `make test`, a million in
// `make soak`), or one in share of them, but a hundred at least where there are so many.
func lives(share int) {
	v := os.Getenv("HISTORIES")
	if v == "" {
		return // as many as rapid's own flag says
	}
	n, err := strconv.Atoi(v)
	if err != nil {
		panic(err)
	}
	flag.Set("rapid.checks", strconv.Itoa(max(1, n/share/2, min(n/2, 50)))) // in each of two shards
}

func TestMain(m *testing.M) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(1600) // a history makes garbage, and little lives
	}
	code := m.Run()
	if err := goleak.Find(); err != nil {
		fmt.Println(err)
		code = 1
	}
	if total.histories > 0 {
		fmt.Println(&total)
	}
	os.Exit(code)
}

// total is what all histories of a run amount to.
var total totals

type totals struct {
	mu                                                                         sync.Mutex
	histories, requests, faults, served, arrived, repeated, lost, raw, crashes int
}

func (t *totals) add(h *history) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.histories++
	stats := h.svc.Stats()
	t.requests += stats.Alerts + stats.Tokens
	for _, n := range stats.Faults {
		t.faults += n
	}
	t.served += int(stats.Rows)
	for _, came := range h.core.arrived {
		t.arrived++
		t.repeated += len(came) - 1
	}
	t.lost += h.lost
	t.raw += h.core.raw
	t.crashes += len(h.crashes)
}

func (t *totals) String() string {
	return fmt.Sprintf("%d histories: %d requests, %d faults, %d rows served, %d alerts delivered (%d rows of "+
		"them raw), "+
		"%d repeated over %d crashes and exits under back-pressure, %d lost",
		t.histories, t.requests, t.faults, t.served, t.arrived, t.raw, t.repeated, t.crashes, t.lost)
}
