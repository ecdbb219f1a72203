package deploy

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// everyContainer runs a test on each container of each pod.
func everyContainer(t *testing.T, test func(t *testing.T, pod corev1.PodSpec, c corev1.Container)) {
	everyCluster(t, func(t *testing.T, c *cluster) {
		pod := c.template().Spec
		if len(pod.InitContainers) > 2 || len(pod.Containers) != 1 {
			t.Fatalf("%d and %d containers", len(pod.InitContainers), len(pod.Containers))
		}
		if n := len(pod.InitContainers); (n == 2) != (c.overlay == "daemonset") {
			t.Errorf("%d init containers", n)
		}
		for _, container := range slices.Concat(pod.InitContainers, pod.Containers) {
			t.Run(container.Name, func(t *testing.T) { test(t, pod, container) })
		}
	})
}

// The "restricted" level of Kubernetes' Pod Security Standards, and a root file system nobody writes to. A
// DaemonSet's pod has a directory of the node in addition, and one container that runs as root to make it Fluent
// Bit's, and may do nothing else.
func TestPodIsRestricted(t *testing.T) {
	everyContainer(t, func(t *testing.T, pod corev1.PodSpec, c corev1.Container) {
		p, s := pod.SecurityContext, c.SecurityContext
		if p == nil || s == nil {
			t.Fatal("no securityContext")
		}
		if p.RunAsNonRoot == nil || !*p.RunAsNonRoot || p.RunAsUser == nil || *p.RunAsUser == 0 ||
			p.RunAsGroup == nil || *p.RunAsGroup == 0 {
			t.Errorf("it may run as root: %+v", p)
		}
		if p.FSGroup == nil || *p.FSGroup != *p.RunAsGroup {
			t.Errorf("fsGroup %v: it could not write to its volumes", p.FSGroup)
		}
		if p.SeccompProfile == nil || p.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
			t.Errorf("seccomp: %+v", p.SeccompProfile)
		}
		var added []corev1.Capability
		if c.Name == "own-storage" {
			if s.RunAsUser == nil || *s.RunAsUser != 0 || len(c.Args) != 3 || c.Args[1] != fmt.Sprintf("%d:%d",
				*p.RunAsUser, *p.RunAsGroup) {
				t.Errorf("it gives nothing to Fluent Bit's user: %v", c.Args)
			}
			added = []corev1.Capability{"CHOWN"}
		} else if s.RunAsUser != nil || s.RunAsNonRoot != nil || s.SeccompProfile != nil || s.Privileged != nil {
			t.Errorf("the container goes its own way: %+v", s)
		}
		if s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation {
			t.Error("it may gain rights")
		}
		if s.ReadOnlyRootFilesystem == nil || !*s.ReadOnlyRootFilesystem {
			t.Error("its root can be written to")
		}
		if s.Capabilities == nil || !slices.Equal(s.Capabilities.Add, added) || !slices.Equal(s.Capabilities.Drop,
			[]corev1.Capability{"ALL"}) {
			t.Errorf("capabilities: %+v", s.Capabilities)
		}
		if pod.HostNetwork || pod.HostPID || pod.HostIPC {
			t.Error("it shares the host's namespaces")
		}
		for _, v := range pod.Volumes {
			if v.HostPath != nil && (len(pod.InitContainers) == 1 || v.Name != "data") {
				t.Errorf("volume %s is the host's", v.Name)
			}
		}
	})
}

func TestOnlyPodsThatShareHaveAToken(t *testing.T) {
	everyCluster(t, func(t *testing.T, c *cluster) {
		pod := c.template().Spec
		if pod.ServiceAccountName != c.account.Name {
			t.Errorf("the pod runs as %q", pod.ServiceAccountName)
		}
		if mount := c.account.AutomountServiceAccountToken; mount == nil || *mount {
			t.Error("the account's token is mounted everywhere")
		}
		if mount := pod.AutomountServiceAccountToken; mount == nil || *mount != (c.overlay == "daemonset") {
			t.Errorf("a token for the Kubernetes API is mounted: %v", mount)
		}
	})
}

