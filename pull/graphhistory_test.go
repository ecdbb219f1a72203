package pull

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"time"

	"pgregory.net/rapid"

	"fluent-bit-defender/conf"
	"fluent-bit-defender/internal/defendersim"
)

var hosts atomic.Int64

// drawGraph turns p into a history with Microsoft Graph.
func drawGraph(t *rapid.T, p *life) {
	chance := func(name string, of int) bool { return rapid.IntRange(0, of-1).Draw(t, name) == 1 }
	p.graph = true
	p.cfg.Ago, p.cfg.AgoText = 0, ""
	p.cfg.BatchSize = max(p.cfg.BatchSize, 32768) // an alert is larger than those of the SIEM API
	p.cfg.QueueLimit, p.cfg.MaxAlertSize = 2*p.cfg.BatchSize, p.cfg.BatchSize
	p.cfg.Limit = rapid.SampledFrom([]int{0, 3, 7, 50}).Draw(t, "page")
	p.modes.Cap, p.mix.UntimedShare = 0, 0
	p.modes.SinceExclusive, p.modes.UntilExclusive = false, false // ge and le say what they are
	g := &p.modes.Graph
	g.Order = rapid.SampledFrom([]defendersim.GraphOrder{defendersim.NewestUpdated, defendersim.OldestUpdated,
		defendersim.Shuffled, defendersim.NewestFirst}).Draw(t, "graph order")
	g.PageCap = rapid.SampledFrom([]int{0, 0, 5, 20}).Draw(t, "page cap")
	g.LastLink, g.LateLink = chance("last link", 6), rapid.Bool().Draw(t, "late link")
	if !g.LastLink && chance("links expire", 6) {
		g.LinkLife = 2 * time.Second
	}
	p.updates = rapid.IntRange(0, p.rows).Draw(t, "updates")
	p.first = chance("first", 3)
}

func (h *history) populateGraph(rnd *rand.Rand, from, to time.Time) (keys []string) {
	mix := defendersim.GraphMix{Late: h.mix.Late, LateShare: h.mix.LateShare, TieShare: 0.3}
	if h.rows == 0 {
		return nil
	}
	for _, a := range defendersim.GenerateGraph(rnd, h.rows, h.updates, from, to, mix) {
		h.svc.AddGraph(a)
		keys = append(keys, a.Key())
	}
	return keys
}

func (h *history) useGraph(cfg *conf.Config) {
	cfg.API, cfg.TimeKey, cfg.Updates = "graph", "createdDateTime", "all"
	if h.first {
		cfg.Updates = "first"
	}
	// Histories that are lived side by side must not share the pace of their requests: each has a host of its own.
	cfg.URL, cfg.Resource = fmt.Sprintf("https://graph%d.example/v1.0/security/alerts_v2", hosts.Add(1)),
		defendersim.GraphHost
	cfg.TokenURL = defendersim.LoginHost + "/" + defendersim.DefaultTenant + "/oauth2/v2.0/token"
}

// graphKey is what must come once: each update, or each alert.
func (h *history) graphKey(fields map[string]any) string {
	if fields["id"] == nil && fields["raw"] == nil { // a piece of an alert in bad text
		return fmt.Sprint(fields)
	}
	key := defendersim.GraphKeyOf(fields)
	if h.first && !strings.HasPrefix(key, "raw|") {
		key, _, _ = strings.Cut(key, "|")
	}
	return key
}

// checkGraph looks for what was lost: the last version of each alert, and every other that was there long enough to
// be seen by a poll that nothing disturbed.
func (h *history) checkGraph(from time.Time) {
	stay := time.Duration(-1)
	if h.faultShare == 0 && h.failSpan == 0 && h.slowOver == 0 && h.poison == 0 && !h.skews && h.shift == 0 &&
		len(h.events) == 0 && !h.modes.Graph.LastLink && h.modes.Graph.LinkLife == 0 {
		stay = 2*h.cfg.PollInterval + 2*time.Minute // one poll may wait for the pace of requests
	}
	began := h.since
	if h.shift < 0 {
		began = time.Time{} // what was there at the beginning is late by the clock that went back
	}
	due := h.svc.DueGraph(defendersim.GraphDue{Since: from, Began: began, At: h.began.Add(h.span + h.cfg.Overlap),
		Overlap: h.cfg.Overlap, Stay: stay})
	for _, v := range due {
		key := v.Key()
		if h.first {
			key = v.ID
		}
		if !v.Poisoned && len(h.core.arrived[key]) == 0 && !h.core.inInvalidText(v.ID, v.UpdatedText) {
			h.lost++
			h.fail("lost: %s updated %s visible %s", v.Key(), v.Updated.Sub(h.began), v.Visible.Sub(h.began))
		}
	}
}
