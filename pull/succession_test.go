package pull

import (
	"math/rand/v2"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"fluent-bit-defender/conf"
	"fluent-bit-defender/internal/defendersim"
)

// ending is how the SIEM API ends in a history.
type ending struct {
	at, after time.Duration // of the history; successor_after
	how       int           // of endings
	flaps     []flap        // before
}

type flap struct {
	from, to time.Duration
	how      int
}

var endings = []func() *defendersim.Fault{
	func() *defendersim.Fault { return defendersim.Status(403) },
	func() *defendersim.Fault { return defendersim.Status(404) },
	func() *defendersim.Fault { return defendersim.Status(410) },
	defendersim.Refused,
	defendersim.NoName,
}

func (e *ending) fault(at time.Duration) *defendersim.Fault {
	if at >= e.at {
		return endings[e.how]()
	}
	for _, f := range e.flaps {
		if at >= f.from && at < f.to {
			return endings[f.how]()
		}
	}
	return nil
}

// joined is what both APIs have.
type joined struct {
	detections map[string]defendersim.Alert // by their key
	newest     map[string]time.Time         // by the id of an alert of Graph: its last detection
}

// drawEnding draws a history in which the SIEM API ends.
func drawEnding(t *rapid.T) life {
	p := drawLife(t)
	p.graph, p.poison, p.skews, p.shift, p.slowOver, p.next = false, 0, false, 0, 0, nil
	p.modes.Cap, p.modes.Graph, p.mix.UntimedShare = 0, defendersim.GraphModes{}, 0
	p.cfg.BatchSize = max(p.cfg.BatchSize, 32768)
	p.cfg.QueueLimit, p.cfg.MaxAlertSize = 2*p.cfg.BatchSize, p.cfg.BatchSize
	var faults []int
	for _, f := range p.faults {
		if f < len(faultKinds)-1 { // the last is Graph's
			faults = append(faults, f)
		}
	}
	p.faults = faults
	g := &p.modes.Graph
	g.Order = rapid.SampledFrom([]defendersim.GraphOrder{defendersim.NewestUpdated, defendersim.OldestUpdated,
		defendersim.Shuffled}).Draw(t, "graph order of the successor")
	g.PageCap = rapid.SampledFrom([]int{0, 0, 5, 20}).Draw(t, "page cap of the successor")
	p.first = rapid.IntRange(0, 2).Draw(t, "first of the successor") == 1
	minutes := func(name string, from, to int) time.Duration {
		return time.Duration(rapid.IntRange(from, to).Draw(t, name)) * time.Minute
	}
	e := &ending{after: minutes("successor_after", 1, 5), how: rapid.IntRange(0, len(endings)-1).Draw(t, "how it ends")}
	e.at = minutes("ends at", 0, int(p.span/time.Minute))
	for range rapid.IntRange(0, 3).Draw(t, "flaps") {
		from := minutes("flaps at", 0, int(p.span/time.Minute))
		e.flaps = append(e.flaps, flap{from,
			from + time.Duration(rapid.IntRange(1, 300).Draw(t, "seconds"))*time.Second,
			rapid.IntRange(0, len(endings)-1).Draw(t, "how it flaps")})
	}
	p.ends = e
	return p
}

// populateBoth gives the service detections, and Graph their alerts, updates of these, and alerts of its own.
func (h *history) populateBoth(rnd *rand.Rand, from, to time.Time) {
	h.joined.detections, h.joined.newest = map[string]defendersim.Alert{}, map[string]time.Time{}
	gen := defendersim.NewGraphGenerator(rnd, defendersim.GraphMix{})
	last := map[string]defendersim.GraphAlert{}
	add := func(a defendersim.GraphAlert) {
		if rnd.IntN(3) == 0 {
			a.VisibleAt = a.Updated.Add(time.Duration(rnd.Int64N(int64(h.mix.Late))))
		}
		h.svc.AddGraph(a)
		last[a.ID] = a
	}
	near := func(t time.Time) time.Time {
		return t.Add(time.Duration((rnd.Float64() - 0.5) * float64(h.cfg.Overlap)))
	}
	for _, a := range defendersim.Generate(rnd, h.rows, from, to, h.mix) {
		h.svc.Add(a)
		h.joined.detections[a.Key()], h.joined.newest["da"+a.AlertID] = a, a.LastProcessed
		if was, known := last["da"+a.AlertID]; known {
			add(gen.Update(was, near(a.LastProcessed)))
		} else {
			add(gen.Of(a, near(a.LastProcessed)))
		}
		if left := to.Sub(a.LastProcessed); rnd.IntN(4) == 0 && left > 0 { // somebody works on it
			add(gen.Update(last["da"+a.AlertID], a.LastProcessed.Add(time.Duration(rnd.Int64N(int64(left))))))
		}
		if rnd.IntN(4) == 0 {
			add(gen.Alert(a.LastProcessed))
		}
	}
}

