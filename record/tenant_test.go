package record

import (
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// ofTenant reads an answer of one row for a tenant.
func ofTenant(t *testing.T, r *Reader, tenant, body string) got {
	t.Helper()
	r.SetTenant(tenant)
	rows, err := readAll(r, strings.NewReader(body))
	if err != nil || len(rows) != 1 {
		t.Fatalf("%d rows, %v", len(rows), err)
	}
	return rows[0]
}

func TestTheTenantIsAddedToEachRecord(t *testing.T) {
	opt := siemOptions()
	opt.TenantKey, opt.EventIDKey = "TenantId", "event_id"
	r := NewReader(opt)
	f := func(tenant, body string, want object) {
		t.Helper()
		row := ofTenant(t, r, tenant, body)
		if want = append(want, field1{"event_id", row.ID.String()}); tenant != "" {
			want = append(want[:len(want)-1], field1{"TenantId", tenant}, want[len(want)-1])
		}
		if diff := cmp.Diff(want, row.fields(t)); diff != "" {
			t.Errorf("%s: %s", body, diff)
		}
	}
	for _, tenant := range []string{"a.com", "72f988bf-86f1-41af-91ab-2d7cd011db47", "", strings.Repeat("x", 253)} {
		f(tenant, `[{"AlertId":"a","x":1}]`, object{{"AlertId", "a"}, {"x", int64(1)}})
		f(tenant, `[{}]`, nil)
		f(tenant, `[17]`, object{{"raw", "17"}, {"error", "not an object"}})
	}
	f("a.com", `[{"TenantId":"theirs","AlertId":"a","o":{"TenantId":2},"TenantId":{}}]`,
		object{{"AlertId", "a"}, {"o", object{{"TenantId", int64(2)}}}})
	f("", `[{"TenantId":"theirs"}]`, object{{"TenantId", "theirs"}})
	plain := one(t, siemOptions(), `[{"AlertId":"a","x":1}]`)
	if got := ofTenant(t, r, "a.com", `[{"AlertId":"a","x":1}]`); got.ID != plain.ID {
		t.Error("the identity depends on the tenant")
	}
}

func TestATenantLeavesRoomForRawText(t *testing.T) {
	opt := siemOptions()
	opt.TenantKey, opt.MaxAlert, opt.MaxRecord = "TenantId", 1<<16, 2000
	r := NewReader(opt)
	row := ofTenant(t, r, strings.Repeat("x", 253), `["`+strings.Repeat("a", 5000)+`"]`)
	if !row.Raw || len(row.Data) > opt.withDefaults().MaxRecord {
		t.Errorf("%d bytes, raw %t", len(row.Data), row.Raw)
	}
	row = ofTenant(t, r, strings.Repeat("x", 253), `[{"AlertId":"`+strings.Repeat("a", 1750)+`"}]`)
	if !row.Raw || row.Reason != opt.withDefaults().reasonRecord() {
		t.Errorf("a record that the tenant makes too large: %+v", row.Row)
	}
}

func TestATenantCostsNoAllocation(t *testing.T) {
	opt := siemOptions()
	opt.TenantKey = "TenantId"
	r := NewReader(opt)
	dst := make([]byte, 0, 1<<16)
	in := strings.NewReader("")
	pass := func() {
		in.Reset(`[{"AlertId":"a"},{"AlertId":"b"}]`)
		r.SetTenant("72f988bf-86f1-41af-91ab-2d7cd011db47")
		r.Reset(in, clock)
		for {
			if _, _, err := r.Next(dst); err == io.EOF {
				return
			} else if err != nil {
				t.Fatal(err)
			}
		}
	}
	pass()
	if n := testing.AllocsPerRun(5, pass); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// A row of either API that names the same alert gives the same ID for it, which is no row's.
func TestRowsNameTheirAlerts(t *testing.T) {
	siem, graph := siemOptions(), siemOptions()
	siem.Alerts = []string{"AlertId"}
	graph.Schema, graph.Alerts = Graph, []string{"id", "providerAlertId"}
	alert := func(opt Options, body string) [2]ID {
		t.Helper()
		return ofTenant(t, NewReader(opt), "", body).Alerts
	}
	a := alert(siem, `[{"AlertId":"a\u0031","AlertPart":0,"LastProcessedTimeUtc":"2026-01-01T00:00:00Z"}]`)
	if a[0] == (ID{}) || a[1] != (ID{}) {
		t.Errorf("a detection names the alerts %v", a)
	}
	if got, want := alert(graph, `[{"id":"a1","providerAlertId":"p","lastUpdateDateTime":"2026-01-01T00:00:00Z"}]`),
		alert(graph, `[{"id":"p","providerAlertId":"a1"}]`); got[0] != a[0] ||
		got[1] != want[0] || want[1] != a[0] || got[0] == got[1] {
		t.Errorf("alerts of Graph name %v and %v, the detection %v", got, want, a)
	}
	for _, body := range []string{`[{"AlertId":null}]`, `[{"AlertId":""}]`, `[{"AlertId":{"a":1}}]`,
		"[{\"AlertId\":\"a\xff\"}]", `[{"FullId":"a1","AlertTime":""}]`} {
		if got := alert(siem, body); got != ([2]ID{}) {
			t.Errorf("%s names the alerts %v", body, got)
		}
	}
	if row := ofTenant(t, NewReader(siem), "", `[{"AlertId":"a1"}]`); row.ID == row.Alerts[0] {
		t.Error("the alert has the ID of its row")
	}
}
