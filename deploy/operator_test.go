//go:build kubernetes

package deploy

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"fluent-bit-defender/conf"
	"fluent-bit-defender/internal/apiserver"
)

// operated is the part of the Fluent Operator's objects that is written here.
type operated struct {
	metav1.TypeMeta
	Spec struct {
		Alias        string
		CustomPlugin struct{ Config string }

		Args           []string
		Secrets        []string
		InitContainers []corev1.Container
		VolumesMounts  []corev1.VolumeMount
		Service        struct{ Storage struct{ Path string } }
	}
}

// The Fluent Operator's definitions, which FLUENT_OPERATOR_CRDS names, have every field of ours, and the plugin takes
// the stanza that the operator makes of them, whose files are where the operator mounts them.
func TestTheAPIServerTakesTheOperatorsObjects(t *testing.T) {
	dir := os.Getenv("FLUENT_OPERATOR_CRDS")
	if dir == "" {
		t.Skip("SKIPPED: FLUENT_OPERATOR_CRDS does not name the directory config/crd/bases of fluent/fluent-operator")
	}
	s := apiserver.Get(t)
	const namespace = "operated"
	makeNamespace(t, s, namespace)
	for _, plural := range []string{"clusterinputs", "clusterfluentbitconfigs", "fluentbits"} {
		define(t, s, filepath.Join(dir, "fluentbit.fluent.io_"+plural+".yaml"), plural)
	}
	objects := map[string]operated{}
	for _, name := range []string{"clusterinput.yaml", "additions.yaml"} {
		text, err := os.ReadFile(filepath.Join("fluent-operator", name))
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range strings.Split(string(text), "\n---\n") {
			object, err := yaml.YAMLToJSON([]byte(text))
			if err != nil {
				t.Fatal(err)
			}
			var o operated
			if err := json.Unmarshal(object, &o); err != nil {
				t.Fatal(err)
			}
			objects[o.Kind] = o
			if err := dryRun(t, s, namespace, o.APIVersion+" "+o.Kind, object); err != nil {
				t.Errorf("%s: %v", o.Kind, err)
			}
		}
	}
	pod := objects["FluentBit"].Spec
	mounts := corev1.Container{VolumeMounts: pod.VolumesMounts}
	if want := filepath.Join(mountOf(t, mounts, "defender-plugins").MountPath,
		"in_defender_kubernetes.so"); len(pod.Args) != 2 || pod.Args[1] != want {
		t.Errorf("Fluent Bit is started with %v", pod.Args)
	}
	if c := pod.InitContainers[0]; c.Args[0] != mountOf(t, c, "defender-plugins").MountPath ||
		!strings.HasSuffix(pod.Args[1], "/"+c.Args[1]) {
		t.Errorf("the plugin is brought to %v", c.Args)
	}
	if path := objects["ClusterFluentBitConfig"].Spec.Service.Storage.Path; !strings.HasPrefix(path,
		mountOf(t, mounts, "defender-storage").MountPath+"/") {
		t.Errorf("storage.path %s is on no volume", path)
	}
	input := objects["ClusterInput"].Spec
	path := filepath.Join(t.TempDir(), "fluent-bit.conf")
	write(t, path, "[SERVICE]\n    flush 1\n[INPUT]\n    alias "+input.Alias+"\n    "+
		strings.ReplaceAll(strings.TrimSpace(input.CustomPlugin.Config), "\n", "\n    ")+
		"\n[OUTPUT]\n    name stdout\n    match *\n")
	_, stanza, _ := read(t, path)
	for _, key := range []string{"name", "alias", "tag", "storage.type"} {
		delete(stanza, key)
	}
	cfg, err := conf.Load(stanza.get, func(string) string { return "" })
	if err != nil {
		t.Fatal(err)
	}
	if _, _, shared := cfg.Shared(); !shared || len(pod.Secrets) != 1 ||
		filepath.Dir(cfg.ClientSecretFile) != "/fluent-bit/secrets/"+pod.Secrets[0] {
		t.Errorf("db %s; the secret is looked for at %s", cfg.DB, cfg.ClientSecretFile)
	}
}

// define makes a definition known, and waits until the API server serves its objects.
func define(t *testing.T, s *apiserver.Server, path, plural string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	api := s.Admin.CoreV1().RESTClient()
	if err := api.Post().AbsPath("/apis/apiextensions.k8s.io/v1/customresourcedefinitions").SetHeader("Content-Type",
		"application/yaml").
		Body(text).Do(t.Context()).Error(); err != nil {
		t.Fatal(err)
	}
	for start := time.Now(); ; time.Sleep(100 * time.Millisecond) {
		var code int
		api.Get().AbsPath("/apis/fluentbit.fluent.io/v1alpha2/" + plural).Do(t.Context()).StatusCode(&code)
		if code == http.StatusOK {
			return
		}
		if time.Since(start) > time.Minute {
			t.Fatalf("%s: %d", plural, code)
		}
	}
}
