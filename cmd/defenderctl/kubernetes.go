//go:build kubernetes

package main

import (
	"context"
	"time"

	"fluent-bit-defender/client"
	"fluent-bit-defender/kube"
	"fluent-bit-defender/share"
)

const inspectsClusters = true

// inspectCluster reads what the Kubernetes API holds of a db kubernetes://.
func inspectCluster(kubeconfig, namespace, name string) (share.Report, error) {
	api, err := kube.Open(kube.Options{Kubeconfig: kubeconfig, Namespace: namespace, Name: name,
		Settings: share.Settings{LeaseDuration: time.Minute}, UserAgent: "defenderctl/" + client.Version})
	if err != nil {
		return share.Report{}, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	leases, err := api.Leases(ctx)
	if err != nil {
		return share.Report{}, err
	}
	objects, err := api.All(ctx)
	return share.Inspect(leases, objects), err
}
