//go:build kubernetes

package podtest

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"testing"
	"time"

	"fluent-bit-defender/internal/apiserver"
	"fluent-bit-defender/kube"
	"fluent-bit-defender/share"
	"fluent-bit-defender/state"
)

// idle pulls nothing: it holds what it is given.
type idle struct {
	mu     sync.Mutex
	stores map[state.Key]*share.Store
}

func (i *idle) Add(key state.Key, st *share.Store) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.stores[key] = st
	return nil
}

func (i *idle) Remove(_ context.Context, key state.Key) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	st := i.stores[key]
	delete(i.stores, key)
	return st.Close()
}

// A thousand pods, of which three work and the others stand by, ask the API server less than twenty times a second.
func TestAThousandPodsAskLittle(t *testing.T) {
	if os.Getenv("SOAK") == "" {
		t.Skip("SKIPPED: takes three minutes; set SOAK=1")
	}
	s := apiserver.Get(t)
	kubeconfig := s.Namespace(t, "thousand", apiserver.Rules(t, role))
	settings := share.Settings{Workers: 3, LeaseDuration: 15 * second, TakeoverOverlap: time.Minute}
	var pods []*share.Pod
	for n := range 1000 {
		api, err := kube.Open(kube.Options{Kubeconfig: kubeconfig, Name: "alerts", Settings: settings,
			UserAgent: "podtest"})
		if err != nil {
			t.Fatal(err)
		}
		p := share.New(&share.Sources{API: api, Name: "alerts", Identity: fmt.Sprint("pod-", n),
			Log: slog.New(slog.DiscardHandler)}, settings)
		if _, err := p.Join(&idle{stores: map[state.Key]*share.Store{}},
			[]state.Key{{API: "siem", Place: "eu", Tenant: "contoso"}}); err != nil {
			t.Fatal(err)
		}
		pods = append(pods, p)
		time.Sleep(20 * time.Millisecond)
	}
	time.Sleep(70 * second)
	since := time.Now()
	time.Sleep(60 * second)
	all, kinds := s.Requests(t, "thousand", since)
	workers := 0
	for _, p := range pods {
		if p.Stats().Worker {
			workers++
		}
	}
	t.Logf("%.1f requests a second: %v; %d workers", float64(all)/60, kinds, workers)
	if workers != 3 {
		t.Errorf("%d workers", workers)
	}
	if all == 0 || all > 20*60 {
		t.Errorf("%d requests in a minute", all)
	}
	var closing sync.WaitGroup
	for _, p := range pods {
		closing.Go(p.Close)
	}
	closing.Wait()
}
