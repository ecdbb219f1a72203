package main

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"fluent-bit-defender/internal/flbhost"
)

// The plugin itself holds the file, in a real Fluent Bit where there is one, else in the bundled host.
func TestStateWhileThePluginRuns(t *testing.T) {
	plugin := os.Getenv("IN_DEFENDER_SO")
	if plugin == "" {
		t.Skip("SKIPPED: IN_DEFENDER_SO names no plugin (make build makes it, make test sets it)")
	}
	if _, err := os.Stat(plugin); err != nil {
		t.Skipf("SKIPPED: %v (make build makes it)", err)
	}
	w := newWorld(t)
	for _, name := range []string{"one", "two", "three"} {
		w.svc.Add(row(name, time.Hour, ""))
	}
	stanza := w.stanza("alias eu", "db defender.db")
	w.write("fluent-bit.conf", stanza)
	o := flbhost.Options{
		Plugin: plugin, Config: "[SERVICE]\n    flush 0.2\n    grace 1\n" + stanza, Slow: 2 * time.Second,
	}
	if program, found := flbhost.FluentBit(); found {
		o.FluentBit = program
		o.Config += "[OUTPUT]\n    name null\n    match *\n"
	}
	host := flbhost.Run(t, o)

	type report struct {
		Files []struct {
			InUse  bool `json:"in_use"`
			States []struct {
				Stanza    string
				Watermark time.Time
				Unread    []any
				IDs       int
				Bytes     int
			}
		}
	}
	// Rows are stored once they were with Fluent Bit for 5 s.
	deadline := time.After(30 * time.Second)
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for stored := false; !stored; {
		select {
		case <-deadline:
			t.Fatalf("nothing is stored:\n%s", w.transcript.String())
		case <-tick.C:
		}
		w.transcript.Reset()
		r := w.run("state", "-c", "fluent-bit.conf", "--json")
		if r.code != 0 {
			continue // the file, or a stanza in it, is not there yet
		}
		var got report
		if err := json.Unmarshal([]byte(r.out), &got); err != nil {
			t.Fatal(err)
		}
		if len(got.Files) != 1 || !got.Files[0].InUse {
			t.Fatalf("the file is not held: %s", r.out)
		}
		if states := got.Files[0].States; len(states) == 1 && states[0].IDs == 3 {
			st := states[0]
			if st.Stanza != "eu" || len(st.Unread) != 0 || st.Bytes == 0 ||
				st.Watermark.After(noon.Add(-15*time.Minute+time.Minute)) ||
				st.Watermark.Before(noon.Add(-2*time.Hour)) {
				t.Errorf("%+v", st)
			}
			stored = true
		}
	}
	r := w.run("state", "-c", "fluent-bit.conf", "--reset-to", "3h", "--yes")
	if r.code != 1 || !strings.Contains(r.err, "defender.db is in use: stop Fluent Bit first") {
		t.Errorf("reset: exit %d: %s%s", r.code, r.out, r.err)
	}
	r = w.run("state", "-c", "fluent-bit.conf")
	if r.code != 0 || !strings.Contains(r.out, ", in use\n") || !strings.Contains(r.out, "ids        3 rows") {
		t.Errorf("exit %d: %s%s", r.code, r.out, r.err)
	}
	host.MustStop(t, 20*time.Second)
	if r := w.run("state", "-c", "fluent-bit.conf"); r.code != 0 || !strings.Contains(r.out, ", not in use\n") {
		t.Errorf("exit %d: %s%s", r.code, r.out, r.err)
	}
}
