package e2e

import (
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"fluent-bit-defender/internal/defendersim"
)

// service starts a simulated service over TLS and writes its CA.
func service(t *testing.T, cfg defendersim.Config) (*defendersim.Service, *defendersim.Server, string) {
	t.Helper()
	svc := defendersim.New(cfg)
	srv, err := defendersim.Start(svc, defendersim.ServerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(srv.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := srv.WriteCA(ca); err != nil {
		t.Fatal(err)
	}
	return svc, srv, ca
}

// stanza is an input of the simulated service; more lines come first, so that they override its keys.
func stanza(srv *defendersim.Server, ca, tag string, more ...string) string {
	lines := []string{
		"tag " + tag,
		"tenant_id " + defendersim.DefaultTenant,
		"client_id " + defendersim.DefaultClientID,
		"client_secret " + defendersim.DefaultSecret,
		"url " + srv.AlertsURL(),
		"token_url " + srv.TokenURL(),
		"ca_file " + ca,
		"poll_interval 1s",
		"retry_max 2s",
	}
	return "[INPUT]\n    name defender\n    " + strings.Join(slices.Concat(more, lines), "\n    ") + "\n"
}

// groups are the machine groups of generated alerts.
var groups = []string{"UKMachines", "FranceMachines", "Rest & more"}

// history adds n alerts processed evenly between then and now.
func history(svc *defendersim.Service, n int, since time.Duration) {
	now := svc.Now()
	rnd := rand.New(rand.NewPCG(uint64(n), uint64(since)))
	svc.Add(defendersim.Generate(rnd, n, now.Add(-since), now.Add(-time.Second), defendersim.Mix{Groups: groups})...)
}

// generator makes alerts of all groups. Each of a service needs a seed of its own.
func generator(seed uint64) *defendersim.Generator {
	return defendersim.NewGenerator(rand.New(rand.NewPCG(seed, 7)), defendersim.Mix{Groups: groups})
}

// load is a service under which new alerts appear all the time, some of them up to 6 s late.
type load struct {
	once sync.Once
	end  chan struct{}
	done chan struct{}
}

func startLoad(t *testing.T, svc *defendersim.Service, perSecond int) *load {
	l := &load{end: make(chan struct{}), done: make(chan struct{})}
	rnd := rand.New(rand.NewPCG(5, 6))
	gen := generator(5)
	go func() {
		defer close(l.done)
		const every = 100 * time.Millisecond
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-l.end:
				return
			case <-tick.C:
			}
			for range perSecond * int(every) / int(time.Second) {
				late := time.Duration(0)
				if rnd.IntN(4) == 0 {
					late = time.Duration(rnd.Int64N(int64(6 * time.Second)))
				}
				svc.Add(gen.Alert(svc.Now().Add(-late)))
			}
		}
	}()
	t.Cleanup(l.stop)
	return l
}

// stop ends the load; it may be called again.
func (l *load) stop() {
	l.once.Do(func() { close(l.end) })
	<-l.done
}

// of returns the alerts of these machine groups, all without any.
func of(svc *defendersim.Service, groups ...string) []defendersim.Row {
	filter := defendersim.Filter{MachineGroups: groups}
	return slices.DeleteFunc(svc.Ledger(), func(r defendersim.Row) bool { return !filter.Match(&r.Alert) })
}

// missing counts the alerts that have not arrived.
func missing(due []defendersim.Row, arrived map[string]int) int {
	n := 0
	for _, row := range due {
		if arrived[row.ID] == 0 {
			n++
		}
	}
	return n
}

// exactly fails unless each alert that is due arrived once, and nothing else did.
func exactly(t *testing.T, tag string, due []defendersim.Row, arrived map[string]int) {
	t.Helper()
	wrong := 0
	complain := func(format string, args ...any) {
		if wrong++; wrong <= 5 {
			t.Errorf(format, args...)
		}
	}
	want := map[string]bool{}
	for _, row := range due {
		want[row.ID] = true
		if n := arrived[row.ID]; n != 1 {
			complain("%s: %s came %d times (processed %s, visible %s, first served %s)", tag, row.ID, n,
				row.LastProcessed, row.VisibleAt, row.FirstServed)
		}
	}
	for key := range arrived {
		if !want[key] {
			complain("%s: %s came, but is not due", tag, key)
		}
	}
	if wrong > 5 {
		t.Errorf("%s: and %d more of %d", tag, wrong-5, len(due))
	}
}
