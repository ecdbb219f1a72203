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

// provider is a cloud of many tenants that one stanza pulls, by a file that changes. What arrives in all runs is counted by alert, with
// the tenant that each record names.
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
	p := &provider{T: t, cloud: defendersim.NewFleet(defendersim.Config{}), path: filepath.Join(dir, "tenants.yaml"), host: host,
		gens: map[string]*defendersim.Generator{}, came: map[string]int{}, first: map[string]time.Time{}, tenant: map[string]string{}}
	srv, err := defendersim.StartFleet(p.cloud, defendersim.ServerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(srv.Close)
	ca := filepath.Join(dir, "ca.pem")
	if err := srv.WriteCA(ca); err != nil {
		t.Fatal(err)
	}
	p.input = "[INPUT]\n    name defender\n    " + strings.Join(append(keys, "tag alerts", "tenants_file "+p.path, "client_id "+defendersim.DefaultClientID,
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
		o.Config += "[OUTPUT]\n    name stdout\n    match *\n    format json_lines\n    json_date_key date\n    json_date_format iso8601\n"
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

// 300 tenants of which two hang; one is added, one is taken out, and Fluent Bit is restarted. Every alert of every living tenant comes
// exactly once with its tenant's id, and new ones within two polls.
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
	p := newProvider(t, host, "poll_interval 4s", "overlap 10s", "initial_lookback 30m", "read_timeout 3s", "retry_max 5s")
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
	await(t, 30*time.Second, "two more polls", func() bool { return p.cloud.Tenant(tenantID(added)).Stats().Alerts >= asked+2 })
	h.MustStop(t, 10*time.Second)
	p.exactly(due)
}

// customers starts a cloud with these tenants, to each of which the application is known by its certificate alone.
func customers(t *testing.T, app string, cert *defendersim.Certificate, tenants ...string) (*defendersim.Fleet, *defendersim.Server) {
	t.Helper()
	cloud := defendersim.NewFleet(defendersim.Config{ClientID: app})
	for i, id := range tenants {
		svc := cloud.Tenant(id)
		svc.SetCertificates(app, cert.Cert)
		svc.SetSecrets(app)
		gen := defendersim.NewGraphGenerator(rand.New(rand.NewPCG(uint64(i), uint64(len(id)))), defendersim.GraphMix{})
		svc.AddGraph(gen.Alert(svc.Now().Add(-10*time.Minute)), gen.Alert(svc.Now().Add(-5*time.Minute)))
	}
	srv, err := defendersim.StartFleet(cloud, defendersim.ServerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(srv.Close)
	return cloud, srv
}

// What stands on docs/tenants.md, in the real Fluent Bit: customers of two clouds, one of whom insists on a secret of its own, and one who
// has not consented.
func TestTenantsRecipe(t *testing.T) {
	t.Parallel()
	needFluentBit(t)
	const (
		contoso, fabrikam, woodgrove = "72f988bf-86f1-41af-91ab-2d7cd011db47", "11111111-2222-3333-4444-555555555555", "22222222-3333-4444-5555-666666666666"
		refuses                      = "33333333-4444-5555-6666-777777777777"
		secret                       = "a-secret-of-their-own"
	)
	page, err := os.ReadFile("../../docs/tenants.md")
	if err != nil {
		t.Fatal(err)
	}
	fence := func(heading, mark string) *recipe {
		_, text, ok := strings.Cut(string(page), "## "+heading+"\n")
		_, text, begins := strings.Cut(text, "\n"+mark+"\n")
		text, _, ends := strings.Cut(text, "\n```\n")
		if !ok || !begins || !ends {
			t.Fatalf("docs/tenants.md has no recipe under %q", heading)
		}
		return &recipe{t, text + "\n"}
	}
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	var certs [2]*defendersim.Certificate
	for i := range certs {
		if certs[i], err = defendersim.NewCertificate(time.Now().Add(-time.Hour), time.Now().Add(1000*time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	cert, certGov := certs[0], certs[1]
	cloud, srv := customers(t, "35e0f735-5fe4-4693-9e68-3de80f1d3745", cert, contoso, fabrikam, refuses)
	cloud.Tenant(fabrikam).SetSecrets("99e0f735-5fe4-4693-9e68-3de80f1d3745", secret)
	cloud.Tenant(refuses).Consent(false)
	gov, srvGov := customers(t, "77e0f735-5fe4-4693-9e68-3de80f1d3745", certGov, woodgrove)
	cas := ""
	for i, s := range []*defendersim.Server{srv, srvGov} {
		ca := filepath.Join(dir, fmt.Sprint("ca", i))
		if err := s.WriteCA(ca); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(ca)
		if err != nil {
			t.Fatal(err)
		}
		cas += string(text)
	}

	list := fence("The file of tenants", "```yaml")
	list.replace("/etc/fluent-bit/fabrikam.secret", file("fabrikam.secret", secret))
	list.replace("/etc/fluent-bit/provider-gov.pem", file("provider-gov.pem", string(certGov.PEM())))
	list.replace("cloud: gcc_high", "cloud: gcc_high\n  authority: "+srvGov.Authority()+"\n  url: "+srvGov.GraphURL()+"\n  resource: "+defendersim.GraphHost)
	list.text += "- tenant_id: " + refuses + "\n  name: adatum\n"
	input := fence("The stanza", "```")
	input.replace("/etc/fluent-bit/tenants.yaml", file("tenants.yaml", list.text))
	input.replace("/etc/fluent-bit/provider.pem", file("provider.pem", string(cert.PEM())))
	input.replace("/var/lib/fluent-bit/defender.db", filepath.Join(dir, "defender.db"))
	input.last("authority "+srv.Authority(), "url "+srv.GraphURL(), "ca_file "+file("ca.pem", cas), "poll_interval 1s", "initial_lookback 15m")
	rest := fence("Routing", "```")
	rest.replace("/var/log/fabrikam", filepath.Join(dir, "fabrikam"))
	rest.replace("/var/log/customers", filepath.Join(dir, "customers"))
	f := newFluentBit(t, "    storage.path "+filepath.Join(dir, "chunks"), input.text, rest.text)
	f.start()
	own := func() []string { return lines(t, filepath.Join(dir, "fabrikam", "defender.fabrikam")) }
	others := func() []string { return lines(t, filepath.Join(dir, "customers", "defender.alerts")) }
	f.await(30*time.Second, "all alerts", func() bool { return len(own()) >= 2 && len(others()) >= 4 })
	f.await(30*time.Second, "the word about the one who has not consented", func() bool {
		return len(f.told("tenant adatum: token request: AADSTS7000229: the application was not admitted to this tenant")) == 1
	})
	f.stop(10 * time.Second)
	count := map[string]int{}
	for _, line := range own() {
		if got := object(t, []byte(line))["customer"]; got != fabrikam {
			t.Errorf("an alert of %v came to fabrikam", got)
		}
		count[fabrikam]++
	}
	for _, line := range others() {
		count[fmt.Sprint(object(t, []byte(line))["customer"])]++
	}
	if fmt.Sprint(count) != fmt.Sprint(map[string]int{contoso: 2, fabrikam: 2, woodgrove: 2}) {
		t.Errorf("alerts by customer: %v", count)
	}
	if n := gov.Tenant(woodgrove).Stats().Graph; n == 0 {
		t.Error("the other cloud was not asked")
	}
}
