//go:build kubernetes

package deploy

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	authv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"fluent-bit-defender/internal/apiserver"
)

// kubelet plays the kubelet of one node for the pods of one namespace: containers are processes with the pod's files,
// environment, user and rights, each in a root of its own. All nodes have this machine's network; a pod's address is
// one of loopback.
type kubelet struct {
	*testing.T
	server    *apiserver.Server
	namespace string
	node      string
	address   string                       // of its pods
	images    map[string]map[string]string // by the image's name: files of this machine and where the image has them
	roots     string                       // PEM, the images' trusted roots
	disk      string                       // where the node's directories are

	pods map[types.UID]*podProcess
	past []*running // of all pods that there were
}

type podProcess struct {
	run   *running
	ready bool
	ended bool // it was asked to end
}

// container is run in a mount namespace: ROOT USER GROUP CAPABILITIES (FROM TO ro|rw)... -- COMMAND...
const container = `set -e
root=$1 user=$2 group=$3 caps=$4; shift 4
mount -t tmpfs none "$root"
for d in bin lib lib64 usr dev proc; do [ ! -e /$d ] || { mkdir "$root/$d"; mount --rbind /$d "$root/$d"; }; done
while [ "$1" != -- ]; do
	if [ -d "$1" ]; then mkdir -p "$root$2"; else mkdir -p "$(dirname "$root$2")"; : >"$root$2"; fi
	mount --bind "$1" "$root$2"
	[ "$3" = rw ] || mount -o remount,bind,ro "$root$2"
	shift 3
done
shift
mount -o remount,ro "$root"
exec chroot "$root" setpriv --reuid "$user" --regid "$group" --clear-groups --no-new-privs \
	--inh-caps=-all --bounding-set="$caps" "$@"
`

func (k *kubelet) must(err error) {
	k.Helper()
	if err != nil {
		k.Fatalf("%s: %v", k.node, err)
	}
}

// sync brings the node's processes to what the API server says, and tells it what became of them. It never waits but
// for init containers.
func (k *kubelet) sync() {
	k.Helper()
	api := k.server.Admin.CoreV1().Pods(k.namespace)
	list, err := api.List(k.Context(), metav1.ListOptions{FieldSelector: "spec.nodeName=" + k.node})
	k.must(err)
	for _, pod := range list.Items {
		p := k.pods[pod.UID]
		switch {
		case p == nil && pod.DeletionTimestamp == nil:
			p = &podProcess{run: k.start(&pod)}
			k.pods[pod.UID] = p
			k.past = append(k.past, p.run)
		case p != nil && pod.DeletionTimestamp != nil && !p.ended:
			p.ended = true
			k.must(p.run.cmd.Process.Signal(syscall.SIGTERM))
		}
		if p != nil {
			select {
			case err := <-p.run.done:
				if !p.ended || err != nil {
					k.Fatalf("%s: Fluent Bit ended: %v", pod.Name, err)
				}
				p = nil
			default:
			}
		}
		if p == nil && pod.DeletionTimestamp != nil {
			k.must(api.Delete(k.Context(), pod.Name, metav1.DeleteOptions{GracePeriodSeconds: new(int64)}))
			continue
		}
		if probes := pod.Spec.Containers[0]; !p.ready && !p.ended && k.healthy(probes.StartupProbe) &&
			k.healthy(probes.ReadinessProbe) {
			p.ready = true
			pod.Status.Phase, pod.Status.PodIP = corev1.PodRunning, k.address
			for _, kind := range []corev1.PodConditionType{corev1.PodInitialized, corev1.PodReady,
				corev1.ContainersReady} {
				pod.Status.Conditions = append(pod.Status.Conditions,
					corev1.PodCondition{Type: kind, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now()})
			}
			_, err := api.UpdateStatus(k.Context(), &pod, metav1.UpdateOptions{})
			k.must(err)
		}
	}
}

func (k *kubelet) healthy(probe *corev1.Probe) bool {
	r, err := http.Get("http://" + k.address + ":2020" + probe.HTTPGet.Path)
	if err != nil {
		return false
	}
	return r.Body.Close() == nil && r.StatusCode == http.StatusOK
}

// start runs the pod's init containers and starts its container.
func (k *kubelet) start(pod *corev1.Pod) *running {
	k.Helper()
	volumes := map[string]string{}
	for _, v := range pod.Spec.Volumes {
		volumes[v.Name] = k.volume(pod, v)
	}
	for _, c := range pod.Spec.InitContainers {
		if out, err := k.command(pod, c, volumes).CombinedOutput(); err != nil {
			k.Fatalf("%s, %s: %v: %s", pod.Name, c.Name, err, out)
		}
	}
	return launch(k.T, k.command(pod, pod.Spec.Containers[0], volumes))
}

