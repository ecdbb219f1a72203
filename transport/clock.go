package transport

import (
	"net/http"
	"sync"
	"time"
)

// disbelief is how far a Date may be off the estimate and still be believed at once.
const disbelief = 10 * time.Second

// Clock estimates the service's time from the Date headers of its answers, without ever asking the local wall clock:
// a Date plus the monotonic time since its answer came. Date is cut to whole seconds and older than the answer's
// arrival, so the estimate is a lower bound. A Date far off the estimate is believed only when the very next one
// confirms it, so that one server with a wrong clock moves nothing. The first one is taken for want of another, and
// in doubt until then.
type Clock struct {
	mu      sync.Mutex
	known   Sighting // the last Date believed
	sure    bool     // two Dates in a row agreed: until then known is just the last one
	mute    int      // answers without a Date since the last that had one, while the time is disputed
	suspect Sighting // a Date that waits for its confirmation
}

// Sighting is a Date and the local instant, with its monotonic reading, at which it
// came. The zero value means none.
type Sighting struct {
	date, came time.Time
}

// at is the service's time at the local instant t, by this Sighting alone.
func (s Sighting) at(t time.Time) time.Time { return s.date.Add(t.Sub(s.came)) }

// Present is the service's time by a Sighting, else the local clock's.
func (s Sighting) Present() time.Time {
	if s.date.IsZero() {
		return time.Now()
	}
	return s.at(time.Now())
}

// agrees says whether the two sightings can be of one clock.
func (s Sighting) agrees(o Sighting) bool { return o.date.Sub(s.at(o.came)).Abs() <= disbelief }

// Sight reads the Date of an answer that came at the local instant came. Answers with an Age come from a cache: their
// Date says nothing about now.
func Sight(h http.Header, came time.Time) (Sighting, bool) {
	if len(h.Values("Age")) > 0 {
		return Sighting{}, false
	}
	date, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		return Sighting{}, false
	}
	return Sighting{date.UTC(), came}, true
}

// Observe takes the Date of an answer of the service itself (not of a proxy on the way) that came at the local
// instant came.
func (c *Clock) Observe(h http.Header, came time.Time) {
	if seen, ok := Sight(h, came); ok {
		c.See(seen)
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
			c.known, c.suspect = c.suspect, Sighting{}
		}
		c.sure, c.mute = true, 0
	}
}

// See is Observe for a Date that was read already; none changes nothing.
func (c *Clock) See(seen Sighting) {
	if seen.date.IsZero() {
		return
	}
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
		c.known, c.suspect = seen, Sighting{}
	default:
		c.suspect = seen
	}
}

// Now returns the service's time at the local instant t; false: no Date is known.
func (c *Clock) Now(t time.Time) (time.Time, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known.date.IsZero() {
		return time.Time{}, false
	}
	return c.known.at(t), true
}

// Disputed tells whether a Date waits for its confirmation, as the first one does.
func (c *Clock) Disputed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.known.date.IsZero() && !c.sure || !c.suspect.date.IsZero()
}

// Trusted tells whether the time is more than one answer's word, or nobody's.
func (c *Clock) Trusted() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.known.date.IsZero() || c.sure
}
