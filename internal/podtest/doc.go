// Package podtest runs the plugin in several processes that share a real Kubernetes API server, as the pods of a
// DaemonSet do. Its tests exist with the build tag kubernetes only; make test-kubernetes builds what they need and
// runs them.
package podtest