// command runs a container.
func (k *kubelet) command(pod *corev1.Pod, c corev1.Container, volumes map[string]string) *exec.Cmd {
	k.Helper()
	user, group := *pod.Spec.SecurityContext.RunAsUser, *pod.Spec.SecurityContext.RunAsGroup
	if own := c.SecurityContext.RunAsUser; own != nil {
		user = *own
	}
	caps := "-all"
	for _, name := range c.SecurityContext.Capabilities.Add {
		caps += ",+" + strings.ToLower(string(name))
	}
	name, _, _ := strings.Cut(c.Image, ":")
	image := k.images[name]
	if image == nil {
		k.Fatalf("there is no image %s", c.Image)
	}
	args := []string{"-m", "sh", "-c", container, "sh", k.TempDir(), strconv.FormatInt(user, 10),
		strconv.FormatInt(group, 10), caps}
	for from, to := range image {
		args = append(args, from, to, "ro")
	}
	for _, m := range c.VolumeMounts {
		way := "rw"
		if m.ReadOnly {
			way = "ro"
		}
		args = append(args, volumes[m.Name], m.MountPath, way)
	}
	args = append(args, k.roots, "/etc/ssl/certs/ca-certificates.crt", "ro", "--")
	if args = append(args, c.Command...); len(c.Command) == 0 {
		args = append(args, "/install-plugin") // the image's own
	}
	cmd := exec.Command("unshare", append(args, c.Args...)...)
	at, err := url.Parse(k.server.URL)
	k.must(err)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin",
		"KUBERNETES_SERVICE_HOST=" + at.Hostname(), "KUBERNETES_SERVICE_PORT=" + at.Port()}
	for _, e := range c.Env {
		if e.ValueFrom == nil || e.ValueFrom.FieldRef.FieldPath != "metadata.name" {
			k.Fatalf("%+v is not known here", e)
		}
		cmd.Env = append(cmd.Env, e.Name+"="+pod.Name)
	}
	return cmd
}

// volume makes a volume, and returns its directory.
func (k *kubelet) volume(pod *corev1.Pod, v corev1.Volume) (dir string) {
	k.Helper()
	api := k.server.Admin.CoreV1()
	if v.HostPath != nil {
		dir = filepath.Join(k.disk, v.HostPath.Path)
		k.must(os.MkdirAll(dir, 0o755))
		return dir
	}
	dir = k.TempDir()
	group := int(*pod.Spec.SecurityContext.FSGroup)
	k.must(os.Chown(dir, 0, group))
	k.must(os.Chmod(dir, 0o770))
	put := func(name, text string) {
		k.Helper()
		path := filepath.Join(dir, name)
		write(k.T, path, text)
		k.must(os.Chown(path, 0, group))
		k.must(os.Chmod(path, 0o440))
	}
	config := func(name string) {
		k.Helper()
		m, err := api.ConfigMaps(k.namespace).Get(k.Context(), name, metav1.GetOptions{})
		k.must(err)
		for name, text := range m.Data {
			// A pod has a network of its own; here it has an address of its own.
			put(name, strings.Replace(text, "0.0.0.0", k.address, 1))
		}
	}
	switch {
	case v.EmptyDir != nil:
	case v.ConfigMap != nil:
		config(v.ConfigMap.Name)
	case v.Secret != nil:
		m, err := api.Secrets(k.namespace).Get(k.Context(), v.Secret.SecretName, metav1.GetOptions{})
		k.must(err)
		for name, text := range m.Data {
			put(name, string(text))
		}
	case v.Projected != nil:
		for _, s := range v.Projected.Sources {
			switch {
			case s.ServiceAccountToken != nil:
				put(s.ServiceAccountToken.Path, k.token(pod, s.ServiceAccountToken))
			case s.ConfigMap != nil:
				config(s.ConfigMap.Name)
			case s.DownwardAPI != nil:
				put(s.DownwardAPI.Items[0].Path, pod.Namespace)
			}
		}
	default:
		k.Fatalf("%+v is not known here", v)
	}
	return dir
}

// token asks for a token of the pod's service account, bound to the pod, as the kubelet does.
func (k *kubelet) token(pod *corev1.Pod, want *corev1.ServiceAccountTokenProjection) string {
	k.Helper()
	ask := &authv1.TokenRequest{Spec: authv1.TokenRequestSpec{ExpirationSeconds: want.ExpirationSeconds,
		BoundObjectRef: &authv1.BoundObjectReference{Kind: "Pod", APIVersion: "v1", Name: pod.Name, UID: pod.UID}}}
	if want.Audience != "" {
		ask.Spec.Audiences = []string{want.Audience}
	}
	accounts := k.server.Admin.CoreV1().ServiceAccounts(k.namespace)
	answer, err := accounts.CreateToken(k.Context(), pod.Spec.ServiceAccountName, ask, metav1.CreateOptions{})
	k.must(err)
	return answer.Status.Token
}

// String says which pod of the node has delivered how many alerts.
func (k *kubelet) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s:", k.node)
	for _, run := range k.past {
		fmt.Fprintf(&b, " %d", len(run.ids()))
	}
	return b.String()
}
