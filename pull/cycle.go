package pull

import (
	"context"
	"fmt"
	"time"

	"fluent-bit-defender/client"
	"fluent-bit-defender/record"
	"fluent-bit-defender/state"
)

const (
	mostOpinions = 50   // requests that are made for their Date alone: a service that sends none leaves no doubt
	mostSteps    = 1000 // planned at once: a Date that is years ahead must not take the memory of as many steps
)

// piece is a span of service time that is asked for in one request: a step, or what became of one by halving.
type piece struct {
	since, until time.Time
	fails        int               // of its own, in a row
	stuck        int               // times the connection failed, or took too long
	unlimited    bool              // ask without limit: it cannot be halved any more
	syntax       map[record.ID]int // times that each syntax error came
	probe        *probe            // it was halved to find out about a hidden cap
	gap          bool              // it is a gap that is tried again
	ago          bool              // it is asked for by ago
	asked        time.Time         // local, when it was last asked for
}

func (pc *piece) span() time.Duration { return pc.until.Sub(pc.since) }

// halves returns pc's halves, the newer first: work is a stack. They stay part of pc's probe.
func (pc *piece) halves() []*piece {
	middle := pc.since.Add(pc.span() / 2)
	if pc.probe != nil {
		pc.probe.left++
	}
	return []*piece{{since: middle, until: pc.until, probe: pc.probe}, {since: pc.since, until: middle, probe: pc.probe}}
}

func (pc *piece) String() string {
	return pc.since.Format(time.RFC3339) + " to " + pc.until.Format(time.RFC3339)
}

// cycle asks once for everything between settled and now.
func (e *Engine) cycle(ctx context.Context) {
	now, ok := e.now(ctx)
	if ok && !e.client.Certain() {
		now, ok = e.confirmed(ctx, now)
	}
	if !ok {
		return
	}
	e.begin(now)
	e.hold = ""
	if e.byAgo(ctx, now) || e.steps(ctx, now) {
		if e.hold == "" {
			e.mu.Lock()
			e.lastFull = now
			e.stats.LastSuccess = now
			e.mu.Unlock()
			e.trouble.healed(e.log, "alerts are pulled again")
		}
		e.retryGaps(ctx)
	}
	e.forgetSpare()
}

// now is the service's time; it tries until there is one.
func (e *Engine) now(ctx context.Context) (time.Time, bool) {
	for {
		asked := time.Now()
		now, err := e.client.Now(ctx)
		if err != nil {
			e.countRequest(err, false, asked)
		}
		if ctx.Err() != nil {
			return time.Time{}, false
		}
		if err == nil {
			return now.UTC().Truncate(100 * time.Nanosecond), true // the service's resolution: never in its future
		}
		if !sleep(ctx, e.failed(nil, err)) {
			return time.Time{}, false
		}
	}
}

// confirmed is the service's time once two Dates in a row agree: where a life begins, one wrong Date would have alerts left out, or asked for
// again that are not remembered any more. The answers themselves are not read. When they never agree, the time is what it is, and nothing is
// settled by it.
func (e *Engine) confirmed(ctx context.Context, now time.Time) (time.Time, bool) {
	ok := true
	for opinions := 0; opinions < mostOpinions && !e.client.Certain(); {
		err := e.glance(ctx, now)
		if ctx.Err() != nil {
			return time.Time{}, false
		}
		wait := time.Duration(0)
		if err != nil {
			wait = e.failed(nil, err) // what lasts is no step's own: the span moves on with the time
		} else {
			e.succeeded()
			if opinions++; opinions > ownFailures {
				wait = firstWait
			}
		}
		if !sleep(ctx, wait) {
			return time.Time{}, false
		}
		if now, ok = e.now(ctx); !ok {
			return time.Time{}, false
		}
	}
	return now, true
}

