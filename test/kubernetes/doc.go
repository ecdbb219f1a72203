// Package kubernetes is where make test-kubernetes and make test-cluster build the programs of Kubernetes from, as
// tools of this module.
package kubernetes
