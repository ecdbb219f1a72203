package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"fluent-bit-defender/internal/defendersim"
	"fluent-bit-defender/internal/golden"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// noon is the time of the service and of this machine.
var noon = time.Date(2024, 5, 6, 12, 0, 0, 0, time.UTC)

// world is a simulated service behind TLS, and an empty working directory.
type world struct {
	*testing.T
	svc *defendersim.Service
	srv *defendersim.Server
	app app // what every run starts from
	env map[string]string

	mu      sync.Mutex
	shift   time.Duration // of this machine's clock
	secrets []string      // what no run may print

	transcript strings.Builder
}

func newWorld(t *testing.T) *world {
	t.Helper()
	dir := t.TempDir()
	w := &world{T: t, env: map[string]string{}, secrets: []string{defendersim.DefaultSecret, "eyJ"}}
	w.svc = defendersim.New(defendersim.Config{Now: func() time.Time { return noon }, Seed: 1})
	var err error
	if w.srv, err = defendersim.Start(w.svc, defendersim.ServerOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.srv.Close)
	t.Chdir(dir)
	if err := w.srv.WriteCA("ca.pem"); err != nil {
		t.Fatal(err)
	}
	w.write("secret", defendersim.DefaultSecret+"\n")
	w.app = app{
		env: func(name string) (string, bool) { v, set := w.env[name]; return v, set },
		now: w.now,
	}
	return w
}

func (w *world) now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return noon.Add(w.shift)
}

func (w *world) write(name, text string) {
	w.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		w.Fatal(err)
	}
}

// stanza is an [INPUT] that the service answers, with further keys; a key alone takes that key out.
func (w *world) stanza(keys ...string) string {
	lines := []string{
		"name defender", "tenant_id " + defendersim.DefaultTenant, "client_id " + defendersim.DefaultClientID,
		"client_secret_file secret", "url " + w.srv.AlertsURL(), "token_url " + w.srv.TokenURL(), "ca_file ca.pem",
	}
	for _, k := range keys {
		if name, _, has := strings.Cut(k, " "); !has {
			for i := range lines {
				if strings.HasPrefix(lines[i], name+" ") {
					lines[i] = "# without " + name
				}
			}
			continue
		}
		lines = append(lines, k)
	}
	return "[INPUT]\n    " + strings.Join(lines, "\n    ") + "\n"
}

// result is what a run printed and returned.
type result struct {
	out, err string
	code     int
}

// run carries out one command line and adds it to the transcript. Whatever it is, it prints no secret.
func (w *world) run(args ...string) result {
	w.Helper()
	return w.runIn(w.Context(), args...)
}

func (w *world) runIn(ctx context.Context, args ...string) result {
	w.Helper()
	var out, stderr bytes.Buffer
	a := w.app
	a.out, a.err = &out, &stderr
	if a.in == nil {
		a.in = strings.NewReader("")
	}
	r := result{code: a.run(ctx, args)}
	r.out, r.err = out.String(), stderr.String()
	for _, secret := range w.secrets {
		if strings.Contains(r.out+r.err, secret) {
			w.Errorf("%q: the secret %q was printed:\n%s%s", args, secret, r.out, r.err)
		}
	}
	if r.code != exitOK && strings.Count(r.err, "defenderctl: ") > 1 || strings.Contains(r.err, "goroutine ") {
		w.Errorf("%q: more than one line of error:\n%s", args, r.err)
	}
	fmt.Fprintf(&w.transcript, "$ defenderctl %s\n%s", strings.Join(args, " "), r.out)
	for line := range strings.Lines(r.err) {
		w.transcript.WriteString("2> " + line)
	}
	fmt.Fprintf(&w.transcript, "[exit %d]\n\n", r.code)
	return r
}

var (
	portForm = regexp.MustCompile(`127\.0\.0\.1:[0-9]+`)
	uuidForm = regexp.MustCompile(`(trace|correlation|request-id) [0-9a-f-]{36}`)
	usedForm = regexp.MustCompile(`("?used"?:? +"?)[0-9TZ:.-]+`)
)

// golden holds the transcript against testdata/NAME.golden.
func (w *world) golden(name string) {
	w.Helper()
	got := portForm.ReplaceAllString(w.transcript.String(), "127.0.0.1:PORT")
	got = uuidForm.ReplaceAllString(got, "${1} ID")
	got = usedForm.ReplaceAllString(got, "${1}TIME")
	golden.Check(w.T, filepath.Join(here, "testdata", name+".golden"), got)
}

// here is the directory of the sources; tests leave it.
var here = func() string {
	dir, err := os.Getwd()
	if err != nil {
		panic(err)
	}
	return dir
}()

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// hold locks a file as another process would.
func hold(t *testing.T, f *os.File) {
	t.Helper()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		t.Fatal(err)
	}
}
