package share

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"fluent-bit-defender/state"
)

// holder is a Puller that holds what it is given.
type holder struct {
	mu     sync.Mutex
	stores map[state.Key]*Store
}

func (p *holder) Add(key state.Key, st *Store) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stores[key] = st
	return nil
}

func (p *holder) Remove(_ context.Context, key state.Key) error {
	p.mu.Lock()
	st := p.stores[key]
	delete(p.stores, key)
	p.mu.Unlock()
	return st.Close()
}

// single is a pod of its own over an API server, with one source, and what it logs.
type single struct {
	*Pod
	api *fakeAPI
	log bytes.Buffer
}

// newSingle starts it. before is asked at each request, by verb.
func newSingle(t *testing.T, before func(verb string) error) *single {
	settings := Settings{Workers: 3, LeaseDuration: 15 * time.Second}
	p := &single{api: &fakeAPI{server: newServer(), settings: settings}}
	p.api.before = func(_ context.Context, verb, _ string) error { return before(verb) }
	log := slog.New(slog.NewTextHandler(&p.log, nil))
	p.Pod = New(&Sources{API: p.api, Name: "alerts", Identity: "a", Log: log}, settings)
	if _, err := p.Join(&holder{stores: map[state.Key]*Store{}}, []state.Key{key}); err != nil {
		t.Fatal(err)
	}
	return p
}

// lines counts the log lines with this text.
func (p *single) lines(text string) (n int) {
	for _, l := range strings.Split(p.log.String(), "\n") {
		if strings.Contains(l, text) {
			n++
		}
	}
	return n
}

func TestAnAPIServerThatIsAwayIsToldOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		p := newSingle(t, func(string) error {
			if d := time.Since(begin); d > 30*time.Second && d < 5*time.Minute {
				return errCut
			}
			return nil
		})
		defer p.Close()
		time.Sleep(6 * time.Minute)
		synctest.Wait()
		for _, what := range []string{"looking for the other pods", "renewing the Lease"} {
			if failed, works := p.lines(what+" failed"), p.lines(what+" works again"); failed != 1 || works != 1 {
				t.Errorf("%s: %d lines say that it fails, %d that it works again", what, failed, works)
			}
		}
		if s := p.Stats(); !s.Worker || s.Owned != 1 {
			t.Errorf("afterwards %+v", s)
		}
		if t.Failed() {
			t.Log(p.log.String())
		}
	})
}

func TestAKeyBelongsToOneStanza(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newSingle(t, func(string) error { return nil })
		defer p.Close()
		_, err := p.Join(&holder{}, []state.Key{{Tenant: "another"}, key})
		if !errors.Is(err, state.ErrKeyInUse) || !strings.Contains(err.Error(), key.Tenant) {
			t.Errorf("a second stanza with the key: %v", err)
		}
		if s := p.Stats(); s.Configured != 1 {
			t.Errorf("%d sources are configured", s.Configured)
		}
	})
}

// A fault of ours in what client-go calls must not end Fluent Bit, nor the pulling.
func TestAPanicIsSurvived(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		left := map[string]int{"update": 10, "list": 20} // a renewal, a look
		p := newSingle(t, func(verb string) error {
			mu.Lock()
			defer mu.Unlock()
			if left[verb]--; left[verb] == 0 {
				panic(verb)
			}
			return nil
		})
		defer p.Close()
		time.Sleep(3 * time.Minute)
		synctest.Wait()
		if n := p.lines("internal error"); n != 2 {
			t.Errorf("%d lines tell of it\n%s", n, p.log.String())
		}
		if s := p.Stats(); !s.Worker || s.Owned != 1 || !p.Fence() {
			t.Errorf("afterwards %+v", s)
		}
	})
}

