package pull

import "time"

// Stats are the engine's counters since it was made, and what they stand at now. Rows = HandedOver + Duplicates + what is
// still queued; Raw and Repaired rows are handed over too.
type Stats struct {
	Requests, RequestsFailed uint64
	BytesRead                uint64 // of decompressed answers
	Rows                     uint64
	Duplicates               uint64
	HandedOver               uint64 // rows
	HandedOverBytes          uint64
	Raw, Repaired            uint64
	Forgotten                uint64 // hashes dropped because the seen set was full
	Commits, CommitFailures  uint64

	Settled     time.Time // everything processed before it was fetched
	LastSuccess time.Time // service time of the last cycle that read all
	Gaps        int
	Seen        int // hashes held
	Queued      int // bytes fetched and not yet taken
}

// Stats may be called from any goroutine; it never waits for I/O.
func (e *Engine) Stats() Stats {
	e.mu.Lock()
	s := e.stats
	s.Gaps, s.Seen = len(e.gaps), e.seen.len()
	e.mu.Unlock()
	s.Queued = e.queued()
	return s
}
