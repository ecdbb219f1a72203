package defendersim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// Style is which keys a generated row has.
type Style int

// Styles of rows.
const (
	// SeedStyle has the 33 keys of the seed's example, about 1.1 KB.
	SeedStyle Style = iota
	// WideStyle has the 50 keys of later years, nested arrays among them, about 1.7 KB.
	WideStyle
	// MixedStyle takes one or the other by chance.
	MixedStyle
)

// Untimed is how a row has no usable LastProcessedTimeUtc.
type Untimed int

// Ways to have no usable time.
const (
	TimeMissing Untimed = iota // no such key
	TimeNull                   // null
	TimeZero                   // .NET's zero time, 0001-01-01T00:00:00
)

// Mix says what a Generator makes. Shares are from 0 to 1; the zero Mix makes plain rows of SeedStyle.
type Mix struct {
	Style                         Style
	Groups, DeviceTags, CloudTags []string // each row takes one of each by chance
	Size                          int      // least bytes of a row's text: the title is padded
	// For Generate only:
	LateShare    float64       // rows that become visible late
	Late         time.Duration // by at most this
	TieShare     float64       // rows with the time of the row before
	UpdateShare  float64       // rows that are an update of an earlier one
	PartShare    float64       // rows that are a further part of the row before
	UntimedShare float64       // rows without a usable time, in each of the ways
}

// Generator makes alerts. All it makes differs in Key. It is deterministic for its source and not for concurrent use.
type Generator struct {
	rnd *rand.Rand
	mix Mix
	buf []byte
}

// NewGenerator makes alerts by chance from rnd. Two generators for one service need different seeds: ids hold 96 random
// bits.
func NewGenerator(rnd *rand.Rand, mix Mix) *Generator { return &Generator{rnd: rnd, mix: mix} }

// Alert makes an alert processed at the given time (to the 100 ns that the service knows) and visible at once.
func (g *Generator) Alert(at time.Time) Alert {
	at = at.UTC().Truncate(100)
	a := Alert{LastProcessed: at, Processed: stamp(at)}
	a.AlertID = fmt.Sprintf("%d_%d", 636207535742330111+g.rnd.Int64N(1e16), int32(g.rnd.Uint32()))
	unique := g.hex(64, true)
	a.FullID = a.AlertID + ":" + unique
	a.MachineGroup = g.pick(g.mix.Groups)
	if tag := g.pick(g.mix.DeviceTags); tag != "" {
		a.DeviceTags = []string{tag}
	}
	if tag := g.pick(g.mix.CloudTags); tag != "" {
		a.CloudTags = []string{tag}
	}
	g.render(&a, unique)
	return a
}

// Update makes a later state of an alert: the same FullId, a later LastProcessedTimeUtc. The alert must have a time.
func (g *Generator) Update(a Alert, at time.Time) Alert {
	at = at.UTC().Truncate(100)
	was := a.Processed
	a.LastProcessed, a.Processed, a.VisibleAt = at, stamp(at), time.Time{}
	a.Text = replaceOnce(a.Text, quoted("LastProcessedTimeUtc", was), quoted("LastProcessedTimeUtc", a.Processed))
	a.Text = replaceOnce(a.Text, `"RemediationIsSuccess":null`, `"RemediationIsSuccess":true`)
	return a
}

// Part makes a further part of an alert: the same ids and time, another AlertPart, which must not be used yet.
func (g *Generator) Part(a Alert, part int) Alert {
	was := a.Part
	a.Part = part
	a.Text = replaceOnce(a.Text, fmt.Sprintf(`"AlertPart":%d`, was), fmt.Sprintf(`"AlertPart":%d`, part))
	return a
}

// Untimed makes a row without a usable time, which the service gets, and shows, at the given time.
func (g *Generator) Untimed(at time.Time, how Untimed) Alert {
	a := g.Alert(at)
	was := quoted("LastProcessedTimeUtc", a.Processed)
	a.LastProcessed, a.Processed, a.VisibleAt = time.Time{}, "", at
	switch how {
	case TimeMissing:
		a.Text = replaceOnce(a.Text, was+",", "")
	case TimeNull:
		a.Text = replaceOnce(a.Text, was, `"LastProcessedTimeUtc":null`)
	case TimeZero:
		a.Processed = "0001-01-01T00:00:00"
		a.Text = replaceOnce(a.Text, was, quoted("LastProcessedTimeUtc", a.Processed))
	}
	return a
}

// Generate makes n alerts processed from from to to, in order of that time, as mix says.
func Generate(rnd *rand.Rand, n int, from, to time.Time, mix Mix) []Alert {
	g := NewGenerator(rnd, mix)
	times := make([]time.Time, n)
	for i := range times {
		times[i] = from
		if span := to.Sub(from); span > 0 {
			times[i] = from.Add(time.Duration(rnd.Int64N(int64(span))))
		}
	}
	slices.SortFunc(times, time.Time.Compare)
	type state struct {
		id   string
		part int
	}
	latest := make(map[state]time.Time)
	parts := make(map[string]int) // highest part of a FullId
	chance := func(share float64) bool { return share > 0 && rnd.Float64() < share }
	out := make([]Alert, 0, n)
	for i, at := range times {
		var last Alert
		if i > 0 {
			last = out[i-1]
		}
		if i > 0 && !last.LastProcessed.IsZero() && chance(mix.TieShare) {
			at = last.LastProcessed
		}
		var a Alert
		switch {
		case chance(mix.UntimedShare):
			a = g.Untimed(at, Untimed(rnd.IntN(3)))
		case i > 0 && !last.LastProcessed.IsZero() && chance(mix.PartShare):
			parts[last.FullID]++
			a = g.Part(last, parts[last.FullID])
			a.VisibleAt = time.Time{}
		case i > 0 && chance(mix.UpdateShare):
			old := out[rnd.IntN(i)]
			if when := latest[state{old.FullID, old.Part}]; old.LastProcessed.IsZero() || at.Sub(when) < 100 {
				a = g.Alert(at)
			} else {
				a = g.Update(old, at)
			}
		default:
			a = g.Alert(at)
		}
		latest[state{a.FullID, a.Part}] = a.LastProcessed
		if mix.Late > 0 && chance(mix.LateShare) {
			seen := a.LastProcessed
			if seen.IsZero() {
				seen = at
			}
			a.VisibleAt = seen.Add(time.Duration(rnd.Int64N(int64(mix.Late) + 1)))
		}
		out = append(out, a)
	}
	return out
}

func (g *Generator) pick(from []string) string {
	if len(from) == 0 {
		return ""
	}
	return from[g.rnd.IntN(len(from))]
}

func (g *Generator) hex(n int, upper bool) string {
	const low, up = "0123456789abcdef", "0123456789ABCDEF"
	digits := low
	if upper {
		digits = up
	}
	out := make([]byte, n)
	var bits uint64
	for i := range out {
		if i%16 == 0 {
			bits = g.rnd.Uint64()
		}
		out[i] = digits[bits&15]
		bits >>= 4
	}
	return string(out)
}

func quoted(key, value string) string { return `"` + key + `":"` + value + `"` }
