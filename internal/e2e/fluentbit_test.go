// Package e2e drives the real shared object in a real Fluent Bit, and in the bundled host where one is enough, against the
// simulated service over TLS.
package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"fluent-bit-defender/internal/defendersim"
	"fluent-bit-defender/internal/flbhost"
)

// plugin is the shared object under test: IN_DEFENDER_SO, else one built for this run.
var plugin string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		plugin = os.Getenv("IN_DEFENDER_SO")
		if plugin == "" {
			dir, err := os.MkdirTemp("", "in_defender")
			if err != nil {
				fmt.Fprintln(os.Stderr, err)
				return 1
			}
			defer os.RemoveAll(dir)
			plugin = filepath.Join(dir, "in_defender.so")
			if err := flbhost.BuildGo("fluent-bit-defender/plugin", plugin); err != nil {
				fmt.Fprintln(os.Stderr, err)
				return 1
			}
		}
		return m.Run()
	}())
}

// fluentBit is a real Fluent Bit that runs a configuration in a folder of its own; what it logs is kept.
type fluentBit struct {
	t    *testing.T
	dir  string
	conf string
	cmd  *exec.Cmd
	done chan struct{}
	err  error

	mu  sync.Mutex
	log bytes.Buffer
}

// needFluentBit skips the test where there is no Fluent Bit.
func needFluentBit(t *testing.T) string {
	t.Helper()
	program := os.Getenv("FLUENT_BIT")
	if program == "" {
		program = "fluent-bit"
	}
	path, err := exec.LookPath(program)
	if err != nil {
		t.Skip("no Fluent Bit: set FLUENT_BIT or put fluent-bit on PATH")
	}
	return path
}

// newFluentBit prepares a Fluent Bit whose records go to files named by their tags under dir/out.
func newFluentBit(t *testing.T, service, inputs string) *fluentBit {
	t.Helper()
	f := &fluentBit{t: t, dir: t.TempDir()}
	f.configure(service, inputs, fmt.Sprintf("[OUTPUT]\n    name file\n    match *\n    path %s/out\n    mkdir on\n    format plain\n    retry_limit no_limits\n", f.dir))
	t.Cleanup(func() {
		f.kill()
		if t.Failed() {
			t.Logf("fluent-bit said:\n%s", f.said())
		}
	})
	return f
}

// configure writes the configuration for the next start or reload.
func (f *fluentBit) configure(service, inputs, outputs string) {
	f.conf = filepath.Join(f.dir, "fluent-bit.conf")
	text := "[SERVICE]\n    flush 0.2\n    grace 3\n    log_level info\n    hot_reload on\n" + service + "\n" + inputs + "\n" + outputs
	if err := os.WriteFile(f.conf, []byte(text), 0o600); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fluentBit) start() {
	f.t.Helper()
	f.cmd = exec.Command(needFluentBit(f.t), "-e", plugin, "-c", f.conf)
	f.cmd.Dir = f.dir
	out, err := f.cmd.StderrPipe()
	if err != nil {
		f.t.Fatal(err)
	}
	f.cmd.Stdout = io.Discard
	if err := f.cmd.Start(); err != nil {
		f.t.Fatal(err)
	}
	f.done = make(chan struct{})
	go func() {
		lines := bufio.NewScanner(out)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			f.mu.Lock()
			fmt.Fprintf(&f.log, "%s\n", lines.Bytes())
			f.mu.Unlock()
		}
		f.err = f.cmd.Wait()
		close(f.done)
	}()
}

func (f *fluentBit) said() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.log.String()
}

// await waits until cond holds; the process must live meanwhile.
func (f *fluentBit) await(limit time.Duration, what string, cond func() bool) {
	f.t.Helper()
	await(f.t, limit, what, func() bool {
		if cond() {
			return true
		}
		select {
		case <-f.done:
			f.t.Fatalf("fluent-bit ended (%v) before %s", f.err, what)
		default:
		}
		return false
	})
}