// An owner comes back while another pod takes its source over: it renews its Lease and checks the source after that
// pod has looked, and before it reads the ConfigMap. It lives, so it keeps the source.
func TestAnOwnerThatComesBackKeepsItsSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, settings := newServer(), Settings{Workers: 3, LeaseDuration: 15 * time.Second}
		owner, _ := pod(server, "owner", 0)
		st, _ := mustTake(t, owner, alive)
		server.leases[0] = Lease{Slot: 0, Holder: "owner", Renewed: time.Now(), Sources: []Hash{HashOf(key)}}
		back := sync.OnceFunc(func() {
			server.mu.Lock()
			server.leases[0] = Lease{Slot: 0, Holder: "owner", Renewed: time.Now(), Sources: []Hash{HashOf(key)}}
			server.mu.Unlock()
			if err := st.touch(t.Context()); err != nil {
				t.Error(err)
			}
		})
		api := &fakeAPI{server: server, settings: settings}
		api.before = func(_ context.Context, verb, _ string) error {
			if verb == "get" {
				back() // the other pod begins to take it over
			}
			return nil
		}
		p := New(&Sources{API: api, Name: "alerts", Identity: "other", Log: slog.New(slog.DiscardHandler)}, settings)
		defer p.Close()
		if _, err := p.Join(&holder{stores: map[state.Key]*Store{}}, []state.Key{key}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(25 * time.Second)
		synctest.Wait()
		if err := st.touch(t.Context()); err != nil {
			t.Errorf("the owner that came back: %v", err)
		}
		if n := p.Stats().Takeovers; n != 0 {
			t.Errorf("%d takeovers", n)
		}
	})
}

// A thousand sources over three pods, with ten milliseconds for each request: all have an owner soon, each pod about a
// third, and those of one that dies are others' within lease_duration and five seconds.
func TestAThousandSourcesMoveInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const sources = 1000
		server, settings := newServer(), Settings{Workers: 3, LeaseDuration: 15 * time.Second}
		var keys []state.Key
		for i := range sources {
			keys = append(keys, state.Key{API: "siem", Place: "eu", Tenant: fmt.Sprint("tenant ", i)})
		}
		var dead atomic.Bool
		var pods []*Pod
		for i := range 3 {
			api := &fakeAPI{server: server, settings: settings}
			api.before = func(context.Context, string, string) error {
				if i == 0 && dead.Load() {
					return errCut
				}
				time.Sleep(10 * time.Millisecond)
				return nil
			}
			p := New(&Sources{API: api, Name: "alerts", Identity: fmt.Sprint("pod-", i),
				Log: slog.New(slog.DiscardHandler)}, settings)
			defer p.Close()
			if _, err := p.Join(&holder{stores: map[state.Key]*Store{}}, keys); err != nil {
				t.Fatal(err)
			}
			pods = append(pods, p)
		}
		owned := func() map[string]int {
			server.mu.Lock()
			defer server.mu.Unlock()
			of := map[string]int{}
			for _, o := range server.objects {
				of[o.Data[dataOwner]]++
			}
			return of
		}
		within := func(what string, most time.Duration, done func(of map[string]int) bool) {
			t.Helper()
			for start := time.Now(); !done(owned()); time.Sleep(100 * time.Millisecond) {
				if time.Since(start) > most {
					t.Fatalf("%s: after %s the sources are %v", what, most, owned())
				}
			}
		}
		third := func(n int) bool { return n > sources/4 && n < sources*2/5 }
		within("the start", 20*time.Second, func(of map[string]int) bool {
			return third(of["pod-0"]) && third(of["pod-1"]) && third(of["pod-2"]) && of["pod-0"]+of["pod-1"]+
				of["pod-2"] == sources
		})
		dead.Store(true)
		within("a death", settings.LeaseDuration+5*time.Second, func(of map[string]int) bool {
			return of["pod-1"]+
				of["pod-2"] == sources
		})
		if n := pods[1].Stats().Takeovers + pods[2].Stats().Takeovers; n < sources/4 {
			t.Errorf("%d takeovers", n)
		}
	})
}
