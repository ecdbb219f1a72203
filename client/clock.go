package client

import (
	"net/http"
	"sync"
	"time"
)

// disbelief is how far a Date may be off the estimate and still be believed at once.
const disbelief = 10 * time.Second

// clock estimates the service's time from the Date headers of its answers, without ever asking the local wall clock:
// a Date plus the monotonic time since its answer came. Date is cut to whole seconds and older than the answer's
// arrival, so the estimate is a lower bound. A Date far off the estimate is believed only when the very next one
// confirms it, so that one server with a wrong clock moves nothing. The first one is taken for want of another, and
// in doubt until then.
type clock struct {
	mu      sync.Mutex
	known   sighting // the last Date believed
	sure    bool     // two Dates in a row agreed: until then known is just the last one
	mute    int      // answers without a Date since the last that had one, while the time is disputed
	suspect sighting // a Date that waits for its confirmation
}

// sighting is a Date and the local instant, with its monotonic reading, at which it
// came. The zero value means none.
type sighting struct {
	date, came time.Time
}

// at is the service's time at the local instant t, by this sighting alone.
func (s sighting) at(t time.Time) time.Time { return s.date.Add(t.Sub(s.came)) }

// agrees says whether the two sightings can be of one clock.
func (s sighting) agrees(o sighting) bool { return o.date.Sub(s.at(o.came)).Abs() <= disbelief }

// sight reads the Date of an answer that came at the local instant came. Answers with an Age come from a cache: their
// Date says nothing about now.
func sight(h http.Header, came time.Time) (sighting, bool) {
	if len(h.Values("Age")) > 0 {
		return sighting{}, false
	}
	date, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		return sighting{}, false
	}
	return sighting{date.UTC(), came}, true
}

// observe takes the Date of an answer of the service itself (not of a proxy on the way) that came at the local
// instant came.
func (c *clock) observe(h http.Header, came time.Time) {
	if seen, ok := sight(h, came); ok {
		c.see(seen)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	// A proxy that drops the Dates of alerts leaves that of the token: nothing will confirm it.
	if c.known.date.IsZero() || c.sure && c.suspect.date.IsZero() {
		return
	}
	if c.mute++; c.mute > 1 {
		if !c.suspect.date.IsZero() {
			c.known, c.suspect = c.suspect, sighting{}
		}
		c.sure, c.mute = true, 0
	}
}

// see is observe for a Date that was read already.
func (c *clock) see(seen sighting) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mute = 0
	switch {
	case c.known.date.IsZero():
		c.known = seen
	case !c.sure:
		c.sure = c.known.agrees(seen)
		c.known = seen
	case c.known.agrees(seen),
		!c.suspect.date.IsZero() && c.suspect.agrees(seen):
		c.known, c.suspect = seen, sighting{}
	default:
		c.suspect = seen
	}
}

// now returns the service's time at the local instant t; false: no Date is known.
func (c *clock) now(t time.Time) (time.Time, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known.date.IsZero() {
		return time.Time{}, false
	}
	return c.known.at(t), true
}

// disputed tells whether a Date waits for its confirmation, as the first one does.
func (c *clock) disputed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.known.date.IsZero() && !c.sure || !c.suspect.date.IsZero()
}

// trusted tells whether the time is more than one answer's word, or nobody's.
func (c *clock) trusted() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.known.date.IsZero() || c.sure
}