func (h *history) successorOf(cfg conf.Config) *conf.Config {
	h.useGraph(&cfg)
	cfg.Limit, cfg.Ago, cfg.AgoText = min(cfg.Limit, graphPage), 0, ""
	return &cfg
}

func (h *history) keyOfBoth(fields map[string]any) string {
	if fields["lastUpdateDateTime"] != nil {
		return "graph|" + h.graphKey(fields)
	}
	return defendersim.KeyOf(fields)
}

var wentOn = regexp.MustCompile(`going on with Microsoft Graph from (\d[^,]*),`)

// checkBoth holds against a history that nothing of Graph was lost, and that nothing came which a detection had told
// of. from is since when the SIEM API was asked.
func (h *history) checkBoth(from time.Time) {
	if s := h.core.engine.Stats(); s.OnGraph != 1 {
		h.fail("the source did not go on with the successor: %s", h.log.String())
		return
	}
	began := from // since when Graph was asked, beside for ranges that were unread
	if m := wentOn.FindStringSubmatch(h.log.String()); m != nil {
		at, err := time.Parse(time.RFC3339, m[1])
		if err != nil {
			panic(err)
		}
		began = at.Add(time.Second)
	}
	told := map[string][]defendersim.Alert{} // by the id of the alert
	for key, a := range h.joined.detections {
		if len(h.core.arrived[key]) > 0 {
			told["da"+a.AlertID] = append(told["da"+a.AlertID], a)
		}
	}
	// told: by which detections.
	by := func(v defendersim.GraphVersion) (all []defendersim.Alert) {
		for _, a := range told[v.ID] {
			if h.first || !v.Updated.After(a.LastProcessed.Add(h.cfg.Overlap)) {
				all = append(all, a)
			}
		}
		return all
	}
	key := func(v defendersim.GraphVersion) string {
		if h.first {
			return "graph|" + v.ID
		}
		return "graph|" + v.Key()
	}
	due := h.svc.DueGraph(defendersim.GraphDue{Since: from.Add(h.cfg.Overlap), Began: h.since,
		At: h.began.Add(h.span + 2*h.cfg.Overlap), Overlap: h.cfg.Overlap, Stay: -1})
	for _, v := range due {
		if v.Updated.Before(began) && (h.joined.newest[v.ID].Before(from) || len(told[v.ID]) > 0) {
			continue // Graph alone had it, before it was asked
		}
		if len(h.core.arrived[key(v)]) == 0 && len(by(v)) == 0 && !h.core.inInvalidText(v.ID, v.UpdatedText) {
			h.lost++
			h.fail("lost: %s updated %s visible %s; Graph was asked from %s on", v.Key(), v.Updated.Sub(h.began),
				v.Visible.Sub(h.began), began.Sub(h.began))
		}
	}
	for _, v := range h.svc.GraphLedger() {
		for range h.core.arrived[key(v)] {
			for _, a := range by(v) {
				came := h.core.arrived[a.Key()]
				if first := h.core.arrived[key(v)][0]; came[0].at.Before(first.at) && !h.repeatable(came[len(came)-1]) {
					h.fail("twice: %s updated %s, of which the detection of %s had come at %s", v.Key(),
						v.Updated.Sub(h.began), a.LastProcessed.Sub(h.began), came[0].at.Sub(h.began))
				}
			}
		}
	}
}

// TestHistoriesOfSuccession lives histories in which the SIEM API ends: whatever Graph shows from then on comes, and
// nothing that a detection told of comes again.
func TestHistoriesOfSuccession(t *testing.T) {
	lives(8)
	for shard := range 2 {
		t.Run(strconv.Itoa(shard), func(t *testing.T) {
			t.Parallel()
			rapid.Check(t, func(rt *rapid.T) {
				p := drawEnding(rt)
				var h *history
				synctest.Test(t, func(*testing.T) { h = relive(p) })
				if len(h.faults) > 0 {
					rt.Fatalf("%s\n%+v\n%+v\n%s%s", strings.Join(h.faults, "\n"), p, *p.ends, h.log.String(),
						h.journal())
				}
			})
		})
	}
}
