package client

import (
	"net/http"
	"sync"
	"time"
)

// restStep is the time between two clients that ask again after a rest, so that a thousand of them are not throttled at once again.
const restStep = 20 * time.Millisecond

// rests are the hosts of token endpoints that have asked to be left alone (429). A thousand tenants ask one host, which counts their requests
// together: what one of them is told holds for all that share a transport.
type rests struct {
	mu sync.Mutex
	of map[string]*rest
}

type rest struct {
	until  time.Time
	told   *Client // by whom the wait is kept in its own way
	behind int     // clients that were put off already
}

// begin notes that a host asked c for a rest.
func (r *rests) begin(host string, c *Client, wait time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	for h, old := range r.of {
		if !now.Before(old.until) {
			delete(r.of, h)
		}
	}
	if old := r.of[host]; old != nil && old.until.After(now.Add(wait)) {
		return
	}
	if r.of == nil {
		r.of = map[string]*rest{}
	}
	r.of[host] = &rest{until: now.Add(wait), told: c}
}

// left is how long c is to wait before it asks a host, because another was told to; 0: not at all.
func (r *rests) left(host string, c *Client) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	here := r.of[host]
	if here == nil || here.told == c || !time.Now().Before(here.until) {
		return 0
	}
	here.behind++
	return time.Until(here.until) + time.Duration(here.behind)*restStep
}

// resting is the error of a request that was not sent because its host has asked for a rest.
func resting(to target, left time.Duration) *Error {
	return &Error{Kind: KindTokenTransient, Status: http.StatusTooManyRequests, RetryAfter: left, op: to.name,
		what: "throttled (429): the host has asked another tenant to wait, so it is not asked", remedy: "if it lasts, let fewer programs ask for tokens with this client_id"}
}
