package pull

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fluent-bit-defender/internal/defendersim"
	"fluent-bit-defender/state"
)

// What the histories do not draw: spans that stay bad, a configuration that changes between two lives, a service that
// is slow, changes its mind or sends strange Dates.

// testStarved has gaps that stay bad before one that heals, which must be filled all the same.
func testStarved(t *testing.T, poll, bad time.Duration, later *defendersim.Fault) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		h := sceneAt(spread(10*60, 0, 10*time.Hour), func(p *life) { p.cfg.PollInterval = poll }, nil)
		half := h.began.Add(30 * time.Minute)
		h.svc.FailSpan(half, half.Add(bad), h.began.Add(2*time.Hour), defendersim.Status(500))
		h.svc.FailSpan(half, half.Add(bad), h.began.Add(1000*time.Hour), later)
		from := h.began.Add(3 * time.Hour)
		h.svc.FailSpan(from, from.Add(30*time.Second), h.began.Add(5*time.Hour), defendersim.Status(500))
		h.liveFor(4 * time.Hour)
		if h.core.engine.Stats().Unread < 2 {
			t.Fatal("no unread range")
		}
		h.liveFor(7 * time.Hour)
		h.stop(false)
		for _, r := range h.svc.Ledger() {
			at := r.LastProcessed.Sub(h.began)
			if at > time.Hour && at < 9*time.Hour && len(h.core.arrived[r.ID]) != 1 {
				t.Errorf("processed %s came %d times", at, len(h.core.arrived[r.ID]))
			}
		}
	})
}
func TestUnreadRangesThatStayBadDoNotStarveOthers(t *testing.T) {
	testStarved(t, 5*time.Minute, 4*time.Minute, defendersim.Status(500))
	testStarved(t, time.Minute, 16*time.Minute, defendersim.Status(500))
}
func TestAnUnreadRangeThatFailsByTheNetworkDoesNotStarveOthers(t *testing.T) {
	testStarved(t, time.Minute, 10*time.Second, defendersim.ResetEarly())
}

// A bad span of any length delays what is newer by little, and all but the bad span comes.
func TestALongBadSpanDoesNotHoldWhatIsNewer(t *testing.T) {
	for _, c := range []struct{ bad, most time.Duration }{
		{2 * time.Minute, 5 * time.Minute}, {15 * time.Minute, 12 * time.Minute}, {time.Hour, 15 * time.Minute},
	} {
		t.Run(c.bad.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := sceneAt(spread(7*60, 0, 7*time.Hour), nil, nil)
				from, to := h.began.Add(time.Hour), h.began.Add(time.Hour+c.bad)
				h.svc.FailSpan(from, to, h.began.Add(6*time.Hour), defendersim.Status(500))
				h.liveFor(5 * time.Hour)
				for _, r := range h.svc.Ledger() {
					if r.LastProcessed.After(from.Add(-2*time.Minute)) &&
						r.LastProcessed.Before(to.Add(2*time.Minute)) ||
						r.LastProcessed.After(h.began.Add(4*time.Hour)) {
						continue
					}
					came := h.core.arrived[r.ID]
					if len(came) == 0 {
						t.Fatalf("processed %s did not come", r.LastProcessed.Sub(h.began))
					}
					if late := came[0].at.Sub(r.VisibleAt); late > c.most {
						t.Fatalf("processed %s came %s late", r.LastProcessed.Sub(h.began), late)
					}
				}
				h.liveFor(3 * time.Hour)
				h.stop(false)
				if len(h.disk.gaps) > 0 {
					t.Errorf("%d unread ranges hours after all could be read", len(h.disk.gaps))
				}
				h.lostAndTwice(t)
			})
		})
	}
}

// A service that refuses what is older than a day costs that, not what is newer.
func TestARetentionLimitHoldsNothingThatIsNewer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := sceneAt(spread(36*6, -26*time.Hour, 10*time.Hour),
			func(p *life) { p.cfg.InitialLookback = 26 * time.Hour }, func(h *history) {
				h.svc.OnRequest(func(r defendersim.Request) *defendersim.Fault {
					if r.Kind == defendersim.KindAlerts && r.Query.Since.Before(r.At.Add(-24*time.Hour)) {
						return defendersim.Status(400)
					}
					return nil
				})
			})
		h.liveFor(12 * time.Hour)
		h.stop(false)
		for _, r := range h.svc.Ledger() {
			if at := r.LastProcessed.Sub(h.began); at > -23*time.Hour && len(h.core.arrived[r.ID]) != 1 {
				t.Fatalf("processed %s came %d times", at, len(h.core.arrived[r.ID]))
			}
		}
	})
}

