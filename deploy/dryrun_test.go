//go:build kubernetes

package deploy

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"

	"fluent-bit-defender/internal/apiserver"
)

func TestMain(m *testing.M) { apiserver.Main(m) }

const operatorAPI = "fluentbit.fluent.io/v1alpha2" // of the Fluent Operator

// resources are the API's names for the kinds of the overlays.
var resources = map[string]string{
	"apps/v1 Deployment": "/apis/apps/v1/namespaces/NS/deployments",
	"apps/v1 DaemonSet":  "/apis/apps/v1/namespaces/NS/daemonsets",
	"v1 ServiceAccount":  "/api/v1/namespaces/NS/serviceaccounts", "v1 ConfigMap": "/api/v1/namespaces/NS/configmaps",
	"v1 PersistentVolumeClaim":                 "/api/v1/namespaces/NS/persistentvolumeclaims",
	"v1 Secret":                                "/api/v1/namespaces/NS/secrets",
	"rbac.authorization.k8s.io/v1 Role":        "/apis/rbac.authorization.k8s.io/v1/namespaces/NS/roles",
	"rbac.authorization.k8s.io/v1 RoleBinding": "/apis/rbac.authorization.k8s.io/v1/namespaces/NS/rolebindings",
	// and of the chart
	"v1 Service": "/api/v1/namespaces/NS/services",
	"rbac.authorization.k8s.io/v1 ClusterRole":        "/apis/rbac.authorization.k8s.io/v1/clusterroles",
	"rbac.authorization.k8s.io/v1 ClusterRoleBinding": "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
	// and for the Fluent Operator
	operatorAPI + " ClusterInput":           "/apis/" + operatorAPI + "/clusterinputs",
	operatorAPI + " ClusterFluentBitConfig": "/apis/" + operatorAPI + "/clusterfluentbitconfigs",
	operatorAPI + " FluentBit":              "/apis/" + operatorAPI + "/namespaces/NS/fluentbits",
}

func makeNamespace(t *testing.T, s *apiserver.Server, name string) {
	t.Helper()
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if _, err := s.Admin.CoreV1().Namespaces().Create(t.Context(), namespace, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// dryRun sends an object as kubectl apply --dry-run=server --validate=strict does.
func dryRun(t *testing.T, s *apiserver.Server, namespace, kind string, object []byte) error {
	t.Helper()
	path := resources[kind]
	if path == "" {
		t.Fatalf("%s: where does it go?", kind)
	}
	_, err := s.Admin.CoreV1().RESTClient().Post().AbsPath(strings.Replace(path, "NS", namespace, 1)).
		Param("dryRun", "All").Param("fieldValidation", "Strict").SetHeader("Content-Type",
		"application/json").Body(object).DoRaw(t.Context())
	return err
}

// A real kube-apiserver takes what each overlay sends, as kubectl apply --dry-run=server --validate=strict does: with
// and without workload identity, and the whole of deploy/kubernetes.
func TestTheAPIServerTakesTheOverlays(t *testing.T) {
	s := apiserver.Get(t)
	const namespace = "dry-run"
	makeNamespace(t, s, namespace)
	sent := 0
	for _, overlay := range []string{".", "deployment", "daemonset"} {
		for _, component := range []string{"", "workload-identity"} {
			dir := t.TempDir()
			if err := os.CopyFS(dir, os.DirFS("kubernetes")); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, overlay, "kustomization.yaml")
			if component != "" && overlay != "." {
				text, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				write(t, path, strings.Replace(string(text), "#components:\n#  - ", "components:\n  - ", 1))
			}
			all, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(),
				filepath.Dir(path))
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range all.Resources() {
				object, err := r.MarshalJSON()
				if err != nil {
					t.Fatal(err)
				}
				gvk := r.GetGvk()
				kind := strings.TrimPrefix(gvk.Group+"/"+gvk.Version+" "+gvk.Kind, "/")
				if err := dryRun(t, s, namespace, kind, object); err != nil {
					t.Errorf("%s %s: %s %s: %v", overlay, component, kind, r.GetName(), err)
				}
				sent++
			}
		}
	}
	if sent != 2*(4+4+5) {
		t.Errorf("%d objects were sent", sent)
	}
	// The check can fail: a field that there is not.
	if err := dryRun(t, s, namespace, "v1 ConfigMap",
		[]byte(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"x"},"datum":{}}`)); err == nil {
		t.Error("an unknown field is taken")
	}
}
