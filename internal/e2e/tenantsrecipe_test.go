package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fluent-bit-defender/internal/defendersim"
)

// customers starts a cloud with these tenants, to each of which the application is known by its certificate alone.
func customers(t *testing.T, app string, cert *defendersim.Certificate, tenants ...string) (*defendersim.Fleet,
	*defendersim.Server) {
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

// What stands on docs/tenants.md, in the real Fluent Bit: customers of two clouds, one of whom insists on a secret of
// its own, and one who has not consented.
func TestTenantsRecipe(t *testing.T) {
	t.Parallel()
	needFluentBit(t)
	const (
		contoso, fabrikam, woodgrove = "72f988bf-86f1-41af-91ab-2d7cd011db47", "11111111-2222-3333-4444-555555555555",
			"22222222-3333-4444-5555-666666666666"
		refuses = "33333333-4444-5555-6666-777777777777"
		secret  = "a-secret-of-their-own"
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
		if certs[i], err = defendersim.NewCertificate(time.Now().Add(-time.Hour),
			time.Now().Add(1000*time.Hour)); err != nil {
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
	list.replace("cloud: gcc_high", "cloud: gcc_high\n  authority: "+srvGov.Authority()+"\n  url: "+srvGov.GraphURL()+
		"\n  resource: "+defendersim.GraphHost)
	list.text += "- tenant_id: " + refuses + "\n  name: adatum\n"
	input := fence("The stanza", "```")
	input.replace("/etc/fluent-bit/tenants.yaml", file("tenants.yaml", list.text))
	input.replace("/etc/fluent-bit/provider.pem", file("provider.pem", string(cert.PEM())))
	input.replace("/var/lib/fluent-bit/defender.db", filepath.Join(dir, "defender.db"))
	input.last("authority "+srv.Authority(), "url "+srv.GraphURL(), "ca_file "+file("ca.pem", cas), "poll_interval 1s",
		"initial_lookback 15m")
	rest := fence("Routing", "```")
	rest.replace("/var/log/fabrikam", filepath.Join(dir, "fabrikam"))
	rest.replace("/var/log/customers", filepath.Join(dir, "customers"))
	f := newFluentBit(t, "    storage.path "+filepath.Join(dir, "chunks"), input.text, rest.text)
	f.start()
	own := func() []string { return lines(t, filepath.Join(dir, "fabrikam", "defender.fabrikam")) }
	others := func() []string { return lines(t, filepath.Join(dir, "customers", "defender.alerts")) }
	f.await(30*time.Second, "all alerts", func() bool { return len(own()) >= 2 && len(others()) >= 4 })
	f.await(30*time.Second, "the word about the one who has not consented", func() bool {
		return len(f.told("tenant adatum: token request: AADSTS7000229: the application was not admitted to "+
			"this tenant")) == 1
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
