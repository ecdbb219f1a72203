package main

import (
	"encoding/binary"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fluent-bit-defender/cmd/defenderctl/flbconf"
	"fluent-bit-defender/pull"
	"fluent-bit-defender/state"
)

// keyOf is the state key of the only stanza of a file.
func (w *world) keyOf(path string) state.Key {
	w.Helper()
	c, err := flbconf.Load(path, w.app.env)
	if err != nil {
		w.Fatal(err)
	}
	_, cfgs, err := w.app.stanzas(c)[0].load()
	if err != nil {
		w.Fatal(err)
	}
	return pull.KeyOf(cfgs[0])
}

// store commits to a state file and leaves it open.
func (w *world) store(path string, key state.Key, c state.Change) state.Store {
	w.Helper()
	s, err := state.OpenFile(path, key, nil)
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { _ = s.Close() })
	if err := s.Commit(c); err != nil {
		w.Fatal(err)
	}
	return s
}

func seenRows(n int, newest time.Time) (rows []state.Entry) {
	for i := range n {
		e := state.Entry{Age: newest.Add(-time.Duration(i) * time.Second).UnixNano()}
		binary.BigEndian.PutUint64(e.ID[:], uint64(i))
		rows = append(rows, e)
	}
	return rows
}

func TestStateWhileFluentBitHoldsTheFile(t *testing.T) {
	w := newWorld(t)
	w.write("fluent-bit.conf", w.stanza("alias eu", "db defender.db", "machine_groups b,a")+
		w.stanza("alias fresh", "db defender.db", "machine_groups c")+w.stanza("alias forgetful")+
		w.stanza("alias gone", "db nowhere/x.db"))
	s := w.store("defender.db", w.keyOf("fluent-bit.conf"), state.Change{
		Watermark: noon.Add(-15*time.Minute - 12*time.Second), Add: seenRows(12_345, noon.Add(-time.Second)),
		Unread: []state.UnreadRange{{
			Since: noon.Add(-2 * time.Hour), Until: noon.Add(-119 * time.Minute),
			Reason: "alerts request: error in the service (500)",
		}},
	})
	gone := state.Key{API: "siem", Place: "public/eu", Tenant: "contoso.com"}
	old := w.store("defender.db", gone, state.Change{Watermark: noon.AddDate(0, -1, 0)})
	if r := w.run("state", "-c", "fluent-bit.conf"); r.code != 1 {
		t.Errorf("exit %d", r.code)
	}
	w.run("state", "--db", "defender.db")
	w.run("state", "-c", "fluent-bit.conf", "--stanza", "eu", "--json")
	w.run("state", "-c", "fluent-bit.conf", "--stanza", "eu", "--reset-to", "2024-05-06T09:00:00Z", "--yes")
	for _, c := range []state.Store{s, old} {
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	w.run("state", "-c", "fluent-bit.conf", "--stanza", "eu")
	w.golden("state")
}

func TestResetAsksFirst(t *testing.T) {
	w := newWorld(t)
	w.write("fluent-bit.conf", w.stanza("alias eu", "db defender.db"))
	w.write("memory.conf", w.stanza("alias eu"))
	key := w.keyOf("fluent-bit.conf")
	settled := noon.Add(-15 * time.Minute)
	s := w.store("defender.db", key, state.Change{Watermark: settled, Add: seenRows(100, noon)})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	now := func() time.Time {
		rep, err := state.Inspect("defender.db")
		if err != nil {
			t.Fatal(err)
		}
		return rep.Sources[0].Watermark
	}
	args := []string{"state", "-c", "fluent-bit.conf", "--reset-to", "3h"}
	w.run(args...) // no terminal
	w.app.inTTY = true
	for _, answer := range []string{"", "n\n", "\n", "no way\n"} {
		w.app.in = strings.NewReader(answer)
		w.run(args...)
		if now() != settled {
			t.Fatalf("%q reset it", answer)
		}
	}
	w.app.in = strings.NewReader("y\n")
	w.run(args...)
	if want := noon.Add(-3 * time.Hour); !now().Equal(want) {
		t.Errorf("begins at %v, want %v", now(), want)
	}
	w.app.inTTY = false
	w.run("state", "--db", "defender.db", "--reset-to", "2024-05-06", "--yes")
	w.run("state", "-c", "memory.conf", "--reset-to", "2024-05-06", "--yes")
	w.run("state", "--db", "nowhere.db", "--reset-to", "2024-05-06", "--yes")
	w.golden("state_reset")
}

func TestStateJSON(t *testing.T) {
	w := newWorld(t)
	w.write("fluent-bit.conf", w.stanza("alias eu", "db defender.db")+w.stanza("alias forgetful", "machine_groups a"))
	s := w.store("defender.db", w.keyOf("fluent-bit.conf"), state.Change{
		Watermark: noon.Add(-20 * time.Minute), Add: seenRows(2, noon),
	})
	defer s.Close()
	var got struct {
		Files []struct {
			Path   string
			InUse  bool `json:"in_use"`
			Bytes  int64
			States []struct {
				Stanza    string
				Watermark time.Time
				Lag       float64 `json:"lag_seconds"`
				IDs       int
			}
		}
		InMemory []string `json:"in_memory"`
	}
	r := w.run("state", "-c", "fluent-bit.conf", "--json")
	if err := json.Unmarshal([]byte(r.out), &got); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(".", "defender.db"))
	if err != nil {
		t.Fatal(err)
	}
	f := got.Files[0]
	if len(got.Files) != 1 || f.Path != "defender.db" || !f.InUse || f.Bytes != info.Size() ||
		len(f.States) != 1 || len(got.InMemory) != 1 || got.InMemory[0] != "forgetful" {
		t.Fatalf("%+v", got)
	}
	st := f.States[0]
	if st.Stanza != "eu" || st.Lag != 1200 || st.IDs != 2 || !st.Watermark.Equal(noon.Add(-20*time.Minute)) {
		t.Errorf("%+v", st)
	}
}
