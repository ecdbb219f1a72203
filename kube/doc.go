// Package kube is share.API by client-go: ConfigMaps, and Leases held by its leader election. It exists only with the
// build tag kubernetes, because client-go triples the size of the plugin.
package kube
