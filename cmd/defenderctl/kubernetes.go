//go:build kubernetes

package main

import (
	"context"
	"time"

	"fluent-bit-defender/client"
	"fluent-bit-defender/kube"
	"fluent-bit-defender/share"
	"fluent-bit-defender/state"
)

const inspectsClusters = true

func openCluster(kubeconfig, namespace, name string) (*kube.API, error) {
	return kube.Open(kube.Options{Kubeconfig: kubeconfig, Namespace: namespace, Name: name,
		Settings: share.Settings{LeaseDuration: time.Minute}, UserAgent: "defenderctl/" + client.Version})
}

// returnCluster lets a source go back from the successor.
func returnCluster(kubeconfig, namespace, name string, key state.Key) error {
	api, err := openCluster(kubeconfig, namespace, name)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	return share.Return(ctx, api, name, key)
}

// inspectCluster reads what the Kubernetes API holds of a db kubernetes://.
func inspectCluster(kubeconfig, namespace, name string) (share.Report, error) {
	api, err := openCluster(kubeconfig, namespace, name)
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
