//go:build kubernetes

package kube

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"fluent-bit-defender/share"
)

// A token that ends before its time, because what it was bound to is gone, costs one request: then the file, which
// has another, is read again. client-go by itself would use the old one for up to 50 s more.
func TestATokenThatIsRefusedIsReadAgain(t *testing.T) {
	var valid atomic.Value
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if r.Header.Get("Authorization") != "Bearer "+valid.Load().(string) {
			w.WriteHeader(http.StatusUnauthorized)
			fmt.Fprint(w, `{"kind": "Status", "apiVersion": "v1", "status": "Failure",
				"reason": "Unauthorized", "code": 401}`)
			return
		}
		fmt.Fprint(w, `{"kind": "LeaseList", "apiVersion": "coordination.k8s.io/v1", "items": []}`)
	}))
	defer server.Close()
	token := filepath.Join(t.TempDir(), "token")
	renew := func(to string) {
		if err := os.WriteFile(token, []byte(to+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	renew("first")
	valid.Store("first")
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	text := fmt.Sprintf(`{"apiVersion": "v1", "kind": "Config", "current-context": "c",
		"clusters": [{"name": "c", "cluster": {"server": %q, "insecure-skip-tls-verify": true}}],
		"users": [{"name": "u", "user": {"tokenFile": %q}}],
		"contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}]}`, server.URL, token)
	if err := os.WriteFile(kubeconfig, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	settings := share.Settings{Workers: 3, LeaseDuration: 15 * time.Second}
	api, err := Open(Options{Kubeconfig: kubeconfig, Namespace: "default", Name: "alerts", Settings: settings})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := api.Leases(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, next := range []string{"second", "third"} {
		renew(next)
		valid.Store(next)
		refused := 0
		for _, err := api.Leases(t.Context()); err != nil; _, err = api.Leases(t.Context()) {
			if refused++; refused > 1 {
				t.Fatalf("the %s token is in the file: %v", next, err)
			}
		}
	}
}

func TestOutsideAPodAKubeconfigIsNeeded(t *testing.T) {
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	if _, err := Open(Options{Name: "alerts"}); !errors.Is(err, ErrNoServiceAccount) {
		t.Errorf("without a service account: %v", err)
	}
	file := filepath.Join(t.TempDir(), "kubeconfig")
	_, err := Open(Options{Name: "alerts", Kubeconfig: file})
	if err == nil || !strings.HasPrefix(err.Error(), "kubeconfig: ") || !strings.Contains(err.Error(), file) {
		t.Errorf("without the file that is set: %v", err)
	}
}
