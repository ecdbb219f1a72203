package share

import (
	"slices"
	"time"
)

// What a history is held to when it is over.

func (h *history) check() {
	byAlert := map[[2]int][]delivery{}
	for _, d := range h.delivered {
		byAlert[[2]int{d.source, d.n}] = append(byAlert[[2]int{d.source, d.n}], d)
	}
	for s, alerts := range h.alerts {
		for n, appeared := range alerts {
			ds := byAlert[[2]int{s, n}]
			if !slices.ContainsFunc(ds, func(d delivery) bool { return !d.lost }) {
				h.failf("alert %d of source %d, which appeared at %.2f, is lost (%d deliveries)", n, s, h.at(appeared),
					len(ds))
			}
			if wait, most := ds[0].at.Sub(appeared), h.patience(appeared, ds[0].at); h.undisturbed && wait > most {
				h.failf("alert %d of source %d, which appeared at %.2f, waited for %s, more than %s", n, s,
					h.at(appeared), wait, most)
			}
			for i := 1; i < len(ds); i++ {
				h.checkRepeated(ds[i-1], ds[i])
			}
		}
	}
}

// patience is how long an alert may wait: for a poll, for each death lease_duration and 5 s, and for each change
// among the workers the time of a move, in which what was delivered has to become durable.
func (h *history) patience(from, to time.Time) time.Duration {
	most := h.poll*11/10 + 3*time.Second
	for _, c := range h.changes {
		if c.at.After(from.Add(-reach-c.cost)) && c.at.Before(to) {
			most += c.cost
		}
	}
	return most
}

// change is something that moves sources.
type change struct {
	at   time.Time
	cost time.Duration
}

const (
	reach       = 25 * time.Second // after a change the last source has begun to move
	costOfDeath = 20 * time.Second
	costOfMove  = historySafe + 5*time.Second // a look, until it is tried again, and what ticks between
)

// vacancy is how long it may take until a pod that stands by, whose clock may be behind, finds out that p, which
// leaves, was the last worker: two looks.
func (h *history) vacancy(p *simPod) time.Duration {
	h.server.mu.Lock()
	defer h.server.mu.Unlock()
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, l := range h.server.leases {
		for _, o := range h.pods {
			if o != p && o.id == l.Holder && !o.dead {
				return 0
			}
		}
	}
	return 2 * (standby + 2*seldomer)
}

func (h *history) changed(cost time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.changes = append(h.changes, change{time.Now(), cost})
}

// checkRepeated: between two deliveries the source was taken over from the first, and what was delivered was not much
// older than promised.
func (h *history) checkRepeated(first, second delivery) {
	for _, t := range h.takeovers {
		if t.source != first.source || t.from != first.pod.id || t.at.Before(first.at) || t.at.After(second.at) {
			continue
		}
		oldest := t.lastSeen.Add(-historyOverlap - historySafe - writeEvery - historySlack)
		if s := first.pod.trouble; slices.ContainsFunc(s, func(s span) bool {
			// A commit that was under way hangs, and after it fails there is none for a while.
			return s.from.After(first.at.Add(-callWithin-historyRest)) &&
				s.from.Before(first.at.Add(historySafe+historySlack))
		}) {
			return // frozen or cut off before it could note that this one is durable
		}
		if first.at.Before(oldest) {
			h.failf("alert %d of source %d came from %s at %.2f and from %s at %.2f: too old to repeat after the "+
				"takeover at %.2f "+
				"(last commit %.2f)", first.n, first.source, first.pod.id, h.at(first.at), second.pod.id,
				h.at(second.at), h.at(t.at), h.at(t.lastSeen))
		}
		return
	}
	h.failf("alert %d of source %d came from %s at %.2f and from %s at %.2f, though nobody took it over between",
		first.n, first.source,
		first.pod.id, h.at(first.at), second.pod.id, h.at(second.at))
}

// at is a time in the trace.
func (h *history) at(t time.Time) float64 { return t.Sub(h.begin).Seconds() }
