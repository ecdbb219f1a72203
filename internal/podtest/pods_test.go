//go:build kubernetes

package podtest

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	meta "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fluent-bit-defender/internal/apiserver"
	"fluent-bit-defender/internal/defendersim"
	"fluent-bit-defender/internal/flbhost"
)

const (
	limit  = time.Minute
	second = time.Second
)

func TestMain(m *testing.M) { apiserver.Main(m) }

// role is the manifest of what the pods may do.
const role = "../../deploy/kubernetes/daemonset/role.yaml"

// world is a simulated service and the pods that pull from it.
type world struct {
	*testing.T
	server     *apiserver.Server
	namespace  string
	kubeconfig string
	svc        *defendersim.Service
	srv        *defendersim.Server
	ca         string
	gen        *defendersim.Generator
	lines      string // further keys of the stanza

	mu    sync.Mutex
	came  map[string][]arrival // by alert
	added map[string]time.Time
	pods  int
}

type arrival struct {
	pod string
	at  time.Time
}

func newWorld(t *testing.T) *world {
	w := &world{T: t, server: apiserver.Get(t), came: map[string][]arrival{}, added: map[string]time.Time{},
		gen: defendersim.NewGenerator(rand.New(rand.NewPCG(1, 2)), defendersim.Mix{})}
	w.namespace = strings.ToLower(t.Name())
	w.kubeconfig = w.server.Namespace(t, w.namespace, apiserver.Rules(t, role))
	w.svc = defendersim.New(defendersim.Config{Seed: 1})
	srv, err := defendersim.Start(w.svc, defendersim.ServerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(srv.Close)
	w.srv, w.ca = srv, filepath.Join(t.TempDir(), "ca.pem")
	w.lines = "  tenant_id " + defendersim.DefaultTenant + "\n  token_url " + srv.TokenURL() + "\n"
	if err := srv.WriteCA(w.ca); err != nil {
		t.Fatal(err)
	}
	return w
}

// pod starts one more process: a real Fluent Bit where there is one, else the host.
func (w *world) pod() (name string, h *flbhost.Host) {
	w.Helper()
	w.mu.Lock()
	name = fmt.Sprint("pod-", w.pods)
	w.pods++
	w.mu.Unlock()
	o := flbhost.Options{Plugin: os.Getenv("IN_DEFENDER_KUBERNETES_SO"), Config: w.config(), Slow: 2 * second,
		Env: []string{"POD_NAME=" + name}}
	if program, ok := flbhost.FluentBit(); ok {
		o.FluentBit = program
	}
	o.OnRecord = func(r flbhost.Record) {
		fields := map[string]any{}
		for _, f := range r.Body {
			fields[f.Key] = f.Value
		}
		key := defendersim.KeyOf(fields)
		w.mu.Lock()
		defer w.mu.Unlock()
		w.came[key] = append(w.came[key], arrival{name, time.Now()})
	}
	return name, flbhost.Run(w.T, o)
}

// config is the configuration of each pod.
func (w *world) config() string {
	return "[SERVICE]\n  flush 0.2\n  grace 1\n  hot_reload on\n[INPUT]\n  name defender\n  alias alerts\n  tag " +
		"alerts\n  poll_interval 1s\n  initial_lookback 10m\n  overlap 1m\n" +
		"  db kubernetes://alerts\n  kubeconfig " + w.kubeconfig + "\n  ca_file " + w.ca + "\n  client_id " +
		defendersim.DefaultClientID +
		"\n  client_secret " + defendersim.DefaultSecret + "\n  url " + w.srv.AlertsURL() + "\n" + w.lines
}

// add gives the service new alerts.
func (w *world) add(n int) {
	for range n {
		a := w.gen.Alert(w.svc.Now().Add(-second))
		w.mu.Lock()
		w.added[a.Key()] = time.Now()
		w.mu.Unlock()
		w.svc.Add(a)
	}
}

// load adds alerts, five a second, until it is stopped.
func (w *world) load() (stop func()) {
	done, gone := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(gone)
		for {
			select {
			case <-done:
				return
			case <-time.After(200 * time.Millisecond):
				w.add(1)
			}
		}
	}()
	return func() { close(done); <-gone }
}

func (w *world) await(what string, within time.Duration, cond func() bool) {
	w.Helper()
	for start := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		w.mu.Lock()
		ok := cond()
		w.mu.Unlock()
		if ok {
			return
		}
		if time.Since(start) > within {
			w.Fatalf("%s did not come within %s", what, within)
		}
	}
}

func (w *world) all() bool { return len(w.came) >= len(w.added) }

// check fails unless each alert came, at most most of them more than once. It returns how long the slowest took.
func (w *world) check(most int) (slowest time.Duration) {
	w.Helper()
	w.await("every alert", limit, w.all)
	w.mu.Lock()
	defer w.mu.Unlock()
	repeated := 0
	for key, added := range w.added {
		came := w.came[key]
		if len(came) == 0 {
			w.Fatalf("%s did not come", key)
		}
		if len(came) > 1 {
			repeated++
		}
		slowest = max(slowest, came[0].at.Sub(added))
	}
	w.Logf("%d alerts, %d of them twice, the slowest after %s", len(w.added), repeated, slowest.Round(time.Millisecond))
	if repeated > most {
		w.Errorf("%d alerts came more than once", repeated)
	}
	return slowest
}

// owner is the pod that pulls. There is none for a moment while the source moves.
func (w *world) owner() (pod string) {
	for start := time.Now(); pod == "" && time.Since(start) < limit; time.Sleep(20 * time.Millisecond) {
		pod = w.ownerNow()
	}
	return pod
}

