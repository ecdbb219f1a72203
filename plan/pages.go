package plan

import "fmt"

const (
	mostPages  = 1000 // of one pass
	mostPasses = 10   // over the pages of one window, each of which brought new rows
	mostEmpty  = 20   // empty pages in a row, which Graph's pages may be in the midst of others
	pageTries  = 4    // of one page, as long as the failures are not its own
)

// paging is how far the pages of a window are read. An answer of more than one page is better split, because rows
// that leave the filter meanwhile shift those behind them from page to page. Pages are read where the window is too
// short to be split, and where the first is not full (those behind it are empty then, as a rule), in passes until one
// brings no new row (issue 7).
type paging struct {
	link  string // of the page that is asked for; empty: the first of a pass
	pass  int    // from 1 on
	pages int    // of this pass, behind the first
	empty int    // of them, in a row
	tries int    // of this page that failed
	fresh int    // new rows before this pass
}

// join adds the answer of a page to what came before it.
func (w *window) join(a Answer) {
	g := &w.got
	g.Rows, g.Fresh, g.Outside = g.Rows+a.Rows, g.Fresh+a.Fresh, g.Outside+a.Outside
	g.Failure, g.Reason, g.After, g.Cut, g.Next = a.Failure, a.Reason, a.After, a.Cut, a.Next
	g.Resynced = g.Resynced || a.Resynced
	g.Cached = g.Cached || a.Cached
	if a.Partial != "" {
		g.Partial = a.Partial
	}
}

// page takes the answer to one request for w. It tells whether another follows before w.got is all that there is.
func (p *Planner) page(c Clock, w *window, a Answer) (o Outcome, more bool) {
	g := w.paging
	if g == nil {
		w.got = Answer{}
	}
	if g != nil && g.link == "" && g.pass > 1 {
		w.got.Rows = 0
	}
	w.join(a)
	switch {
	case g == nil:
		if a.Failure != None || a.Next == "" || w.Span() > smallest && a.Rows >= p.cfg.PageSize {
			return Outcome{}, false
		}
		w.paging = &paging{pass: 1}
		if !w.unlimited && p.cfg.Limit > 0 && w.Span() <= smallest {
			w.unlimited = true // as few pages as can be
			return Outcome{}, true
		}
		w.paging.link = a.Next
		return Outcome{}, true
	case g.link == "":
		if a.Failure != None {
			w.paging = nil
			return Outcome{}, false
		}
		g.link, g.pages, g.empty, g.tries = a.Next, 0, 0, 0
	default:
		if a.Failure != None && !a.Failure.own() && g.tries < pageTries-1 && !a.Cut {
			g.tries++ // a pass that begins anew for each failure may never come to its end
			return Outcome{Wait: p.wait(c, a, false), Reason: a.Reason}, true
		}
		if done := p.pageEnded(w, a); done {
			w.paging = nil
			return Outcome{}, false
		}
	}
	if g.link != "" {
		return Outcome{}, true
	}
	if w.got.Fresh == g.fresh && g.pass > 1 {
		w.paging = nil
		return Outcome{}, false
	}
	if g.pass == mostPasses {
		w.refuse(OfWindow, fmt.Sprintf("each of %d passes over the pages of %s brought new alerts; if it lasts, "+
			"divide the alerts among stanzas by filter",
			g.pass, w.Range))
		w.paging = nil
		return Outcome{}, false
	}
	*g = paging{pass: g.pass + 1, fresh: w.got.Fresh}
	return Outcome{}, true
}

// pageEnded takes the answer of a page behind the first, and tells whether no other is read: w.got says why.
func (p *Planner) pageEnded(w *window, a Answer) (done bool) {
	g := w.paging
	link := g.link
	g.pages, g.tries, g.link = g.pages+1, 0, a.Next
	if g.empty++; a.Rows > 0 {
		g.empty = 0
	}
	switch {
	case a.Failure != None:
		return true
	case a.Next == link && a.Rows == 0:
		g.link, w.got.Next = "", "" // an empty page that leads to itself is the end
	case a.Next == link:
		w.refuse(OfWindow, "the link to the next page leads to its own page; if it lasts, report it to Microsoft")
		return true
	case a.Rows > 0 && w.Span() > smallest:
		w.got.Next = link
		return true // it is split
	case a.Next != "" && (g.pages >= mostPages || g.empty >= mostEmpty):
		w.refuse(OfWindow, fmt.Sprintf("the answer has more than %d pages, %d of them empty; if it lasts, divide the "+
			"alerts among stanzas by filter, "+
			"and report it to Microsoft", g.pages, g.empty))
		return true
	}
	return false
}

// refuse makes a failure of an answer that came whole.
func (w *window) refuse(f Failure, reason string) {
	w.got.Failure, w.got.Reason = f, "alerts request: "+reason
}
