package share

import (
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"fluent-bit-defender/state"
)

// looks plays a pod's looks at the Lease of another, which renews it every two seconds while renews says so. It
// returns the second in which the pod finds it stale; -1: never in a minute.
func looks(t *testing.T, every time.Duration, renews, answers func(second int) bool) int {
	t.Helper()
	w := newWorkers(15 * time.Second)
	l := Lease{Slot: 0, Holder: "other", Renewed: begin}
	for s := range 60 {
		now := begin.Add(time.Duration(s) * time.Second)
		if s%2 == 0 && renews(s) {
			l.Renewed = now.Add(-time.Hour) // its clock is behind, which must not matter
		}
		if now.Sub(begin)%every != 0 {
			continue
		}
		if !answers(s) {
			w.failed(now)
			continue
		}
		w.observe(now, now, now, []Lease{l})
		if v := w.judge("other"); v.Dead != (len(w.free(1, "me")) == 1) || v.Dead == (len(w.live()) == 1) {
			t.Fatalf("second %d: judged %v, but of %d free and %d live", s, v, len(w.free(1, "me")), len(w.live()))
		}
		if len(w.live()) == 0 {
			return s
		}
	}
	return -1
}

func TestAWorkerIsDeadWhenItWasSeenSilent(t *testing.T) {
	always := func(int) bool { return true }
	until := func(n int) func(int) bool { return func(s int) bool { return s < n } }
	between := func(a, b int) func(int) bool { return func(s int) bool { return s < a || s >= b } }
	for name, test := range map[string]struct {
		every           time.Duration
		renews, answers func(int) bool
		want            int
	}{
		"renews":   {2 * time.Second, always, always, -1},
		"stops":    {2 * time.Second, until(10), always, 24}, // its last renewal was seen at 8
		"was slow": {2 * time.Second, between(10, 22), always, -1},
		"API server gone for 20 s, renews a bit later": {2 * time.Second, between(10, 34), between(10, 30), -1},
		"API server gone for 20 s, and it with it":     {2 * time.Second, until(10), between(10, 30), 40},
		"stand-by that looks seldom":                   {30 * time.Second, between(10, 34), always, -1},
	} {
		if got := looks(t, test.every, test.renews, test.answers); got != test.want {
			t.Errorf("%s: stale in second %d, want %d", name, got, test.want)
		}
	}
}

func TestTheOwnerOfASourceMayHaveNoLeaseAnyMore(t *testing.T) {
	w := newWorkers(15 * time.Second)
	var renewed time.Time
	for s := 0; s < 40; s += 2 {
		now := begin.Add(time.Duration(s) * time.Second)
		l := Lease{Slot: 0, Holder: "gone", Renewed: now}
		if s >= 10 {
			l.Holder = "next"
		} else {
			renewed = now
		}
		w.observe(now, now, now, []Lease{l})
		if v := w.judge("gone"); v.Dead != (s >= 8+15) || s >= 10 && !v.Renewed.Equal(renewed) {
			t.Errorf("second %d: whose Lease another has is %v", s, v)
		}
		if v := w.judge("never seen"); v.Dead != (s >= 15) || !v.Renewed.IsZero() {
			t.Errorf("second %d: who was never seen is %v", s, v)
		}
	}
}

func TestAProcessCanHaveItsOwnLeaseAgain(t *testing.T) {
	w := newWorkers(15 * time.Second)
	w.observe(begin, begin, begin, []Lease{{Slot: 0, Holder: "other", Renewed: begin},
		{Slot: 1, Holder: "me", Renewed: begin},
		{Slot: 3, Holder: ""}})
	var slots []int
	for _, l := range w.free(5, "me") {
		slots = append(slots, l.Slot)
	}
	if want := []int{1, 2, 3, 4}; !slices.Equal(slots, want) {
		t.Errorf("free are %v, want %v", slots, want)
	}
}

func liveOf(n int, sources []Hash) (out []sighting) {
	for slot := range n {
		s := sighting{Lease: Lease{Slot: slot, Holder: fmt.Sprint("pod-", slot)}, has: map[Hash]bool{}}
		for _, h := range sources {
			s.has[h] = true
		}
		out = append(out, s)
	}
	return out
}

func hashes(n int) (out []Hash) {
	for i := range n {
		k := key
		k.Tenant = fmt.Sprint("tenant ", i)
		out = append(out, HashOf(k))
	}
	return out
}

