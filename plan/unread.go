package plan

import (
	"slices"
	"strings"
	"time"

	"fluent-bit-defender/state"
)

// unreadRanges are the spans of service time that could not be read although newer ones were.
type unreadRanges struct {
	list    []state.UnreadRange // by their time; replaced as a whole, never changed in place
	retries map[Range]*retry
	todo    []Range // to ask for in this poll
	listed  bool    // todo was filled in this poll
	tried   int     // in this poll
}

// retry is what is remembered of an unread range between its retries.
type retry struct {
	fails     int
	network   int       // failures in a row that are not its own
	unlimited bool      // ask without a limit
	due       time.Time // local
}

func rangeOf(u state.UnreadRange) Range { return Range{u.Since, u.Until} }

func (us *unreadRanges) sortBy(list []state.UnreadRange) {
	slices.SortFunc(list, func(a, b state.UnreadRange) int { return a.Since.Compare(b.Since) })
	us.list = list
}

func (us *unreadRanges) retry(r Range) *retry {
	t := us.retries[r]
	if t == nil {
		t = &retry{}
		if us.retries == nil {
			us.retries = map[Range]*retry{}
		}
		us.retries[r] = t
	}
	return t
}

// replace puts parts in the place of r; none: it is read.
func (us *unreadRanges) replace(r Range, parts ...Range) {
	var list []state.UnreadRange
	for _, u := range us.list {
		if rangeOf(u) != r {
			list = append(list, u)
			continue
		}
		for _, part := range parts {
			list = append(list, state.UnreadRange{Since: part.Since, Until: part.Until, Reason: u.Reason})
		}
	}
	delete(us.retries, r)
	us.sortBy(list)
}

// incomplete begins the reason of a range that was read, but not whole.
const incomplete = "the service says that something is missing: "

// add puts r into the list. With neighbours of the same reason it becomes one range of at most most: a link that is
// refused, or a service whose answers are incomplete for days, would else leave a range for each window.
func (us *unreadRanges) add(r Range, reason string, most time.Duration) Range {
	same := func(other string) bool {
		return other == reason || strings.HasPrefix(other, incomplete) && strings.HasPrefix(reason, incomplete)
	}
	list := slices.DeleteFunc(slices.Clone(us.list), func(u state.UnreadRange) bool {
		joined := Range{earlier(r.Since, u.Since), later(r.Until, u.Until)}
		touch := !u.Since.After(r.Until) && !u.Until.Before(r.Since)
		if !touch || !same(u.Reason) || joined.Span() > most {
			return false
		}
		delete(us.retries, rangeOf(u))
		r = joined
		return true
	})
	us.sortBy(append(list, state.UnreadRange{Since: r.Since, Until: r.Until, Reason: reason}))
	return r
}

// adopt takes over the unread ranges of other filters that nobody else will ask for; there are none yet. They are
// sorted, but those of two stanzas may overlap.
func (us *unreadRanges) adopt(ranges []state.UnreadRange, watermark time.Time) {
	var list []state.UnreadRange
	for _, u := range ranges {
		n := len(list)
		switch {
		case n > 0 && u.Since.Before(list[n-1].Until):
			list[n-1].Until = later(list[n-1].Until, u.Until)
		case n == MostUnread: // a range that is too long loses nothing
			list[n-1].Until = later(list[n-1].Until, earlier(u.Until, watermark))
		case u.Since.Before(watermark):
			list = append(list, u)
		}
	}
	us.list = list
}

// setAside makes w an unread range, so that newer windows go on without it; false when there are too many.
func (p *Planner) setAside(c Clock, w *window, reason string) bool {
	if n := len(p.unread.list); n >= MostUnread {
		p.tell(Fact{Kind: UnreadFull, Window: w.Range, N: n})
		return false
	}
	kind, most := SetAside, readable
	if w.got.Failure == None {
		kind, most = Incomplete, p.cfg.MaxWindow
	}
	r := p.unread.add(w.Range, reason, most)
	p.unread.retry(r).due = c.Local.Add(p.backOff(0, time.Minute))
	p.tell(Fact{Kind: kind, Window: w.Range, Reason: reason, N: len(p.unread.list)})
	p.advance(c, w)
	return true
}

