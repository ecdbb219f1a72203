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

// fleet is a world whose service has many tenants, and whose pods have them from a file.
type fleet struct {
	*world
	cloud *defendersim.Fleet
	list  string // the file of tenants
	gens  []*defendersim.Generator
}

func newFleet(t *testing.T, tenants int) *fleet {
	t.Helper()
	f := &fleet{world: newWorld(t), cloud: defendersim.NewFleet(defendersim.Config{})}
	srv, err := defendersim.StartFleet(f.cloud, defendersim.ServerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(srv.Close)
	f.srv = srv
	if err := srv.WriteCA(f.ca); err != nil {
		t.Fatal(err)
	}
	f.list = filepath.Join(t.TempDir(), "tenants.yaml")
	f.lines = "  tenants_file " + f.list + "\n  authority " + srv.Authority() + "\n"
	for i := range tenants {
		f.cloud.Tenant(id(i))
		f.gens = append(f.gens, defendersim.NewGenerator(rand.New(rand.NewPCG(uint64(i), 3)), defendersim.Mix{}))
	}
	return f
}

func id(tenant int) string { return fmt.Sprintf("%08d-2222-3333-4444-555555555555", tenant) }

// write makes these the tenants in the file.
func (f *fleet) write(tenants ...int) {
	f.Helper()
	var text strings.Builder
	for _, i := range tenants {
		fmt.Fprintf(&text, "- tenant_id: %s\n", id(i))
	}
	replace(f.T, f.list, text.String())
}

// add gives each of these tenants a new alert.
func (f *fleet) add(tenants ...int) {
	for _, i := range tenants {
		svc := f.cloud.Tenant(id(i))
		a := f.gens[i].Alert(svc.Now().Add(-second))
		f.mu.Lock()
		f.added[a.Key()] = time.Now()
		f.mu.Unlock()
		svc.Add(a)
	}
}

// replace puts a new file in the place of path in one step.
func replace(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// Sixty tenants of one stanza over four pods: three of them work, each with its part, and each alert comes once.
func TestSixtyTenants(t *testing.T) {
	const tenants = 60
	w := newFleet(t, tenants)
	all := make([]int, tenants)
	for i := range all {
		all[i] = i
	}
	w.write(all...)
	w.add(all...)
	for range 4 {
		w.pod()
	}
	for range 4 {
		time.Sleep(5 * second)
		w.add(all...)
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
	w := newFleet(t, 5)
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
	w.write(0, 1, 2, 3)
	w.add(0, 1, 2, 3)
	w.pod()
	w.pod()
	w.await("the first alerts", limit, w.all)
	w.add(3)
	w.await("the last alert of the tenant that goes", limit, w.all)
	w.write(0, 1, 2, 4)
	changed := time.Now()
	for until := changed.Add(limit); ; time.Sleep(200 * time.Millisecond) {
		w.add(0, 1, 2, 4) // under load
		if of := owners(); of[id(3)] == "" && of[id(4)] != "" {
			break
		}
		if time.Now().After(until) {
			t.Fatalf("the owners are %v", owners())
		}
	}
	took := time.Since(changed)
	t.Logf("the new tenant has an owner, and the old one none, %s after the change", took.Round(100*time.Millisecond))
	if took > 15*second { // each pod looks every five seconds and waits one; what was delivered becomes durable in five
		t.Errorf("it took %s", took)
	}
	for range 10 {
		w.add(0, 1, 2, 4)
		w.await("every alert", limit, w.all)
	}
	w.check(0)
	if of := owners(); of[id(3)] != "" || of[id(4)] == "" || len(of) != 5 {
		t.Errorf("the owners are %v", of)
	}
}
