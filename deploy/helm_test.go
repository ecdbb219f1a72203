//go:build kubernetes

package deploy

import (
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"fluent-bit-defender/conf"
	"fluent-bit-defender/internal/apiserver"
)

// helm is the program where there is none on PATH.
const helm = "helm.sh/helm/v3/cmd/helm@v3.19.0"

// render renders the official chart, which FLUENT_BIT_CHART names, with our values.
func render(t *testing.T) (objects [][]byte) {
	t.Helper()
	chart := os.Getenv("FLUENT_BIT_CHART")
	if chart == "" {
		t.Skip("SKIPPED: FLUENT_BIT_CHART does not name the directory of the chart fluent/fluent-bit")
	}
	values, err := filepath.Abs("helm/values.yaml")
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"template", "fluent-bit", chart, "--namespace", "logging", "--no-hooks", "-f", values}
	cmd := exec.CommandContext(t.Context(), "helm", args...)
	if _, err := exec.LookPath("helm"); err != nil {
		cmd = exec.CommandContext(t.Context(), "go", append([]string{"run", helm}, args...)...)
		cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOEXPERIMENT=")
	}
	cmd.Dir = t.TempDir()
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("helm: %v", err)
	}
	for _, text := range strings.Split("\n"+string(out), "\n---\n") {
		object, err := yaml.YAMLToJSON([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if string(object) != "null" {
			objects = append(objects, object)
		}
	}
	return objects
}

// The official chart takes our values, a real API server what becomes of them, and the plugin the stanza. The Role is
// the one that the tests of pods run under, for the chart's service account.
func TestTheAPIServerTakesTheChart(t *testing.T) {
	objects := render(t)
	s := apiserver.Get(t)
	const namespace = "chart"
	makeNamespace(t, s, namespace)
	role, err := os.ReadFile("helm/role.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range strings.Split(string(role), "\n---\n") {
		object, err := yaml.YAMLToJSON([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		objects = append(objects, object)
	}
	var set appsv1.DaemonSet
	var config corev1.ConfigMap
	var account corev1.ServiceAccount
	var binding rbacv1.RoleBinding
	into := map[string]any{"DaemonSet": &set, "ConfigMap": &config, "ServiceAccount": &account, "RoleBinding": &binding}
	for _, object := range objects {
		var meta struct {
			metav1.TypeMeta
			Metadata map[string]any
		}
		if err := yaml.Unmarshal(object, &meta); err != nil {
			t.Fatal(err)
		}
		// The chart says in which namespace its objects are.
		text := strings.ReplaceAll(string(object), `"namespace":"logging"`, `"namespace":"`+namespace+`"`)
		if err := dryRun(t, s, namespace, meta.APIVersion+" "+meta.Kind, []byte(text)); err != nil {
			t.Errorf("%s: %v", meta.Kind, err)
		}
		if v := into[meta.Kind]; v != nil {
			if err := yaml.Unmarshal(object, v); err != nil {
				t.Fatal(err)
			}
		}
	}
	pod := set.Spec.Template.Spec
	if len(pod.InitContainers) != 1 || len(pod.Containers) != 1 || pod.ServiceAccountName != account.Name ||
		binding.Subjects[0].Name != account.Name {
		t.Fatalf("%d and %d containers; accounts %s, %s, %s", len(pod.InitContainers), len(pod.Containers),
			pod.ServiceAccountName, account.Name, binding.Subjects[0].Name)
	}
	fluentBit := pod.Containers[0]
	plugin := filepath.Join(mountOf(t, fluentBit, "defender-plugins").MountPath, "in_defender_kubernetes.so")
	if args := strings.Join(fluentBit.Args, " "); !strings.Contains(args, "-e "+plugin) || len(fluentBit.Env) != 1 ||
		fluentBit.Env[0].Name != "POD_NAME" {
		t.Errorf("Fluent Bit is started with %s and %+v", args, fluentBit.Env)
	}
	if !reflect.DeepEqual(apiserver.Rules(t, "helm/role.yaml"), apiserver.Rules(t, "kubernetes/daemonset/role.yaml")) {
		t.Error("the Roles differ")
	}
	path := filepath.Join(t.TempDir(), "fluent-bit.conf")
	text := config.Data["fluent-bit.conf"]
	// the chart's are two, as they may be
	write(t, path, regexp.MustCompile(`(?m)^ *Parsers_File .*\n`).ReplaceAllString(text, ""))
	service, stanza, _ := read(t, path)
	for _, key := range []string{"name", "alias", "tag", "storage.type"} {
		delete(stanza, key)
	}
	cfg, err := conf.Load(stanza.get, func(string) string { return "" })
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if _, _, shared := cfg.Shared(); !shared || !strings.HasPrefix(service["storage.path"],
		mountOf(t, fluentBit, "defender-storage").MountPath+"/") {
		t.Errorf("db %s, storage.path %s", cfg.DB, service["storage.path"])
	}
	if !strings.HasPrefix(cfg.ClientSecretFile, mountOf(t, fluentBit, "defender-credential").MountPath+"/") {
		t.Errorf("the secret is looked for at %s", cfg.ClientSecretFile)
	}
}
