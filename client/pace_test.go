package client

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"fluent-bit-defender/conf"
	"fluent-bit-defender/internal/simtest"
	"fluent-bit-defender/transport"
)

// most is what Graph takes from a tenant in a minute.
const most = 150

// times notes when requests for alerts come.
type times struct {
	mu   sync.Mutex
	came []time.Time
}

func (n *times) answer(req *http.Request) (*http.Response, error) {
	n.mu.Lock()
	n.came = append(n.came, time.Now())
	n.mu.Unlock()
	return simtest.Reply(req, 200, graphAlert), nil
}

// fullest is the most requests of any minute, and the number of all.
func (n *times) fullest() (minute, all int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for i, first := 0, 0; i < len(n.came); i++ {
		for n.came[i].Sub(n.came[first]) > time.Minute {
			first++
		}
		minute = max(minute, i-first+1)
	}
	return minute, len(n.came)
}

// openPaces counts the limits that are kept.
func openPaces() int {
	paces.mu.Lock()
	defer paces.mu.Unlock()
	sweepPaces()
	return len(paces.open)
}

// paced runs f in virtual time, without limits of other tests, whose time is another.
func paced(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		paces.mu.Lock()
		clear(paces.open)
		paces.mu.Unlock()
		f(t)
		time.Sleep(paceRefill)
		if n := openPaces(); n != 0 {
			t.Errorf("%d limits are left behind", n)
		}
	})
}

// burst asks as often as is possible without a wait.
func burst(t *testing.T, c *Client) {
	t.Helper()
	for range paceBurst {
		if _, err := fetch(c, Query{}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestNoMinuteHasMoreRequestsThanGraphTakes(t *testing.T) {
	paced(t, func(t *testing.T) {
		n := &times{}
		var all sync.WaitGroup
		start := time.Now()
		for range 3 { // stanzas of one tenant
			c := connect(t, graphSettings(), &simtest.Service{Alerts: n.answer})
			defer c.Close()
			all.Go(func() {
				for time.Since(start) < 5*time.Minute {
					if _, err := fetch(c, Query{}); err != nil {
						t.Error(err)
					}
				}
			})
		}
		all.Wait()
		minute, sent := n.fullest()
		if minute > most {
			t.Errorf("%d requests in a minute", minute)
		}
		if least := 5*60*paceRate + paceBurst; sent < least || sent > least+3 {
			t.Errorf("%d requests in 5 minutes, want %d: the limit holds back more or less than it must", sent, least)
		}
	})
}

// Quiet times between bursts are when a limit that counts by the clock's minutes lets too much pass.
func TestBurstsKeepToTheLimitToo(t *testing.T) {
	paced(t, func(t *testing.T) {
		n := &times{}
		c := connect(t, graphSettings(), &simtest.Service{Alerts: n.answer})
		defer c.Close()
		for round := range 40 {
			for range 10 * (round%7 + 1) {
				if _, err := fetch(c, Query{}); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(time.Duration(round%5) * 7 * time.Second)
		}
		if minute, sent := n.fullest(); minute > most || sent < 1000 {
			t.Errorf("%d requests in a minute, %d in all", minute, sent)
		}
	})
}

func TestAReloadDoesNotBeginWithABurst(t *testing.T) {
	paced(t, func(t *testing.T) {
		n := &times{}
		for range 30 {
			c := connect(t, graphSettings(), &simtest.Service{Alerts: n.answer})
			for range 20 {
				if _, err := fetch(c, Query{}); err != nil {
					t.Fatal(err)
				}
			}
			c.Close()
			c.Close() // counts once
			time.Sleep(time.Second)
		}
		if minute, _ := n.fullest(); minute > most {
			t.Errorf("%d requests in a minute", minute)
		}
	})
}

func TestOtherTenantsHostsAndAPIsDoNotWait(t *testing.T) {
	paced(t, func(t *testing.T) {
		ask := func(change func(*conf.Config)) time.Duration {
			cfg := graphSettings()
			change(cfg)
			c := connect(t, cfg, &simtest.Service{})
			defer c.Close()
			start := time.Now()
			burst(t, c)
			return time.Since(start)
		}
		same := func(*conf.Config) {}
		if took := ask(same); took != 0 {
			t.Errorf("the first %d took %v", paceBurst, took)
		}
		if took := ask(func(c *conf.Config) { c.TenantID = "contoso.com" }); took != 0 {
			t.Errorf("another tenant waited %v", took)
		}
		if took := ask(func(c *conf.Config) { c.URL = "https://graph.example/v1.0/security/alerts_v2" }); took != 0 {
			t.Errorf("another host waited %v", took)
		}
		if took := ask(func(c *conf.Config) { *c = *simtest.Settings() }); took != 0 {
			t.Errorf("the SIEM API waited %v", took)
		}
		again := func(c *conf.Config) { c.URL = "https://graph.test/beta/security/alerts_v2" }
		if took := ask(again); took != paceBurst/paceRate*time.Second {
			t.Errorf("the first tenant's next requests took %v", took)
		}
	})
}

func TestWaitingForTheLimitEnds(t *testing.T) {
	for _, how := range []string{"cancel", "close"} {
		t.Run(how, func(t *testing.T) {
			paced(t, func(t *testing.T) {
				c := connect(t, graphSettings(), &simtest.Service{})
				defer c.Close()
				burst(t, c)
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				end, want := cancel, context.Canceled
				if how == "close" {
					end, want = c.Close, transport.ErrClosed
				}
				start := time.Now()
				time.AfterFunc(100*time.Millisecond, end)
				_, err := c.Fetch(ctx, Query{})
				if !errors.Is(err, want) || time.Since(start) != 100*time.Millisecond {
					t.Errorf("%v after %v, want %v", err, time.Since(start), want)
				}
				if held := c.Stats().Held; held != 100*time.Millisecond {
					t.Errorf("held for %v", held)
				}
			})
		})
	}
}

func TestARequestThatGaveUpLeavesItsPlace(t *testing.T) {
	paced(t, func(t *testing.T) {
		c := connect(t, graphSettings(), &simtest.Service{})
		defer c.Close()
		burst(t, c)
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
		defer cancel()
		if _, err := c.Fetch(ctx, Query{}); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		start := time.Now()
		if _, err := fetch(c, Query{}); err != nil || time.Since(start) > 500*time.Millisecond {
			t.Errorf("the next one waited %v, %v", time.Since(start), err)
		}
		if held := c.Stats().Held; held != 500*time.Millisecond {
			t.Errorf("held for %v", held)
		}
	})
}

func TestARetryAfterA401CountsToo(t *testing.T) {
	paced(t, func(t *testing.T) {
		n := &times{}
		c := connect(t, graphSettings(), &simtest.Service{Alerts: func(req *http.Request) (*http.Response, error) {
			_, _ = n.answer(req)
			return simtest.Reply(req, 401, ""), nil
		}})
		defer c.Close()
		for range 200 {
			_, err := fetch(c, Query{})
			failure(t, err)
		}
		if minute, sent := n.fullest(); minute > most || sent != 400 {
			t.Errorf("%d requests in a minute, %d in all", minute, sent)
		}
	})
}
