//go:build kubernetes

package apiserver

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	auth "k8s.io/api/authentication/v1"
	core "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// BoundToken is a token of the service account, good for as long as its object (a Secret) exists.
type BoundToken struct {
	Token  string
	object string
	id     string // as the audit log names it
}

// Token issues a token that is bound to a new object of this name.
func (s *Server) Token(t *testing.T, namespace, object string) BoundToken {
	t.Helper()
	ctx := t.Context()
	secret := &core.Secret{ObjectMeta: meta.ObjectMeta{Name: object}}
	secret, err := s.Admin.CoreV1().Secrets(namespace).Create(ctx, secret, meta.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ask := &auth.TokenRequest{Spec: auth.TokenRequestSpec{BoundObjectRef: &auth.BoundObjectReference{
		Kind: "Secret", APIVersion: "v1", Name: object, UID: secret.UID}}}
	accounts := s.Admin.CoreV1().ServiceAccounts(namespace)
	answer, err := accounts.CreateToken(ctx, "fluent-bit-defender", ask, meta.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var claims struct{ JTI string }
	parts := strings.Split(answer.Status.Token, ".")
	body, err := base64.RawURLEncoding.DecodeString(parts[len(parts)/2])
	if err == nil {
		err = json.Unmarshal(body, &claims)
	}
	if err != nil || claims.JTI == "" {
		t.Fatalf("the token has no id: %v", err)
	}
	return BoundToken{Token: answer.Status.Token, object: object, id: "JTI=" + claims.JTI}
}

// Revoke ends a token.
func (s *Server) Revoke(t *testing.T, namespace string, b BoundToken) {
	t.Helper()
	if err := s.Admin.CoreV1().Secrets(namespace).Delete(t.Context(), b.object, meta.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
}

// Accepts tells whether the API server still takes a token.
func (s *Server) Accepts(t *testing.T, namespace string, b BoundToken) bool {
	t.Helper()
	config := &rest.Config{Host: s.URL, BearerToken: b.Token, TLSClientConfig: rest.TLSClientConfig{Insecure: true}}
	as, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	_, err = as.CoreV1().ConfigMaps(namespace).List(t.Context(), meta.ListOptions{})
	if err != nil && !apierrors.IsUnauthorized(err) {
		t.Fatal(err)
	}
	return err == nil
}

// Uses counts the requests with a token since a time.
func (s *Server) Uses(t *testing.T, b BoundToken, since time.Time) (n int) {
	t.Helper()
	s.audited(t, func(e event) {
		ids := e.User.Extra["authentication.kubernetes.io/credential-id"]
		if e.RequestReceivedTimestamp.After(since) && slices.Contains(ids, b.id) {
			n++
		}
	})
	return n
}

// event is a request in the audit log.
type event struct {
	Verb string
	User struct {
		Username string
		Extra    map[string][]string
	}
	ObjectRef                struct{ Resource, Namespace string }
	RequestReceivedTimestamp time.Time
}

// Requests counts the requests of a namespace since a time, by verb and resource.
func (s *Server) Requests(t *testing.T, namespace string, since time.Time) (all int, kinds map[string]int) {
	t.Helper()
	kinds = map[string]int{}
	s.audited(t, func(e event) {
		if e.ObjectRef.Namespace == namespace && e.RequestReceivedTimestamp.After(since) &&
			strings.HasPrefix(e.User.Username, "system:serviceaccount:") {
			all++
			kinds[e.Verb+" "+e.ObjectRef.Resource]++
		}
	})
	return all, kinds
}

// audited passes on what the audit log has.
func (s *Server) audited(t *testing.T, each func(event)) {
	t.Helper()
	file, err := os.Open(s.path("audit.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			continue // the last line may be written in part
		}
		each(e)
	}
}
