//go:build kubernetes

package deploy

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	apiwatch "k8s.io/apimachinery/pkg/watch"

	"fluent-bit-defender/internal/apiserver"
	"fluent-bit-defender/internal/defendersim"
	"fluent-bit-defender/internal/flbhost"
)

const (
	nodes   = 20
	played  = 4 // nodes whose pods are processes; those of the others are kwok's
	logging = "logging"
)

// The DaemonSet as it is shipped rolls out to twenty nodes of a cluster with real controllers and scheduler, by the
// commands of the page, and rolls over when its configuration changes from a client secret to workload identity: all
// pods are new ones, and never more than maxUnavailable of the nodes are without one. On four nodes the pods are real
// Fluent Bits with the pods' files, rights and tokens: they share the tenant, and each alert comes once, before, during
// and after.
func TestADaemonSetRollsOver(t *testing.T) {
	program, found := flbhost.FluentBit()
	switch {
	case !found:
		t.Skip("SKIPPED: no Fluent Bit: set FLUENT_BIT or put fluent-bit on PATH")
	case os.Getuid() != 0:
		t.Skip("SKIPPED: only root may make the roots of containers")
	}
	kubectl, s := findKubectl(t), apiserver.Get(t)
	s.Cluster(t)
	w := &clusterWorld{T: t, server: s, kubectl: kubectl}
	w.service(program)
	w.makeNodes()

	overlay := w.overlay()
	w.run("create", "namespace", logging)
	secret := filepath.Join(t.TempDir(), "secret")
	write(t, secret, defendersim.DefaultSecret)
	w.run("create", "secret", "generic", "fluent-bit-defender", "--from-file=client_secret="+secret)
	started := time.Now()
	w.run("apply", "-k", overlay)
	w.rollout()
	t.Logf("rolled out to %d nodes in %s", nodes, time.Since(started).Round(time.Second))
	before := w.pods()
	if len(before) != nodes {
		t.Fatalf("%d pods on %d nodes", len(before), nodes)
	}
	w.await("alerts", func() bool { return w.came() > 20 })

	away := w.watchReady()
	kustomization := filepath.Join(overlay, "kustomization.yaml")
	text, err := os.ReadFile(kustomization)
	if err != nil {
		t.Fatal(err)
	}
	write(t, kustomization, strings.Replace(string(text), "#components:\n#  - ", "components:\n  - ", 1))
	changed := time.Now()
	w.run("apply", "-k", overlay)
	w.rollout()
	took := time.Since(changed)
	most := away()
	after := w.pods()
	for node, pod := range after {
		const revision = "controller-revision-hash"
		if old := before[node]; old.UID == pod.UID || old.Labels[revision] == pod.Labels[revision] {
			t.Errorf("%s still has the old pod", node)
		}
	}
	t.Logf("rolled over in %s, at most %d of %d nodes without a ready pod at a time", took.Round(time.Second), most,
		nodes)
	if most != 1 || len(after) != nodes { // maxUnavailable
		t.Errorf("%d nodes were without a pod at a time, %d have one", most, len(after))
	}
	w.svc.SetSecrets(defendersim.DefaultClientID) // none any more
	had := w.came()
	w.await("alerts by workload identity", func() bool { return w.came() > had+20 })
	w.stop()
	w.await("every alert", func() bool { return w.came() >= w.added+alerts })
	w.check()
}

// clusterWorld is the simulated service and the nodes whose pods pull from it.
type clusterWorld struct {
	*testing.T
	server   *apiserver.Server
	kubectl  string
	svc      *defendersim.Service
	srv      *defendersim.Server
	kubelets []*kubelet
	stop     func() // ends the load
	added    int    // by the load, known once it ended
}

