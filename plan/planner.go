package plan

import (
	"time"

	"fluent-bit-defender/state"
)

const (
	firstWait = time.Second // after a failure, doubled with each
	slowWait  = time.Minute // the first where an operator must act
	mostTries = 20          // keeps the shift of backOff in range
)

type phase int

const (
	resting  phase = iota // until the next poll is due
	timing                // the service's time is found
	reading               // windows are read
	retrying              // unread ranges are asked for again
)

// Planner plans for one source. Next and Answer take turns.
type Planner struct {
	cfg   Config
	start state.Snapshot // without its ids
	born  time.Time      // local

	watermark time.Time
	unread    unreadRanges
	clock     serviceClock
	reach     time.Time // ids older than this may be forgotten since the life before; zero: none are
	lastDone  time.Time // of the service, when the last poll began that read all; zero: none has
	lastRows  int       // of the last answer without a limit

	phase phase
	due   time.Time // local: nothing is asked before
	poll  poll
	asked *window // Answer is about it; nil: the step was for the time, or a glance
	facts []Fact

	failures failures
	once     *Range // one range is read, not polls
}

// poll is the present poll.
type poll struct {
	began   time.Time // local
	now     time.Time // service time at its begin
	dates   int       // requests for their Date alone
	stack   []*window // planned, the oldest last
	planned time.Time // up to here
	paged   *window   // another page of it is asked for next
	suspect *window   // failed so often that it is set aside if the service answers for its present
	partial bool      // an answer was incomplete
	failed  int       // unread ranges that failed
}

// failures count those in a row, for the back-off.
type failures struct {
	own    int // that speak against their window
	others int
}

// New returns the planner of a source that begins at start, of which it keeps all but the ids.
func New(cfg Config, start state.Snapshot, local time.Time) *Planner {
	start.IDs = nil
	return &Planner{cfg: cfg, start: start, born: local, watermark: start.Watermark,
		unread: unreadRanges{list: start.Unread}}
}

// Once makes p read r, instead of polling, before the first step. It ends with a Wait without a time.
func (p *Planner) Once(r Range) { p.once = &r }

// Watermark is the time before which all was read; zero: not known yet.
func (p *Planner) Watermark() time.Time { return p.watermark }

// Unread returns the unread ranges, which the caller must not change, by their time.
func (p *Planner) Unread() []state.UnreadRange { return p.unread.list }

// Facts returns what happened since it was last called.
func (p *Planner) Facts() []Fact {
	f := p.facts
	p.facts = nil
	return f
}

func (p *Planner) tell(f Fact) { p.facts = append(p.facts, f) }

// KeepFrom is the time from which on rows may be asked for again.
func (p *Planner) KeepFrom(c Clock) time.Time {
	from := p.watermark
	if p.cfg.Ago > 0 && !p.clock.latest.IsZero() {
		from = earlier(from, p.clock.latest.Add(-p.cfg.Ago))
	}
	if p.clock.jump.fresh(c.Local) {
		from = earlier(from, p.clock.jump.watermark.Add(-p.cfg.Ago)) // from there on once it is taken back
	}
	return from
}

// LastDone is the service time at which the last poll began that read all it planned; zero: none has.
func (p *Planner) LastDone() time.Time { return p.lastDone }

// Began is the service time at which the last poll began, and that moment by the local clock; zero: none has.
func (p *Planner) Began() (service, local time.Time) { return p.clock.latest, p.clock.latestAt }

// Next says what to do at c.
func (p *Planner) Next(c Clock) Step {
	for {
		if c.Local.Before(p.due) {
			return Step{Kind: Wait, At: p.due}
		}
		if w := p.poll.paged; w != nil {
			p.poll.paged = nil
			return p.ask(c, w)
		}
		switch p.phase {
		case resting:
			p.poll = poll{began: c.Local}
			p.phase = timing
		case timing:
			if c.Service.IsZero() {
				return Step{Kind: GetTime}
			}
			if !c.Trusted && p.poll.dates < mostDates && p.once == nil {
				return p.glance(c)
			}
			p.begin(c)
		case reading:
			if p.poll.now.Sub(c.Service) > Edge { // the service's clock went back: what was planned lies in its future
				p.rest()
				continue
			}
			if p.poll.suspect != nil {
				return p.glance(c)
			}
			if w := p.nextWindow(); w != nil {
				return p.ask(c, w)
			}
			if !p.poll.partial {
				p.lastDone = p.poll.now
				p.tell(Fact{Kind: PollDone})
			}
			p.phase = retrying
		case retrying:
			if w := p.nextUnread(c); w != nil {
				return p.ask(c, w)
			}
			if p.once != nil {
				return Step{Kind: Wait}
			}
			p.rest()
		}
	}
}

// rest ends a poll.
func (p *Planner) rest() {
	interval := time.Duration(float64(p.cfg.PollInterval) * (0.9 + 0.2*p.cfg.Jitter()))
	p.phase, p.due = resting, later(p.due, p.poll.began.Add(interval))
	p.poll.stack = nil
}

// Abandon ends the poll, whatever was planned or asked: after a fault of ours nobody knows how far it came. The next
// begins at due (local), and plans from the watermark on.
func (p *Planner) Abandon(due time.Time) {
	p.poll = poll{}
	p.asked, p.facts = nil, nil
	p.unread.todo, p.unread.listed = nil, false
	p.phase, p.due = resting, due
}

