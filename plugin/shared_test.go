//go:build !kubernetes

package main

import (
	"log/slog"
	"testing"

	"fluent-bit-defender/internal/defendersim"
)

func TestSharedStateNeedsTheOtherFile(t *testing.T) {
	keys := map[string]string{
		"tenant_id": defendersim.DefaultTenant, "client_id": defendersim.DefaultClientID,
		"client_secret": defendersim.DefaultSecret, "region": "eu", "db": "kubernetes://alerts",
	}
	_, _, err := build(func(key string) string { return keys[key] }, slog.New(slog.DiscardHandler))
	want := "db kubernetes://alerts: this in_defender.so has no Kubernetes in it: " +
		"load in_defender_kubernetes.so in its place"
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	if len(pods.open) != 0 {
		t.Error("something is left open")
	}
}

func TestEachStartHasAnIdentityOfItsOwn(t *testing.T) {
	t.Setenv("POD_NAME", "fluent-bit-x7k2p")
	a, b := podIdentity(), podIdentity()
	if a == b || len(a) != len("fluent-bit-x7k2p_12345678") || a[:17] != "fluent-bit-x7k2p_" {
		t.Errorf("%q, then %q", a, b)
	}
}
