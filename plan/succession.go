package plan

import "time"

const (
	refusals  = 2                // in a row, before an API can count as gone
	firstLook = time.Minute      // within which a life asks the successor whether it could go on
	lookAgain = 24 * time.Hour   // between two such looks
	lookSoon  = 10 * time.Minute // after one that failed: somebody may be mending what it told
	soonMost  = 6                // of them in a row
	goneAgain = time.Minute      // between two looks while the API is gone and the successor does not answer
)

// Succession decides when a source whose API is gone goes on with the API's successor. It is pure, as a Planner is,
// and times are local. The API counts as gone once every request was refused for as long as after says, as if it did
// not exist; and the successor has to answer, which also shows that the network works.
type Succession struct {
	after time.Duration
	look  time.Time // when the successor is asked next, whether the API lives or not
	fails int       // looks in a row that failed

	since   time.Time // the first refusal in a row
	refused int       // in a row
	retry   time.Time // the successor did not answer when it was needed: not before
}

// NewSuccession returns the decision of a life that begins at local. jitter, in [0, 1), spreads the first looks of
// many sources.
func NewSuccession(after time.Duration, local time.Time, jitter float64) *Succession {
	return &Succession{after: after, look: local.Add(time.Duration(jitter * float64(firstLook)))}
}

// Heard takes what came of a request to the API: gone tells that it was refused as if the API did not exist.
func (s *Succession) Heard(local time.Time, gone bool) {
	if !gone {
		s.refused, s.retry = 0, time.Time{}
		return
	}
	if s.refused++; s.refused == 1 {
		s.since = local
	}
}

// Since is when the refusals began that last; zero: the last request was not refused.
func (s *Succession) Since() time.Time {
	if s.refused == 0 {
		return time.Time{}
	}
	return s.since
}

// Next tells whether the successor is to be asked now, and else when to look again.
func (s *Succession) Next(local time.Time) (ask bool, at time.Time) {
	at = s.look
	if s.refused >= refusals {
		at = earlier(at, later(s.since.Add(s.after), s.retry))
	}
	return !local.Before(at), at
}

// Answered takes what came of asking the successor, and tells whether the source goes on with it from now on.
func (s *Succession) Answered(local time.Time, ok bool) (succeeds bool) {
	s.fails++
	s.look = local.Add(lookAgain)
	if ok {
		s.fails = 0
	} else if s.fails <= soonMost {
		s.look = local.Add(lookSoon)
	}
	s.retry = local.Add(goneAgain)
	return ok && s.refused >= refusals && local.Sub(s.since) >= s.after
}
