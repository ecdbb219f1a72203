//go:build kubernetes

// Package apiserver runs a real kube-apiserver with its etcd on loopback, for tests. Its programs are named by
// KUBE_APISERVER and ETCD, which make test-kubernetes sets.
package apiserver

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	auth "k8s.io/api/authentication/v1"
	core "k8s.io/api/core/v1"
	rbac "k8s.io/api/rbac/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"
)

// Server is a kube-apiserver with RBAC and its audit log on.
type Server struct {
	URL   string
	Admin *kubernetes.Clientset // may do everything

	key    *rsa.PrivateKey // signs the tokens of service accounts
	dir    string
	server *exec.Cmd
	etcd   *exec.Cmd
	args   []string // of the server
}

// Issuer is the issuer of the tokens of service accounts.
const Issuer = "https://kubernetes.default.svc"

const adminToken = "administrator"

var theServer = sync.OnceValues(startServer)

// Get returns the API server of all tests of this process. It skips the test where the programs are not named.
func Get(t *testing.T) *Server {
	t.Helper()
	if os.Getenv("KUBE_APISERVER") == "" || os.Getenv("ETCD") == "" {
		t.Skip("SKIPPED: no KUBE_APISERVER and ETCD; make test-kubernetes sets them")
	}
	s, err := theServer()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Main runs the tests of a package and ends the server that they may have started.
func Main(m *testing.M) {
	code := m.Run()
	if os.Getenv("KUBE_APISERVER") != "" && os.Getenv("ETCD") != "" {
		if s, _ := theServer(); s != nil {
			s.stop()
		}
	}
	os.Exit(code)
}

func startServer() (*Server, error) {
	dir, err := os.MkdirTemp("", "podtest")
	if err != nil {
		return nil, err
	}
	s := &Server{dir: dir}
	ports, err := freePorts(2)
	if err != nil {
		return nil, err
	}
	if err := s.files(); err != nil {
		return nil, err
	}
	etcdURL := fmt.Sprintf("http://127.0.0.1:%d", ports[0])
	s.URL = fmt.Sprintf("https://127.0.0.1:%d", ports[1])
	if s.etcd, err = s.run(os.Getenv("ETCD"), "etcd", "--data-dir="+s.path("etcd"), "--listen-client-urls="+etcdURL,
		"--advertise-client-urls="+etcdURL,
		"--listen-peer-urls=http://127.0.0.1:0", "--unsafe-no-fsync"); err != nil {
		return nil, err
	}
	s.args = []string{"--etcd-servers=" + etcdURL, "--cert-dir=" + s.path("certs"), "--bind-address=127.0.0.1",
		"--advertise-address=127.0.0.1", fmt.Sprintf("--secure-port=%d", ports[1]), "--token-auth-file=" +
			s.path("tokens.csv"), "--authorization-mode=RBAC",
		"--service-cluster-ip-range=10.96.0.0/24", "--service-account-issuer=" + Issuer, "--service-account-key-file=" +
			s.path("sa.pub"),
		"--service-account-signing-key-file=" + s.path("sa.key"), "--endpoint-reconciler-type=none",
		"--audit-policy-file=" + s.path("audit.yaml"), "--audit-log-path=" + s.path("audit.log"),
		"--audit-log-mode=blocking"}
	if s.server, err = s.run(os.Getenv("KUBE_APISERVER"), "kube-apiserver", s.args...); err != nil {
		return nil, err
	}
	return s, s.ready()
}

func freePorts(n int) (ports []int, err error) {
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}

// SigningKey is the one of the service accounts' tokens.
func (s *Server) SigningKey() *rsa.PrivateKey { return s.key }

func (s *Server) path(name string) string { return filepath.Join(s.dir, name) }

func (s *Server) files() error {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	s.key = key
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return err
	}
	for name, text := range map[string][]byte{
		"sa.key":     pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}),
		"sa.pub":     pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}),
		"tokens.csv": []byte(adminToken + `,admin,admin,"system:masters"` + "\n"),
		"audit.yaml": []byte("apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules: " +
			"[{level: Metadata}]\n"),
	} {
		if err := os.WriteFile(s.path(name), text, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// run starts a program that dies with this one.
func (s *Server) run(program, name string, args ...string) (*exec.Cmd, error) {
	log, err := os.Create(s.path(name + ".log"))
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd, cmd.Start()
}

func (s *Server) ready() (err error) {
	s.Admin, err = kubernetes.NewForConfig(&rest.Config{Host: s.URL, BearerToken: adminToken,
		TLSClientConfig: rest.TLSClientConfig{Insecure: true}, QPS: -1})
	if err != nil {
		return err
	}
	for start := time.Now(); time.Since(start) < time.Minute; time.Sleep(200 * time.Millisecond) {
		if _, err = s.Admin.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(context.Background()); err == nil {
			return nil
		}
	}
	return fmt.Errorf("the API server is not ready: %w", err)
}

func (s *Server) stop() {
	for _, cmd := range []*exec.Cmd{s.server, s.etcd} {
		if cmd != nil && cmd.Process != nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait() // says that it was killed
		}
	}
	_ = os.RemoveAll(s.dir)
}

// Restart ends the server and starts it again over the same etcd. It returns once it is ready.
func (s *Server) Restart() (err error) {
	if err := s.server.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	_ = s.server.Wait() // says how it ended
	if s.server, err = s.run(os.Getenv("KUBE_APISERVER"), "kube-apiserver", s.args...); err != nil {
		return err
	}
	return s.ready()
}

// Freeze stops the server's process as SIGSTOP does; Thaw lets it go on.
func (s *Server) Freeze() error { return s.server.Process.Signal(syscall.SIGSTOP) }

// Thaw ends a Freeze.
func (s *Server) Thaw() error { return s.server.Process.Signal(syscall.SIGCONT) }

// Rules are what the Role in a manifest allows.
func Rules(t *testing.T, path string) []rbac.PolicyRule {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	first, _, _ := strings.Cut(string(text), "\n---\n")
	var role rbac.Role
	if err := yaml.UnmarshalStrict([]byte(first), &role); err != nil || len(role.Rules) == 0 {
		t.Fatalf("%s: %d rules, %v", path, len(role.Rules), err)
	}
	return role.Rules
}

// Namespace makes a namespace with a service account that has rules, and returns the path of a kubeconfig with a
// bound token of it.
func (s *Server) Namespace(t *testing.T, name string, rules []rbac.PolicyRule) (kubeconfig string) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	ctx := t.Context()
	_, err := s.Admin.CoreV1().Namespaces().Create(ctx, &core.Namespace{ObjectMeta: meta.ObjectMeta{Name: name}},
		meta.CreateOptions{})
	must(err)
	named := meta.ObjectMeta{Name: "fluent-bit-defender"}
	_, err = s.Admin.CoreV1().ServiceAccounts(name).Create(ctx, &core.ServiceAccount{ObjectMeta: named},
		meta.CreateOptions{})
	must(err)
	_, err = s.Admin.RbacV1().Roles(name).Create(ctx, &rbac.Role{ObjectMeta: named, Rules: rules}, meta.CreateOptions{})
	must(err)
	_, err = s.Admin.RbacV1().RoleBindings(name).Create(ctx, &rbac.RoleBinding{ObjectMeta: named,
		Subjects: []rbac.Subject{{Kind: "ServiceAccount", Name: named.Name, Namespace: name}},
		RoleRef:  rbac.RoleRef{APIGroup: "rbac.authorization.k8s.io", Kind: "Role", Name: named.Name}},
		meta.CreateOptions{})
	must(err)
	token, err := s.Admin.CoreV1().ServiceAccounts(name).CreateToken(ctx, named.Name, &auth.TokenRequest{},
		meta.CreateOptions{})
	must(err)
	return s.Kubeconfig(t, name, fmt.Sprintf(`"token": %q`, token.Status.Token))
}

// Kubeconfig writes a kubeconfig of a namespace, with this user in it.
func (s *Server) Kubeconfig(t *testing.T, namespace, user string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "kubeconfig")
	text := fmt.Sprintf(`{"apiVersion": "v1", "kind": "Config", "current-context": "c",
		"clusters": [{"name": "c", "cluster": {"server": %q, "certificate-authority": %q}}],
		"users": [{"name": "u", "user": {%s}}],
		"contexts": [{"name": "c", "context": {"cluster": "c", "user": "u", "namespace": %q}}]}`,
		s.URL, s.path("certs/apiserver.crt"), user, namespace)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