// A window that the service cannot answer within read_timeout is halved.
func TestAWindowThatTakesTooLongIsHalved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := sceneAt(spread(12*60, -time.Hour, 11*time.Hour), func(p *life) { p.cfg.InitialLookback = time.Hour },
			func(h *history) {
				h.svc.OnRequest(func(r defendersim.Request) *defendersim.Fault {
					if r.Kind == defendersim.KindAlerts && r.Query.Until.Sub(r.Query.Since) > 30*time.Minute {
						return defendersim.Late(25 * time.Second) // read_timeout is 20 s
					}
					return nil
				})
			})
		h.liveFor(12 * time.Hour)
		h.stop(false)
		h.lostAndTwice(t)
	})
}

// The key ago comes, or a longer one, at a restart: what the life before has forgotten must not come again.
func TestAgoAddedAtARestartRepeatsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := sceneAt(spread(20*60, 0, 20*time.Hour), nil, nil)
		h.liveFor(10 * time.Hour)
		h.stop(false)
		h.cfg.Ago, h.cfg.AgoText = 6*time.Hour, "PT6H"
		h.start()
		h.liveFor(11 * time.Hour)
		h.stop(false)
		h.lostAndTwice(t)
		byAgo := 0
		for _, en := range h.svc.Journal() {
			if en.Query.Ago > 0 {
				byAgo++
			}
		}
		if byAgo < 4*60 {
			t.Errorf("%d polls by ago", byAgo)
		}
	})
}

// A longer overlap holds from the restart that brings it.
func TestALongerOverlapReachesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := sceneAt(spread(120, 0, 2*time.Hour), nil, nil)
		a := defendersim.NewGenerator(rand.New(rand.NewPCG(99, 99)),
			defendersim.Mix{}).Alert(h.began.Add(55 * time.Minute))
		a.VisibleAt = h.began.Add(63 * time.Minute)
		h.svc.Add(a)
		h.liveFor(time.Hour)
		h.stop(false)
		h.cfg.Overlap = 15 * time.Minute
		h.start()
		h.liveFor(2 * time.Hour)
		h.stop(false)
		h.lostAndTwice(t)
	})
}

// Further back than what is remembered it reaches not.
func TestAMuchLongerOverlapRepeatsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := sceneAt(spread(2*3600, time.Hour, 2*time.Hour), nil, nil)
		h.liveFor(3 * time.Hour)
		h.stop(false)
		h.cfg.Overlap = 2 * time.Hour
		h.start()
		h.liveFor(time.Hour)
		h.stop(false)
		h.lostAndTwice(t)
	})
}

// A cap that is lowered is found like one that is new.
func TestACapThatIsLoweredIsFound(t *testing.T) {
	for _, lower := range []int{30, 20} {
		t.Run(fmt.Sprint(lower), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				times := append(spread(60, -39*time.Minute, -31*time.Minute), spread(60, -29*time.Minute,
					-21*time.Minute)...)
				times = append(times, spread(60, 65*time.Minute, 66*time.Minute)...)
				h := sceneAt(times, func(p *life) {
					p.modes.Cap = 40
					p.cfg.InitialLookback = 40 * time.Minute
					p.cfg.MaxWindow = 10 * time.Minute
					p.cfg.Overlap = 5 * time.Minute // five polls meet the burst
				}, nil)
				h.liveFor(time.Hour)
				h.svc.SetModes(func(m *defendersim.Modes) { m.Cap = lower })
				h.liveFor(time.Hour)
				h.stop(false)
				h.lostAndTwice(t)
			})
		})
	}
}

// Rows without a time fill each answer up to its limit, or look like a cap: halving would have no end.
func TestRowsOutsideTheirWindowCostFewRequests(t *testing.T) {
	testOutside(t, 20)
	testOutside(t, 0)
}
func testOutside(t *testing.T, limit int) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		h := sceneAt(spread(60, 0, time.Hour), func(p *life) {
			p.cfg.Limit, p.cfg.Overlap = limit, 15*time.Minute
			p.modes.UntimedNewest, p.modes.UntimedFor = true, 2*time.Hour
		}, nil)
		gen := defendersim.NewGenerator(rand.New(rand.NewPCG(99, 99)), defendersim.Mix{})
		for range 25 {
			h.svc.Add(gen.Untimed(h.began.Add(time.Minute), defendersim.TimeZero))
		}
		h.liveFor(3 * time.Hour)
		h.stop(false)
		if n := h.svc.Stats().Alerts; n > 180*8 {
			t.Errorf("%d requests in three hours", n)
		}
		h.lostAndTwice(t)
	})
}