func (w *world) ownerNow() (pod string) {
	maps, err := w.server.Admin.CoreV1().ConfigMaps(w.namespace).List(w.Context(), meta.ListOptions{})
	if err != nil {
		w.Error(err)
		return ""
	}
	for _, m := range maps.Items {
		if o := m.Data["owner"]; o != "" {
			pod, _, _ = strings.Cut(o, "_")
		}
	}
	return pod
}

// moves tells how long from now on it takes until another pod than this one is the owner.
func (w *world) moves(from string) <-chan time.Duration {
	took, start := make(chan time.Duration, 1), time.Now()
	go func() {
		for time.Since(start) < limit {
			if now := w.owner(); now != "" && now != from {
				break
			}
		}
		took <- time.Since(start)
	}()
	return took
}

func (w *world) started(n int) (pods map[string]*flbhost.Host) {
	w.Helper()
	pods = map[string]*flbhost.Host{}
	for range n {
		name, h := w.pod()
		pods[name] = h
	}
	w.add(1)
	w.await("the first alert", limit, w.all)
	return pods
}

func TestPodsStoppedInTurn(t *testing.T) {
	w := newWorld(t)
	pods := w.started(3)
	stop := w.load()
	for range 3 {
		time.Sleep(4 * second) // load, and time for what moves to settle
		owner := w.owner()
		h := pods[owner]
		if h == nil {
			t.Fatalf("%q is the owner", owner)
		}
		delete(pods, owner)
		moved := w.moves(owner)
		h.MustStop(t, limit)
		took := <-moved
		t.Logf("another pod owns the source %s after SIGTERM", took.Round(10*time.Millisecond))
		if took > 3*second { // a second of it is Fluent Bit's own grace
			t.Errorf("the move took %s", took)
		}
		name, next := w.pod()
		pods[name] = next
	}
	time.Sleep(2 * second)
	stop()
	slowest := w.check(0)
	if slowest > 8*second {
		t.Errorf("an alert waited for %s", slowest)
	}
}

func TestAPodKilled(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.lines += "  takeover_overlap 0s\n"
	pods := w.started(2)
	stop := w.load()
	time.Sleep(8 * second)
	if err := pods[w.owner()].Kill(); err != nil {
		t.Fatal(err)
	}
	killed := time.Now()
	before := 0
	w.mu.Lock()
	before = len(w.came)
	w.mu.Unlock()
	w.await("an alert from another pod", 25*second, func() bool { return len(w.came) > before+5 })
	took := time.Since(killed)
	t.Logf("another pod pulls %s after the kill", took.Round(10*time.Millisecond))
	if took > 20*second { // lease_duration + 5 s
		t.Errorf("the failover took %s", took)
	}
	stop()
	w.check(12 * 5) // what was delivered since the last commit: five seconds, and those until it counts as durable
}

// The one worker dies, and a pod that only stood by takes its place.
func TestAPodThatStandsByTakesOver(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.lines += "  workers 1\n  takeover_overlap 0s\n"
	pods := w.started(2)
	stop := w.load()
	time.Sleep(8 * second)
	if err := pods[w.owner()].Kill(); err != nil {
		t.Fatal(err)
	}
	killed := time.Now()
	w.mu.Lock()
	before := len(w.came)
	w.mu.Unlock()
	w.await("an alert from the other pod", limit, func() bool { return len(w.came) > before+5 })
	took := time.Since(killed)
	t.Logf("the other pod pulls %s after the kill", took.Round(10*time.Millisecond))
	if took > 50*second { // lease_duration + 5 s, and 30 s more
		t.Errorf("it took %s", took)
	}
	stop()
	w.check(12 * 5) // as after each kill
}

func TestAPodThatFreezesAndWakes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.lines += "  takeover_overlap 0s\n"
	pods := w.started(2)
	stop := w.load()
	time.Sleep(8 * second)
	owner := w.owner()
	frozen := pods[owner]
	if err := frozen.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	from := time.Now()
	time.Sleep(25 * second)
	to := time.Now()
	if err := frozen.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * second)
	stop()
	w.check(12 * 5) // as after a kill
	w.mu.Lock()
	defer w.mu.Unlock()
	meanwhile := 0
	for key, added := range w.added {
		if added.Before(from) || added.After(to) {
			continue
		}
		meanwhile++
		if came := w.came[key]; len(came) != 1 { // the last of them from the pod that woke, if it has the source again
			t.Errorf("%s, which is of the time in which %s was frozen, came as %v", key, owner, came)
		}
	}
	if meanwhile == 0 {
		t.Error("there was no alert in that time")
	}
}

func TestTheAPIServerFreezes(t *testing.T) {
	w := newWorld(t)
	w.started(2)
	stop := w.load()
	time.Sleep(5 * second)
	if err := w.server.Freeze(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(20 * second)
	if err := w.server.Thaw(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(12 * second)
	stop()
	w.check(0)
}

func TestAMissingRightIsToldOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.kubeconfig = w.server.Namespace(t, w.namespace+"-without", apiserver.Rules(t, role)[:1])
	_, h := w.pod()
	want := `add to its Role the rule apiGroups: [""], resources: [configmaps], verbs: [get, list, create, update]`
	count := func(v *flbhost.View) (n int) {
		for _, l := range v.Logs {
			if strings.Contains(l.Text, want) {
				n++
			}
		}
		return n
	}
	h.MustAwait(t, limit, "the line about the missing rule", func(v *flbhost.View) bool { return count(v) > 0 })
	time.Sleep(6 * second)
	h.Look(func(v *flbhost.View) {
		if n := count(v); n != 1 {
			t.Errorf("it was told %d times", n)
		}
	})
}
