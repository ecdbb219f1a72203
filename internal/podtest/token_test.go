//go:build kubernetes

package podtest

import (
	"path/filepath"
	"testing"
	"time"
)

// The kubelet puts a new token into the pod's file when four fifths of the old one's life are over, and client-go
// reads the file once a minute. A real API server issues none for less than ten minutes, so the old one ends here as
// that of a deleted pod does: with the object that it is bound to.
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
	renewed := time.Now()
	// Each worker asks once a second: where nobody used the old one for five seconds, none has it any more.
	for quiet := false; !quiet; time.Sleep(second) {
		if time.Since(renewed) > 75*second {
			t.Fatal("the old token is still in use")
		}
		quiet = time.Since(renewed) > 5*second && w.server.Uses(t, old, time.Now().Add(-5*second)) == 0 &&
			w.server.Uses(t, next, renewed) > 0
	}
	t.Logf("nobody used the old token %s after the file had the new one", time.Since(renewed).Round(second)-5*second)
	w.server.Revoke(t, w.namespace, old)
	revoked := time.Now()
	for w.server.Accepts(t, w.namespace, old) { // it remembers for ten seconds which were good
		if time.Since(revoked) > limit {
			t.Fatal("the API server still takes the old token")
		}
		time.Sleep(200 * time.Millisecond)
	}
	t.Logf("the API server refused it %s after its object was deleted", time.Since(revoked).Round(100*time.Millisecond))
	w.mu.Lock()
	before := len(w.came)
	w.mu.Unlock()
	// More than comes while the fence stays open without a renewal: five a second for ten seconds.
	w.await("alerts with the new token", limit, func() bool { return len(w.came) > before+60 })
	stop()
	w.check(0)
}
