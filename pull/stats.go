package pull

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"fluent-bit-defender/client"
	"fluent-bit-defender/transport"
)

// Outcomes are what a request for alerts can come to, in the order of Stats.Requests. "ok" was read to its end,
// "partial" as well, but the service said that something is missing from it, "broken" began well and did not end so;
// the others are the kinds of transport.Error.
var Outcomes = [...]string{"ok", "partial", "broken", "network", "throttled", "service", "refused", "unauthorized",
	"forbidden", "token", "config"}

const (
	outcomeOK = iota
	outcomePartial
	outcomeBroken
)

// SecondsBounds are the upper bounds of the buckets of Stats.Seconds; one more bucket stands behind them.
var SecondsBounds = [...]float64{0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300}

// Histogram counts durations: Counts[i] those of at most SecondsBounds[i] and more than the bound before it.
type Histogram struct {
	Counts [len(SecondsBounds) + 1]uint64
	Sum    float64 // seconds
}

func (h *Histogram) observe(d time.Duration) {
	s := d.Seconds()
	i := 0
	for i < len(SecondsBounds) && s > SecondsBounds[i] {
		i++
	}
	h.Counts[i]++
	h.Sum += s
}

// Stats are the counters of a runner's sources since it was made, and what they stand at now. Rows = Delivered + Raw
// + Duplicates, once nothing is queued.
type Stats struct {
	Requests       [len(Outcomes)]uint64
	Seconds        Histogram     // of requests: to the end of their answer, held downloads included
	Retries        uint64        // failures after which something is asked again
	Throttled      time.Duration // of waits that the service asked for
	BytesRead      uint64        // of decompressed answers
	Rows           uint64
	Duplicates     uint64
	Delivered      uint64 // alerts that became records
	Raw            uint64 // rows that did not and were delivered raw
	Repaired       uint64 // of Delivered and Raw: with U+FFFD in place of what was no UTF-8
	DeliveredSize  uint64 // bytes of records
	Forgotten      uint64 // ids dropped because the dedup set was full
	Commits        uint64
	CommitFailures uint64

	Client client.Stats

	Watermark   time.Time // everything processed before it was fetched; zero: not known yet
	Now         time.Time // the service's; zero: not known yet
	LastSuccess time.Time // service time at which the last cycle that read all began; zero: none yet
	Sources     int
	OnGraph     int // of Sources: those that are pulled from Microsoft Graph, by their api or as its successor
	Failing     int // of Sources: those whose last request failed
	Unread      int
	IDs         int // held
	Queued      int // bytes fetched and not yet taken
	Paused      bool
}

// Asked is the number of requests, whatever came of them.
func (s *Stats) Asked() (n uint64) {
	for _, r := range s.Requests {
		n += r
	}
	return n
}

// position is how far one source is.
type position struct {
	watermark, lastDone time.Time // of the service
	service, local      time.Time // when its last poll began
	unread, ids         int
	failing             bool // its last request failed
}

// meter counts for all sources of a runner. Its lock is held for a few additions only, so that Stats never waits.
type meter struct {
	mu        sync.Mutex
	stats     Stats
	positions map[*Source]position
}

func (m *meter) count(f func(*Stats)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f(&m.stats)
}

// request counts a request that came to err, and that began at start.
func (m *meter) request(err error, partial bool, start time.Time) {
	if errors.Is(err, context.Canceled) || errors.Is(err, transport.ErrClosed) {
		return // it was us
	}
	came := outcomeOK
	var ce *transport.Error
	switch {
	case errors.As(err, &ce):
		came = max(slices.Index(Outcomes[:], strings.Fields(ce.Kind.String())[0]), outcomeBroken)
	case err != nil:
		came = outcomeBroken
	case partial:
		came = outcomePartial
	}
	m.count(func(s *Stats) {
		s.Requests[came]++
		s.Seconds.observe(time.Since(start))
	})
}

// place notes how far s is.
func (m *meter) place(s *Source, p position) {
	p.ids = s.ledger.Len()
	m.mu.Lock()
	defer m.mu.Unlock()
	p.failing = m.positions[s].failing
	m.positions[s] = p
}

// outcome notes whether the last request of s failed.
func (m *meter) outcome(s *Source, failed bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.positions[s]
	p.failing = failed
	m.positions[s] = p
}

// forget takes s out of what is counted now.
func (m *meter) forget(s *Source) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.positions, s)
}

// read returns the sums, and of times the worst.
func (m *meter) read() Stats {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.stats
	for _, p := range m.positions {
		if p.failing {
			s.Failing++
		}
		s.Unread += p.unread
		s.IDs += p.ids
		if s.Watermark.IsZero() || !p.watermark.IsZero() && p.watermark.Before(s.Watermark) {
			s.Watermark = p.watermark
			if !p.service.IsZero() {
				s.Now = p.service.Add(time.Since(p.local))
			}
		}
		if s.LastSuccess.IsZero() || !p.lastDone.IsZero() && p.lastDone.Before(s.LastSuccess) {
			s.LastSuccess = p.lastDone
		}
	}
	return s
}