func TestMountsReferToVolumes(t *testing.T) {
	everyCluster(t, func(t *testing.T, c *cluster) {
		pod := c.template().Spec
		used := map[string]bool{}
		for _, container := range slices.Concat(pod.InitContainers, pod.Containers) {
			paths := map[string]bool{}
			for _, m := range container.VolumeMounts {
				volumeNamed(t, pod, m.Name)
				used[m.Name] = true
				if paths[m.MountPath] || !filepath.IsAbs(m.MountPath) {
					t.Errorf("%s mounts %s twice, or it is no path", container.Name, m.MountPath)
				}
				paths[m.MountPath] = true
				if m.SubPath != "" {
					t.Errorf("%s: a subPath never changes in a running pod", m.MountPath)
				}
			}
		}
		for _, v := range pod.Volumes {
			if !used[v.Name] {
				t.Errorf("volume %s is mounted nowhere", v.Name)
			}
			// Each has exactly one source.
			if claim := v.PersistentVolumeClaim; claim != nil && claim.ClaimName != c.claim.Name {
				t.Errorf("volume %s wants the claim %s", v.Name, claim.ClaimName)
			}
			if config := v.ConfigMap; config != nil && config.Name != c.config.Name {
				t.Errorf("volume %s wants the ConfigMap %s", v.Name, config.Name)
			}
		}
	})
}

