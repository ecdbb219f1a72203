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

// A file of tenants that changes under two pods: each reads it for itself, and each alert of a tenant that was in it
// comes once. The new tenant has an owner, and the one that was removed has none.
func TestATenantsFileChanges(t *testing.T) {
	t.Parallel()
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
	id := func(i int) string { return fmt.Sprintf("%08d-2222-3333-4444-555555555555", i) }
	write := func(tenants ...int) {
		t.Helper()
		var text strings.Builder
		for _, i := range tenants {
			fmt.Fprintf(&text, "- tenant_id: %s\n", id(i))
		}
		if err := os.WriteFile(list+".new", []byte(text.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(list+".new", list); err != nil {
			t.Fatal(err)
		}
	}
	var gens []*defendersim.Generator
	for i := range 5 {
		cloud.Tenant(id(i))
		gens = append(gens, defendersim.NewGenerator(rand.New(rand.NewPCG(uint64(i), 4)), defendersim.Mix{}))
	}
	add := func(tenants ...int) {
		for _, i := range tenants {
			svc := cloud.Tenant(id(i))
			a := gens[i].Alert(svc.Now().Add(-second))
			w.mu.Lock()
			w.added[a.Key()] = time.Now()
			w.mu.Unlock()
			svc.Add(a)
		}
	}
	owners := func() (of map[string]string) {
		maps, err := w.server.Admin.CoreV1().ConfigMaps(w.namespace).List(t.Context(), meta.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		of = map[string]string{}
		for _, m := range maps.Items {
			for i := range 5 {
				if strings.Contains(m.Data["source"], id(i)) {
					of[id(i)] = m.Data["owner"]
				}
			}
		}
		return of
	}
	write(0, 1, 2, 3)
	add(0, 1, 2, 3)
	w.pod()
	w.pod()
	w.await("the first alerts", limit, w.all)
	add(3)
	w.await("the last alert of the tenant that goes", limit, w.all)
	write(0, 1, 2, 4)
	changed := time.Now()
	for until := changed.Add(limit); ; time.Sleep(200 * time.Millisecond) {
		add(0, 1, 2, 4) // under load
		if of := owners(); of[id(3)] == "" && of[id(4)] != "" {
			break
		}
		if time.Now().After(until) {
			t.Fatalf("the owners are %v", owners())
		}
	}
	took := time.Since(changed)
	t.Logf("the new tenant has an owner, and the old one none, %s after the file changed", took.Round(100*time.Millisecond))
	if took > 15*second { // each pod looks every five seconds and waits one; what was delivered becomes durable in five
		t.Errorf("it took %s", took)
	}
	for range 10 {
		add(0, 1, 2, 4)
		w.await("every alert", limit, w.all)
	}
	w.check(0)
	if of := owners(); of[id(3)] != "" || of[id(4)] == "" || len(of) != 5 {
		t.Errorf("the owners are %v", of)
	}
}
