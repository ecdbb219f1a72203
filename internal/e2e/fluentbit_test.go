// Package e2e drives the real shared object in a real Fluent Bit, and in the bundled host where one is enough,
// against the simulated service over TLS. With SOAK set in the environment the tests that take chances take a hundred
// instead of a few.
package e2e

import (
	"bufio"
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"fluent-bit-defender/internal/flbhost"
)

// plugin is the shared object under test: IN_DEFENDER_SO, else one built for this run.
var plugin string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		flag.Parse()
		chosen := false
		flag.Visit(func(f *flag.Flag) { chosen = chosen || f.Name == "test.parallel" })
		if !chosen {
			// These tests wait much more than they compute.
			if err := flag.Set("test.parallel", "8"); err != nil {
				fmt.Fprintln(os.Stderr, err)
				return 1
			}
		}
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

// times is how often a test takes its chance: few in CI, many with SOAK.
func times(few, many int) int {
	if os.Getenv("SOAK") != "" {
		return many
	}
	return few
}

// fluentBit is a real Fluent Bit that runs a configuration in a folder of its own, once or again and again; what it
// logs is kept. A test drives it from one goroutine.
type fluentBit struct {
	t    *testing.T
	dir  string
	conf string
	args []string // beside that of the configuration
	env  []string // beside this process's
	cmd  *exec.Cmd
	done chan struct{}
	err  error

	outputs map[string]*output // by tag

	mu  sync.Mutex
	log bytes.Buffer
}

// needFluentBit skips the test where there is no Fluent Bit.
func needFluentBit(t *testing.T) string {
	t.Helper()
	path, ok := flbhost.FluentBit()
	if !ok {
		t.Skip("no Fluent Bit: set FLUENT_BIT or put fluent-bit on PATH")
	}
	return path
}

// pluginsAtHand is what the Fluent Bit at hand says that it has: `fluent-bit --help`, by kind.
var pluginsAtHand = sync.OnceValue(func() map[string]string {
	path, _ := flbhost.FluentBit()
	text, err := exec.Command(path, "--help").Output()
	if err != nil {
		panic(err)
	}
	plain := regexp.MustCompile("\x1b\\[[0-9;]*m").ReplaceAllString(string(text), "")
	all, kind := map[string]string{}, ""
	for line := range strings.Lines(plain) {
		if heading := strings.TrimSpace(line); heading == line[:len(line)-1] && heading != "" {
			kind = strings.ToLower(strings.TrimSuffix(heading, "s"))
		}
		all[kind] += line
	}
	return all
})

// needPlugins skips the test where the Fluent Bit at hand lacks a plugin that a configuration names: builds differ.
func needPlugins(t *testing.T, configuration string) {
	t.Helper()
	for _, m := range regexp.MustCompile(`(?mi)^\[(INPUT|FILTER|OUTPUT)\]\s+name\s+(\S+)`).FindAllStringSubmatch(configuration, -1) {
		kind, name := strings.ToLower(m[1]), strings.ToLower(m[2])
		if name == "defender" {
			continue
		}
		// A long name touches its description.
		if !regexp.MustCompile(`(?m)^  ` + regexp.QuoteMeta(name) + `(\s|[A-Z])`).MatchString(pluginsAtHand()[kind]) {
			t.Skipf("the Fluent Bit at hand has no %s %s", kind, name)
		}
	}
}

// newFluentBit prepares a Fluent Bit with these lines of the service section, these inputs and outputs. Without
// outputs the records go to files named by their tags (see lines).
func newFluentBit(t *testing.T, service, inputs string, outputs ...string) *fluentBit {
	t.Helper()
	needFluentBit(t)
	f := &fluentBit{t: t, dir: t.TempDir(), args: []string{"-e", plugin}, outputs: map[string]*output{}}
	f.conf = filepath.Join(f.dir, "fluent-bit.conf")
	f.configure(service, inputs, outputs...)
	t.Cleanup(func() {
		f.kill()
		if t.Failed() {
			t.Logf("fluent-bit said:\n%s", f.said())
		}
	})
	return f
}

// configure writes the configuration for the next start or reload.
func (f *fluentBit) configure(service, inputs string, outputs ...string) {
	f.t.Helper()
	if len(outputs) == 0 {
		outputs = []string{fmt.Sprintf("[OUTPUT]\n    name file\n    match *\n    path %s\n    mkdir on\n    format "+
			"plain\n    retry_limit no_limits\n", f.out())}
	}
	needPlugins(f.t, inputs+strings.Join(outputs, ""))
	text := "[SERVICE]\n    flush 0.2\n    grace 3\n    log_level info\n    hot_reload on\n" + service + "\n" + inputs +
		strings.Join(outputs, "")
	if err := os.WriteFile(f.conf, []byte(text), 0o600); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fluentBit) out() string { return filepath.Join(f.dir, "out") }

func (f *fluentBit) start() {
	f.t.Helper()
	f.cmd = exec.Command(needFluentBit(f.t), append(f.args, "-c", f.conf)...)
	f.cmd.Dir, f.cmd.Env = f.dir, append(os.Environ(), f.env...)
	f.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // none outlives a test that was cut short
	out, err := f.cmd.StderrPipe()
	if err != nil {
		f.t.Fatal(err)
	}
	f.cmd.Stdout = io.Discard
	if err := f.cmd.Start(); err != nil {
		f.t.Fatal(err)
	}
	done := make(chan struct{})
	f.done = done
	go func() {
		lines := bufio.NewScanner(out)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			f.mu.Lock()
			fmt.Fprintf(&f.log, "%s\n", lines.Bytes())
			f.mu.Unlock()
		}
		f.err = f.cmd.Wait()
		close(done)
	}()
}

// said is what it logged in all its runs.
func (f *fluentBit) said() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.log.String()
}

// told returns the lines of the log that hold text.
func (f *fluentBit) told(text string) []string {
	var found []string
	for line := range strings.Lines(f.said()) {
		if strings.Contains(line, text) {
			found = append(found, line)
		}
	}
	return found
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

// await waits until cond holds, looking every 50 ms.
func await(t *testing.T, limit time.Duration, what string, cond func() bool) {
	t.Helper()
	awaitEvery(t, 50*time.Millisecond, limit, what, cond)
}

func awaitEvery(t *testing.T, every, limit time.Duration, what string, cond func() bool) {
	t.Helper()
	deadline := time.After(limit)
	tick := time.NewTicker(every)
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

// reload starts a hot reload and waits until the new pipeline runs.
func (f *fluentBit) reload(limit time.Duration) {
	f.t.Helper()
	const ready = "[sp] stream processor started" // what every version says last at a start
	before := len(f.told(ready))
	f.signal(syscall.SIGHUP)
	f.await(limit, "a hot reload", func() bool { return len(f.told(ready)) > before })
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

// kill is kill -9, waited for; it does nothing to a process that is gone.
func (f *fluentBit) kill() {
	if f.done != nil {
		_ = f.cmd.Process.Kill() // an error says that it is gone already
		<-f.done
	}
}
