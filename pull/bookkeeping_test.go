package pull

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fluent-bit-defender/conf"
	"fluent-bit-defender/internal/defendersim"
	"fluent-bit-defender/ledger"
)

func sceneAt(times []time.Duration, change func(*life), prep func(*history)) *history {
	p := life{seed: 7, span: time.Hour, cfg: conf.Config{
		Windows: conf.Windows{
			PollInterval: time.Minute, Overlap: 2 * time.Minute, MaxWindow: time.Hour,
			InitialLookback: 10 * time.Minute,
		},
		Network: conf.Network{
			RetryMax: 5 * time.Minute, ConnectTimeout: 10 * time.Second, ReadTimeout: 20 * time.Second,
		},
		Memory: conf.Memory{BatchSize: 1 << 20, QueueLimit: 8 << 20, MaxAlertSize: 1 << 20},
	}}
	if change != nil {
		change(&p)
	}
	h := newHistory(p)
	gen := defendersim.NewGenerator(rand.New(rand.NewPCG(1, 1)), defendersim.Mix{})
	for _, at := range times {
		h.svc.Add(gen.Alert(h.began.Add(at)))
	}
	if prep != nil {
		prep(h)
	}
	h.start()
	return h
}

func spread(n int, from, to time.Duration) (out []time.Duration) {
	for i := range n {
		out = append(out, from+(to-from)*time.Duration(2*i+1)/time.Duration(2*n))
	}
	return
}

func (h *history) lostAndTwice(t *testing.T) {
	t.Helper()
	lost, twice := 0, 0
	for _, r := range h.svc.Ledger() {
		switch n := len(h.core.arrived[r.ID]); {
		case n == 0:
			lost++
			if lost < 4 {
				t.Logf("lost: processed %s", r.LastProcessed.Sub(h.began))
			}
		case n > 1:
			twice++
		}
	}
	if lost+twice > 0 {
		t.Errorf("%d rows lost, %d rows twice of %d", lost, twice, len(h.svc.Ledger()))
	}
}

// A large window before the polls by ago must not keep its ids for ever.
func TestAgoPrunesAfterABacklog(t *testing.T) {
	for _, first := range []int{5, 27} {
		synctest.Test(t, func(t *testing.T) {
			times := append(spread(first, -9*time.Minute, -time.Minute), spread(24*60, 0, 24*time.Hour)...)
			h := sceneAt(times, func(p *life) { p.cfg.Ago, p.cfg.AgoText = 10*time.Minute, "PT10M" }, nil)
			h.liveFor(24 * time.Hour)
			if n := h.core.engine.Stats().IDs; n > 200 {
				t.Errorf("%d hashes held, one row a minute", n)
			}
			h.stop(false)
		})
	}
}

// Nor may a cap of the service.
func TestACapDoesNotStopThePruning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		times := append(spread(27, -39*time.Minute, -31*time.Minute), spread(60, -29*time.Minute, -21*time.Minute)...)
		times = append(times, spread(24*60, 0, 24*time.Hour)...)
		h := sceneAt(times, func(p *life) {
			p.modes.Cap = 30
			p.cfg.InitialLookback = 40 * time.Minute
			p.cfg.MaxWindow = 10 * time.Minute
		}, nil)
		h.liveFor(24 * time.Hour)
		if n := h.core.engine.Stats().IDs; n > 200 {
			t.Errorf("%d hashes held, one row a minute", n)
		}
		h.stop(false)
	})
}

// A cap that is a round number is found at once, by ago as by windows.
func TestAgoFindsAHiddenCap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		times := append(spread(2, -1*time.Minute, 0), spread(80, 5*time.Minute+10*time.Second, 5*time.Minute+
			40*time.Second)...)
		h := sceneAt(times, func(p *life) { p.cfg.Ago, p.cfg.AgoText = 15*time.Minute, "PT15M"; p.modes.Cap = 30 }, nil)
		h.liveFor(time.Hour)
		h.stop(false)
		h.lostAndTwice(t)
	})
}
func TestWindowsFindAHiddenCap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		times := append(spread(2, -1*time.Minute, 0), spread(80, 5*time.Minute+10*time.Second, 5*time.Minute+
			40*time.Second)...)
		h := sceneAt(times, func(p *life) { p.modes.Cap = 30 }, nil)
		h.liveFor(time.Hour)
		h.stop(false)
		h.lostAndTwice(t)
	})
}

