package defendersim

import (
	"maps"
	"net/http"
	"strings"
	"time"
)

// Stats counts what the service did since it was made.
type Stats struct {
	Tokens, Alerts, Other int            // requests by kind
	Graph                 int            // those of Graph's alerts
	Logins, Identities    int            // more of them: pages of logins, tokens for managed identities
	Status                map[int]int    // answers by status; 0: none was sent
	Faults                map[string]int // faults that befell a request, by name
	Issued                int            // tokens given
	Rows                  int64          // rows sent whole
	Bytes                 int64          // text of bodies, before compression
	Open, MaxOpen         int            // requests under way: now, and the most ever
	// StrayTokens counts bearer tokens sent elsewhere than to the API.
	StrayTokens int
}

// Entry is one exchange in the journal.
type Entry struct {
	Request
	Status int       // 0: none was sent
	Fault  string    // name of the fault, "" for none
	Rows   int       // rows sent whole
	Bytes  int64     // text of the body
	Whole  bool      // the answer ended as it should, faults that end cleanly included
	Done   time.Time // service time when it ended
}

// Stats returns the counts so far.
func (s *Service) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.stats
	st.Status, st.Faults = maps.Clone(st.Status), maps.Clone(st.Faults)
	return st
}

// Journal returns the last exchanges that ended, in the order in which they did, at most Config.JournalSize.
func (s *Service) Journal() []Entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append(append([]Entry(nil), s.log[s.logAt:]...), s.log[:s.logAt]...)
}

func (st *Stats) begin(req Request, r *http.Request) {
	scheme := r.Header.Get("Authorization")
	bearer := strings.EqualFold(scheme[:min(len("bearer"), len(scheme))], "bearer")
	if bearer && req.Kind != KindAlerts && req.Kind != KindGraph {
		st.StrayTokens++
	}
	switch req.Kind {
	case KindToken:
		st.Tokens++
	case KindAlerts:
		st.Alerts++
	case KindGraph:
		st.Graph++
	case KindAuthorize:
		st.Logins++
	case KindIdentity:
		st.Identities++
	default:
		st.Other++
	}
	st.Open++
	st.MaxOpen = max(st.MaxOpen, st.Open)
}

// end writes the journal and the counts; it runs also when the exchange ends by a panic, as a broken answer does.
func (x *exchange) end() {
	s := x.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if x.fault != nil {
		x.entry.Fault = x.fault.Name
		s.stats.Faults[x.fault.Name]++
	}
	x.entry.Done = s.now()
	s.stats.Status[x.entry.Status]++
	s.stats.Rows += int64(x.entry.Rows)
	s.stats.Bytes += x.entry.Bytes
	s.stats.Open--
	if len(s.log) < s.cfg.JournalSize {
		s.log = append(s.log, x.entry)
		return
	}
	s.log[s.logAt] = x.entry
	s.logAt = (s.logAt + 1) % len(s.log)
}
