//go:build kubernetes

package kube

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/go-logr/logr"
	coordination "k8s.io/client-go/kubernetes/typed/coordination/v1"
	core "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/transport"
	"k8s.io/klog/v2"

	"fluent-bit-defender/share"
)

// namespaceFile is where a pod finds the namespace of its service account.
const namespaceFile = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"

// ErrNoServiceAccount: nothing says how to reach an API server.
var ErrNoServiceAccount = errors.New("no service account of a pod is here: db kubernetes:// works in a pod whose " +
	"automountServiceAccountToken is not false; elsewhere set kubeconfig")

// Options say which objects of which API server.
type Options struct {
	Kubeconfig string // path; empty: the pod's service account
	Namespace  string // empty: the service account's, or that of the kubeconfig's context
	Name       string
	Settings   share.Settings
	UserAgent  string
}

// API is share.API. It may be used concurrently.
type API struct {
	options   Options
	namespace string
	leases    coordination.LeaseInterface
	maps      core.ConfigMapInterface
	getter    coordination.LeasesGetter
}

func init() {
	klog.SetLogger(logr.Discard()) // it would write to Fluent Bit's stderr; what matters is told by share
}

// Open prepares to speak to an API server. It does not ask it for anything.
func Open(o Options) (*API, error) {
	config, namespace, err := load(o.Kubeconfig)
	if err != nil {
		return nil, err
	}
	if o.Namespace != "" {
		namespace = o.Namespace
	}
	config.UserAgent = o.UserAgent
	config.QPS = -1 // share asks seldom, and all at once only at the end
	// Less than a worker has until it has to stop, so that one request that hangs does not cost it the Lease.
	config.Timeout = min(4*time.Second, o.Settings.RenewDeadline()/2)
	// HTTP/2 would keep using a connection whose other end is gone.
	config.NextProtos = []string{"http/1.1"}
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { return once{next} })
	if file := config.BearerTokenFile; file != "" {
		// By itself client-go goes on with a token that is refused for most of a minute. So it reads the file again at
		// the request after that.
		config.BearerToken, config.BearerTokenFile = "", ""
		config.Wrap(transport.ResettableTokenSourceWrapTransport(transport.NewCachedFileTokenSource(file)))
	}
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("the Kubernetes API: %w", err)
	}
	leases, err := coordination.NewForConfigAndClient(config, client)
	if err != nil {
		return nil, fmt.Errorf("the Kubernetes API: %w", err)
	}
	maps, err := core.NewForConfigAndClient(config, client)
	if err != nil {
		return nil, fmt.Errorf("the Kubernetes API: %w", err)
	}
	return &API{options: o, namespace: namespace, leases: leases.Leases(namespace), maps: maps.ConfigMaps(namespace),
		getter: leases}, nil
}

func load(kubeconfig string) (config *rest.Config, namespace string, err error) {
	if kubeconfig == "" {
		config, err = rest.InClusterConfig()
		if errors.Is(err, rest.ErrNotInCluster) || errors.Is(err, os.ErrNotExist) {
			return nil, "", ErrNoServiceAccount
		}
		if err != nil {
			return nil, "", fmt.Errorf("the pod's service account: %w", err)
		}
		text, err := os.ReadFile(namespaceFile)
		if err != nil {
			return nil, "", fmt.Errorf("the namespace of the pod's service account: %w", err)
		}
		return config, strings.TrimSpace(string(text)), nil
	}
	rules := &clientcmd.ClientConfigLoadingRules{ExplicitPath: kubeconfig}
	loaded := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, nil)
	if namespace, _, err = loaded.Namespace(); err == nil {
		config, err = loaded.ClientConfig()
	}
	if err != nil {
		return nil, "", fmt.Errorf("kubeconfig: %w", err)
	}
	return config, namespace, nil
}

// once keeps client-go from sending a write again when the answer says Retry-After: the first may have been done, and
// the second would look as if another pod had written.
type once struct{ next http.RoundTripper }

func (o once) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := o.next.RoundTrip(r)
	if err == nil && r.Method != http.MethodGet {
		answer.Header.Del("Retry-After")
	}
	return answer, err
}
