//go:build !kubernetes

package main

import (
	"errors"

	"fluent-bit-defender/share"
)

// errPlain: the plugin was built without Kubernetes, which would make it three times as large.
var errPlain = errors.New("this in_defender.so has no Kubernetes in it: load in_defender_kubernetes.so in its place")

func openKubernetes(podPlace, share.Settings) (share.API, error) { return nil, errPlain }
