package client

import (
	"context"
	"maps"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Graph takes 150 requests a minute from an application in a tenant (facts). A burst of 10 and 2 a second are 130 in
// any minute: the rest is for the burst of a process that starts anew in that minute, and for what the network holds
// up and lets go at once.
const (
	paceBurst  = 10
	paceRate   = 2 // a second
	paceRefill = paceBurst / paceRate * time.Second
)

// paces are the limits of this process: clients of one place and tenant share one.
var paces = struct {
	mu   sync.Mutex
	open map[paceKey]*pace
}{open: make(map[paceKey]*pace)}

type paceKey struct{ host, tenant string }

// pace bounds the number of requests. What follows limit is under paces.mu.
type pace struct {
	limit *rate.Limiter
	users int
	left  time.Time // by the last of them
}

// openPace joins the limit of a place and tenant, or begins one. leave gives it back.
func openPace(host, tenant string) (p *pace, leave func()) {
	key := paceKey{host, tenant}
	paces.mu.Lock()
	defer paces.mu.Unlock()
	sweepPaces()
	p = paces.open[key]
	if p == nil {
		p = &pace{limit: rate.NewLimiter(paceRate, paceBurst)}
		paces.open[key] = p
	}
	p.users++
	return p, sync.OnceFunc(func() {
		paces.mu.Lock()
		defer paces.mu.Unlock()
		p.users--
		p.left = time.Now()
		sweepPaces()
	})
}

// sweepPaces drops the limits that nobody used for so long that they are as good as new. Others stay, or a hot reload
// would begin with a burst right after the last one. One that was left in the future is of a test in virtual time: the
// next test must not depend on it.
func sweepPaces() {
	maps.DeleteFunc(paces.open, func(_ paceKey, p *pace) bool {
		idle := time.Since(p.left)
		return p.users == 0 && (idle >= paceRefill || idle < 0)
	})
}

// wait returns when the next request may be sent. Errors wrap ctx's error or transport.ErrClosed.
func (p *pace) wait(ctx context.Context, c *Client) error {
	if p == nil {
		return nil
	}
	slot := p.limit.Reserve()
	delay := slot.Delay()
	if delay <= 0 {
		return nil
	}
	start := time.Now()
	err := c.net.Pause(ctx, alertsRequest, delay)
	if err != nil {
		slot.Cancel()
	}
	c.held.Add(int64(time.Since(start)))
	return err
}