// Two wrong Dates in a row are believed. When the right ones come back nothing is asked for again that was settled
// before.
func TestAJumpOfTheClockThatIsTakenBack(t *testing.T) {
	for _, by := range []time.Duration{30 * 24 * time.Hour, 100 * 365 * 24 * time.Hour} {
		t.Run(by.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := sceneAt(spread(30*24, -30*24*time.Hour, 0),
					func(p *life) { p.cfg.InitialLookback = 2 * time.Hour }, nil)
				h.liveFor(10 * time.Minute)
				had, before := len(h.core.arrived), h.svc.Stats().Alerts
				n := 0
				h.svc.OnRequest(func(defendersim.Request) *defendersim.Fault {
					n++
					off := time.Duration(0)
					if n <= 2 {
						off = by
					}
					h.svc.SetModes(func(m *defendersim.Modes) { m.DateOffset = off })
					return nil
				})
				h.liveFor(15 * time.Minute)
				h.stop(false)
				if !strings.Contains(h.log.String(), "clock went back") {
					t.Fatal("the wrong Dates were not believed: nothing is tested")
				}
				if more := len(h.core.arrived) - had; more > 0 {
					t.Errorf("%d alerts older than initial_lookback came", more)
				}
				if requests := h.svc.Stats().Alerts - before; requests > 30 {
					t.Errorf("%d requests in 15 minutes", requests)
				}
			})
		})
	}
}

// A leap that was believed for some answers: what came meanwhile is neither lost nor repeated.
func TestAJumpOfSomeAnswersLosesAndRepeatsNothing(t *testing.T) {
	for _, wrong := range []int{2, 3, 6, 10} {
		t.Run(fmt.Sprint(wrong), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := sceneAt(spread(600, -2*time.Hour, 3*time.Hour), func(p *life) {
					p.cfg.InitialLookback,
						p.cfg.Overlap = 2*time.Hour, 15*time.Minute
				}, nil)
				h.liveFor(30 * time.Minute)
				n := 0
				h.svc.OnRequest(func(defendersim.Request) *defendersim.Fault {
					n++
					off := time.Duration(0)
					if n <= wrong {
						off = 30 * 24 * time.Hour
					}
					h.svc.SetModes(func(m *defendersim.Modes) { m.DateOffset = off })
					return nil
				})
				h.liveFor(3 * time.Hour)
				h.stop(false)
				if !strings.Contains(h.log.String(), "clock went back") {
					t.Error("the wrong Dates were not believed: nothing is tested")
				}
				h.lostAndTwice(t)
			})
		})
	}
}

// A cache on the way answers polls by ago, whose address is always the same, with what it has.
func TestACacheDoesNotHideAlerts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := sceneAt(spread(110, time.Minute, 110*time.Minute), func(p *life) {
			p.cfg.Ago,
				p.cfg.AgoText = 10*time.Minute, "PT10M"
		}, func(h *history) {
			var kept time.Time
			h.svc.OnRequest(func(r defendersim.Request) *defendersim.Fault {
				if r.Kind != defendersim.KindAlerts || r.Query.Ago == 0 {
					return nil
				}
				if kept.IsZero() {
					kept = time.Now()
					return nil // it is empty: no alert yet
				}
				if time.Since(kept) < 40*time.Minute {
					return &defendersim.Fault{Name: "cached", Header: http.Header{"Age": {"600"}},
						Page: func(w io.Writer) error { _, err := io.WriteString(w, "[]"); return err }}
				}
				return nil
			})
		})
		h.liveFor(2 * time.Hour)
		h.stop(false)
		h.lostAndTwice(t)
	})
}

// Who changes the filters of a stanza takes over its gaps: nobody else would ask for them.
func TestOtherFiltersTakeOverUnreadRanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := sceneAt(append(spread(90, -3*time.Hour, -90*time.Minute), spread(60, -20*time.Minute, 40*time.Minute)...),
			nil, func(h *history) {
				h.disk.neighbour = h.began.Add(-20 * time.Minute)
				gap := func(since, until time.Duration) state.UnreadRange {
					return state.UnreadRange{Since: h.began.Add(since), Until: h.began.Add(until)}
				}
				h.disk.neighbourGaps = []state.UnreadRange{gap(-3*time.Hour, -2*time.Hour),
					gap(-150*time.Minute, -90*time.Minute), gap(-15*time.Minute, -14*time.Minute)}
			})
		h.liveFor(time.Hour)
		h.stop(false)
		h.lostAndTwice(t)
		if len(h.disk.gaps) > 0 {
			t.Errorf("gaps: %v", h.disk.gaps)
		}
	})
}
