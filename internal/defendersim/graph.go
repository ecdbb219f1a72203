package defendersim

import (
	"net/http"
	"slices"
	"strconv"
	"time"
)

const graphPath = "/v1.0/security/alerts_v2"

// What Graph's tokens are for.
const (
	GraphAppID      = "00000003-0000-0000-c000-000000000000"
	GraphPermission = "SecurityAlert.Read.All" // as a role of an application and as a scope of a person
)

// GraphOrder is the order of the alerts that a query finds, over all its pages.
type GraphOrder int

// Orders. Which one the real service has is not documented.
const (
	NewestFirst   GraphOrder = iota // by createdDateTime
	NewestUpdated                   // by lastUpdateDateTime, as the next
	OldestUpdated
	Shuffled // an order that has nothing to do with time, the same in each answer
)

// GraphModes is what is undocumented of Graph, or was seen once, until it is switched off.
type GraphModes struct {
	Order   GraphOrder
	PageCap int // the most alerts of a page, whatever $top says; 0: MaxTop

	// RefuseLinks answers every next link with 400, as in June 2024. LinkLife does so with a link that is older; 0:
	// never. LinkHost, a scheme and host, is where links lead to; "": whence the request came. LoopLinks makes each
	// page's link lead to that page again. LastLink gives a link on the last page too: it leads to an empty one.
	// LateLink puts links behind the alerts.
	RefuseLinks bool
	LinkLife    time.Duration
	LinkHost    string
	LoopLinks   bool
	LastLink    bool
	LateLink    bool

	// Partial is the share (0 to 1) of alerts that are left out of every answer, which is 206 then; see the fault of
	// that name.
	Partial float64
	// PerMinute is how many requests a minute are taken, beyond which 429 comes with the Retry-After that is needed; 0:
	// any.
	PerMinute int
}

// Partial makes an answer of Graph's incomplete: status 206 and a Warning, and a share (0 to 1) of its alerts is left
// out.
func Partial(share float64) *Fault { return &Fault{Name: "partial", partial: share} }

func (s *Service) isGraph(audience string) bool {
	return slices.Contains(s.cfg.GraphAudiences, audience)
}

// understand reads the query of a Graph request.
func (s *Service) understand(req *Request, raw string) {
	q, err := parseGraphQuery(raw, s.issuer.key)
	m := &s.modes.Graph
	if err == nil && q.Page && (m.RefuseLinks || m.LinkLife > 0 && req.At.After(q.issued.Add(m.LinkLife))) {
		err = errLink
	}
	req.Graph, req.badness = q, err
	if err != nil {
		return
	}
	if m.PageCap > 0 {
		req.Graph.Top = min(q.Top, m.PageCap)
	}
	req.Query = Query{Since: q.Since, Until: q.Until, Limit: req.Graph.Top, UntilGiven: !q.Until.IsZero()}
	if q.Until.IsZero() {
		req.Query.Until = req.At
	}
}

// serveGraph answers a query of Graph's alerts: token, then rate, then query, then a page.
func (x *exchange) serveGraph() {
	if x.r.Method != http.MethodGet {
		x.w.Header().Set("Allow", "GET")
		x.graphError(http.StatusMethodNotAllowed, "BadRequest", "The method is not allowed for this resource.")
		return
	}
	if !x.graphAuthorized() {
		return
	}
	if x.modes.Forbidden {
		x.graphStatus(http.StatusForbidden)
		return
	}
	if wait := x.s.graphRate(x.modes.Graph.PerMinute, x.req.At); wait > 0 {
		x.w.Header().Set("Retry-After", strconv.Itoa(int((wait+time.Second-1)/time.Second)))
		x.graphStatus(http.StatusTooManyRequests)
		return
	}
	if err := x.req.badness; err != nil {
		x.graphError(http.StatusBadRequest, "BadRequest", err.Error())
		return
	}
	if x.fault == nil {
		if x.fault = x.s.spanFault(x.req.Query, x.req.At); x.fault != nil && !x.early() {
			return
		}
	}
	x.graphPage()
}

// graphRate counts a request against the limit and says how long the limit keeps it waiting.
func (s *Service) graphRate(perMinute int, now time.Time) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if perMinute == 0 {
		s.recent = nil
		return 0
	}
	s.recent = slices.DeleteFunc(s.recent, func(t time.Time) bool { return now.Sub(t) >= time.Minute || t.After(now) })
	if len(s.recent) >= perMinute {
		return time.Minute - now.Sub(s.recent[0])
	}
	s.recent = append(s.recent, now)
	return 0
}
