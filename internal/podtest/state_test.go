//go:build kubernetes

package podtest

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"fluent-bit-defender/internal/defendersim"
)

// defenderctl shows who works, and of the source which pod pulls it and up to when.
func TestStateOfPods(t *testing.T) {
	t.Parallel()
	program := os.Getenv("DEFENDERCTL")
	if program == "" {
		t.Skip("SKIPPED: no DEFENDERCTL; make test-kubernetes sets it")
	}
	w := newWorld(t)
	w.started(2)
	conf := filepath.Join(t.TempDir(), "fluent-bit.conf")
	text := "[INPUT]\n  name defender\n  alias alerts\n  db kubernetes://alerts\n  kubeconfig " + w.kubeconfig +
		"\n  ca_file " + w.ca + "\n  client_id " +
		defendersim.DefaultClientID + "\n  client_secret " + defendersim.DefaultSecret + "\n  url " +
		w.srv.AlertsURL() + "\n" + w.lines
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	type report struct {
		Files []struct {
			Held    bool `json:"in_use"`
			Workers []struct {
				Lease, Pod string
				Sources    int
			}
			States []struct {
				Stanza, Owner string
				Watermark     *string
			}
		}
	}
	var got report
	var out []byte
	shown := func() bool {
		cmd := exec.Command(program, "state", "-c", conf, "--json")
		var err error
		if out, err = cmd.Output(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		got = report{}
		if err := json.Unmarshal(out, &got); err != nil {
			t.Fatal(err)
		}
		return len(got.Files) == 1 && len(got.Files[0].Workers) == 2 && len(got.Files[0].States) == 1 &&
			got.Files[0].States[0].Watermark != nil &&
			got.Files[0].States[0].Owner != "" && got.Files[0].States[0].Owner == w.owner()
	}
	// a watermark is stored within five seconds; the source may move before
	w.await("two workers and a state", limit, shown)
	owner, owns := w.owner(), 0
	f := got.Files[0]
	for _, k := range f.Workers {
		if owns += k.Sources; !strings.HasPrefix(k.Lease, "alerts-worker-") || !strings.HasPrefix(k.Pod, "pod-") ||
			(k.Sources == 1) != (k.Pod == owner) {
			t.Errorf("worker %+v, the owner is %s", k, owner)
		}
	}
	if s := f.States[0]; !f.Held || owns != 1 || s.Stanza != "alerts" || s.Owner != owner {
		t.Errorf("shown is %s, the owner is %s", out, owner)
	}
	plain, err := exec.Command(program, "state", "-c", conf).Output()
	if err != nil || !strings.Contains(string(plain), "owner      "+owner+"\n") || !strings.Contains(string(plain),
		"pulls 1 source\n") {
		t.Errorf("%v: %s", err, plain)
	}
}
