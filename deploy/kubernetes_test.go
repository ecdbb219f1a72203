package deploy

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/json"
	"sigs.k8s.io/kustomize/api/krusty"
	kustomize "sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

// cluster is what kubectl apply -k sends.
type cluster struct {
	deployment appsv1.Deployment
	account    corev1.ServiceAccount
	claim      corev1.PersistentVolumeClaim
	config     corev1.ConfigMap
}

// strict reads a manifest into Kubernetes' own type as the API server does with strict field validation: a field that the type has not
// (upper and lower case count), or a field given twice, fails.
func strict(t *testing.T, text []byte, into any) {
	t.Helper()
	object, err := yaml.YAMLToJSONStrict(text)
	if err != nil {
		t.Fatalf("%v\nin %s", err, text)
	}
	faults, err := json.UnmarshalStrict(object, into)
	if err = errors.Join(append(faults, err)...); err != nil {
		t.Fatalf("%v\nin %s", err, text)
	}
}

// build runs kustomize over deploy/kubernetes, with or without the component for workload identity.
func build(t *testing.T, components ...string) *cluster {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("kubernetes")); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "kustomization.yaml")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var k kustomize.Kustomization
	strict(t, text, &k)
	if len(components) > 0 {
		// As the comment in the file says.
		on := strings.Replace(string(text), "#components:\n#  - "+components[0], "components:\n  - "+components[0], 1)
		if on == string(text) {
			t.Fatalf("%s does not say how to switch %s on", path, components[0])
		}
		if err := os.WriteFile(path, []byte(on), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	resources, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), dir)
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{}
	kinds := map[string]any{
		"apps/v1 Deployment": &c.deployment, "v1 ServiceAccount": &c.account,
		"v1 PersistentVolumeClaim": &c.claim, "v1 ConfigMap": &c.config,
	}
	for _, r := range resources.Resources() {
		text, err := r.AsYAML()
		if err != nil {
			t.Fatal(err)
		}
		var kind metav1.TypeMeta
		if err := yaml.Unmarshal(text, &kind); err != nil {
			t.Fatal(err)
		}
		name := kind.APIVersion + " " + kind.Kind
		into := kinds[name]
		if into == nil {
			t.Fatalf("%s is not expected, or is there twice", name)
		}
		strict(t, text, into)
		delete(kinds, name)
	}
	if len(kinds) > 0 {
		t.Fatalf("missing: %v", slices.Collect(maps.Keys(kinds)))
	}
	return c
}

// everyCluster runs a test with the client secret and with workload identity.
func everyCluster(t *testing.T, test func(t *testing.T, c *cluster)) {
	t.Run("secret", func(t *testing.T) { test(t, build(t)) })
	t.Run("workload identity", func(t *testing.T) { test(t, build(t, "workload-identity")) })
}