// run is kubectl in the namespace.
func (w *clusterWorld) run(args ...string) string {
	w.Helper()
	out, err := w.server.Kubectl(w.T, w.kubectl, logging, args...)
	if err != nil {
		w.Fatalf("kubectl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// service starts the simulated service, which trusts the cluster's tokens, gives it five alerts a second, and makes
// the nodes' kubelets.
func (w *clusterWorld) service(program string) {
	w.Helper()
	w.svc, w.srv = serve(w.T)
	w.svc.SetFederation(defendersim.DefaultClientID, defendersim.Federation{
		Cluster: defendersim.ClusterOf(apiserver.Issuer, w.server.SigningKey()),
		Subject: "system:serviceaccount:" + logging + ":fluent-bit-defender", Audience: "api://AzureADTokenExchange"})
	roots := filepath.Join(w.TempDir(), "roots.pem")
	if err := w.srv.WriteCA(roots); err != nil {
		w.Fatal(err)
	}
	build, err := filepath.Abs("../build")
	if err != nil {
		w.Fatal(err)
	}
	const plugin = "/in_defender_kubernetes.so"
	images := map[string]map[string]string{
		"fluent/fluent-bit":                {program: "/fluent-bit/bin/fluent-bit"},
		"registry.example.com/in-defender": {build + "/install-plugin": "/install-plugin", build + plugin: plugin},
	}
	for i := range played {
		w.kubelets = append(w.kubelets, &kubelet{T: w.T, server: w.server, namespace: logging, node: nodeName(i),
			address: fmt.Sprintf("127.0.1.%d", i+1), roots: roots, disk: w.TempDir(), images: images,
			pods: map[types.UID]*podProcess{}})
	}
	done, gone := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(gone)
		gen := defendersim.NewGenerator(rand.New(rand.NewPCG(3, 4)), defendersim.Mix{})
		for tick := time.NewTicker(200 * time.Millisecond); ; {
			select {
			case <-done:
				tick.Stop()
				return
			case <-tick.C:
				w.svc.Add(gen.Alert(w.svc.Now().Add(-time.Second)))
				w.added++
			}
		}
	}()
	w.stop = sync.OnceFunc(func() { close(done); <-gone })
	w.Cleanup(w.stop)
}

func nodeName(i int) string { return fmt.Sprintf("node-%02d", i) }

// makeNodes makes nodes, and waits until pods may run there.
func (w *clusterWorld) makeNodes() {
	w.Helper()
	api := w.server.Admin.CoreV1().Nodes()
	for i := range nodes {
		node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: nodeName(i)}}
		if i >= played {
			node.Annotations = map[string]string{"kwok.x-k8s.io/node": "fake"}
		}
		node, err := api.Create(w.Context(), node, metav1.CreateOptions{})
		if err == nil && i < played {
			ready := corev1.NodeCondition{Type: corev1.NodeReady, Status: corev1.ConditionTrue,
				LastHeartbeatTime: metav1.Now()}
			node.Status.Conditions = []corev1.NodeCondition{ready}
			node.Status.Allocatable = corev1.ResourceList{
				"cpu": resource.MustParse("4"), "memory": resource.MustParse("8Gi"), "pods": resource.MustParse("10")}
			node.Status.Capacity = node.Status.Allocatable
			_, err = api.UpdateStatus(w.Context(), node, metav1.UpdateOptions{})
		}
		if err != nil {
			w.Fatal(err)
		}
	}
	w.await("nodes", func() bool {
		list, err := api.List(w.Context(), metav1.ListOptions{})
		return err == nil && !slices.ContainsFunc(list.Items,
			func(n corev1.Node) bool { return len(n.Spec.Taints) > 0 })
	})
}

// overlay is a copy of what is shipped, with the stanza edited as the page says: another address, asked each second.
func (w *clusterWorld) overlay() (dir string) {
	w.Helper()
	dir = w.TempDir()
	if err := os.CopyFS(dir, os.DirFS("kubernetes")); err != nil {
		w.Fatal(err)
	}
	for _, name := range []string{"daemonset", "workload-identity/daemonset"} {
		path := filepath.Join(dir, name, "fluent-bit.conf")
		text, err := os.ReadFile(path)
		if err != nil {
			w.Fatal(err)
		}
		for pattern, by := range map[string]string{
			"region .*":        "url " + w.srv.AlertsURL() + "\n    token_url " + w.srv.TokenURL(),
			"poll_interval .*": "poll_interval 1s",
		} {
			text = regexp.MustCompile(`(?m)^    `+pattern+`$`).ReplaceAll(text, []byte("    "+by))
		}
		write(w.T, path, string(text))
	}
	return filepath.Join(dir, "daemonset")
}

