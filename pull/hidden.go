package pull

import (
	"fmt"
	"time"
)

// hiddenCap is what is suspected and known of a cap that the service puts on its answers without a word.
type hiddenCap struct {
	floor int       // fewest rows of an answer that can be suspected
	size  int       // rows at which an answer is taken for capped; 0: none known
	count int       // rows of the last answer that was not limited
	last  *piece    // its piece
	from  time.Time // last's since: hashes from there on are kept, for last may be asked again. Guarded by mu
	told  time.Time // when it was last said that rows may be hidden for good
}

// probe is shared by the two halves of a piece that may have been capped.
type probe struct {
	count int    // rows of the whole piece
	left  int    // halves to come
	fresh int    // rows of the halves that the whole did not have
	prev  *piece // the piece before it, if that had as many rows
}

// full returns the pieces that must be asked because more rows than came may hide behind got, nil if there are
// none: by the limit asked for, by a cap known, or to find out about one.
func (e *Engine) full(pc *piece, got answer) []*piece {
	// Rows that come in every answer bring halving to no end.
	alien := e.pageSize == 0 && got.rows > 0 && 2*got.alien >= got.rows && !got.salvaged
	divisible := pc.span() > floor && !alien
	if e.limited(pc, got) {
		if divisible {
			return pc.halves()
		}
		return []*piece{{since: pc.since, until: pc.until, unlimited: true, gap: pc.gap}}
	}
	suspicious := e.hidden.suspicious(got)
	if pr := pc.probe; pr != nil && (e.hidden.size == 0 || pr.count < e.hidden.size) {
		if more := e.probed(pc, pr, got); more != nil {
			return more
		}
	}
	switch size := e.hidden.size; {
	case size > 0 && got.rows > size:
		e.log.Info(fmt.Sprintf("an answer held %d rows: the service does not cap answers at %d; nothing to do", got.rows, size))
		e.hidden.size, pc.probe = 0, nil // but it may at so many as came now
	case size > 0 && (got.rows == size || got.salvaged):
		if divisible {
			return pc.halves()
		}
		if got.rows == size && e.pageSize == 0 && time.Since(e.hidden.told) > 10*time.Minute {
			e.hidden.told = time.Now()
			e.log.Error(fmt.Sprintf("the service answers with %d rows at most, and %s alone has that many: alerts may be hidden; divide them among stanzas by filters (machine_groups)", size, pc))
		}
	}
	if suspicious && pc.probe == nil && divisible { // also below a cap that is known: it may have been lowered
		pr := &probe{count: got.rows, left: 2}
		if e.hidden.count == got.rows {
			pr.prev = e.hidden.last
		}
		halves := pc.halves()
		halves[0].probe, halves[1].probe = pr, pr
		return halves
	}
	if pc.probe == nil || pc.probe.left == 0 || e.hidden.size > 0 {
		e.remember(pc, got)
	}
	return nil
}

// limited tells whether rows may be missing from got because of the limit asked for. How many rows were in bad text that was handed over
// raw is not known.
func (e *Engine) limited(pc *piece, got answer) bool {
	if e.pageSize > 0 { // a full page without a link is no proof that there is no more
		if pc.span() > floor {
			return got.next != "" || got.rows >= e.pageSize || got.salvaged
		}
		return got.salvaged && !pc.unlimited // the link may have been in the bad text: as few pages as can be
	}
	return e.cfg.Limit > 0 && !pc.unlimited && (got.rows >= e.cfg.Limit || got.salvaged)
}

// suspicious tells whether got looks capped: as many rows as the last answer, a round number of them (caps are round, and the first
// capped answer has none before it), or as many as a cap that is known or taken for one: more refute it, and may have met a larger one.
func (h *hiddenCap) suspicious(got answer) bool {
	if h.size > 0 && (got.rows >= h.size || got.salvaged) {
		return true
	}
	return got.rows >= h.floor && (got.rows == h.count || got.rows%(h.floor/2) == 0)
}

// probed looks at one half of a piece that may have been capped.
func (e *Engine) probed(pc *piece, pr *probe, got answer) []*piece {
	pr.left--
	pr.fresh += got.fresh
	if pr.fresh == 0 && got.rows != pr.count {
		return nil
	}
	e.hidden.size = pr.count
	e.log.Warn(fmt.Sprintf("the service seems to answer with %d rows at most: windows that hold as many are halved from now on; nothing to do", pr.count))
	var more []*piece
	if got.rows >= pr.count && pc.span() > floor {
		more = pc.halves()
	}
	if pr.prev != nil && pr.prev.span() > floor {
		more = append(more, pr.prev.halves()...)
		e.mu.Lock()
		e.settled, e.ahead = earlier(e.settled, pr.prev.since), nil // it is unread after all
		e.setMark()
		e.mu.Unlock()
	}
	return more
}

func (e *Engine) remember(pc *piece, got answer) {
	if pc.gap || (pc.unlimited || e.pageSize > 0) && pc.span() <= floor || got.rows < e.hidden.floor {
		pc = nil
	}
	e.hidden.count, e.hidden.last = got.rows, pc
	e.mu.Lock()
	defer e.mu.Unlock()
	e.hidden.from = time.Time{}
	if pc != nil {
		e.hidden.from = pc.since
	}
}
