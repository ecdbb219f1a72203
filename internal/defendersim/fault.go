package defendersim

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"
)

// Fault is what goes wrong with one request. Its parts combine: an answer may be late, slow and cut. The constructors
// below make the usual ones; With joins two. A nil *Fault is none.
type Fault struct {
	Name string // counted in Stats.Faults and told in the journal

	Delay  time.Duration // before anything is sent
	Hang   bool          // never answers, until the client gives up
	Refuse bool          // in memory: connection refused; over TLS: reset before the answer
	NoName bool          // in memory: the host's name has no address; over TLS: reset before the answer
	Reset  bool          // connection reset before the answer

	Status     int // this status, with the endpoint's error body, instead of the answer
	AADSTS     int // token endpoint: this error of Entra ID's table
	RetryAfter func(now time.Time) string
	Header     http.Header // added to the answer, whatever it is

	EndlessHeader bool                    // header lines without end
	Page          func(w io.Writer) error // status 200 with this body instead of the answer; may ask w for http.Flusher
	ContentType   string                  // of Page; "": application/json
	Encoded       bool                    // Page is compressed by itself: declared as gzip whatever was asked

	Garble *Garble // text put into the body
	Cut    *Cut    // end of the body before its end
	Rate   int     // bytes a second of the body

	big     int64   // BigBody
	open    bool    // NeverClosed
	partial float64 // Partial
}

// Garble puts Text into the body, before compression, at byte At, or, where Of is set, at that share (0 to 1) of a
// body of known length.
type Garble struct {
	At   int64
	Of   float64
	Text string
}

// CutHow is how a cut body ends.
type CutHow int

// Ways of ending.
const (
	CutBroken CutHow = iota // the connection closes: io.ErrUnexpectedEOF at the reader
	CutReset                // the connection is reset; over TLS what was sent last may be lost with it
	CutText                 // the text stops, the answer ends as if it were whole, compression included
	CutWire                 // as CutText, but a compressed body's stream is left open
)

// Cut ends a body at byte At of its text (before compression), or, where Of is set, at that share (0 to 1) of a text of
// known length. A cut behind the end does nothing; exactly at the end it breaks an answer whose text is whole.
type Cut struct {
	At  int64
	Of  float64
	How CutHow
}

// With joins two faults: what g sets wins.
func (f *Fault) With(g *Fault) *Fault {
	if f == nil {
		return g
	}
	if g == nil {
		return f
	}
	h := *f
	if g.Name != "" {
		h.Name = f.Name + "+" + g.Name
	}
	set(&h.Delay, g.Delay)
	set(&h.Hang, g.Hang)
	set(&h.Refuse, g.Refuse)
	set(&h.NoName, g.NoName)
	set(&h.Reset, g.Reset)
	set(&h.Status, g.Status)
	set(&h.AADSTS, g.AADSTS)
	set(&h.EndlessHeader, g.EndlessHeader)
	set(&h.ContentType, g.ContentType)
	set(&h.Encoded, g.Encoded)
	set(&h.Garble, g.Garble)
	set(&h.Cut, g.Cut)
	set(&h.Rate, g.Rate)
	set(&h.big, g.big)
	set(&h.open, g.open)
	set(&h.partial, g.partial)
	if g.RetryAfter != nil {
		h.RetryAfter = g.RetryAfter
	}
	if g.Page != nil {
		h.Page = g.Page
	}
	if g.Header != nil {
		h.Header = g.Header
	}
	return &h
}

func set[T comparable](to *T, v T) {
	var zero T
	if v != zero {
		*to = v
	}
}

// Status answers with a status and the endpoint's body for it: 401 with its WWW-Authenticate, 403, 429, 500, ...
func Status(code int) *Fault { return &Fault{Name: strconv.Itoa(code), Status: code} }

// Throttle is a 429 with Retry-After in seconds.
func Throttle(wait time.Duration) *Fault {
	return &Fault{Name: "429", Status: 429, RetryAfter: func(time.Time) string {
		return strconv.Itoa(int((wait + time.Second - 1) / time.Second))
	}}
}

// ThrottleUntil is a 429 with Retry-After as a date: wait from the moment of the answer.
func ThrottleUntil(wait time.Duration) *Fault {
	return &Fault{Name: "429", Status: 429, RetryAfter: func(now time.Time) string {
		return now.Add(wait).UTC().Format(http.TimeFormat)
	}}
}

// Entra is an error of Entra ID, by its AADSTS number; it panics for one that is not in the table.
func Entra(code int) *Fault {
	if _, known := entraErrors[code]; !known {
		panic(fmt.Sprintf("defendersim: AADSTS%d is not in the table", code))
	}
	return &Fault{Name: fmt.Sprintf("AADSTS%d", code), AADSTS: code}
}

// Refused is a connection that is refused.
func Refused() *Fault { return &Fault{Name: "refused", Refuse: true} }

// NoName is a host that DNS does not know.
func NoName() *Fault { return &Fault{Name: "no such name", NoName: true} }

// ResetEarly is a connection that is reset before the answer.
func ResetEarly() *Fault { return &Fault{Name: "reset", Reset: true} }

// Late sends the answer after d.
func Late(d time.Duration) *Fault { return &Fault{Name: "late", Delay: d} }

// Hang never answers.
func Hang() *Fault { return &Fault{Name: "hang", Hang: true} }

// Slow sends the body at so many bytes a second.
func Slow(bytesPerSecond int) *Fault { return &Fault{Name: "slow", Rate: bytesPerSecond} }

// CutAt ends the body at a byte of its text.
func CutAt(at int64, how CutHow) *Fault { return &Fault{Name: "cut", Cut: &Cut{At: at, How: how}} }

// CutOf ends the body at a share of its text, from 0 to 1.
func CutOf(share float64, how CutHow) *Fault {
	return &Fault{Name: "cut", Cut: &Cut{Of: share, How: how}}
}

// GarbleAt puts garbage into the body at a byte of its text.
func GarbleAt(at int64, garbage string) *Fault {
	return &Fault{Name: "garble", Garble: &Garble{At: at, Text: garbage}}
}

// GarbleOf puts garbage into the body at a share of its text, from 0 to 1.
func GarbleOf(share float64, garbage string) *Fault {
	return &Fault{Name: "garble", Garble: &Garble{Of: share, Text: garbage}}
}

// EndlessHeader sends header lines without end.
func EndlessHeader() *Fault { return &Fault{Name: "endless header", EndlessHeader: true} }

// Queue lets the next requests of a kind have these faults, one each; nil is a request without.
func (s *Service) Queue(k Kind, faults ...*Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queue[k] = append(s.queue[k], faults...)
}

// OnRequest asks f for the fault of each request that has none queued. f runs on the request's goroutine, so it may
// come from several at once, and it may call the service. nil: nobody is asked.
func (s *Service) OnRequest(f func(Request) *Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hook = f
}

type span struct {
	from, to, until time.Time
	fault           *Fault
}

// FailSpan gives every query whose window touches [from, to] the fault, until the service's clock reaches until:
// Status(500) for days, a page, a cut. It comes after the checks of token and query, and only to queries without
// another fault.
func (s *Service) FailSpan(from, to, until time.Time, f *Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.spans = append(s.spans, span{from, to, until, f})
}

// spanFault is the fault of the first failing span that the window touches.
func (s *Service) spanFault(q Query, now time.Time) *Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sp := range s.spans {
		if now.Before(sp.until) && !q.Since.After(sp.to) && !q.Until.Before(sp.from) {
			return sp.fault
		}
	}
	return nil
}
