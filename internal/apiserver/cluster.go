//go:build kubernetes

package apiserver

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Cluster starts what makes a cluster of the API server, until the test ends: the controllers, the scheduler, and kwok,
// which plays the kubelet of each node with the annotation kwok.x-k8s.io/node=fake. Other nodes stay ready for an hour
// without a sign of life. It skips the test where KUBE_PROGRAMS does not name the directory of these programs.
func (s *Server) Cluster(t *testing.T) {
	t.Helper()
	dir := os.Getenv("KUBE_PROGRAMS")
	if dir == "" {
		t.Skip("SKIPPED: no KUBE_PROGRAMS; make test-cluster sets it")
	}
	admin := "--kubeconfig=" + s.AdminKubeconfig(t, "default")
	programs := map[string][]string{
		"kube-controller-manager": {admin, "--leader-elect=false", "--secure-port=0", "--node-monitor-grace-period=1h",
			"--service-account-private-key-file=" + s.path("sa.key"), "--root-ca-file=" +
				s.path("certs/apiserver.crt")},
		"kube-scheduler": {admin, "--leader-elect=false", "--secure-port=0"},
		"kwok": {admin, "--config=" + filepath.Join(dir, "kwok.yaml"), "--node-port=0", "--node-ip=127.0.0.1",
			"--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake"},
	}
	for name, args := range programs {
		cmd, err := s.run(filepath.Join(dir, name), name, args...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = cmd.Process.Kill() // an error says that it is gone already
			_ = cmd.Wait()
			if log, err := os.ReadFile(s.path(name + ".log")); err == nil && t.Failed() {
				t.Logf("%s said last:\n%s", name, log[max(0, len(log)-4000):])
			}
		})
	}
}

// AdminKubeconfig writes the kubeconfig of one who may do everything.
func (s *Server) AdminKubeconfig(t *testing.T, namespace string) (path string) {
	t.Helper()
	return s.Kubeconfig(t, namespace, `"token": "`+adminToken+`"`)
}

// Kubectl runs a kubectl as one who may do everything, and returns what it printed.
func (s *Server) Kubectl(t *testing.T, program, namespace string, args ...string) (string, error) {
	t.Helper()
	args = append([]string{"--kubeconfig", s.AdminKubeconfig(t, namespace)}, args...)
	out, err := exec.CommandContext(t.Context(), program, args...).CombinedOutput()
	return string(out), err
}