// The files as they are, for those who apply them one by one, and those that kustomize does not read.
func TestManifestsAreOfKubernetesTypes(t *testing.T) {
	types := map[string]any{
		"deployment.yaml": &appsv1.Deployment{}, "serviceaccount.yaml": &corev1.ServiceAccount{},
		"volume.yaml": &corev1.PersistentVolumeClaim{}, "secret.example.yaml": &corev1.Secret{},
		"kustomization.yaml": &kustomize.Kustomization{}, "workload-identity/kustomization.yaml": &kustomize.Kustomization{},
	}
	found, err := filepath.Glob("kubernetes/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	more, err := filepath.Glob("kubernetes/*/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range slices.Concat(found, more) {
		name, _ := filepath.Rel("kubernetes", path)
		into := types[name]
		if into == nil {
			t.Errorf("%s: of what type is it?", path)
			continue
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		strict(t, text, into)
		delete(types, name)
	}
	if len(types) > 0 {
		t.Errorf("missing: %v", slices.Collect(maps.Keys(types)))
	}
}

func TestOnlyOnePodPulls(t *testing.T) {
	everyCluster(t, func(t *testing.T, c *cluster) {
		spec := c.deployment.Spec
		if spec.Replicas == nil || *spec.Replicas != 1 {
			t.Errorf("replicas: %v", spec.Replicas)
		}
		if spec.Strategy.Type != appsv1.RecreateDeploymentStrategyType || spec.Strategy.RollingUpdate != nil {
			t.Errorf("strategy: %+v", spec.Strategy)
		}
		if got := c.claim.Spec.AccessModes; len(got) != 1 || got[0] != corev1.ReadWriteOnce {
			t.Errorf("access modes: %v", got)
		}
		selector, err := metav1.LabelSelectorAsMap(spec.Selector)
		if err != nil || len(selector) == 0 {
			t.Fatal(selector, err)
		}
		for key, value := range selector {
			if spec.Template.Labels[key] != value {
				t.Errorf("the selector's %s=%s is no label of the pods", key, value)
			}
		}
	})
}

func TestNamesAreValid(t *testing.T) {
	everyCluster(t, func(t *testing.T, c *cluster) {
		for _, meta := range []metav1.ObjectMeta{c.deployment.ObjectMeta, c.account.ObjectMeta, c.claim.ObjectMeta, c.config.ObjectMeta} {
			if faults := validation.IsDNS1123Subdomain(meta.Name); len(faults) > 0 {
				t.Errorf("%s: %v", meta.Name, faults)
			}
			if meta.Namespace != "" {
				t.Errorf("%s is bound to namespace %s", meta.Name, meta.Namespace)
			}
			for key, value := range meta.Labels {
				faults := append(validation.IsQualifiedName(key), validation.IsValidLabelValue(value)...)
				if len(faults) > 0 {
					t.Error(field.Invalid(field.NewPath("labels"), key+"="+value, strings.Join(faults, "; ")))
				}
			}
		}
	})
}

func TestImagesArePinned(t *testing.T) {
	everyCluster(t, func(t *testing.T, c *cluster) {
		pod := c.deployment.Spec.Template.Spec
		if got := pod.Containers[0].Image; got != "fluent/fluent-bit:5.1.1" {
			t.Errorf("Fluent Bit's image is %s", got)
		}
		if got := pod.InitContainers[0].Image; !strings.HasPrefix(got, "registry.example.com/in-defender:v") {
			t.Errorf("the plugin's image is %s", got)
		}
	})
}

// The Secret of the example is the one that the pod mounts, and its key the file that the stanza names.
func TestSecretFitsTheStanza(t *testing.T) {
	var secret corev1.Secret
	text, err := os.ReadFile("kubernetes/secret.example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	strict(t, text, &secret)
	pod := build(t).deployment.Spec.Template.Spec
	volume := volumeNamed(t, pod, "credential")
	if volume.Secret == nil || volume.Secret.SecretName != secret.Name {
		t.Fatalf("the pod mounts %+v", volume)
	}
	// Root's file, readable for the pod's group alone.
	if mode := volume.Secret.DefaultMode; mode == nil || *mode != 0o440 {
		t.Errorf("mode %v", mode)
	}
	_, stanza, _ := read(t, kubernetesConf)
	dir, key := filepath.Split(stanza["client_secret_file"])
	if dir != mountOf(t, pod.Containers[0], "credential").MountPath+"/" {
		t.Errorf("the stanza looks for the secret in %s", dir)
	}
	if value, found := secret.StringData[key]; !found || value != "REPLACE-ME" || len(secret.StringData)+len(secret.Data) != 1 {
		t.Errorf("the example holds %v, the stanza wants %s and no true secret", secret.StringData, key)
	}
}

func TestWorkloadIdentityFitsTheStanza(t *testing.T) {
	c := build(t, "workload-identity")
	pod := c.deployment.Spec.Template.Spec
	volume := volumeNamed(t, pod, "credential")
	if volume.Secret != nil || volume.Projected == nil || len(volume.Projected.Sources) != 1 {
		t.Fatalf("the pod mounts %+v", volume)
	}
	token := volume.Projected.Sources[0].ServiceAccountToken
	if token == nil || token.Audience != "api://AzureADTokenExchange" {
		t.Fatalf("the token is %+v", token)
	}
	if s := token.ExpirationSeconds; s == nil || *s < 600 { // Kubernetes refuses less
		t.Errorf("it lives %v s", s)
	}
	_, stanza, _ := read(t, workloadConf)
	if want := filepath.Join(mountOf(t, pod.Containers[0], "credential").MountPath, token.Path); stanza["federated_token_file"] != want {
		t.Errorf("the token is in %s, the stanza looks in %s", want, stanza["federated_token_file"])
	}
	for _, v := range pod.Volumes {
		if v.Secret != nil {
			t.Errorf("the pod still mounts the Secret %s", v.Secret.SecretName)
		}
	}
}

func volumeNamed(t *testing.T, pod corev1.PodSpec, name string) corev1.Volume {
	t.Helper()
	for _, v := range pod.Volumes {
		if v.Name == name {
			return v
		}
	}
	t.Fatalf("no volume %s", name)
	return corev1.Volume{}
}

func mountOf(t *testing.T, c corev1.Container, volume string) corev1.VolumeMount {
	t.Helper()
	for _, m := range c.VolumeMounts {
		if m.Name == volume {
			return m
		}
	}
	t.Fatalf("%s does not mount %s", c.Name, volume)
	return corev1.VolumeMount{}
}