// glance makes a request for its Date or status. Nothing is known by it of any window.
func (p *Planner) glance(c Clock) Step {
	p.asked = nil
	r := Range{c.Service.Add(-Edge), c.Service}
	return Step{Kind: Glance, Request: Request{Since: r.Since, Until: r.Until, Limit: 1, Window: r, Now: c.Service}}
}

func (p *Planner) ask(c Clock, w *window) Step {
	p.asked = w
	r := w.request(p.cfg.Limit)
	r.Now = p.poll.now
	if r.Page == "" {
		w.asked = c.Local
	}
	return Step{Kind: Ask, Request: r}
}

// Answer takes what came of the last Step that was no Wait.
func (p *Planner) Answer(c Clock, a Answer) Outcome {
	w := p.asked
	if w == nil {
		return p.glanced(c, a)
	}
	p.asked = nil
	if o, more := p.page(c, w, a); more {
		p.poll.paged = w
		return o
	}
	return p.answered(c, w)
}

// glanced takes the answer to a request for the time.
func (p *Planner) glanced(c Clock, a Answer) Outcome {
	w := p.poll.suspect
	p.poll.suspect = nil
	if a.Failure != None {
		wait := p.wait(c, a, false) // what lasts is no window's own: the moment moves on with the time
		switch {
		case w == nil:
		case w.Span() > readable:
			p.split(w)
		default:
			p.poll.stack = append(p.poll.stack, w)
		}
		return Outcome{Wait: wait, Reason: a.Reason}
	}
	p.failures = failures{}
	switch {
	case p.phase == timing && !c.Service.IsZero():
		if p.poll.dates++; p.poll.dates > ownFailures {
			p.due = c.Local.Add(firstWait)
		}
	case w == nil:
	case !p.setAside(c, w, w.got.Reason):
		p.giveRoom()
	}
	return Outcome{}
}

// answered decides what follows the whole answer for w.
func (p *Planner) answered(c Clock, w *window) Outcome {
	a := w.got
	if w.unread {
		return p.retried(c, w, a)
	}
	switch {
	case a.Failure != None:
		return p.failed(c, w, a)
	case a.Partial != "":
		p.failures = failures{}
		if w.Span() > smallest && p.limited(w, a) {
			p.split(w)
			return Outcome{}
		}
		p.poll.partial = true
		if !p.setAside(c, w, incomplete+a.Partial) {
			p.giveRoom()
		}
		return Outcome{}
	}
	p.failures = failures{}
	if w.ago {
		p.answeredByAgo(c, w, a)
		return Outcome{}
	}
	switch p.hidden(w, a) {
	case inHalves:
		p.split(w)
	case unlimited:
		p.poll.stack = append(p.poll.stack, &window{Range: w.Range, unlimited: true})
	default:
		p.advance(c, w)
	}
	return Outcome{}
}

// failed decides what follows a failure of w.
func (p *Planner) failed(c Clock, w *window, a Answer) Outcome {
	if a.Cut && w.Span() > smallest {
		p.split(w)
		return Outcome{}
	}
	if a.Failure == OfLink { // what came before the link shows that the service answers
		if a.Rows > 0 && w.Span() > linkSpan {
			p.split(w)
		} else if !p.setAside(c, w, a.Reason) {
			p.giveRoom()
		}
		return Outcome{}
	}
	wait := p.wait(c, a, a.Failure == OfWindow)
	switch {
	case w.ago: // windows are asked for instead
	case a.Failure == OfWindow:
		if w.fails++; w.fails < ownFailures {
			p.poll.stack = append(p.poll.stack, w)
		} else { // is it this window or the whole service?
			p.poll.suspect = w
		}
	case a.Failure == OfNetwork:
		if w.network++; w.network >= ownFailures && w.Span() > readable { // it may be too much to be answered in time
			p.split(w)
			break
		}
		fallthrough
	default:
		p.poll.stack = append(p.poll.stack, w)
	}
	return Outcome{Wait: wait, Reason: a.Reason}
}

// wait counts a failure, and tells how long nothing is asked.
func (p *Planner) wait(c Clock, a Answer, own bool) time.Duration {
	var wait time.Duration
	switch {
	case own:
		wait = p.backOff(p.failures.own, firstWait)
		p.failures.own++
	case a.Failure == OfOperator:
		wait = p.backOff(p.failures.others, slowWait)
		p.failures.others++
	default:
		wait = p.backOff(p.failures.others, firstWait)
		p.failures.others++
	}
	wait = max(wait, a.After)
	p.due = c.Local.Add(wait)
	return wait
}

// backOff is first, doubled tries times, at most RetryMax, less up to a fifth.
func (p *Planner) backOff(tries int, first time.Duration) time.Duration {
	d := min(p.cfg.RetryMax, first<<min(tries, mostTries))
	return d - time.Duration(float64(d)*0.2*p.cfg.Jitter())
}

// giveRoom ends the reading of a poll whose window could not be set aside: an unread range that can be read again
// makes room.
func (p *Planner) giveRoom() {
	p.poll.stack = nil
	p.phase = retrying
}
