package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"fluent-bit-defender/conf"
	"fluent-bit-defender/internal/defendersim"
	"fluent-bit-defender/state"
)

// fleet is a provider's world: a cloud of many tenants, of whom the first few are in tenants.yaml.
type fleet struct {
	*world
	cloud *defendersim.Fleet
}

func tenantID(i int) string { return fmt.Sprintf("%08d-2222-3333-4444-555555555555", i) }

func newFleet(t *testing.T, tenants int) *fleet {
	t.Helper()
	cloud := defendersim.NewFleet(defendersim.Config{Now: func() time.Time { return noon }, Seed: 1})
	f := &fleet{world: newWorld(t), cloud: cloud}
	srv, err := defendersim.StartFleet(f.cloud, defendersim.ServerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(srv.Close)
	if err := srv.WriteCA("fleet.pem"); err != nil {
		t.Fatal(err)
	}
	var list strings.Builder
	for i := range tenants {
		f.cloud.Tenant(tenantID(i))
		fmt.Fprintf(&list, "- tenant_id: %s\n  name: customer %d\n", tenantID(i), i)
	}
	f.write("tenants.yaml", list.String())
	f.write("fluent-bit.conf", f.provider(srv))
	return f
}

func (f *fleet) provider(srv *defendersim.Server, keys ...string) string {
	lines := []string{
		"name defender", "alias provider", "tenants_file tenants.yaml",
		"client_id " + defendersim.DefaultClientID, "client_secret_file secret",
		"url " + srv.AlertsURL(), "authority " + srv.Authority(), "ca_file fleet.pem", "db defender.db", "parallel 4",
	}
	return "[INPUT]\n    " + strings.Join(append(lines, keys...), "\n    ") + "\n"
}

func TestCheckOfManyTenants(t *testing.T) {
	f := newFleet(t, 12)
	f.run("check", "-c", "fluent-bit.conf")
	f.cloud.Tenant(tenantID(2)).Consent(false)
	f.cloud.Tenant(tenantID(7)).Consent(false)
	for _, i := range []int{1, 3, 5, 9} {
		f.cloud.Tenant(tenantID(i)).SetModes(func(m *defendersim.Modes) { m.Forbidden = true })
	}
	f.cloud.Remove(tenantID(11)) // as one of another cloud
	s := f.store("defender.db", state.Key(f.config(0).Source()), state.Change{Watermark: noon.Add(-time.Hour)})
	defer s.Close()
	if r := f.run("check", "-c", "fluent-bit.conf"); r.code != exitFindings {
		t.Errorf("exit %d", r.code)
	}
	f.run("check", "-c", "fluent-bit.conf", "--tenant", "customer 2")
	f.run("check", "-c", "fluent-bit.conf", "--tenant", strings.ToUpper(tenantID(4)))
	f.run("check", "-c", "fluent-bit.conf", "--tenant", "nobody")
	f.write("tenants.yaml", "- tenant_id: contoso.com\n  region: de\n- name: x\n")
	f.run("check", "-c", "fluent-bit.conf", "--offline")
	f.write("elsewhere.conf", strings.Replace(read(t, "fluent-bit.conf"), "tenants.yaml", "/nowhere/tenants.yaml", 1))
	f.run("check", "-c", "elsewhere.conf", "--offline")
	f.run("check", "-c", "elsewhere.conf")
	f.golden("check_tenants")
}

// config is the Config of a tenant of the only stanza.
func (f *fleet) config(i int) *conf.Config {
	f.Helper()
	_, cfg, err := f.app.oneTenant("fluent-bit.conf", "", tenantID(i))
	if err != nil {
		f.Fatal(err)
	}
	return cfg
}

func TestCheckOfManyTenantsForMachines(t *testing.T) {
	f := newFleet(t, 3)
	f.cloud.Tenant(tenantID(2)).Consent(false)
	r := f.run("check", "-c", "fluent-bit.conf", "--json")
	var got struct {
		Findings int
		Results  []struct{ Tenant, Check, Status string }
	}
	if err := json.Unmarshal([]byte(r.out), &got); err != nil {
		t.Fatal(err)
	}
	requests := map[string]string{}
	for _, l := range got.Results {
		if l.Check == "request" {
			requests[l.Tenant] = l.Status
		}
	}
	if got.Findings != 1 || fmt.Sprint(requests) != "map[customer 0:ok customer 1:ok customer 2:skipped]" {
		t.Errorf("%d findings, requests %v", got.Findings, requests)
	}
}

func TestProgressIsShownOnATerminalOnly(t *testing.T) {
	f := newFleet(t, 3)
	f.app.errTTY = true
	r := f.run("check", "-c", "fluent-bit.conf")
	if !strings.HasSuffix(r.err, "\r\x1b[K3 of 3 tenants asked, 0 failing\r\x1b[K") {
		t.Errorf("%q", r.err)
	}
	f.app.errTTY = false
	if r := f.run("check", "-c", "fluent-bit.conf"); r.err != "" {
		t.Errorf("%q", r.err)
	}
}

// A tenant that hangs keeps no other from being asked.
func TestATenantThatHangsIsOneFinding(t *testing.T) {
	f := newFleet(t, 6)
	f.cloud.Tenant(tenantID(0)).OnRequest(func(defendersim.Request) *defendersim.Fault { return defendersim.Hang() })
	r := f.run("check", "-c", "fluent-bit.conf", "--timeout", "500ms")
	if !strings.Contains(r.out, "5 tenants\n") ||
		!strings.Contains(r.out, "1 tenant (customer 0): token: no answer within 500ms (--timeout)") {
		t.Error(r.out)
	}
}

func TestStateOfManyTenants(t *testing.T) {
	f := newFleet(t, 7)
	for i, ago := range map[int]time.Duration{
		0: time.Minute, 1: 15 * time.Minute, 2: 73 * time.Hour, 3: 16 * time.Minute, 5: 17 * time.Minute,
	} {
		c := state.Change{Watermark: noon.Add(-ago), Add: seenRows(i, noon)}
		if i == 3 {
			unread := state.UnreadRange{Since: noon.Add(-5 * time.Hour), Until: noon.Add(-4 * time.Hour), Reason: "500"}
			c.Unread = []state.UnreadRange{unread}
		}
		defer f.store("defender.db", state.Key(f.config(i).Source()), c).Close()
	}
	key := state.Key{API: "siem", Place: "public/eu", Tenant: "contoso.com"}
	gone := f.store("defender.db", key, state.Change{Watermark: noon.AddDate(0, -1, 0)})
	defer gone.Close()
	f.run("state", "-c", "fluent-bit.conf")
	f.run("state", "-c", "fluent-bit.conf", "--tenant", "customer 3")
	f.run("state", "-c", "fluent-bit.conf", "--tenant", "nobody")
	f.run("state", "--db", "defender.db")
	f.golden("state_tenants")
}

func TestResetOfOneTenant(t *testing.T) {
	f := newFleet(t, 2)
	s := f.store("defender.db", state.Key(f.config(0).Source()), state.Change{Watermark: noon.Add(-time.Minute)})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	reset := []string{"state", "-c", "fluent-bit.conf", "--reset-to", "3h", "--yes"}
	if r := f.run(reset...); r.code != exitUsage || !strings.Contains(r.err, "--tenant") {
		t.Errorf("%d %s", r.code, r.err)
	}
	if r := f.run(append(reset, "--tenant", "customer 0")...); r.code != 0 ||
		r.out != "provider, tenant customer 0 begins at 2024-05-06T09:00:00Z\n" {
		t.Errorf("%d %s%s", r.code, r.out, r.err)
	}
}

func TestPullAndLoginAreOfOneTenant(t *testing.T) {
	f := newFleet(t, 2)
	f.cloud.Tenant(tenantID(1)).Add(defendersim.SeedAlert(noon.Add(-5 * time.Minute)))
	for _, args := range [][]string{{"pull", "--since", "1h"}, {"login"}} {
		args = append(args, "-c", "fluent-bit.conf")
		const which = "stanza provider has 2 tenants: name one by --tenant, by its name or id"
		if r := f.run(args...); r.code != exitUsage || !strings.Contains(r.err, which) {
			t.Errorf("%d %s", r.code, r.err)
		}
		r := f.run(append(args, "--tenant", "nobody")...)
		if r.code != exitUsage || !strings.Contains(r.err, "stanza provider has no tenant nobody") {
			t.Errorf("%d %s", r.code, r.err)
		}
	}
	r := f.run("pull", "--since", "1h", "-c", "fluent-bit.conf", "--tenant", "customer 1")
	if r.code != 0 || bytes.Count([]byte(r.out), []byte("\n")) != 1 {
		t.Errorf("%d %s%s", r.code, r.out, r.err)
	}
	r = f.run("login", "-c", "fluent-bit.conf", "--tenant", "customer 1")
	if !strings.Contains(r.err, "stanza provider has auth client_secret") {
		t.Errorf("%d %s", r.code, r.err)
	}
}
