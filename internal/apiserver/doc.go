// Package apiserver runs a real kube-apiserver for tests; it exists with the build tag kubernetes only.
package apiserver
