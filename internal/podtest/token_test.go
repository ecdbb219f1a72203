//go:build kubernetes

package podtest

import (
	"path/filepath"
	"testing"
	"time"
)

// The kubelet puts a new token into the pod's file when four fifths of the old one's life are over, and client-go by
// itself reads the file once a minute. Here the old token ends as that of a deleted object does, as soon as the file
// has another: the worst case. A pod that were refused for more than ten seconds would stop to deliver.
func TestATokenIsRenewed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	file := filepath.Join(t.TempDir(), "token")
	old := w.server.Token(t, w.namespace, "old")
	replace(t, file, old.Token)
	w.kubeconfig = w.server.Kubeconfig(t, w.namespace, `"tokenFile": "`+file+`"`)
	w.started(2)
	stop := w.load()
	next := w.server.Token(t, w.namespace, "next")
	replace(t, file, next.Token)
	w.server.Revoke(t, w.namespace, old)
	revoked := time.Now()
	for w.server.Accepts(t, w.namespace, old) { // it remembers for ten seconds which were good
		if time.Since(revoked) > limit {
			t.Fatal("the API server still takes the old token")
		}
		time.Sleep(200 * time.Millisecond)
	}
	t.Logf("the API server refused the old token %s after its object was deleted",
		time.Since(revoked).Round(100*time.Millisecond))
	w.mu.Lock()
	before := len(w.came)
	w.mu.Unlock()
	// More than comes while the fence stays open without a renewal: five a second for ten seconds.
	w.await("alerts with the new token", limit, func() bool { return len(w.came) > before+75 })
	stop()
	// A pod that is refused stops once its fence closes, ten seconds later, until it reads the file again.
	if slowest := w.check(0); slowest > 10*second {
		t.Errorf("an alert waited for %s", slowest)
	}
	if w.server.Uses(t, next, revoked) == 0 {
		t.Error("nobody used the new token")
	}
}