func TestSourcesAreSpreadAndStay(t *testing.T) {
	sources := hashes(3000)
	counts := map[string]int{}
	moved := 0
	by3, by4 := spread(liveOf(3, sources)), spread(liveOf(4, sources))
	for _, h := range sources {
		of3 := by3[h]
		counts[of3]++
		if of4 := by4[h]; of4 != of3 {
			moved++
			if of4 != "pod-3" {
				t.Fatalf("%s moved from %s to %s, though neither is new", h, of3, of4)
			}
		}
	}
	for pod, n := range counts {
		if n < 900 || n > 1100 {
			t.Errorf("%s has %d of 3000 sources", pod, n)
		}
	}
	if moved < 650 || moved > 850 {
		t.Errorf("%d of 3000 sources move to a fourth worker", moved)
	}
	live := liveOf(3, sources[1:])
	live[1].has[sources[0]] = true
	if got := spread(live)[sources[0]]; got != "pod-1" {
		t.Errorf("a source that only pod-1 has belongs to %q", got)
	}
	if got := spread(live)["another"]; got != "" {
		t.Errorf("a source that no pod has belongs to %q", got)
	}
}

func TestFewSourcesAreSpreadToo(t *testing.T) {
	for n := 3; n < 200; n++ {
		counts := map[string]int{"pod-0": 0, "pod-1": 0, "pod-2": 0}
		for _, pod := range spread(liveOf(3, hashes(n))) {
			counts[pod]++
		}
		for pod, c := range counts {
			if most := (6*n + 14) / 15; c > most {
				t.Errorf("of %d sources %s has %d, more than %d", n, pod, c, most)
			}
		}
	}
}

func TestOwnership(t *testing.T) {
	sources := hashes(1)
	h := sources[0]
	mine, others := liveOf(1, sources), liveOf(1, sources)
	mine[0].Holder = "me"
	o := newOwnership("me")
	o.configure(sources)
	now := begin
	want := func(after time.Duration, r role, live []sighting, want ...kind) {
		t.Helper()
		now = now.Add(after)
		var got []kind
		for _, a := range o.decide(now, r, live) {
			got = append(got, a.kind)
		}
		if !slices.Equal(got, want) {
			t.Fatalf("decided on %v, want %v", got, want)
		}
	}
	want(0, standingBy, mine) // the Lease is gone meanwhile
	want(0, working, others)
	want(0, working, mine, take)
	want(0, working, mine) // under way
	o.notTaken(h, now, anothers)
	want(time.Second, working, mine) // its owner gives it back soon
	want(time.Second, working, mine, take)
	o.notTaken(h, now, unknown) // perhaps it is ours
	want(time.Second, working, mine)
	want(time.Second, working, mine, release)
	o.given(h, now, false)
	want(0, working, mine, take)
	o.taken(h)
	want(0, suspended, nil)
	want(0, suspended, others)
	want(0, working, nil) // no Lease says that anyone has it
	want(0, working, others, give)
	o.given(h, now, true)
	want(0, working, others)
	want(2*time.Second, standingBy, others, release)
	o.given(h, now, true)
	want(2*time.Second, working, mine) // the second time it waits longer
	want(2*time.Second, working, mine, release)
	o.given(h, now, false)
	want(0, working, mine, take)
	o.taken(h)
	o.lost(h)
	want(0, working, mine, give)
	o.given(h, now, false)
	want(0, working, mine)
	want(2*time.Second, working, mine, take)
	o.taken(h)
	want(0, standingBy, mine, give)
	o.given(h, now, false)
	want(0, working, mine, take)
	o.notTaken(h, now, unusable)
	want(59*time.Second, working, mine)
	want(time.Second, working, mine, take)
	o.taken(h)
	o.configure(nil)
	want(0, working, mine, give)
	if o.held() != 1 {
		t.Errorf("while it is given back %d are held", o.held())
	}
	o.given(h, now, false)
	want(0, working, mine)
	if len(o.sources) != 0 || o.held() != 0 {
		t.Errorf("%d sources are left", len(o.sources))
	}
}

func TestASourceThatNoWorkerHasIsTold(t *testing.T) {
	sources := hashes(2)
	o := newOwnership("me")
	o.configure(sources)
	for _, step := range []struct {
		second int
		live   []sighting
		want   int
	}{
		{0, nil, 0}, {100, nil, 0}, // no worker at all is another matter
		{101, liveOf(1, sources[:1]), 0}, {160, liveOf(2, sources[:1]), 0}, {161, liveOf(2, sources[:1]), 1},
		{162, liveOf(2, sources), 0}, {163, liveOf(2, sources[:1]), 0},
	} {
		now := begin.Add(time.Duration(step.second) * time.Second)
		o.decide(now, standingBy, step.live)
		if got := o.orphans(now); len(got) != step.want {
			t.Errorf("second %d: %d sources have no worker, want %d", step.second, len(got), step.want)
		}
	}
}

// A pod whose giving back failed is the owner still: unless it looks, and renews, as soon as the API server is back,
// another pod takes it for dead and delivers again.
func TestWhoMayStillOwnASourceLooksOften(t *testing.T) {
	source := hashes(1)[0]
	p := &Pod{settings: Settings{Workers: 3, LeaseDuration: 15 * time.Second}, workers: newWorkers(15 * time.Second),
		own: newOwnership("a")}
	p.own.configure([]Hash{source})
	if pause := p.pause(); pause < 10*time.Second {
		t.Errorf("a pod without sources looks each %s", pause)
	}
	p.own.given(source, time.Now(), true)
	if pause := p.pause(); pause > workerLook {
		t.Errorf("one that may own a source looks each %s", pause)
	}
}

