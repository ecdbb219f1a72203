package plan

import "time"

// serviceClock is what the planner remembers of the service's clock between polls.
type serviceClock struct {
	latest   time.Time // service time at which the last poll began
	latestAt time.Time // the same, local
	jump     clockJump
}

// begin starts a poll at the service's time: it finds the watermark at the first, and takes it back when the
// service's clock went back.
func (p *Planner) begin(c Clock) {
	// Cut to the service's resolution, so that it is never in its future.
	now := c.Service.UTC().Truncate(100 * time.Nanosecond)
	p.phase = reading
	p.poll.now = now
	first := p.clock.latest.IsZero()
	if p.once != nil {
		p.beginOnce(now, first)
	} else {
		if first {
			p.beginLife(c, now)
		}
		p.heedClock(c, now, first)
	}
	p.clock.latest, p.clock.latestAt = now, c.Local
	p.poll.planned = p.watermark
	p.planAgo()
}

// beginOnce limits the poll to the one range that is read. A bound that the service truncates hides nothing.
func (p *Planner) beginOnce(now time.Time, first bool) {
	if first && !p.start.Found {
		p.watermark = p.once.Since
	}
	p.poll.now = earlier(p.once.Until.Add(Edge), now)
}

// beginLife finds the watermark that a life begins with.
func (p *Planner) beginLife(c Clock, now time.Time) {
	if p.start.Found {
		p.reach = p.watermark.Add(-KeepMargin)
		return
	}
	// Counted from the start, not from when the first token came.
	p.watermark = now.Add(-c.Local.Sub(p.born) - p.cfg.Lookback)
	if n := p.start.Neighbour; !n.IsZero() {
		p.tell(Fact{Kind: OtherFilters, To: n})
		p.watermark = earlier(p.watermark, n)
		p.unread.adopt(p.start.NeighbourUnread, p.watermark)
	}
}

// heedClock takes the watermark back when the clock went back. As soon as that is believed, every watermark since the
// clock was ahead is too late by as much.
func (p *Planner) heedClock(c Clock, now time.Time, first bool) {
	newest := now.Add(-p.cfg.Overlap)
	back := time.Duration(0)
	switch {
	case first && p.watermark.After(now):
		back = p.watermark.Sub(newest)
	case first && p.start.Found && p.watermark.After(newest): // the overlap is longer now
		p.watermark = later(newest, p.reach.Add(2*Edge)) // a request begins an edge earlier
	case !first:
		back = p.clock.latest.Add(c.Local.Sub(p.clock.latestAt)).Sub(now)
		if back < -farJump {
			p.clock.jump.ahead(-back, p.watermark, c.Local)
		}
	}
	if back <= Edge {
		return
	}
	p.watermark = earlier(newest, p.clock.jump.back(back, p.watermark, c.Local))
	if back > 5*Edge {
		p.tell(Fact{Kind: ClockBack, By: back, To: p.watermark})
	}
}

// farJump is the least jump that is remembered: one that is shorter may be taken back within what is known of each
// row anyway.
const farJump = 10 * time.Minute

// clockJump remembers for a day that the service's clock jumped far ahead. When that is taken back, because it was
// wrong, all since then is asked again, but nothing that was read before the jump: its ids are forgotten, and a month
// of alerts would come twice.
type clockJump struct {
	by        time.Duration // 0: it was taken back
	watermark time.Time     // before the first of a day
	at        time.Time     // local
}

func (j *clockJump) fresh(local time.Time) bool {
	return !j.at.IsZero() && local.Sub(j.at) < 24*time.Hour
}

// ahead notes a jump.
func (j *clockJump) ahead(by time.Duration, watermark, local time.Time) {
	if !j.fresh(local) {
		*j = clockJump{watermark: watermark, at: local}
	}
	j.by += by
}

// back is what the watermark becomes when the clock goes back by so much.
func (j *clockJump) back(by time.Duration, watermark, local time.Time) time.Time {
	to := watermark.Add(-by)
	if !j.fresh(local) || j.by == 0 || by > j.by+5*Edge {
		return to
	}
	if by >= j.by-5*Edge { // all of it
		j.by = 0
		return j.watermark
	}
	return later(to, j.watermark)
}
