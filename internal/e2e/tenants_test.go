package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"fluent-bit-defender/internal/defendersim"
	"fluent-bit-defender/internal/flbhost"
)

// provider is a cloud of many tenants that one stanza pulls, by a file that changes. What arrives in all runs is
// counted by alert, with the tenant that each record names.
type provider struct {
	*testing.T
	cloud *defendersim.Fleet
	path  string // of the file of tenants
	input string
	host  flbhost.Options
	gens  map[string]*defendersim.Generator

	mu     sync.Mutex
	came   map[string]int
	first  map[string]time.Time
	tenant map[string]string
}

func tenantID(i int) string { return fmt.Sprintf("%08d-2222-3333-4444-555555555555", i) }

func newProvider(t *testing.T, host flbhost.Options, keys ...string) *provider {
	t.Helper()
	dir := t.TempDir()
	p := &provider{T: t, cloud: defendersim.NewFleet(defendersim.Config{}), path: filepath.Join(dir, "tenants.yaml"),
		host: host,
		gens: map[string]*defendersim.Generator{}, came: map[string]int{}, first: map[string]time.Time{},
		tenant: map[string]string{}}
	srv, err := defendersim.StartFleet(p.cloud, defendersim.ServerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(srv.Close)
	ca := filepath.Join(dir, "ca.pem")
	if err := srv.WriteCA(ca); err != nil {
		t.Fatal(err)
	}
	p.input = "[INPUT]\n    name defender\n    " + strings.Join(append(keys, "tag alerts", "tenants_file "+p.path,
		"client_id "+defendersim.DefaultClientID,
		"client_secret "+defendersim.DefaultSecret, "url "+srv.AlertsURL(), "authority "+srv.Authority(), "ca_file "+ca,
		"db "+filepath.Join(dir, "defender.db")), "\n    ") + "\n"
	p.host.Plugin, p.host.OnRecord = plugin, p.add
	return p
}

// pulls writes the file of tenants by renaming a new one into its place.
func (p *provider) pulls(tenants ...int) {
	p.Helper()
	var list strings.Builder
	for _, i := range tenants {
		p.cloud.Tenant(tenantID(i))
		fmt.Fprintf(&list, "- tenant_id: %s\n  name: customer %d\n", tenantID(i), i)
	}
	if err := os.WriteFile(p.path+".new", []byte(list.String()), 0o600); err != nil {
		p.Fatal(err)
	}
	if err := os.Rename(p.path+".new", p.path); err != nil {
		p.Fatal(err)
	}
}

// alert adds one to a tenant, processed so long ago, and returns its key.
func (p *provider) alert(tenant int, ago time.Duration) string {
	id := tenantID(tenant)
	gen := p.gens[id]
	if gen == nil {
		gen = defendersim.NewGenerator(rand.New(rand.NewPCG(uint64(tenant), 11)), defendersim.Mix{})
		p.gens[id] = gen
	}
	svc := p.cloud.Tenant(id)
	a := gen.Alert(svc.Now().Add(-ago))
	svc.Add(a)
	return a.Key()
}

func (p *provider) add(r flbhost.Record) {
	fields := map[string]any{}
	for _, f := range r.Body {
		fields[f.Key] = f.Value
	}
	key := defendersim.KeyOf(fields)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.came[key]++; p.came[key] == 1 {
		p.first[key] = time.Now()
	}
	p.tenant[key], _ = fields["TenantId"].(string)
}

// start starts the stanza and waits until it runs.
func (p *provider) start() *flbhost.Host {
	p.Helper()
	o := p.host
	o.Config = "[SERVICE]\n    flush 0.2\n    grace 5\n    log_level info\n\n" + p.input
	if o.FluentBit != "" { // the output that flbhost reads
		o.Config += "[OUTPUT]\n    name stdout\n    match *\n    format json_lines\n    json_date_key date\n    " +
			"json_date_format iso8601\n"
	}
	return flbhost.Run(p.T, o)
}

// awaitAll waits until each of the alerts has come.
func (p *provider) awaitAll(limit time.Duration, what string, due map[string]int) {
	p.Helper()
	lacks := func() (n int) {
		p.mu.Lock()
		defer p.mu.Unlock()
		for key := range due {
			if p.came[key] == 0 {
				n++
			}
		}
		return n
	}
	await(p.T, limit, fmt.Sprintf("%s: all %d alerts", what, len(due)), func() bool { return lacks() == 0 })
}

// exactly fails unless each alert that is due came once, as one of its tenant, and nothing else came.
func (p *provider) exactly(due map[string]int) {
	p.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	for key, tenant := range due {
		if p.came[key] != 1 || p.tenant[key] != tenantID(tenant) {
			p.Errorf("an alert of tenant %d came %d times, as one of %q", tenant, p.came[key], p.tenant[key])
		}
	}
	for key := range p.came {
		if _, ok := due[key]; !ok {
			p.Errorf("an alert of %q came that was not due", p.tenant[key])
		}
	}
}

// 300 tenants of which two hang; one is added, one is taken out, and Fluent Bit is restarted. Every alert of every
// living tenant comes exactly once with its tenant's id, and new ones within two polls.
func TestManyTenantsInOneStanza(t *testing.T) {
	t.Parallel()
	t.Run("host", func(t *testing.T) {
		t.Parallel()
		manyTenants(t, flbhost.Options{Interval: 100 * time.Millisecond, Slow: 2 * time.Second})
	})
	t.Run("fluent-bit", func(t *testing.T) {
		t.Parallel()
		manyTenants(t, flbhost.Options{FluentBit: needFluentBit(t)})
	})
}

func manyTenants(t *testing.T, host flbhost.Options) {
	const tenants, poll = 300, 4 * time.Second
	p := newProvider(t, host, "poll_interval 4s", "overlap 10s", "initial_lookback 30m", "read_timeout 3s",
		"retry_max 5s")
	due := map[string]int{}
	var all []int
	for i := range tenants {
		all = append(all, i)
	}
	p.pulls(all...)
	const added, removed = tenants, 7
	hangs := map[int]bool{3: true, 4: true}
	for i := range hangs {
		p.cloud.Tenant(tenantID(i)).OnRequest(func(r defendersim.Request) *defendersim.Fault {
			if r.Kind == defendersim.KindAlerts {
				return defendersim.Hang()
			}
			return nil
		})
	}
	give := func(ago time.Duration) map[string]int {
		some := map[string]int{}
		for _, i := range all {
			key := p.alert(i, ago)
			if !hangs[i] {
				some[key], due[key] = i, i
			}
		}
		return some
	}
	give(10 * time.Minute)
	give(5 * time.Minute)
	h := p.start()
	p.awaitAll(60*time.Second, "the backlog", due)

	all = append(append(all[:removed:removed], all[removed+1:]...), added)
	p.pulls(all...)
	h.MustAwait(t, 20*time.Second, "the change", func(v *flbhost.View) bool {
		return v.HasLog("info", "300 tenants are pulled now: 1 began, 1 stopped, 0 changed, 0 cannot begin")
	})
	p.alert(removed, 0) // which nobody asks for any more
	began := time.Now()
	some := give(0)
	p.awaitAll(30*time.Second, "new ones", some)
	p.mu.Lock()
	for key, tenant := range some {
		if took := p.first[key].Sub(began); took > 2*poll+2*time.Second {
			t.Errorf("a new alert of tenant %d took %s", tenant, took)
		}
	}
	p.mu.Unlock()

	h.MustStop(t, 10*time.Second)
	give(0)
	h = p.start()
	p.awaitAll(60*time.Second, "after the restart", due)
	asked := p.cloud.Tenant(tenantID(added)).Stats().Alerts
	await(t, 30*time.Second, "two more polls",
		func() bool { return p.cloud.Tenant(tenantID(added)).Stats().Alerts >= asked+2 })
	h.MustStop(t, 10*time.Second)
	p.exactly(due)
}
