package main

import (
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fluent-bit-defender/conf"
	"fluent-bit-defender/state"
)

// A hot reload while what ran before hangs in its last commit.
func TestAReloadThatTheOldEngineHoldsUp(t *testing.T) {
	stanza := map[string]string{
		"tenant_id": "72f988bf-86f1-41af-91ab-2d7cd011db47", "client_id": "35e0f735-5fe4-4693-9e68-3de80f1d3745",
		"client_secret": "opensesame", "region": "eu",
	}
	key := state.Key{API: conf.SIEM, Place: "public/eu", Tenant: stanza["tenant_id"]}
	f := func(name string, ends time.Duration, old state.Key, faulty bool, waits time.Duration, want string) {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				before := instances
				instances = newTable()
				defer func() { instances = before }()
				held, err := state.OpenMemory(old)
				if err != nil {
					t.Fatal(err)
				}
				gone := make(chan struct{})
				instances.leave(gone, []state.Key{old})
				time.AfterFunc(ends, func() {
					held.Close()
					close(gone)
				})
				out := &lines{}
				log := slog.New(slog.NewTextHandler(out, nil))
				start := time.Now()
				e, _, err := build(func(k string) string {
					if k == "limit" && faulty {
						return "none"
					}
					return stanza[k]
				}, log)
				if took := time.Since(start); took != waits {
					t.Errorf("waited %v, want %v", took, waits)
				}
				switch {
				case err != nil:
					for _, f := range faultsOf(err) {
						log.Error(f)
					}
				case !slices.Equal(e.holds(), []state.Key{key}):
					t.Errorf("the state is that of %v, want %v", e.holds(), key)
				}
				if e != nil {
					if err := e.Stop(t.Context()); err != nil {
						t.Error(err)
					}
				}
				said := out.String()
				if !strings.Contains(said, want) || strings.Contains(said, "remove one of the two") ||
					(err == nil) != (e != nil) {
					t.Errorf("%v, and the lines %s", err, said)
				}
				<-gone
			})
		})
	}
	other := key
	other.Filters = "machine_groups=a"
	f("ends in time", 20*time.Second, key, false, 20*time.Second, "pulling siem alerts")
	f("hangs", time.Hour, key, false, 30*time.Second,
		"level=ERROR msg=\"what ran before the reload has not ended within 30s and still holds "+
			"the state of this stanza: a disk or network share hangs; "+
			"look at those of db and of the credential's file, and start Fluent Bit again\"")
	f("another stanza hangs", time.Hour, other, false, 30*time.Second,
		"level=WARN msg=\"a stanza that ran before the reload has not ended within 30s: ")
	f("faulty stanza", time.Hour, key, true, 0, "level=ERROR msg=\"limit: ")
}
