//go:build kubernetes

package deploy

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"fluent-bit-defender/internal/apiserver"
)

// findKubectl is the program KUBECTL, else kubectl on PATH.
func findKubectl(t *testing.T) string {
	t.Helper()
	name := os.Getenv("KUBECTL")
	if name == "" {
		name = "kubectl"
	}
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skip("SKIPPED: no kubectl in KUBECTL or on PATH; the overlays go to the API server without it " +
			"(TestTheAPIServerTakesTheOverlays)")
	}
	return path
}

// kubectl itself takes the overlays by the commands of the page, with and without workload identity, and a faulty one
// not.
func TestKubectlAndTheAPIServerTakeTheOverlays(t *testing.T) {
	kubectl, s := findKubectl(t), apiserver.Get(t)
	const namespace = "by-kubectl"
	apply := func(dir string) (string, error) {
		return s.Kubectl(t, kubectl, namespace, "apply", "--dry-run=server", "--validate=strict", "-k", dir)
	}
	if out, err := s.Kubectl(t, kubectl, namespace, "create", "namespace", namespace); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, overlay := range overlays {
		dir := t.TempDir()
		if err := os.CopyFS(dir, os.DirFS("kubernetes")); err != nil {
			t.Fatal(err)
		}
		kustomization := filepath.Join(dir, overlay, "kustomization.yaml")
		text, err := os.ReadFile(kustomization)
		if err != nil {
			t.Fatal(err)
		}
		on := strings.Replace(string(text), "#components:\n#  - ", "components:\n  - ", 1)
		for name, text := range map[string]string{"a client secret": string(text), "workload identity": on} {
			write(t, kustomization, text)
			out, err := apply(filepath.Dir(kustomization))
			if err != nil || !strings.Contains(out, "/fluent-bit-defender created (server dry run)") {
				t.Errorf("%s with %s: %v\n%s", overlay, name, err, out)
			}
			t.Logf("%s with %s:\n%s", overlay, name, out)
		}
		manifest := filepath.Join(dir, overlay, overlay+".yaml")
		text, err = os.ReadFile(manifest)
		if err != nil {
			t.Fatal(err)
		}
		write(t, manifest, strings.Replace(string(text), "serviceAccountName:", "serviceAccountNam:", 1))
		if out, err := apply(filepath.Dir(kustomization)); err == nil {
			t.Errorf("%s: a field that there is not is taken:\n%s", overlay, out)
		}
	}
}
