package pull

import (
	"io"
	"math/rand/v2"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"fluent-bit-defender/internal/defendersim"
	planner "fluent-bit-defender/plan"
)

// Gaps whose retries meet more than the failure that made them.

// filled has h live on and looks that all came, once, and no gap is left.
func (h *history) filled(t *testing.T, d time.Duration) {
	t.Helper()
	h.liveFor(d)
	h.stop(false)
	h.lostAndTwice(t)
	if len(h.disk.gaps) > 0 {
		t.Errorf("%d unread ranges are left", len(h.disk.gaps))
	}
}

// Rows without a time fill the limited answer for an unread range: it is asked without limit.
func TestAnUnreadRangeOfRowsOutsideIsRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := sceneAt(spread(60, 0, time.Hour), func(p *life) {
			p.cfg.Limit = 20
			p.modes.UntimedNewest, p.modes.UntimedFor = true, 24*time.Hour
		}, nil)
		gen := defendersim.NewGenerator(rand.New(rand.NewPCG(99, 99)), defendersim.Mix{})
		for range 25 {
			h.svc.Add(gen.Untimed(h.began.Add(time.Minute), defendersim.TimeZero))
		}
		from := h.began.Add(20 * time.Minute)
		h.svc.FailSpan(from, from.Add(20*time.Second), h.began.Add(time.Hour), defendersim.Status(500))
		h.filled(t, 3*time.Hour)
	})
}

// How many rows are in invalid text nobody knows: the gap is halved, then asked without limit.
func TestAnUnreadRangeWithInvalidTextIsRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := sceneAt(spread(60, 0, time.Hour), func(p *life) { p.cfg.Limit = 1000 }, nil)
		for _, r := range h.svc.Ledger() {
			if at := r.LastProcessed.Sub(h.began); at > 20*time.Minute && at < 21*time.Minute {
				h.svc.Poison(r.Key(), time.Time{}, "")
			}
		}
		from := h.began.Add(20*time.Minute + 20*time.Second)
		h.svc.FailSpan(from, from.Add(20*time.Second), h.began.Add(2*time.Hour), defendersim.Status(500))
		h.liveFor(5 * time.Hour)
		h.stop(false)
		if len(h.disk.gaps) > 0 {
			t.Errorf("%d unread ranges are left", len(h.disk.gaps))
		}
	})
}

// A cache gives what the gap held when it was young, without the row that came late.
func TestACacheDoesNotCloseAnUnreadRange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := sceneAt(nil, func(p *life) { p.cfg.Overlap = 15 * time.Minute }, nil)
		at := h.began.Add(10 * time.Minute)
		a := defendersim.NewGenerator(rand.New(rand.NewPCG(99, 99)), defendersim.Mix{}).Alert(at)
		a.VisibleAt = at.Add(14 * time.Minute)
		h.svc.Add(a)
		heals := at.Add(5 * time.Minute)
		h.svc.FailSpan(at.Add(-10*time.Second), at.Add(10*time.Second), heals, defendersim.Status(500))
		kept := map[[2]time.Time]time.Time{}
		h.svc.OnRequest(func(r defendersim.Request) *defendersim.Fault {
			address := [2]time.Time{r.Query.Since, r.Query.Until}
			was, ok := kept[address]
			switch {
			case r.Kind != defendersim.KindAlerts || time.Now().Before(heals):
			case ok && time.Since(was) < 40*time.Minute:
				return &defendersim.Fault{Name: "cached", Header: http.Header{"Age": {"600"}},
					Page: func(w io.Writer) error { _, err := io.WriteString(w, "[]"); return err }}
			case time.Now().Before(a.VisibleAt): // it is empty then
				kept[address] = time.Now()
			}
			return nil
		})
		h.filled(t, 3*time.Hour)
	})
}

// Hours that can never be read leave room for the gaps of what comes.
func TestUnreadRangesForEverLeaveRoomForNewOnes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := sceneAt(spread(8*60, 0, 8*time.Hour), func(p *life) { p.cfg.InitialLookback = 72 * time.Hour },
			func(h *history) {
				h.svc.OnRequest(func(r defendersim.Request) *defendersim.Fault {
					if r.Kind == defendersim.KindAlerts && r.Query.Since.Before(h.began.Add(-12*time.Hour)) {
						return defendersim.Status(400)
					}
					return nil
				})
			})
		from := h.began.Add(6 * time.Hour)
		h.svc.FailSpan(from, from.Add(20*time.Second), h.began.Add(100*time.Hour), defendersim.Status(500))
		h.liveFor(8 * time.Hour)
		open := h.core.engine.Stats().Unread
		h.stop(false)
		if open < planner.MostUnread/2 || open > planner.MostUnread/2+20 {
			t.Errorf("%d unread ranges are open", open)
		}
		for _, r := range h.svc.Ledger() {
			if at := r.LastProcessed.Sub(h.began); (at < 5*time.Hour || at > 6*time.Hour+3*time.Minute &&
				at < 7*time.Hour+30*time.Minute) && len(h.core.arrived[r.ID]) != 1 {
				t.Fatalf("processed %s came %d times", at, len(h.core.arrived[r.ID]))
			}
		}
		if h.checkRequests(); len(h.faults) > 0 {
			t.Error(h.faults)
		}
	})
}

// A long gap of Graph, with more alerts than a page, is halved also while its answers are called incomplete.
func TestALongGapThatStaysIncompleteIsHalved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, all := graphScene(120, time.Minute, func(p *life) {
			p.cfg.Limit, p.cfg.Overlap, p.cfg.InitialLookback = 10, 2*time.Minute, 3*time.Hour
		})
		heals := h.began.Add(2*time.Hour + 6*time.Minute + 43*time.Second)
		h.svc.FailSpan(h.began.Add(10*time.Minute), h.began.Add(100*time.Minute), heals, defendersim.Status(500))
		h.svc.OnRequest(func(req defendersim.Request) *defendersim.Fault {
			if req.Kind == defendersim.KindGraph && time.Now().After(heals) &&
				req.Query.Until.Sub(req.Query.Since) > 4*time.Second {
				return defendersim.Partial(0.0001)
			}
			return nil
		})
		time.Sleep(2 * time.Hour)
		h.start()
		h.liveFor(4 * time.Hour)
		h.stop(false)
		missing := 0
		for _, a := range all {
			if len(h.core.arrived[a.Key()]) == 0 {
				missing++
			}
		}
		if missing > 1 { // what stands at the seams of windows that are never whole may wait
			t.Errorf("%d of %d alerts did not come", missing, len(all))
		}
	})
}

// More steps than are planned at once are asked for in one cycle all the same: what holds settled must not hold the
// newest.
func TestAPlanOfManyStepsReachesThePresent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := sceneAt(spread(30, -30*time.Minute, 0), func(p *life) {
			p.cfg.InitialLookback,
				p.cfg.MaxWindow = 40*time.Hour, time.Minute
		}, nil)
		h.liveFor(30 * time.Second)
		h.stop(false)
		h.lostAndTwice(t)
	})
}