// await waits until cond holds, looking every 20 ms.
func await(t *testing.T, limit time.Duration, what string, cond func() bool) {
	t.Helper()
	deadline := time.After(limit)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-deadline:
			t.Fatalf("not within %s: %s", limit, what)
		case <-tick.C:
		}
	}
}

func (f *fluentBit) signal(s os.Signal) {
	f.t.Helper()
	if err := f.cmd.Process.Signal(s); err != nil {
		f.t.Fatal(err)
	}
}

// ended waits for the process and returns its exit code.
func (f *fluentBit) ended(limit time.Duration) int {
	f.t.Helper()
	select {
	case <-f.done:
	case <-time.After(limit):
		f.t.Fatalf("fluent-bit did not end within %s", limit)
	}
	var exit *exec.ExitError
	if errors.As(f.err, &exit) {
		return exit.ExitCode()
	}
	return 0
}

// stop ends it as a service manager does.
func (f *fluentBit) stop(limit time.Duration) {
	f.t.Helper()
	f.signal(syscall.SIGTERM)
	if code := f.ended(limit); code != 0 {
		f.t.Fatalf("fluent-bit ended with %d after SIGTERM", code)
	}
}

func (f *fluentBit) kill() {
	if f.cmd != nil && f.cmd.Process != nil && f.done != nil {
		f.cmd.Process.Kill()
		<-f.done
	}
}

// arrived counts the records at the output of a tag by their alert's key. A last line that is still being written is left out.
func (f *fluentBit) arrived(tag string) map[string]int {
	f.t.Helper()
	keys := map[string]int{}
	for _, line := range f.lines(tag) {
		var fields map[string]any
		dec := json.NewDecoder(strings.NewReader(line))
		dec.UseNumber()
		if err := dec.Decode(&fields); err != nil {
			f.t.Fatalf("not a record: %v: %s", err, line)
		}
		keys[defendersim.KeyOf(fields)]++
	}
	return keys
}

func (f *fluentBit) lines(tag string) []string {
	text, err := os.ReadFile(filepath.Join(f.dir, "out", tag))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		f.t.Fatal(err)
	}
	whole := strings.Split(string(text), "\n")
	return whole[:len(whole)-1]
}

// stanza is an input of the simulated service; more lines may override its keys.
func stanza(srv *defendersim.Server, ca, tag string, more ...string) string {
	lines := []string{
		"tag " + tag,
		"tenant_id " + defendersim.DefaultTenant,
		"client_id " + defendersim.DefaultClientID,
		"client_secret " + defendersim.DefaultSecret,
		"url " + srv.AlertsURL(),
		"token_url " + srv.TokenURL(),
		"ca_file " + ca,
		"poll_interval 1s",
		"retry_max 2s",
	}
	return "[INPUT]\n    name defender\n    " + strings.Join(append(more, lines...), "\n    ") + "\n"
}

// service starts a simulated service over TLS and writes its CA.
func service(t *testing.T, cfg defendersim.Config) (*defendersim.Service, *defendersim.Server, string) {
	t.Helper()
	svc := defendersim.New(cfg)
	srv, err := defendersim.Start(svc, defendersim.ServerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(srv.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := srv.WriteCA(ca); err != nil {
		t.Fatal(err)
	}
	return svc, srv, ca
}

// exactly compares what arrived with what is due.
func exactly(t *testing.T, tag string, due []defendersim.Row, arrived map[string]int) {
	t.Helper()
	wrong := 0
	complain := func(format string, args ...any) {
		if wrong++; wrong <= 5 {
			t.Errorf(format, args...)
		}
	}
	want := map[string]bool{}
	for _, row := range due {
		want[row.ID] = true
		if n := arrived[row.ID]; n != 1 {
			complain("%s: %s came %d times (processed %s, visible %s)", tag, row.ID, n, row.LastProcessed, row.VisibleAt)
		}
	}
	for key := range arrived {
		if !want[key] {
			complain("%s: %s came, but is not of this filter", tag, key)
		}
	}
	if wrong > 5 {
		t.Errorf("%s: and %d more", tag, wrong-5)
	}
}
