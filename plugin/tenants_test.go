package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fluent-bit-defender/conf"
	"fluent-bit-defender/pull"
	"fluent-bit-defender/state"
)

// provider returns the keys of a stanza whose tenants_file holds text.
func provider(t *testing.T, text string) func(string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "tenants.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	keys := map[string]string{
		"tenants_file": path, "client_id": "35e0f735-5fe4-4693-9e68-3de80f1d3745",
		"client_secret": "opensesame", "region": "eu",
	}
	return func(key string) string { return keys[key] }
}

// taken holds the state of a tenant, as another stanza would.
func taken(t *testing.T, cfg *conf.Config) (give func()) {
	t.Helper()
	st, err := state.OpenMemory(pull.KeyOf(cfg))
	if err != nil {
		t.Fatal(err)
	}
	return func() { st.Close() }
}

func TestAStanzaOfManyTenantsStartsWholeOrNotAtAll(t *testing.T) {
	get := provider(t, "- tenant_id: a.com\n- tenant_id: b.com\n  name: bravo\n")
	_, cfgs, err := load(get, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	give := taken(t, cfgs[1])
	_, _, err = build(get, slog.New(slog.DiscardHandler))
	if err == nil || !strings.HasPrefix(err.Error(), "tenant bravo: ") ||
		!strings.Contains(err.Error(), "another stanza has the same api") {
		t.Errorf("the start gave %v", err)
	}
	give()
	out := &lines{}
	s, _, err := build(get, slog.New(slog.NewTextHandler(out, nil))) // nothing was left open
	if err != nil {
		t.Fatal(err)
	}
	if n := len(s.holds()); n != 2 || s.Stats().Sources != 2 {
		t.Errorf("%d states, %+v", n, s.Stats())
	}
	if err := s.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	if !strings.Contains(out.String(), "pulling alerts of 2 tenants") {
		t.Error(out.String())
	}
}

func TestATenantThatCannotBeginLeavesTheOthersAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &lines{}
		get := provider(t,
			"- tenant_id: a.com\n- tenant_id: b.com\n  name: bravo\n- tenant_id: c.com\n- tenant_id: d.com\n")
		s, all, err := load(get, slog.New(slog.NewTextHandler(out, nil)))
		if err != nil {
			t.Fatal(err)
		}
		if err := s.open(all[:1]); err != nil {
			t.Fatal(err)
		}
		give := taken(t, all[1])
		failed := s.apply(t.Context(), conf.Difference{Begin: all[1:3]})
		if len(failed) != 1 || failed[0] != all[1] || s.Stats().Sources != 2 {
			t.Errorf("%d failed, %d are there", len(failed), s.Stats().Sources)
		}
		give()
		changed := *all[0]
		changed.Limit = 5
		failed = s.apply(t.Context(), conf.Difference{
			Begin: failed, Stop: all[2:3], Change: []conf.Replacement{{Old: all[0], New: &changed}},
		})
		if len(failed) > 0 {
			t.Errorf("%d failed", len(failed))
		}
		if n := len(s.holds()); n != 2 || s.Stats().Sources != 2 {
			t.Errorf("%d states, %d sources", n, s.Stats().Sources)
		}
		time.Sleep(2 * time.Minute)
		if err := s.Stop(t.Context()); err != nil {
			t.Error(err)
		}
		if got := out.String(); strings.Count(got, "tenant bravo: cannot begin: ") != 1 {
			t.Error(got)
		}
		taken(t, all[0])()
	})
}
