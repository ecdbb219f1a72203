package main

import (
	"testing"

	"fluent-bit-defender/conf"
)

func TestNearest(t *testing.T) {
	f := func(key, want string) {
		t.Helper()
		if got := nearest(key); got != want {
			t.Errorf("%s: %q, want %q", key, got, want)
		}
	}
	f("tennant_id", "tenant_id")
	f("client-secret-fil", "client_secret_file")
	f("machinegroups", "machine_groups")
	f("pol_interval", "poll_interval")
	f("poll_intreval", "poll_interval")
	f("MAX_WINDOWS", "max_window")
	f("storage.typ", "storage.type")
	f("storage_type", "storage.type")
	f("aliass", "alias")
	f("mem_buf_limt", "mem_buf_limit")
	f("dbb", "db")
	f("xyzzy", "")
	f("q", "")
	f("", "")
	f("something_else_entirely", "")
}

func TestDistance(t *testing.T) {
	f := func(a, b string, want int) {
		t.Helper()
		if got := distance(a, b); got != want {
			t.Errorf("%q to %q: %d, want %d", a, b, got, want)
		}
		if got := distance(b, a); got != want {
			t.Errorf("%q to %q: %d, want %d", b, a, got, want)
		}
	}
	f("", "", 0)
	f("", "abc", 3)
	f("abc", "abc", 0)
	f("abc", "abd", 1)
	f("abc", "acb", 1)
	f("abcd", "badc", 2)
	f("kitten", "sitting", 3)
	f("ca", "abc", 3)
}

func TestNoKeyIsBothOurs(t *testing.T) {
	for _, k := range conf.Keys {
		if coreKey(k.Name) != nil {
			t.Errorf("%s: Fluent Bit keeps it for itself", k.Name)
		}
		if nearest(k.Name) != k.Name {
			t.Errorf("%s: %s is nearer to it than itself", k.Name, nearest(k.Name))
		}
	}
}

func TestShownKeyHidesWhatIsGluedToIt(t *testing.T) {
	f := func(key, want string) {
		t.Helper()
		if got := shownKey(key); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	f("client_secret=hunter2", "client_secret...")
	f("client_secret:hunter2", "client_secret...")
	f("client_secret\thunter2", "client_secret...")
	f("region", "region")
}
