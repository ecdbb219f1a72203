package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"fluent-bit-defender/internal/defendersim"
)

// Hot reload under load, with a changed stanza, with state in a file and in memory, with a stanza that goes and comes
// back: nothing lost, nothing twice, and nothing of the old pipeline left behind.
func TestHotReloadUnderLoad(t *testing.T) {
	t.Parallel()
	needFluentBit(t)
	svc, srv, ca := service(t, defendersim.Config{})
	history(svc, 800, 10*time.Minute)
	common := []string{"initial_lookback 15m", "overlap 10s", "batch_size 256k"}
	db := "db " + filepath.Join(t.TempDir(), "defender.db")
	f := newFluentBit(t, "", "")
	configure := func(n int) {
		changed := []string{"max_alert_size 64k", "event_id_key id"}
		if n%2 == 0 {
			changed = []string{"max_alert_size 128k", "limit 500"}
		}
		inputs := stanza(srv, ca, "file", append(changed, append(common, db, "machine_groups UKMachines")...)...) +
			stanza(srv, ca, "memory", append(changed, append(common, "machine_groups FranceMachines")...)...)
		if n%2 == 0 {
			inputs += stanza(srv, ca, "comes", append(common, "max_alert_size 64k", "machine_groups Rest & more")...)
		}
		f.configure("", inputs)
	}
	came := func() int { return len(f.lines("file")) + len(f.lines("memory")) }

	load := startLoad(t, svc, 60)
	configure(0)
	f.start()
	f.await(30*time.Second, "the first alerts", func() bool { return came() > 200 && len(f.lines("comes")) > 100 })
	var after2 process
	reloads := times(6, 100)
	theirs := leaked(t, reloads)
	for n := 1; n <= reloads; n++ {
		before, file, memory := came(), len(f.lines("file")), len(f.lines("memory"))
		configure(n)
		f.reload(20 * time.Second)
		f.await(20*time.Second, "alerts of both after a reload", func() bool {
			return came() > before+20 && len(f.lines("file")) > file && len(f.lines("memory")) > memory
		})
		if n == 2 {
			after2 = f.process()
		}
	}
	// The last reload is an even one, as the second was: the same stanzas run. The Go runtime keeps a thread more or
	// less, and the stanzas, which share their connections, have one for each that asks at the same time; one more for
	// each of the reloads since would be a leak.
	f.await(15*time.Second, fmt.Sprintf("as few descriptors and threads as after the second reload (%+v)", after2),
		func() bool {
			p := f.process()
			return p.fds <= after2.fds+theirs+len(groups) && p.threads <= after2.threads+2
		})
	if now := f.process(); now.rss > after2.rss+10<<20 {
		t.Errorf("%d MB of memory after reload 2, %d MB after reload %d", after2.rss>>20, now.rss>>20, reloads)
	}
	load.stop()
	f.awaitAll(60*time.Second, "file", of(svc, "UKMachines"))
	f.awaitAll(60*time.Second, "memory", of(svc, "FranceMachines"))
	f.awaitAll(60*time.Second, "comes", of(svc, "Rest & more"))

	// An engine that had outlived its reload would still ask: one stanza asks once a second.
	for _, group := range groups {
		var first time.Time
		from := svc.Now()
		f.await(15*time.Second, "five polls of a stanza", func() bool {
			polls := 0
			for _, e := range svc.Journal() {
				if e.Kind != defendersim.KindAlerts || e.At.Before(from) || !slices.Equal(e.Query.Filter.MachineGroups,
					[]string{group}) {
					continue
				}
				if polls++; polls == 1 {
					first = e.At
				}
			}
			return polls >= 5
		})
		if took := svc.Now().Sub(first); took < 3*time.Second {
			t.Errorf("the stanza of %s asked five times in %s", group, took)
		}
	}
	f.stop(10 * time.Second)
	exactly(t, "file", of(svc, "UKMachines"), f.arrived("file"))
	exactly(t, "memory", of(svc, "FranceMachines"), f.arrived("memory"))
	exactly(t, "comes", of(svc, "Rest & more"), f.arrived("comes"))
}

// leaked is how many descriptors Fluent Bit leaves behind between its second and its last reload with inputs of its
// own alone: on 3.2.10 and 4.0.14 six for each reload.
func leaked(t *testing.T, reloads int) int {
	t.Helper()
	f := newFluentBit(t, "", "")
	configure := func(n int) {
		inputs := ""
		for i := range 2 + (n+1)%2 {
			inputs += fmt.Sprintf("[INPUT]\n    name dummy\n    tag %d\n    threaded on\n", i)
		}
		f.configure("", inputs)
	}
	came := func() int {
		text, err := os.ReadFile(filepath.Join(f.out(), "0"))
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		return len(text)
	}
	configure(0)
	f.start()
	f.await(20*time.Second, "the first record", func() bool { return came() > 0 })
	var after2 process
	for n := 1; n <= reloads; n++ {
		before := came()
		configure(n)
		f.reload(20 * time.Second)
		f.await(20*time.Second, "a record after a reload", func() bool { return came() > before })
		if n == 2 {
			after2 = f.process()
		}
	}
	n := f.process().fds - after2.fds
	f.stop(10 * time.Second)
	t.Logf("%d descriptors left behind by %d reloads of dummy inputs alone", n, reloads-2)
	return max(n, 0)
}

// process is what the kernel counts of a process.
type process struct {
	fds, threads int
	rss          int64 // bytes
}

func (f *fluentBit) process() process {
	f.t.Helper()
	count := func(what string) int {
		entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/%s", f.cmd.Process.Pid, what))
		if err != nil {
			f.t.Fatal(err)
		}
		return len(entries)
	}
	p := process{fds: count("fd"), threads: count("task")}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", f.cmd.Process.Pid))
	if err != nil {
		f.t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if n, _ := fmt.Sscanf(line, "VmRSS: %d kB", &p.rss); n == 1 {
			p.rss <<= 10
		}
	}
	return p
}
