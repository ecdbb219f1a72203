package e2e

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"fluent-bit-defender/internal/defendersim"
	"fluent-bit-defender/internal/flbhost"
)

// A stanza with five faults stops the start with five lines; none shows a secret.
func TestFiveFaultsStopTheStart(t *testing.T) {
	everywhere(t, func(w *world) {
		stanza, err := os.ReadFile("../../conf/testdata/bad/five_faults.conf")
		if err != nil {
			w.Fatal(err)
		}
		var want []string
		for line := range strings.Lines(string(stanza)) {
			if fault, ok := strings.CutPrefix(line, "# want: "); ok {
				want = append(want, strings.TrimSpace(fault))
			}
		}
		h := flbhost.Launch(w.T, w.options("", string(stanza)))
		w.awaitRefusal(h, 20*time.Second)
		got := ours(h, "error")
		slices.Sort(got)
		slices.Sort(want)
		if len(want) != 5 || !slices.Equal(got, want) {
			w.Errorf("said\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		h.Look(func(v *flbhost.View) {
			if v.HasLog("", defendersim.DefaultSecret) {
				w.Error("the secret is in the log")
			}
		})
	})
}

// Before 4.0.3 Fluent Bit runs on without a stanza that is refused: the good ones pull, and the faults are repeated
// (the repetition itself: plugin, TestFaultsAreRepeated).
func TestOldCoresGoOnWithoutABadStanza(t *testing.T) {
	everywhere(t, func(w *world) {
		if !w.real() {
			w.host.Core = "3.2.10"
		}
		if !w.goesOn() {
			w.Skip("this Fluent Bit ends where a stanza is refused")
		}
		history(w.svc, 20, 10*time.Minute)
		h := flbhost.Launch(w.T, w.options("", w.stanza("alias bad", "limit none", "machine_groups a")+
			w.stanza("alias good")))
		w.says(h, 20*time.Second, "error", "limit: ")
		w.awaitAll(20*time.Second, of(w.svc))
		if os.Getenv("SOAK") != "" {
			w.says(h, 2*time.Minute, "error", "this input does not run, and pulls nothing: limit: ")
		}
		w.stopWithout(h, 20*time.Second)
	})
}

// Under `daemon on` the start is refused with the remedy, and no process stays behind.
func TestDaemonModeIsRefused(t *testing.T) {
	everywhere(t, func(w *world) {
		file := filepath.Join(w.TempDir(), "fluent-bit.log")
		mark := "DEFENDER_E2E=" + w.TempDir()
		o := w.options("    daemon on\n    log_file "+file, w.stanza("alias back"))
		o.Daemon, o.Env = true, []string{mark}
		h := flbhost.Launch(w.T, o)
		const remedy = "run Fluent Bit in the foreground"
		if w.real() {
			await(w.T, 20*time.Second, "the refusal in the log file", func() bool {
				text, err := os.ReadFile(file)
				return err == nil && strings.Contains(string(text), "[input:defender:back]") &&
					strings.Contains(string(text), remedy)
			})
			// the one that went into the background failed, not this one
			if err := h.Wait(20 * time.Second); err != nil {
				w.Fatal(err)
			}
		} else {
			if err := h.Wait(20 * time.Second); err == nil {
				w.Fatal("the start was not refused")
			}
			if lines := ours(h, "error"); len(lines) != 1 || !strings.Contains(lines[0], remedy) {
				w.Errorf("said %q", lines)
			}
		}
		if w.real() && w.goesOn() { // in the background, without the input
			for _, pid := range processesWith(w.T, mark) {
				if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
					w.Error(err)
				}
			}
		}
		await(w.T, 20*time.Second, "the end of all processes",
			func() bool { return len(processesWith(w.T, mark)) == 0 })
	})
}