// await lets the kubelets work until something is so.
func (w *clusterWorld) await(what string, cond func() bool) {
	w.Helper()
	deadline := time.Now().Add(3 * time.Minute)
	for ; !cond(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			pods, _ := w.server.Kubectl(w.T, w.kubectl, logging, "get", "pods,daemonsets", "-o", "wide")
			w.Fatalf("not in time: %s\n%s", what, pods)
		}
		for _, k := range w.kubelets {
			k.sync()
		}
	}
}

// rollout waits until kubectl says that the DaemonSet is rolled out.
func (w *clusterWorld) rollout() {
	w.Helper()
	done := make(chan error, 1)
	cmd := exec.CommandContext(w.Context(), w.kubectl, "--kubeconfig", w.server.AdminKubeconfig(w.T, logging),
		"rollout", "status", "daemonset/fluent-bit-defender", "--timeout=3m")
	go func() { done <- cmd.Run() }()
	w.await("the rollout", func() bool {
		select {
		case err := <-done:
			if err != nil {
				w.Fatalf("kubectl rollout status: %v", err)
			}
			return true
		default:
			return false
		}
	})
}

// pods are those that there are, by their node.
func (w *clusterWorld) pods() map[string]corev1.Pod {
	w.Helper()
	list, err := w.server.Admin.CoreV1().Pods(logging).List(w.Context(), metav1.ListOptions{})
	if err != nil {
		w.Fatal(err)
	}
	pods := map[string]corev1.Pod{}
	for _, pod := range list.Items {
		pods[pod.Spec.NodeName] = pod
	}
	return pods
}

// watchReady follows the pods until it is asked how many nodes were without a ready one at a time.
func (w *clusterWorld) watchReady() (most func() int) {
	w.Helper()
	api := w.server.Admin.CoreV1().Pods(logging)
	list, err := api.List(w.Context(), metav1.ListOptions{})
	if err != nil {
		w.Fatal(err)
	}
	watch, err := api.Watch(w.Context(), metav1.ListOptions{ResourceVersion: list.ResourceVersion})
	if err != nil {
		w.Fatal(err)
	}
	ready := map[types.UID]string{} // node by pod
	see := func(pod *corev1.Pod, there bool) (away int) {
		delete(ready, pod.UID)
		if there && pod.DeletionTimestamp == nil && slices.ContainsFunc(pod.Status.Conditions,
			func(c corev1.PodCondition) bool {
				return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
			}) {
			ready[pod.UID] = pod.Spec.NodeName
		}
		return nodes - len(slices.Compact(slices.Sorted(maps.Values(ready))))
	}
	for _, pod := range list.Items {
		see(&pod, true)
	}
	var stopped atomic.Bool
	worst, ended := 0, make(chan struct{})
	go func() {
		defer close(ended)
		for event := range watch.ResultChan() {
			if pod, is := event.Object.(*corev1.Pod); is {
				worst = max(worst, see(pod, event.Type != apiwatch.Deleted))
			} else if !stopped.Load() { // else it says that it was ended
				w.Errorf("the watch of pods: %+v", event.Object)
			}
		}
	}()
	return func() int { stopped.Store(true); watch.Stop(); <-ended; return worst }
}

// came counts the alerts of all pods that there were.
func (w *clusterWorld) came() (n int) {
	for _, k := range w.kubelets {
		for _, run := range k.past {
			n += len(run.ids())
		}
	}
	return n
}

// check fails unless each alert came once, and from more than one pod in turn.
func (w *clusterWorld) check() {
	w.Helper()
	of := map[string]int{}
	for _, k := range w.kubelets {
		for _, run := range k.past {
			for _, id := range run.ids() {
				of[id]++
			}
		}
		w.Logf("alerts by pods of %s", k)
	}
	twice := 0
	for _, n := range of {
		if n > 1 {
			twice++
		}
	}
	w.Logf("%d alerts, %d of them twice", len(of), twice)
	if want := w.added + alerts; len(of) != want || twice > 0 {
		w.Errorf("%d alerts of %d came, %d of them more than once", len(of), want, twice)
	}
}
