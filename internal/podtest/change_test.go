//go:build kubernetes

package podtest

import (
	"testing"
	"time"
)

// A rolling update of five: each alert comes once, whichever pods are there meanwhile.
func TestARollingUpdateOfFive(t *testing.T) {
	w := newWorld(t)
	pods := w.started(5)
	stop := w.load()
	for _, h := range pods {
		h.MustStop(t, limit)
		w.pod()
		time.Sleep(second) // a DaemonSet waits until the new pod is ready
	}
	time.Sleep(2 * second)
	stop()
	w.check(0)
}

// An API server that goes away for good and comes back loses and repeats nothing.
func TestTheAPIServerRestarts(t *testing.T) {
	w := newWorld(t)
	w.started(2)
	stop := w.load()
	time.Sleep(3 * second)
	if err := w.server.Restart(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(5 * second)
	stop()
	w.check(0)
}

// A hot reload of the pod that pulls: it goes on, or another does, and each alert comes once.
func TestAPodIsReloaded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	pods := w.started(2)
	stop := w.load()
	for range 2 {
		time.Sleep(3 * second)
		name := w.owner()
		h := pods[name]
		if h == nil {
			t.Fatalf("%q is the owner", name)
		}
		if err := h.Reload(w.config(), limit); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(5 * second)
	stop()
	w.check(0)
}