// By ago too, where the answer before had fewer rows.
func TestAgoHeedsACap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		times := append(spread(40, -39*time.Minute, -31*time.Minute), spread(40, -29*time.Minute, -21*time.Minute)...)
		times = append(times, spread(60, 5*time.Minute+10*time.Second, 5*time.Minute+40*time.Second)...)
		h := sceneAt(times, func(p *life) {
			p.modes.Cap = 30
			p.cfg.InitialLookback = 40 * time.Minute
			p.cfg.MaxWindow = 10 * time.Minute
			p.cfg.PollInterval = 10 * time.Minute // one answer holds the burst, which has left the overlap by then
			p.cfg.Ago, p.cfg.AgoText = 15*time.Minute, "PT15M"
		}, nil)
		h.liveFor(time.Hour)
		h.stop(false)
		h.lostAndTwice(t)
	})
}

// A gap that was filled is stored as open until its last row is durable: its hashes must stay as long.
func TestAReadRangeDoesNotComeAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		times := append(spread(60, 0, 6*time.Hour), spread(303, time.Hour+5*time.Second, time.Hour+6*time.Second)...)
		h := sceneAt(times, func(p *life) {
			p.cfg.BatchSize, p.cfg.MaxAlertSize, p.cfg.QueueLimit, p.floor = 16384, 16384, 1<<20, capFloor
		}, nil)
		h.svc.FailSpan(h.began.Add(time.Hour+5*time.Second), h.began.Add(time.Hour+6*time.Second),
			h.began.Add(4*time.Hour), defendersim.Status(500))
		h.liveFor(4 * time.Hour)
		if h.core.engine.Stats().Unread == 0 {
			t.Fatal("no unread range")
		}
		for h.core.engine.Stats().Queued < 100_000 {
			h.liveFor(time.Second)
		}
		h.liveFor(8 * time.Second)
		h.stop(false)
		if len(h.disk.gaps) == 0 {
			t.Fatal("the gap was closed on disk before the stop: nothing is tested")
		}
		h.start()
		h.liveFor(3 * time.Hour)
		h.stop(false)
		h.lostAndTwice(t)
	})
}

// A raw row has no time by which it could be told whether it lies in an unread range: it must stay known as long as
// the gap is open.
func TestARawRowOfAnUnreadRangeComesOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var rows []defendersim.Row
		h := sceneAt(append(spread(2000, -10*time.Minute, 6*time.Hour), -5*time.Minute), nil, func(h *history) {
			at := h.began.Add(-5 * time.Minute)
			h.svc.OnRequest(func(r defendersim.Request) *defendersim.Fault {
				switch passed := time.Since(h.began); {
				case r.Kind != defendersim.KindAlerts || !r.Query.Since.Before(at) || !r.Query.Until.After(at) ||
					passed > 4*time.Hour:
					return nil
				case passed < 10*time.Minute:
					return defendersim.NeverClosed() // the row is delivered, the span is not done
				}
				return defendersim.Status(500) // it does not come again, by which it would stay known
			})
			rows = h.svc.Ledger()
			bad := slices.IndexFunc(rows, func(r defendersim.Row) bool { return r.LastProcessed.Equal(at) })
			h.svc.Poison(rows[bad].ID, time.Time{}, "")
		})
		h.liveFor(3 * time.Hour)
		if h.core.engine.Stats().Unread == 0 {
			t.Fatal("no unread range")
		}
		h.liveFor(4 * time.Hour)
		h.stop(false)
		if len(h.disk.gaps) > 0 {
			t.Fatalf("gaps: %v", h.disk.gaps)
		}
		raws := 0
		for key, came := range h.core.arrived {
			if strings.HasPrefix(key, "raw|") {
				if raws++; len(came) != 1 {
					t.Errorf("a raw row came %d times", len(came))
				}
			}
		}
		if raws != 1 || len(h.core.arrived) != len(rows) {
			t.Errorf("%d rows came, %d of them raw, of %d", len(h.core.arrived), raws, len(rows))
		}
	})
}