// nextUnread takes the next unread range that is due: first long ones that were not tried yet, of which a part may be
// readable, the newest first; then those that were not asked for longest, for what stays bad must not keep it from
// the others. Nil: the poll is over, after three that failed, or once the next poll is due.
func (p *Planner) nextUnread(c Clock) *window {
	us := &p.unread
	if p.once != nil {
		return us.untried()
	}
	if !us.listed {
		us.listed, us.tried = true, 0
		us.todo = us.order()
	}
	late := c.Local.Sub(p.poll.began) > p.cfg.PollInterval && us.tried >= unreadTries
	for len(us.todo) > 0 && p.poll.failed < unreadTries && !late {
		r := us.todo[0]
		us.todo = us.todo[1:]
		t := us.retry(r)
		if c.Local.Before(t.due) {
			continue
		}
		us.tried++
		t.due = c.Local // behind the others, whatever becomes of it
		return &window{Range: r, unread: true, unlimited: t.unlimited || r.Span() <= smallest}
	}
	us.listed, us.todo = false, nil
	return nil
}

// untried is an unread range that was not asked for again yet, nil: none is. One that fails is divided until each
// part was asked for.
func (us *unreadRanges) untried() *window {
	for _, u := range us.list {
		if t := us.retry(rangeOf(u)); t.fails == 0 {
			r := rangeOf(u)
			return &window{Range: r, unread: true, unlimited: t.unlimited || r.Span() <= smallest}
		}
	}
	return nil
}

func (us *unreadRanges) order() []Range {
	all := make([]Range, len(us.list))
	for i, u := range us.list {
		all[i] = rangeOf(u)
	}
	long := func(r Range) bool {
		t := us.retry(r)
		return r.Span() > readable && t.fails == 0 && t.network == 0
	}
	slices.SortStableFunc(all, func(a, b Range) int {
		switch la, lb := long(a), long(b); {
		case la && lb:
			return b.Since.Compare(a.Since)
		case la:
			return -1
		case lb:
			return 1
		}
		return us.retry(a).due.Compare(us.retry(b).due)
	})
	return all
}

// divide has the halves of an unread range asked for in its place, in this poll if now is true.
func (p *Planner) divide(w *window, now bool) {
	older, newer := w.halves()
	p.unread.replace(w.Range, older, newer)
	if now {
		p.unread.todo = append([]Range{older, newer}, p.unread.todo...)
	}
	p.tell(Fact{Kind: SplitWindow, Window: w.Range, Reason: w.got.Reason, N: w.got.Rows})
}

// retried decides what follows the answer for an unread range.
func (p *Planner) retried(c Clock, w *window, a Answer) Outcome {
	t := p.unread.retry(w.Range)
	room := len(p.unread.list) < MostUnread/2 // the other half is for new ones
	var o Outcome
	switch {
	case a.Failure == None && a.Partial == "":
		p.failures = failures{}
		p.readUnread(c, w, a)
		return Outcome{}
	case a.Failure == None:
		p.failures = failures{}
		if room && w.Span() > smallest && p.limited(w, a) {
			p.divide(w, true)
			return Outcome{}
		}
	case a.Cut && w.Span() > smallest:
		p.divide(w, true)
		return Outcome{}
	case !a.Failure.own():
		p.poll.failed = unreadTries // what fails for another reason would fail the others too
		if t.network++; a.Failure == OfNetwork && t.network >= ownFailures && w.Span() > readable && room {
			p.divide(w, false) // it may be too much to be answered in time
		}
		return Outcome{Wait: p.wait(c, a, false), Reason: a.Reason}
	case a.Failure == OfLink: // what came before the link shows that the service answers
	default:
		o = Outcome{Wait: p.wait(c, a, true), Quiet: true}
		if w.Span() > readable && room {
			p.divide(w, false) // a part of it may be readable
			p.poll.failed++
			return o
		}
	}
	t.fails++
	t.due = c.Local.Add(p.backOff(t.fails, time.Minute))
	p.poll.failed++
	return o
}

// readUnread takes the answer for an unread range that was read to its end.
func (p *Planner) readUnread(c Clock, w *window, a Answer) {
	switch p.hidden(w, a) {
	case inHalves:
		p.divide(w, true)
		return
	case unlimited:
		p.unread.retry(w.Range).unlimited = true
		p.unread.todo = append([]Range{w.Range}, p.unread.todo...)
		return
	}
	// Else late rows may still come to it, or came since a cache kept the answer: the next poll asks for it again.
	if p.once == nil && (w.Until.After(p.poll.now.Add(-p.cfg.Overlap)) || c.Disputed || a.Cached) {
		return
	}
	p.unread.replace(w.Range)
	p.tell(Fact{Kind: RangeRead, Window: w.Range, N: len(p.unread.list)})
}
