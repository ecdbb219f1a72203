// Package kubernetes is where make test-kubernetes builds kube-apiserver from, as a tool of this module.
package kubernetes
