package main

import (
	"strings"
	"testing"
	"time"

	"fluent-bit-defender/internal/defendersim"
	"fluent-bit-defender/state"
)

// successorStanza is a stanza of the SIEM API with Microsoft Graph as its successor.
func (w *world) successorStanza(keys ...string) string {
	own := []string{"successor graph", "successor_url " + w.srv.GraphURL(), "db defender.db"}
	return w.stanza(append(own, keys...)...)
}

func TestCheckAsksTheSuccessorToo(t *testing.T) {
	w := newWorld(t)
	w.write("fluent-bit.conf", w.successorStanza("alias eu"))
	if r := w.run("check", "-c", "fluent-bit.conf"); r.code != 0 || !strings.Contains(r.out, "successor request: ") {
		t.Errorf("exit %d", r.code)
	}
	w.svc.SetGraphRoles(defendersim.DefaultClientID)
	if r := w.run("check", "-c", "fluent-bit.conf"); r.code != 1 || !strings.Contains(r.out, "SecurityAlert.Read.All") {
		t.Errorf("exit %d, without the missing permission", r.code)
	}
	w.golden("check_successor")
}

func TestStateShowsTheSuccessorAndGoesBack(t *testing.T) {
	w := newWorld(t)
	w.write("fluent-bit.conf", w.successorStanza("alias eu")+
		w.successorStanza("alias us", "machine_groups b", "filter severity eq 'high'"))
	eu, us := w.keyOf("fluent-bit.conf"), w.keyOf("fluent-bit.conf")
	us.Filters = "machine_groups=b"
	held := w.store("defender.db", eu, state.Change{
		Watermark: noon.Add(-15 * time.Minute), Succeeded: noon.Add(-26 * time.Hour),
	})
	other := w.store("defender.db", us, state.Change{Watermark: noon.Add(-16 * time.Minute)})
	back := func(code int, args ...string) {
		t.Helper()
		args = append([]string{"state", "-c", "fluent-bit.conf", "--successor-back"}, args...)
		if r := w.run(args...); r.code != code {
			t.Errorf("%q: exit %d", args, r.code)
		}
	}
	w.run("state", "-c", "fluent-bit.conf")
	back(1, "--stanza", "eu", "--yes") // in use
	for _, s := range []state.Store{held, other} {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	back(2)                            // of two
	back(1, "--stanza", "us", "--yes") // never went
	back(2, "--stanza", "eu")          // nobody confirms
	back(2, "--stanza", "eu", "--reset-to", "2024-05-06T09:00:00Z")
	back(0, "--stanza", "eu", "--yes")
	w.run("state", "-c", "fluent-bit.conf", "--stanza", "eu")
	w.golden("state_successor")
}
