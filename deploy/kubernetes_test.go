package deploy

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/json"
	"sigs.k8s.io/kustomize/api/krusty"
	kustomize "sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

// cluster is what kubectl apply -k sends for an overlay.
type cluster struct {
	overlay    string
	deployment appsv1.Deployment // of deployment, as is the claim
	claim      corev1.PersistentVolumeClaim
	daemonSet  appsv1.DaemonSet // of daemonset, as are role and binding
	role       rbacv1.Role
	binding    rbacv1.RoleBinding
	account    corev1.ServiceAccount
	config     corev1.ConfigMap
}

// overlays are the ways to deploy it.
var overlays = []string{"deployment", "daemonset"}

func (c *cluster) template() corev1.PodTemplateSpec {
	if c.overlay == "daemonset" {
		return c.daemonSet.Spec.Template
	}
	return c.deployment.Spec.Template
}

// path is that of a file of the overlay.
func (c *cluster) path(component, name string) string {
	return filepath.Join("kubernetes", component, c.overlay, name)
}

// strict reads a manifest into Kubernetes' own type as the API server does with strict field validation: a field that
// the type has not (upper and lower case count), or a field given twice, fails.
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

// build runs kustomize over an overlay, with or without the component for workload identity.
func build(t *testing.T, overlay string, components ...string) *cluster {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("kubernetes")); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, overlay, "kustomization.yaml")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var k kustomize.Kustomization
	strict(t, text, &k)
	if len(components) > 0 {
		// As the comment in the file says.
		on := strings.Replace(string(text), "#components:\n#  - ../"+components[0], "components:\n  - ../"+
			components[0], 1)
		if on == string(text) {
			t.Fatalf("%s does not say how to switch %s on", path, components[0])
		}
		if err := os.WriteFile(path, []byte(on), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	resources, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{overlay: overlay}
	kinds := map[string]any{"v1 ServiceAccount": &c.account, "v1 ConfigMap": &c.config}
	if overlay == "daemonset" {
		maps.Copy(kinds, map[string]any{"apps/v1 DaemonSet": &c.daemonSet, "rbac.authorization.k8s.io/v1 Role": &c.role,
			"rbac.authorization.k8s.io/v1 RoleBinding": &c.binding})
	} else {
		maps.Copy(kinds, map[string]any{"apps/v1 Deployment": &c.deployment, "v1 PersistentVolumeClaim": &c.claim})
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
	for _, overlay := range overlays {
		t.Run(overlay+" with a secret", func(t *testing.T) { test(t, build(t, overlay)) })
		t.Run(overlay+" with workload identity", func(t *testing.T) { test(t, build(t, overlay, "workload-identity")) })
	}
}

// The files as they are, for those who apply them one by one, and those that kustomize does not read.
func TestManifestsAreOfKubernetesTypes(t *testing.T) {
	types := map[string]any{
		"deployment/deployment.yaml": &appsv1.Deployment{}, "base/serviceaccount.yaml": &corev1.ServiceAccount{},
		"deployment/volume.yaml": &corev1.PersistentVolumeClaim{}, "secret.example.yaml": &corev1.Secret{},
		"daemonset/daemonset.yaml": &appsv1.DaemonSet{},
	}
	for _, dir := range []string{"", "base/", "deployment/", "daemonset/", "workload-identity/deployment/",
		"workload-identity/daemonset/"} {
		types[dir+"kustomization.yaml"] = &kustomize.Kustomization{}
	}
	var found []string
	err := filepath.WalkDir("kubernetes", func(path string, _ fs.DirEntry, err error) error {
		// that one is two documents; kustomize reads it
		if filepath.Ext(path) == ".yaml" && filepath.Base(path) != "role.yaml" {
			found = append(found, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range found {
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
	for _, c := range []*cluster{build(t, "deployment"), build(t, "deployment", "workload-identity")} {
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
	}
}

// The pods of the DaemonSet may do what the Role says, know their names, and end before the next one begins.
func TestPodsThatShareMayDoSo(t *testing.T) {
	for _, c := range []*cluster{build(t, "daemonset"), build(t, "daemonset", "workload-identity")} {
		if s := c.daemonSet.Spec; s.UpdateStrategy.Type != appsv1.RollingUpdateDaemonSetStrategyType ||
			s.UpdateStrategy.RollingUpdate.MaxUnavailable.IntVal != 1 {
			t.Errorf("update strategy: %+v", s.UpdateStrategy)
		}
		subjects, ref := c.binding.Subjects, c.binding.RoleRef
		if len(subjects) != 1 || subjects[0].Kind != "ServiceAccount" || subjects[0].Name != c.account.Name ||
			ref.Kind != "Role" || ref.Name != c.role.Name {
			t.Errorf("the Role %s is bound to %v by %v", c.role.Name, subjects, ref)
		}
		env := c.template().Spec.Containers[0].Env
		if len(env) != 1 || env[0].Name != "POD_NAME" || env[0].ValueFrom == nil ||
			env[0].ValueFrom.FieldRef.FieldPath != "metadata.name" {
			t.Errorf("environment: %+v", env)
		}
	}
}

func TestNamesAreValid(t *testing.T) {
	everyCluster(t, func(t *testing.T, c *cluster) {
		metas := []metav1.ObjectMeta{c.account.ObjectMeta, c.config.ObjectMeta, c.deployment.ObjectMeta,
			c.claim.ObjectMeta}
		if c.overlay == "daemonset" {
			metas = []metav1.ObjectMeta{c.account.ObjectMeta, c.config.ObjectMeta, c.daemonSet.ObjectMeta,
				c.role.ObjectMeta, c.binding.ObjectMeta}
		}
		for _, meta := range metas {
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
		pod := c.template().Spec
		if got := pod.Containers[0].Image; got != "fluent/fluent-bit:5.1.1" {
			t.Errorf("Fluent Bit's image is %s", got)
		}
		for _, c := range pod.InitContainers {
			if !strings.HasPrefix(c.Image, "registry.example.com/in-defender:v") {
				t.Errorf("the plugin's image is %s", c.Image)
			}
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
	pod := build(t, "deployment").template().Spec
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
	if value, found := secret.StringData[key]; !found || value != "REPLACE-ME" || len(secret.StringData)+
		len(secret.Data) != 1 {
		t.Errorf("the example holds %v, the stanza wants %s and no true secret", secret.StringData, key)
	}
}

func TestWorkloadIdentityFitsTheStanza(t *testing.T) {
	for _, overlay := range overlays {
		workloadIdentityFits(t, build(t, overlay, "workload-identity"))
	}
}

func workloadIdentityFits(t *testing.T, c *cluster) {
	t.Helper()
	pod := c.template().Spec
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
	_, stanza, _ := read(t, c.path("workload-identity", "fluent-bit.conf"))
	if want := filepath.Join(mountOf(t, pod.Containers[0], "credential").MountPath,
		token.Path); stanza["federated_token_file"] != want {
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