// What could not be committed for days is no more than what is held.
func TestAFullDiskDoesNotFillMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := sceneAt(spread(48*60, 0, 48*time.Hour), func(p *life) { p.maxIDs = 200 }, func(h *history) {
			h.disk.faulty = func() error { return errors.New("no space left on device") }
		})
		h.liveFor(48 * time.Hour)
		last, _ := h.source.ledger.Last(func(ledger.Delivered) bool { return true })
		added, dropped := len(last.Add), len(last.Drop)
		h.stop(false)
		if added > 200 || dropped > 200 || dropped == 0 {
			t.Errorf("after 48 h %d are to be added, %d to be dropped", added, dropped)
		}
	})
}

// A core that stops empties no ring any more: what it was given just before comes again, what it was given earlier
// does not.
func TestWhatALeavingCoreWasGivenLastComesAgain(t *testing.T) {
	for _, before := range []time.Duration{0, 400 * time.Millisecond, 600 * time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			h := sceneAt(spread(10, -5*time.Minute, -time.Minute), nil, nil)
			h.core.live(900 * time.Millisecond)
			h.core.live(900 * time.Millisecond)
			h.core.take()
			if len(h.core.ring) == 0 {
				t.Fatal("nothing was delivered")
			}
			h.core.pause()
			h.core.engine.Pause()
			time.Sleep(before)
			h.core.engine.Leave()
			time.Sleep(time.Second) // another instance exits first
			if err := h.core.engine.Stop(t.Context()); err != nil {
				t.Fatal(err)
			}
			if committed := len(h.disk.seen) == 10; committed != (before > ringTime) {
				t.Errorf("%d rows were committed, delivered %s before", len(h.disk.seen), before)
			}
		})
	}
}

// A source that is being removed when the core begins to end, as one that moves to another pod is, loses no more of
// what is durable than one that is stopped.
func TestARemovalThatTheExitCutsShortRepeatsNothing(t *testing.T) {
	for _, before := range []time.Duration{0, 600 * time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			h := sceneAt(spread(10, -5*time.Minute, -time.Minute), nil, nil)
			h.core.live(900 * time.Millisecond)
			h.core.live(900 * time.Millisecond)
			h.core.take()
			if len(h.core.ring) == 0 {
				t.Fatal("nothing was delivered")
			}
			ctx, cancel := context.WithCancel(t.Context())
			removed := make(chan error)
			go func() { removed <- h.core.engine.Remove(ctx, h.source.key) }()
			h.core.pause()
			h.core.engine.Pause()
			time.Sleep(before)
			h.core.engine.Leave()
			cancel()
			if err := <-removed; !errors.Is(err, context.Canceled) {
				t.Errorf("the removal ended with %v", err)
			}
			if err := h.core.engine.Stop(t.Context()); err != nil {
				t.Fatal(err)
			}
			if committed := len(h.disk.seen) == 10; committed != (before > ringTime) {
				t.Errorf("%d rows were committed, delivered %s before", len(h.disk.seen), before)
			}
		})
	}
}

// A commit that fails while a source is removed must not end the wait until what was delivered is durable: the next
// who pulls the source would deliver that again.
func TestARemovedSourceIsStoredWholeAlsoAfterAFailedCommit(t *testing.T) {
	for name, pause := range map[string]time.Duration{"at once": 0, "after a pause of Fluent Bit": 12 * time.Second} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := scene(600, 10*time.Minute, func(p *life) { p.cfg.PollInterval = time.Second })
				h.core.live(500 * time.Millisecond) // between two commits
				h.liveFor(5 * time.Minute)
				if pause > 0 {
					h.core.pause()
					time.AfterFunc(pause, h.core.resume)
				}
				failed, from := 0, time.Now().Add(pause)
				h.store.faulty = func() error {
					if !time.Now().Before(from) && failed < 5 {
						failed++
						return errors.New("500")
					}
					return nil
				}
				if err := h.core.engine.Remove(t.Context(), h.source.key); err != nil {
					t.Error(err)
				}
				h.core.drain(true)
				if failed == 0 {
					t.Error("no commit failed")
				}
				stored := len(h.disk.seen)
				if came := len(h.core.arrived); stored != came || came < 250 {
					t.Errorf("%d alerts were delivered, %d are stored", came, stored)
				}
				h.stop(false)
			})
		})
	}
}
