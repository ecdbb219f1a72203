package defendersim

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"time"
)

// GraphMix says what GenerateGraph makes. Shares are from 0 to 1; the zero GraphMix makes alerts of 2 to 6 KB,
// visible at once.
type GraphMix struct {
	LateShare float64       // versions that become visible late
	Late      time.Duration // by at most this
	TieShare  float64       // versions with the time of the version before
	// Exact gives times to 100 ns; else they are rounded to 1/300 s, as the real ones seem to be, and ties are common.
	Exact bool
	// Large makes the middle one of the alerts as large as they come: 400 pieces of evidence, about 1 MB.
	Large bool
}

// Sizes of a large alert.
const (
	largePieces = 400
	largeSize   = 1 << 20
)

// GraphGenerator makes alerts of Graph. All it makes differs in Key. It is deterministic for its source and not for
// concurrent use.
type GraphGenerator struct {
	Generator
	exact bool
}

// NewGraphGenerator makes alerts by chance from rnd. Two generators for one service need different seeds.
func NewGraphGenerator(rnd *rand.Rand, mix GraphMix) *GraphGenerator {
	return &GraphGenerator{Generator: Generator{rnd: rnd}, exact: mix.Exact}
}

// tick cuts a time down to what alerts have: 1/300 s in the service's 100 ns.
func (g *GraphGenerator) tick(at time.Time) time.Time {
	at = at.UTC().Truncate(100)
	if g.exact {
		return at
	}
	n := (int64(at.Nanosecond()) + 50) * 300 / 1e9 // 50: a multiple to 100 ns may lie below itself
	return at.Truncate(time.Second).Add(time.Duration((n*1e7 + 150) / 300 * 100))
}

// Alert makes an alert that is new at the given time, or up to 1/300 s before, and visible at once.
func (g *GraphGenerator) Alert(at time.Time) GraphAlert { return g.alert(at, 2+g.rnd.IntN(5), 0) }

// Of makes the alert of Graph that a detection of the SIEM API belongs to, last updated at the time given. Its
// providerAlertId is the AlertId.
func (g *GraphGenerator) Of(a Alert, at time.Time) GraphAlert {
	out := g.Alert(at)
	id := "da" + a.AlertID
	out.Text = bytes.ReplaceAll(out.Text, []byte(out.ID[2:]), []byte(a.AlertID))
	out.ID = id
	return out
}

// Large is Alert with so many pieces of evidence, whose text has at least size bytes.
func (g *GraphGenerator) Large(at time.Time, pieces, size int) GraphAlert {
	return g.alert(at, pieces, size/max(1, pieces))
}

// Update makes a later version of an alert, which is worked on: assigned, classified, resolved, opened again. Its
// time is after that of the version given, which must be the alert's last.
func (g *GraphGenerator) Update(a GraphAlert, at time.Time) GraphAlert {
	was := a.UpdatedText
	at = g.tick(at)
	for step := time.Duration(100); !at.After(a.Updated); step = time.Second / 300 {
		at = g.tick(a.Updated.Add(step + 100))
	}
	a.Updated, a.UpdatedText, a.VisibleAt = at, stamp(at), time.Time{}
	a.Text = replaceOnce(a.Text, quoted("lastUpdateDateTime", was), quoted("lastUpdateDateTime", a.UpdatedText))
	g.change(&a, "assignedTo", &a.AssignedTo, "analyst@contoso.example")
	switch a.Status {
	case "new":
		g.change(&a, "status", &a.Status, "inProgress")
	case "inProgress":
		g.change(&a, "status", &a.Status, "resolved")
		g.change(&a, "classification", &a.Classification, "truePositive")
		g.change(&a, "determination", &a.Determination, "malware")
		a.Text = replaceOnce(a.Text, `"resolvedDateTime":null`, quoted("resolvedDateTime", a.UpdatedText))
	default:
		g.change(&a, "status", &a.Status, "inProgress")
	}
	comment := `{"@odata.type":"#microsoft.graph.security.alertComment",` +
		`"comment":"Geprüft \u2013 siehe Vorfall","createdByDisplayName":"analyst@contoso.example",` +
		quoted("createdDateTime", a.UpdatedText) + "}"
	if bytes.Contains(a.Text, []byte(`"comments":[]`)) {
		a.Text = replaceOnce(a.Text, `"comments":[]`, `"comments":[`+comment+"]")
	} else {
		a.Text = replaceOnce(a.Text, `"comments":[`, `"comments":[`+comment+",")
	}
	return a
}

// change sets a property in text and struct.
func (g *GraphGenerator) change(a *GraphAlert, name string, have *string, to string) {
	was := `"` + name + `":null`
	if *have != "" {
		was = quoted(name, *have)
	}
	*have = to
	a.Text = replaceOnce(a.Text, was, quoted(name, to))
}

// GenerateGraph makes so many alerts and so many updates of them, in order of their time, from from to to, as mix says.
// An update may be one of an update.
func GenerateGraph(rnd *rand.Rand, alerts, updates int, from, to time.Time, mix GraphMix) []GraphAlert {
	g := NewGraphGenerator(rnd, mix)
	times := make([]time.Time, alerts+updates)
	for i := range times {
		times[i] = from
		if span := to.Sub(from); span > 0 {
			times[i] = from.Add(time.Duration(rnd.Int64N(int64(span))))
		}
	}
	slices.SortFunc(times, time.Time.Compare)
	chance := func(share float64) bool { return share > 0 && rnd.Float64() < share }
	var out []GraphAlert
	var last []int // of each alert, in out
	made := 0
	for i, at := range times {
		if i > 0 && chance(mix.TieShare) {
			at = out[i-1].Updated
		}
		left := len(times) - i
		var a GraphAlert
		if isUpdate := rnd.IntN(left) < updates && len(last) > 0 || left == updates; isUpdate && len(last) > 0 {
			which := rnd.IntN(len(last))
			a = g.Update(out[last[which]], at)
			last[which] = i
			updates--
		} else {
			if made++; mix.Large && made == (alerts+1)/2 {
				a = g.Large(at, largePieces, largeSize)
			} else {
				a = g.Alert(at)
			}
			last = append(last, i)
		}
		if mix.Late > 0 && chance(mix.LateShare) {
			a.VisibleAt = a.Updated.Add(time.Duration(rnd.Int64N(int64(mix.Late) + 1)))
		}
		out = append(out, a)
	}
	// Updates may have been put off by a tick.
	slices.SortStableFunc(out, func(a, b GraphAlert) int { return a.Updated.Compare(b.Updated) })
	return out
}
