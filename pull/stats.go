package pull

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"fluent-bit-defender/client"
)

// Outcomes are what a request for alerts can come to, in the order of Stats.Requests. "ok" was read to its end, "partial" as well, but the
// service said that something is missing from it, "broken" began well and did not end so; the others are the kinds of client.Error.
var Outcomes = [...]string{"ok", "partial", "broken", "network", "throttled", "service", "refused", "unauthorized", "forbidden", "token", "config"}

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

// Stats are the engine's counters since it was made, and what they stand at now. Rows = HandedOver + Raw + Duplicates, once
// nothing is queued.
type Stats struct {
	Requests       [len(Outcomes)]uint64
	Seconds        Histogram     // of requests: to the end of their answer, held downloads included
	Retries        uint64        // failures after which something is asked again
	Throttled      time.Duration // of waits that the service asked for
	BytesRead      uint64        // of decompressed answers
	Rows           uint64
	Duplicates     uint64
	HandedOver     uint64 // alerts that became records
	Raw            uint64 // rows that did not and were handed over raw
	Repaired       uint64 // of HandedOver and Raw: with U+FFFD in place of what was no UTF-8
	HandedOverSize uint64 // bytes of records
	Forgotten      uint64 // hashes dropped because the seen set was full
	Commits        uint64
	CommitFailures uint64

	Client client.Stats

	Watermark   time.Time // everything processed before it was fetched; zero: not known yet
	Now         time.Time // the service's; zero: not known yet
	LastSuccess time.Time // service time at which the last cycle that read all began; zero: none yet
	Unread      int
	IDs         int // hashes held
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

// Stats may be called from any goroutine and never waits: while the engine looks through all that it remembers, they are those of the
// call before.
func (e *Engine) Stats() Stats {
	e.told.Lock()
	defer e.told.Unlock()
	if e.mu.TryLock() {
		e.told.Stats = e.countedStats()
		e.mu.Unlock()
	}
	s := e.told.Stats
	s.Queued, s.Paused = e.queued(), e.isPaused()
	s.Client = e.client.Stats()
	return s
}

// countedStats is the part of Stats that mu guards. The caller holds it.
func (e *Engine) countedStats() Stats {
	e.collect()
	s := e.stats
	s.Unread, s.IDs, s.Watermark = len(e.gaps), e.seen.len(), e.settled
	if !e.latest.IsZero() {
		s.Now = e.latest.Add(time.Since(e.latestAt))
	}
	return s
}

func (e *Engine) count(f func(*Stats)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	f(&e.stats)
}

// countRequest counts a request that came to err, and that began at start.
func (e *Engine) countRequest(err error, partial bool, start time.Time) {
	if errors.Is(err, context.Canceled) || errors.Is(err, client.ErrClosed) {
		return // it was us
	}
	came := outcomeOK
	var ce *client.Error
	switch {
	case errors.As(err, &ce):
		came = max(slices.Index(Outcomes[:], strings.Fields(ce.Kind.String())[0]), outcomeBroken)
	case err != nil:
		came = outcomeBroken
	case partial:
		came = outcomePartial
	}
	e.count(func(s *Stats) {
		s.Requests[came]++
		s.Seconds.observe(time.Since(start))
	})
}
