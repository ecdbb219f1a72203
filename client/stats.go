package client

import (
	"sync"
	"time"
)

// Stats are what a Client counts, and what its credential stands at.
type Stats struct {
	Tokens          uint64        // that came
	TokenEnds       time.Time     // local; zero: none is held
	CertificateEnds time.Time     // zero: no certificate was read yet
	Held            time.Duration // requests waited so long for our own limit of their number
}

// counters are the parts of Stats that nobody else keeps.
type counters struct {
	mu          sync.Mutex
	tokens      uint64
	certificate time.Time
	waited      time.Duration
}

func (n *counters) count(f func(*counters)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	f(n)
}

// Stats may be called from any goroutine; it never waits for I/O.
func (c *Client) Stats() Stats {
	var s Stats
	c.counters.count(func(n *counters) { s = Stats{Tokens: n.tokens, CertificateEnds: n.certificate, Held: n.waited} })
	if c.token != nil {
		c.token.mu.Lock()
		if held := c.token.held; held != nil {
			s.TokenEnds = held.expires
		}
		c.token.mu.Unlock()
	}
	return s
}
