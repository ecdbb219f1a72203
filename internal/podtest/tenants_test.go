//go:build kubernetes

package podtest

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	meta "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fluent-bit-defender/internal/defendersim"
)

// Sixty tenants of one stanza over four pods: three of them work, each with its part, and each alert comes once.
func TestSixtyTenants(t *testing.T) {
	const tenants = 60
	w := newWorld(t)
	cloud := defendersim.NewFleet(defendersim.Config{})
	srv, err := defendersim.StartFleet(cloud, defendersim.ServerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(srv.Close)
	w.srv = srv
	if err := srv.WriteCA(w.ca); err != nil {
		t.Fatal(err)
	}
	list := filepath.Join(t.TempDir(), "tenants.yaml")
	w.lines = "  tenants_file " + list + "\n  authority " + srv.Authority() + "\n"
	var file strings.Builder
	var gens []*defendersim.Generator
	id := func(i int) string { return fmt.Sprintf("%08d-2222-3333-4444-555555555555", i) }
	for i := range tenants {
		cloud.Tenant(id(i))
		fmt.Fprintf(&file, "- tenant_id: %s\n", id(i))
		gens = append(gens, defendersim.NewGenerator(rand.New(rand.NewPCG(uint64(i), 3)), defendersim.Mix{}))
	}
	if err := os.WriteFile(list, []byte(file.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	add := func() {
		for i := range tenants {
			svc := cloud.Tenant(id(i))
			a := gens[i].Alert(svc.Now().Add(-second))
			w.mu.Lock()
			w.added[a.Key()] = time.Now()
			w.mu.Unlock()
			svc.Add(a)
		}
	}
	add()
	for range 4 {
		w.pod()
	}
	for range 4 {
		time.Sleep(5 * second)
		add()
	}
	w.check(0)
	maps, err := w.server.Admin.CoreV1().ConfigMaps(w.namespace).List(t.Context(), meta.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	owners := map[string]int{}
	for _, m := range maps.Items {
		owners[m.Data["owner"]]++
	}
	t.Logf("sources by owner: %v", owners)
	least, most := tenants, 0
	for _, n := range owners {
		least, most = min(least, n), max(most, n)
	}
	if len(owners) != 3 || owners[""] != 0 || most > 2*least {
		t.Errorf("%d tenants are spread as %v", tenants, owners)
	}
}