// A look that fails while the sources of a dead worker are taken over does not make it live again, nor does one that
// was overtaken count.
func TestAFailedLookRaisesNobodyFromTheDead(t *testing.T) {
	w := newWorkers(15 * time.Second)
	at := func(s int) time.Time { return begin.Add(time.Duration(s) * time.Second) }
	look := func(s int) {
		leases := []Lease{{Slot: 0, Holder: "dead", Renewed: begin}, {Slot: 1, Holder: "me", Renewed: at(s)}}
		w.observe(at(s), at(s), at(s), leases)
	}
	for s := 0; s <= 16; s += 2 {
		look(s)
	}
	w.failed(at(17))
	look(18)
	if live := w.live(); len(live) != 1 || !w.judge("dead").Dead {
		t.Errorf("%d live, dead: %v", len(live), w.judge("dead").Dead)
	}
	w.failed(at(17)) // its time ran out meanwhile
	if w.since.IsZero() {
		t.Error("a look that was overtaken counts")
	}
	w.observe(at(20), at(20), at(20), []Lease{{Slot: 0, Holder: "dead", Renewed: at(20)}})
	if w.judge("dead").Dead {
		t.Error("it renewed its Lease")
	}
}

// Workers whose clocks are behind write times that look old: a pod that stands by does not look more often for that.
func TestClocksThatAreBehindMakeNoHaste(t *testing.T) {
	w := newWorkers(15 * time.Second)
	for s := 0; s <= 300; s += 30 {
		now := begin.Add(time.Duration(s) * time.Second)
		w.observe(now, now, now, []Lease{{Slot: 0, Holder: "a", Renewed: now.Add(-20 * time.Second)}})
		if got := w.overdue(1, now); got != (s == 0) { // at first nobody knows
			t.Errorf("second %d: to look again soon: %t", s, got)
		}
	}
	now := begin.Add(330 * time.Second)
	w.observe(now, now, now, []Lease{{Slot: 0, Holder: "a", Renewed: begin.Add(280 * time.Second)}})
	if !w.overdue(1, now) {
		t.Error("it is silent")
	}
}

// All workers die while another pod stands by, whose looks are far apart: it becomes a worker all the same, also when
// its clock is behind, so that the times in the Leases look young to it.
func TestWhoStandsByNoticesThatAllWorkersDied(t *testing.T) {
	for name, test := range map[string]struct {
		skew, most time.Duration
	}{"clocks agree": {0, 95 * time.Second}, "its clock is behind": {-time.Hour, 170 * time.Second}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				settings := Settings{Workers: 3, LeaseDuration: 15 * time.Second}
				server := newServer()
				renew := func() {
					server.mu.Lock()
					defer server.mu.Unlock()
					for slot := range 3 {
						server.leases[slot] = Lease{Slot: slot, Holder: fmt.Sprint("pod-", slot), Renewed: time.Now(),
							Sources: []Hash{HashOf(key)}}
					}
				}
				api := &fakeAPI{server: server, settings: settings, skew: test.skew}
				p := New(&Sources{API: api, Name: "alerts", Identity: "other", Clock: api.clock,
					Log: slog.New(slog.DiscardHandler)}, settings)
				defer p.Close()
				if _, err := p.Join(&holder{stores: map[state.Key]*Store{}}, []state.Key{key}); err != nil {
					t.Fatal(err)
				}
				for range 150 {
					renew()
					time.Sleep(2 * time.Second)
				}
				if p.Stats().Worker {
					t.Fatal("it took a place of one that lives")
				}
				died := time.Now()
				for p.Stats().Owned == 0 && time.Since(died) < 10*time.Minute {
					time.Sleep(time.Second)
				}
				if took := time.Since(died); took > test.most {
					t.Errorf("it took %s", took)
				}
			})
		})
	}
}

// A pod that froze while a look was under way has not looked on meanwhile.
func TestALookThatTookLongIsNoWatch(t *testing.T) {
	w := newWorkers(15 * time.Second)
	lease := Lease{Holder: "a", Renewed: begin}
	look := func(sent, received int) bool {
		w.observe(begin.Add(time.Duration(sent)*time.Second), begin.Add(time.Duration(received)*time.Second), begin,
			[]Lease{lease})
		return w.judge("a").Dead
	}
	for _, l := range []struct {
		sent, received int
		dead           bool
	}{{0, 0, false}, {1, 1, false}, {2, 20, false}, {21, 21, false}, {25, 25, false}, {29, 29, false}, {30, 30, true}} {
		if got := look(l.sent, l.received); got != l.dead {
			t.Errorf("after the look from second %d to %d it is dead: %t", l.sent, l.received, got)
		}
	}
}