// The init container writes the plugin to where Fluent Bit loads it from, the ConfigMap's file is the one that it
// starts with, and all that it writes is on the claim.
func TestFluentBitFindsItsFiles(t *testing.T) {
	everyCluster(t, func(t *testing.T, c *cluster) {
		pod := c.template().Spec
		path, plugin := c.path("", "fluent-bit.conf"), "in_defender.so"
		if v := volumeNamed(t, pod, "credential"); v.Projected != nil {
			path = c.path("workload-identity", "fluent-bit.conf")
		}
		copier, fluentBit := pod.InitContainers[0], pod.Containers[0]
		plugins := mountOf(t, copier, "plugins")
		args := []string{plugins.MountPath}
		if c.overlay == "daemonset" {
			plugin = "in_defender_kubernetes.so"
			args = append(args, plugin)
		}
		if plugins.ReadOnly || !slices.Equal(copier.Args, args) || len(copier.Command) != 0 {
			t.Errorf("the copier is started with %v %v", copier.Command, copier.Args)
		}
		want := []string{"-e", filepath.Join(mountOf(t, fluentBit, "plugins").MountPath, plugin),
			"-c", filepath.Join(mountOf(t, fluentBit, "config").MountPath, "fluent-bit.conf")}
		if !slices.Equal(fluentBit.Args, want) {
			t.Errorf("Fluent Bit is started with %v, want %v", fluentBit.Args, want)
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if len(c.config.Data) != 1 || c.config.Data["fluent-bit.conf"] != string(text) {
			t.Errorf("the ConfigMap is not %s", path)
		}
		service, stanza, _ := read(t, path)
		data := mountOf(t, fluentBit, "data")
		written := []string{service["storage.path"], stanza["db"]}
		if c.overlay == "daemonset" {
			written = written[:1]
		}
		for _, written := range written {
			if data.ReadOnly || !strings.HasPrefix(written, data.MountPath+"/") {
				t.Errorf("%s: %s is not on the volume", path, written)
			}
		}
		for _, m := range fluentBit.VolumeMounts {
			if m.Name != "data" && !m.ReadOnly {
				t.Errorf("Fluent Bit can write to %s", m.MountPath)
			}
		}
	})
}

func TestProbesAskFluentBit(t *testing.T) {
	everyCluster(t, func(t *testing.T, c *cluster) {
		template := c.template()
		fluentBit := template.Spec.Containers[0]
		service, _, _ := read(t, kubernetesConf)
		if len(fluentBit.Ports) != 1 || strconv.Itoa(int(fluentBit.Ports[0].ContainerPort)) != service["http_port"] {
			t.Fatalf("ports: %+v", fluentBit.Ports)
		}
		f := func(name string, probe *corev1.Probe, path string) {
			t.Helper()
			if probe == nil || probe.HTTPGet == nil {
				t.Errorf("no %s probe", name)
				return
			}
			if probe.HTTPGet.Path != path || probe.HTTPGet.Port.StrVal != fluentBit.Ports[0].Name {
				t.Errorf("the %s probe asks %+v", name, probe.HTTPGet)
			}
		}
		f("startup", fluentBit.StartupProbe, "/api/v1/health")
		f("readiness", fluentBit.ReadinessProbe, "/api/v1/health")
		// Health is that of the outputs: to restart Fluent Bit for it would mend nothing.
		f("liveness", fluentBit.LivenessProbe, "/api/v1/uptime")
		if template.Annotations["prometheus.io/port"] != service["http_port"] ||
			template.Annotations["prometheus.io/path"] != "/api/v2/metrics/prometheus" {
			t.Errorf("annotations: %v", template.Annotations)
		}
		grace, err := strconv.Atoi(service["grace"])
		if err != nil || template.Spec.TerminationGracePeriodSeconds == nil ||
			*template.Spec.TerminationGracePeriodSeconds < int64(2*grace) {
			t.Errorf("Fluent Bit is killed before its grace of %d s is over", grace)
		}
	})
}

// The sum in the comment of deployment.yaml is right, its parts are those of the configuration, and the limit is
// above it.
func TestMemoryLimitIsTheSum(t *testing.T) {
	for _, overlay := range overlays {
		memoryIsTheSum(t, filepath.Join("kubernetes", overlay, overlay+".yaml"))
	}
}

func memoryIsTheSum(t *testing.T, path string) {
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	parts := map[string]int{}
	sum, total := 0, 0
	for _, m := range regexp.MustCompile(`(?m)^ +# {3,}(\d+) {2}(.*)$`).FindAllStringSubmatch(string(text), -1) {
		n, err := strconv.Atoi(m[1])
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(m[2], "in all") {
			total = n
			continue
		}
		sum += n
		parts[m[2]] = n
	}
	if total == 0 || sum != total || len(parts) != 6 {
		t.Fatalf("the parts make %d, the comment says %d: %v", sum, total, parts)
	}
	for _, path := range deployed {
		service, _, _ := read(t, path)
		if service["storage.max_chunks_up"] != "32" || service["storage.backlog.mem_limit"] != "16M" {
			t.Errorf("%s: the sum counts with other sizes than %v", path, service)
		}
	}
	performance, err := os.ReadFile("../docs/performance.md")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`so the plugin: its \.so.*\| (\d+)\.\d`).FindStringSubmatch(string(performance))
	if m == nil || m[1] != "14" {
		t.Errorf("the plugin's memory has moved: %v", m)
	}
	everyContainer(t, func(t *testing.T, _ corev1.PodSpec, c corev1.Container) {
		limit, request := c.Resources.Limits.Memory(), c.Resources.Requests.Memory()
		if limit.IsZero() || request.IsZero() || request.Cmp(*limit) > 0 {
			t.Errorf("memory: %s of %s", request, limit)
		}
		if cpu := c.Resources.Limits.Cpu(); cpu.IsZero() || c.Resources.Requests.Cpu().Cmp(*cpu) > 0 {
			t.Errorf("CPU: %s of %s", c.Resources.Requests.Cpu(), cpu)
		}
		if c.Name == "fluent-bit" && limit.Cmp(*resource.NewScaledQuantity(int64(total), resource.Mega)) < 0 {
			t.Errorf("the limit %s is below %d MB", limit, total)
		}
	})
}
