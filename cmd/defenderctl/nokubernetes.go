//go:build !kubernetes

package main

import (
	"errors"

	"fluent-bit-defender/share"
	"fluent-bit-defender/state"
)

// errPlain: this program was built without Kubernetes, which would make it three times as large.
var errPlain = errors.New("this defenderctl has no Kubernetes in it: " +
	"use defenderctl-kubernetes (make build-kubernetes)")

const inspectsClusters = false

func returnCluster(_, _, _ string, _ state.Key) error { return errPlain }

func inspectCluster(_, _, _ string) (share.Report, error) { return share.Report{}, errPlain }
