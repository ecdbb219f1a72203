package main

import (
	"strings"
	"testing"
)

// A defenderctl without Kubernetes does not take db kubernetes:// for a file: it says which program can look, and
// changes nothing.
func TestAStateThatPodsShare(t *testing.T) {
	if inspectsClusters {
		t.Skip("SKIPPED: this build has Kubernetes in it: internal/podtest runs it")
	}
	w := newWorld(t)
	w.write("fluent-bit.conf", w.stanza("alias eu", "db kubernetes://logging/alerts"))
	f := func(code int, want string, args ...string) {
		t.Helper()
		if r := w.run(args...); r.code != code || !strings.Contains(r.out+r.err, want) {
			t.Errorf("%q: exit %d, without %q: %s%s", args, r.code, want, r.out, r.err)
		}
	}
	const other = "this defenderctl has no Kubernetes in it: use defenderctl-kubernetes"
	f(1, "kubernetes://logging/alerts: "+other, "state", "-c", "fluent-bit.conf")
	f(1, "kubernetes://alerts: "+other, "state", "--db", "kubernetes://alerts")
	f(0, "kubernetes://logging/alerts is not looked at: defenderctl-kubernetes state shows it",
		"check", "-c", "fluent-bit.conf")
	const kept = "what pods share is not set back from here: delete the ConfigMap of the source " +
		"(kubectl get configmap -l fluent-bit-defender/name=alerts)"
	f(1, kept, "state", "--db", "kubernetes://alerts", "--reset-to", "2024-05-06T09:00:00Z", "--yes")
	f(1, other, "state", "-c", "fluent-bit.conf", "--reset-to", "2024-05-06T09:00:00Z", "--yes")
	f(1, other, "state", "-c", "fluent-bit.conf", "--successor-back", "--yes")
}