// processesWith are those that have this setting in their environment.
func processesWith(t *testing.T, setting string) []int {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		t.Fatal(err)
	}
	var found []int
	for _, file := range files {
		env, err := os.ReadFile(file)
		if err == nil && slices.ContainsFunc(bytes.Split(env, []byte{0}),
			func(s []byte) bool { return string(s) == setting }) {
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			if err != nil {
				t.Fatal(err)
			}
			found = append(found, pid)
		}
	}
	return found
}

// With `threaded off` all stanzas share the pipeline's thread; each alert comes once. Before 4.1 one stanza may do
// so: plugin, TestThreadedOff.
func TestThreadedOff(t *testing.T) {
	everywhere(t, func(w *world) {
		history(w.svc, 300, 10*time.Minute)
		first := "machine_groups UKMachines"
		second := w.stanza("threaded off", "initial_lookback 15m", "machine_groups FranceMachines, Rest & more")
		if w.before("4.1.0") {
			first, second = "machine_groups "+strings.Join(groups, ", "), ""
		}
		h := w.start("", w.stanza("threaded off", "initial_lookback 15m", first)+second)
		w.awaitAll(30*time.Second, of(w.svc))
		history(w.svc, 30, 5*time.Second)
		w.awaitAll(30*time.Second, of(w.svc))
		w.polls(4)
		h.MustStop(w.T, grace)
		exactly(w.T, "alerts", of(w.svc), w.arrived())
	})
}

// The example in YAML, with this machine's paths and addresses, in the real Fluent Bit.
func TestTheYAMLExampleRuns(t *testing.T) {
	t.Parallel()
	needFluentBit(t)
	if realBefore("3.2.0") {
		t.Skip("this Fluent Bit knows no list of plugins in YAML")
	}
	svc, srv, ca := service(t, defendersim.Config{})
	history(svc, 100, 10*time.Minute)
	f := newFluentBit(t, "", "")
	f.conf, f.args = filepath.Join(f.dir, "fluent-bit.yaml"), nil
	text, err := os.ReadFile("../../fluent-bit.yaml.example")
	if err != nil {
		t.Fatal(err)
	}
	secret := filepath.Join(f.dir, "client_secret")
	if err := os.WriteFile(secret, []byte(defendersim.DefaultSecret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	config, _, ok := strings.Cut(string(text), "  outputs:\n")
	if !ok {
		t.Fatal("the example has no outputs")
	}
	replace := func(old, now string) {
		if n := strings.Count(config, old); n != 1 {
			t.Fatalf("the example has %q %d times", old, n)
		}
		config = strings.Replace(config, old, now, 1)
	}
	replace("/etc/fluent-bit/in_defender.so", plugin)
	replace("/var/lib/fluent-bit/storage", filepath.Join(f.dir, "chunks"))
	replace("/var/lib/fluent-bit/defender.db", filepath.Join(f.dir, "defender.db"))
	replace("/etc/fluent-bit/defender.secret", secret)
	replace("region: eu\n", fmt.Sprintf("url: %s\n      token_url: %s\n      ca_file: %s\n", srv.AlertsURL(),
		srv.TokenURL(), ca))
	replace("#machine_groups: UKMachines, FranceMachines", "machine_groups: UKMachines, Rest & more")
	replace("poll_interval: 60s", "poll_interval: 1s")
	config += "  outputs:\n    - {name: file, match: '*', path: " + f.out() + ", mkdir: on, format: plain}\n"
	if err := os.WriteFile(f.conf, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	const tag = "defender.alerts"
	f.start()
	f.awaitAll(30*time.Second, tag, of(svc, "UKMachines", "Rest & more"))
	asked := svc.Stats().Alerts
	f.await(10*time.Second, "some more polls", func() bool { return svc.Stats().Alerts > asked+2 })
	f.stop(10 * time.Second)
	exactly(t, tag, of(svc, "UKMachines", "Rest & more"), f.arrived(tag))
	for _, line := range f.lines(tag) {
		if !strings.Contains(line, `"event_id":"`) {
			t.Fatalf("event_id_key had no effect: %s", line)
		}
	}
}
