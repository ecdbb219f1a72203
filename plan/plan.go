// Package plan decides what to ask the service next, and what an answer means for what was read so far. It is a pure
// state machine: times and answers go in, steps and facts come out. It has no I/O, goroutine, lock, logger or clock;
// whoever drives it is its only user.
//
// Time is the service's (Clock.Service), a lower bound of its present. The watermark is the time before which nothing
// new can appear. A poll begun at service time p asks for [watermark, p] in windows of at most MaxWindow, oldest
// first; a window that was read to its end advances the watermark to min(its end, p - Overlap). What keeps failing is
// set aside as an unread range, so that newer windows go on.
package plan

import (
	"time"
)

const (
	// Edge is shared by neighbouring windows: bounds may be inclusive, exclusive or truncated.
	Edge        = 2 * time.Second
	smallest    = 2 * time.Second      // a window of this span is not split for its number of rows any more
	linkSpan    = 8 * time.Millisecond // nor one of this span for a link that is refused; times of Graph are 3 ms apart
	readable    = time.Minute          // a window of at most this span is not split because it fails
	ownFailures = 5                    // failures of a window of its own after which it is split or set aside
	// planned at once: a Date that is years ahead must not take the memory of as many
	mostWindows = 1000
	mostDates   = 50        // requests for their Date alone: a service that sends none leaves no dispute
	unreadTries = 3         // unread ranges that fail in one poll before the others wait for the next
	MostUnread  = 1000      // unread ranges; beyond, a failing window holds the watermark instead
	KeepMargin  = time.Hour // how much older than the watermark an id is kept
)

// Clock is what is known of the time when the planner is asked.
type Clock struct {
	Local    time.Time // with its monotonic reading
	Service  time.Time // a lower bound of the service's present; zero: not known yet
	Trusted  bool      // two answers in a row agreed on it
	Disputed bool      // the last answer contradicts it, and none has confirmed or refuted that yet
}

// Config is what the planner has to know of a stanza.
type Config struct {
	Overlap, MaxWindow, Lookback, PollInterval, RetryMax time.Duration

	Ago      time.Duration  // 0: polls ask for windows
	Limit    int            // rows per request; 0: none
	PageSize int            // rows of a page; 0: the API has no pages
	CapFloor int            // fewest rows of an answer that may have met a cap of the service
	Jitter   func() float64 // in [0, 1)
}

// Range is a span of service time.
type Range struct{ Since, Until time.Time }

// Span is how long r is.
func (r Range) Span() time.Duration { return r.Until.Sub(r.Since) }

func (r Range) String() string { return r.Since.Format(stamp) + " to " + r.Until.Format(stamp) }

// stamp shows fractions only where there are some.
const stamp = "2006-01-02T15:04:05.999Z07:00"

// Kind is what a Step asks for.
type Kind int

// Kinds of steps.
const (
	Wait    Kind = iota // do nothing before Step.At
	GetTime             // find out the service's time; the answer is a failure, or nothing
	Glance              // send Step.Request for its Date or its status; its rows do not matter
	Ask                 // send Step.Request, and deliver each row of it that is new
)

// Step is what to do next.
type Step struct {
	Kind    Kind
	At      time.Time // local
	Request Request
}

// Request is one request for rows.
type Request struct {
	Since, Until time.Time
	Ago          bool   // ask by the stanza's ago instead
	Limit        int    // 0: none
	Page         string // the link to a next page: all else counts for nothing then
	Window       Range  // what it is asked for
	Now          time.Time
}

// Failure is what an answer failed for.
type Failure int

// Failures.
const (
	None       Failure = iota // the answer was read to its end
	OfWindow                  // it speaks against this window
	OfLink                    // so does this: the link to a next page is refused, or cannot be followed
	OfNetwork                 // no answer, or not in time
	OfService                 // it speaks against every request
	OfOperator                // so does this, until an operator acts
)

func (f Failure) own() bool { return f == OfWindow || f == OfLink }

// Answer is what came of a Step.
type Answer struct {
	Rows     int           // all that came
	Fresh    int           // of which not seen before
	Outside  int           // of which without a usable time, or of one outside the window
	Failure  Failure       //
	Reason   string        // of a failure, without secrets
	After    time.Duration // what the service asked to wait
	Cut      bool          // it broke after we had held the download
	Resynced bool          // it held invalid text, which was delivered raw: how many rows were in it is not known
	Cached   bool          // it may be older than its request
	Next     string        // the link to its next page
	Partial  string        // why the service calls it incomplete; empty: it does not
}

// Outcome is what follows from an answer.
type Outcome struct {
	// after a failure: how long until the next request; 0: none, or the request is sent again at once
	Wait   time.Duration
	Reason string // of the failure
	Quiet  bool   // it was told when its range was set aside
}

// Fact is something that operators or metrics should know of.
type Fact struct {
	Kind   FactKind
	Window Range
	Reason string
	N      int           // unread ranges, or rows
	By     time.Duration // that the clock went back
	To     time.Time     // where the poll begins then, or where the neighbour's state ends
}

// FactKind tells facts apart.
type FactKind int

// Kinds of facts.
const (
	PollDone     FactKind = iota // all that was planned was read
	OtherFilters                 // the tenant was pulled with other filters, up to To
	ClockBack                    // the service's clock went back
	SetAside                     // Window became an unread range: N are open
	UnreadFull                   // it did not, for N are open already
	Incomplete                   // it did, for the service says that something is missing from it
	RangeRead                    // the unread range was read: N are open
	SplitWindow                  // Window is asked again in halves
	// N rows, as many as answers of the service seem to hold at most, in a window that cannot be split
	RowsMayHide
)

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