// begin finds settled at the first cycle, and brings it back when the service's clock went back.
func (e *Engine) begin(now time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	first := e.latest.IsZero()
	if first {
		e.lastFull = e.settled.Add(e.cfg.Overlap)
		if e.snap.Found {
			e.reach = e.settled.Add(-seenMargin)
		} else {
			// Counted from the start, not from when the first token came.
			e.settled = now.Add(-time.Since(e.born) - e.cfg.InitialLookback)
			if n := e.snap.Neighbour; !n.IsZero() {
				e.log.Warn(fmt.Sprintf("no state for these filters, but the tenant was pulled with others until %s: starting there or %s ago, whichever is earlier; alerts pulled with the other filters may come again",
					n.Format(time.RFC3339), e.cfg.InitialLookback))
				if n.Before(e.settled) {
					e.settled = n
				}
				e.adopt(e.snap.NeighbourUnread)
			}
		}
	}
	// A clock that went back, as soon as we believe it, makes every settled time since then too late by as much.
	back := time.Duration(0)
	newest := now.Add(-e.cfg.Overlap)
	switch {
	case first && e.settled.After(now):
		back = e.settled.Sub(newest)
	case first && e.snap.Found && e.settled.After(newest): // overlap is longer now
		e.settled = later(newest, e.reach.Add(2*edge)) // a request begins an edge earlier
	case !first:
		back = e.latest.Add(time.Since(e.latestAt)).Sub(now)
		if back < -farLeap {
			e.leap.note(-back, e.settled)
		}
	}
	if back > edge {
		to := earlier(newest, e.leap.back(back, e.settled))
		if back > 5*edge {
			e.log.Warn(fmt.Sprintf("the service's clock went back by %s: asking again from %s, and repeats are dropped; if it comes again, look for a proxy with a cache", back.Round(time.Second), to.Format(time.RFC3339)))
		}
		e.settled, e.ahead = to, nil
	}
	e.latestAt = time.Now()
	e.latest = now
	e.setMark()
}

// plan lists the steps of [from, now] without the gaps and what was read already, most of them at most, the newest first: it is a stack. A zero
// from is settled.
func (e *Engine) plan(from, now time.Time, most int) (work []*piece) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if from.IsZero() {
		from = e.settled
	}
	add := func(until time.Time) {
		for from.Before(until) && len(work) < most {
			to := from.Add(e.cfg.MaxWindow)
			if to.After(until) {
				to = until
			}
			work = append(work, &piece{since: from, until: to})
			from = to
		}
	}
	for _, s := range e.skipped() {
		if !s.until.After(from) {
			continue
		}
		if s.since.After(now) {
			break
		}
		add(s.since)
		from = s.until
	}
	add(now)
	for i, j := 0, len(work)-1; i < j; i, j = i+1, j-1 {
		work[i], work[j] = work[j], work[i]
	}
	return work
}

// glance makes a request for its Date, or its status, alone. The answer is not read.
func (e *Engine) glance(ctx context.Context, now time.Time) error {
	asked := time.Now()
	ans, err := e.client.Fetch(ctx, client.Query{Since: now.Add(-edge), Until: now, Limit: 1})
	e.countRequest(err, false, asked)
	if err == nil {
		ans.Body.Close()
	}
	return err
}

// byAgo asks by the key ago where one such answer covers all since settled. It tells whether it did; otherwise the cycle goes by windows.
func (e *Engine) byAgo(ctx context.Context, now time.Time) bool {
	if e.cfg.Ago <= 0 {
		return false
	}
	e.mu.Lock()
	settled := e.settled
	gaps := len(e.gaps)
	e.mu.Unlock()
	// Of what lies before reach an earlier life, with a shorter ago or none, may have forgotten what it handed over.
	if from := now.Add(-e.cfg.Ago); from.After(settled) || from.Before(e.reach) || gaps > 0 {
		return false
	}
	pc := &piece{since: now.Add(-e.cfg.Ago), until: now, ago: true, unlimited: false}
	got := e.ask(ctx, pc, now)
	if ctx.Err() != nil {
		return false
	}
	if got.err != nil {
		sleep(ctx, e.failed(pc, got.err))
		return false
	}
	e.succeeded()
	// The service counted back from its own present, which is later than now: it may have begun after settled.
	after, err := e.client.Now(ctx)
	if err != nil || after.Add(edge-e.cfg.Ago).After(settled) {
		return false
	}
	if got.cached || e.limited(pc, got) || e.hidden.suspicious(got) {
		return false
	}
	e.remember(pc, got)
	e.settle(pc, now)
	return true
}

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

// query is the request for pc: it begins an edge earlier, so that the neighbours share it.
func (e *Engine) query(pc *piece) client.Query {
	q := client.Query{Limit: e.cfg.Limit}
	if pc.unlimited {
		q.Limit = 0
	}
	if pc.ago {
		q.Ago = e.cfg.AgoText
		return q
	}
	q.Since, q.Until = pc.since.Add(-edge), pc.until
	return q
}

// gapKey identifies a gap in the memory of its retries.
type gapKey struct{ since, until int64 }

func keyOf(g state.UnreadRange) gapKey { return gapKey{g.Since.UnixNano(), g.Until.UnixNano()} }
