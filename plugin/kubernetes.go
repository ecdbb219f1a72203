//go:build kubernetes

package main

import (
	"fluent-bit-defender/client"
	"fluent-bit-defender/kube"
	"fluent-bit-defender/share"
)

func openKubernetes(p podPlace, settings share.Settings) (share.API, error) {
	return kube.Open(kube.Options{Kubeconfig: p.kubeconfig, Namespace: p.namespace, Name: p.name, Settings: settings,
		UserAgent: "fluent-bit-defender/" + client.Version})
}
