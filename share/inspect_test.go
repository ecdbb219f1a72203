package share

import (
	"errors"
	"testing"
	"time"

	"fluent-bit-defender/state"
)

func TestInspectShowsWhoPullsWhat(t *testing.T) {
	s := newServer()
	a, api := pod(s, "pod-a_x", 0)
	st, _ := mustTake(t, a, alive)
	mustCommit(t, st, state.Change{Watermark: begin, Add: rows(0, 3), Succeeded: begin.Add(-time.Hour)})
	objects, err := api.OfTenant(t.Context(), tenantLabel(key))
	if err != nil {
		t.Fatal(err)
	}
	rep := Inspect([]Lease{{Slot: 1, Holder: "pod-a_x"}, {Slot: 0}}, append(objects, Object{Name: "alerts-foreign"}))
	if len(rep.Workers) != 2 || rep.Workers[1].Holder != "pod-a_x" || len(rep.Sources) != 2 {
		t.Fatalf("%+v", rep)
	}
	h, foreign := rep.Sources[0], rep.Sources[1]
	if h.Err != nil {
		h, foreign = foreign, h
	}
	if PodOf(h.Owner) != "pod-a" || h.Key != key || !h.Watermark.Equal(begin) || h.IDs != 3 || !h.Oldest.Equal(begin) ||
		!h.Newest.Equal(begin.Add(2*time.Second)) ||
		!h.Succeeded.Equal(begin.Add(-time.Hour)) || h.Bytes == 0 {
		t.Errorf("%+v", h)
	}
	if !errors.Is(foreign.Err, ErrForeign) {
		t.Errorf("what is not ours: %v", foreign.Err)
	}
}

func TestASourceReturnsFromTheSuccessor(t *testing.T) {
	s := newServer()
	a, api := pod(s, "a", time.Minute)
	st, _ := mustTake(t, a, alive)
	mustCommit(t, st, state.Change{Watermark: begin, Add: rows(0, 3), Succeeded: begin})
	mustCommit(t, st, state.Change{Watermark: begin.Add(time.Second), Succeeded: begin})
	if err := Return(t.Context(), api, "alerts", key); !errors.Is(err, ErrOwned) {
		t.Errorf("of a source that a pod pulls: %v", err)
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	if err := Return(t.Context(), api, "alerts", key); err != nil {
		t.Fatal(err)
	}
	_, snap := mustTake(t, a, alive)
	wantSnapshot(t, snap, state.Snapshot{Found: true, Watermark: begin.Add(time.Second), IDs: rows(0, 3)})
	other := key
	other.Tenant = "fabrikam"
	if err := Return(t.Context(), api, "alerts", other); !errors.Is(err, ErrNotFound) {
		t.Errorf("of a source that there is not: %v", err)
	}
}
