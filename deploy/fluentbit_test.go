package deploy

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"fluent-bit-defender/internal/defendersim"
	"fluent-bit-defender/internal/flbhost"
)

// alerts is how many the simulated service has.
const alerts = 30

// Each configuration is started as it is deployed, in a real Fluent Bit and against a simulated service: all alerts
// come out of its output, each with its id, Fluent Bit answers the probes, and shows the metrics that rules and
// dashboard ask for. Only paths and addresses are other ones than deployed.
func TestConfigurationsRun(t *testing.T) {
	program, found := flbhost.FluentBit()
	if !found {
		t.Skip("no Fluent Bit: set FLUENT_BIT or put fluent-bit on PATH")
	}
	plugin := os.Getenv("IN_DEFENDER_SO")
	if plugin == "" {
		plugin = filepath.Join(t.TempDir(), "in_defender.so")
		cmd := exec.CommandContext(t.Context(), "go", "build", "-buildmode=c-shared", "-trimpath", "-o", plugin,
			"./plugin")
		cmd.Dir = ".." // the plugin's own module, with its own dependencies
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	for _, path := range alone { // the others need an API server: make test-kubernetes
		t.Run(path, func(t *testing.T) {
			svc, srv := serve(t)
			dir, port := t.TempDir(), freePort(t)
			if federated(path) {
				federate(t, svc, filepath.Join(dir, "credential", "token"))
			} else {
				write(t, filepath.Join(dir, "credential", "client_secret"), defendersim.DefaultSecret)
			}
			run := start(t, program, plugin, dir, moved(t, path, dir, port, srv))
			run.await("all alerts", func() bool { return len(run.ids()) >= alerts })
			run.await("health", func() bool {
				code, body := get(port, "/api/v1/health")
				return code == http.StatusOK && body == "ok\n"
			})
			if code, _ := get(port, "/api/v1/uptime"); code != http.StatusOK {
				t.Errorf("the liveness probe gets %d", code)
			}
			want := slices.Concat(documented(t), core)
			run.await("metrics", func() bool {
				_, text := get(port, "/api/v2/metrics/prometheus")
				want = slices.DeleteFunc(want, func(name string) bool { return strings.Contains(text, "\n"+name+"{") })
				if len(want) > 0 && run.last() {
					t.Errorf("Fluent Bit does not show %v", want)
				}
				return len(want) == 0
			})
			run.stop()
			if ids := run.ids(); len(ids) != alerts {
				t.Errorf("%d different alerts of %d", len(ids), alerts)
			}
			for _, kept := range []string{"defender.db", "storage"} {
				if _, err := os.Stat(filepath.Join(dir, "data", kept)); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// serve starts a simulated service that has all alerts. It ends with the test.
func serve(t *testing.T) (*defendersim.Service, *defendersim.Server) {
	t.Helper()
	svc := defendersim.New(defendersim.Config{})
	now := svc.Now()
	first, last := now.Add(-time.Hour), now.Add(-time.Second)
	svc.Add(defendersim.Generate(rand.New(rand.NewPCG(1, 2)), alerts, first, last, defendersim.Mix{})...)
	srv, err := defendersim.Start(svc, defendersim.ServerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(srv.Close)
	return svc, srv
}

// moved writes the configuration with the paths and addresses of this test, and returns its path.
func moved(t *testing.T, path, dir string, port int, srv *defendersim.Server) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	ca := filepath.Join(dir, "ca.pem")
	if err := srv.WriteCA(ca); err != nil {
		t.Fatal(err)
	}
	for _, r := range []struct{ pattern, by string }{
		{`(http_listen +).*`, `${1}127.0.0.1`},
		{`(http_port +).*`, fmt.Sprintf(`${1}%d`, port)},
		{`(storage\.path +)/var/lib/[a-z-]+/(.*)`, "${1}" + dir + "/data/${2}"},
		{`(db +)/var/lib/[a-z-]+/(.*)`, "${1}" + dir + "/data/${2}"},
		{`((?:client_secret|federated_token)_file +).*/(.*)`, "${1}" + dir + "/credential/${2}"},
		{`region .*`, fmt.Sprintf("url %s\n    token_url %s\n    ca_file %s", srv.AlertsURL(), srv.TokenURL(), ca)},
	} {
		line := regexp.MustCompile(`(?m)^    ` + r.pattern + `$`)
		if n := len(line.FindAll(text, -1)); n != 1 {
			t.Fatalf("%s has %d lines %s", path, n, r.pattern)
		}
		text = line.ReplaceAll(text, []byte("    "+r.by))
	}
	if err := os.Mkdir(filepath.Join(dir, "data"), 0o700); err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(dir, "fluent-bit.conf")
	write(t, conf, string(text))
	return conf
}

// federate makes the application trust the pod's account, and writes the token that the kubelet would: for the
// audience in the manifest.
func federate(t *testing.T, svc *defendersim.Service, path string) {
	t.Helper()
	issuer, err := defendersim.NewCluster("https://cluster.example.com")
	if err != nil {
		t.Fatal(err)
	}
	pod := build(t, "deployment", "workload-identity").template().Spec
	subject := "system:serviceaccount:logging:" + pod.ServiceAccountName
	svc.SetSecrets(defendersim.DefaultClientID) // none
	svc.SetFederation(defendersim.DefaultClientID,
		defendersim.Federation{Cluster: issuer, Subject: subject, Audience: "api://AzureADTokenExchange"})
	mounted := volumeNamed(t, pod, "credential").Projected.Sources[0].ServiceAccountToken
	life := time.Duration(*mounted.ExpirationSeconds) * time.Second
	token, err := issuer.Token(subject, mounted.Audience, svc.Now(), svc.Now().Add(life))
	if err != nil {
		t.Fatal(err)
	}
	write(t, path, token)
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// get asks Fluent Bit's server; 0: it does not answer.
func get(port int, path string) (code int, body string) {
	client := http.Client{Timeout: 5 * time.Second}
	r, err := client.Get(fmt.Sprintf("http://127.0.0.1:%d%s", port, path))
	if err != nil {
		return 0, ""
	}
	defer r.Body.Close()
	text, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil {
		return 0, ""
	}
	return r.StatusCode, string(text)
}

// running is a Fluent Bit that a test started. It does not outlive the test.
type running struct {
	t        *testing.T
	cmd      *exec.Cmd
	done     chan error
	deadline time.Time

	mu  sync.Mutex
	got map[string]int // event ids of the records on its output
	log bytes.Buffer
}

func start(t *testing.T, program, plugin, dir, conf string) *running {
	t.Helper()
	cmd := exec.Command(program, "-e", plugin, "-c", conf)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CREDENTIALS_DIRECTORY="+filepath.Join(dir, "credential"))
	return launch(t, cmd)
}

// launch starts what becomes a Fluent Bit.
func launch(t *testing.T, cmd *exec.Cmd) *running {
	t.Helper()
	r := &running{t: t, cmd: cmd, done: make(chan error, 1), deadline: time.Now().Add(60 * time.Second),
		got: map[string]int{}}
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	r.cmd.Stderr = &locked{&r.mu, &r.log}
	out, err := r.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		lines := bufio.NewScanner(out)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			var record struct{ AlertTime, EventID string }
			line := bytes.ReplaceAll(lines.Bytes(), []byte(`"event_id"`), []byte(`"EventID"`))
			if json.Unmarshal(line, &record) == nil && record.AlertTime != "" {
				r.mu.Lock()
				r.got[record.EventID]++
				r.mu.Unlock()
			}
		}
		r.done <- r.cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = r.cmd.Process.Kill() // an error says that it is gone already
		if t.Failed() {
			r.mu.Lock()
			defer r.mu.Unlock()
			t.Logf("fluent-bit said:\n%s", r.log.String())
		}
	})
	return r
}

// locked is a writer for two goroutines.
type locked struct {
	mu *sync.Mutex
	to io.Writer
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.to.Write(p)
}

// ids are those of the records that came, each once.
func (r *running) ids() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []string
	for id, n := range r.got {
		if id == "" || n != 1 {
			r.t.Errorf("id %q came %d times", id, n)
		}
		all = append(all, id)
	}
	return all
}

// last tells that time is nearly up.
func (r *running) last() bool { return time.Until(r.deadline) < 200*time.Millisecond }

func (r *running) await(what string, cond func() bool) {
	r.t.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		if time.Now().After(r.deadline) {
			r.t.Fatalf("not in time: %s", what)
		}
		select {
		case err := <-r.done:
			r.t.Fatalf("fluent-bit ended before %s: %v", what, err)
		case <-tick.C:
		}
	}
}

// stop ends it as a service manager does.
func (r *running) stop() {
	r.t.Helper()
	if err := r.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		r.t.Fatal(err)
	}
	select {
	case err := <-r.done:
		if err != nil {
			r.t.Errorf("fluent-bit ended with %v", err)
		}
	case <-time.After(20 * time.Second):
		r.t.Fatal("fluent-bit does not end")
	}
}
