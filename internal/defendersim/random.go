package defendersim

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// namedFaults are the faults that a command line can ask for.
var namedFaults = map[string]func(*rand.Rand) *Fault{
	"401":      func(*rand.Rand) *Fault { return Status(401) },
	"403":      func(*rand.Rand) *Fault { return Status(403) },
	"429":      func(r *rand.Rand) *Fault { return Throttle(time.Duration(1+r.IntN(5)) * time.Second) },
	"429date":  func(r *rand.Rand) *Fault { return ThrottleUntil(time.Duration(1+r.IntN(5)) * time.Second) },
	"500":      func(*rand.Rand) *Fault { return Status(500) },
	"503":      func(*rand.Rand) *Fault { return Status(503) },
	"refused":  func(*rand.Rand) *Fault { return Refused() },
	"reset":    func(*rand.Rand) *Fault { return ResetEarly() },
	"hang":     func(*rand.Rand) *Fault { return Hang() },
	"late":     func(r *rand.Rand) *Fault { return Late(time.Duration(r.IntN(3000)) * time.Millisecond) },
	"slow":     func(r *rand.Rand) *Fault { return Slow(10_000 + r.IntN(100_000)) },
	"cut":      func(r *rand.Rand) *Fault { return CutOf(r.Float64(), CutBroken) },
	"cutreset": func(r *rand.Rand) *Fault { return CutOf(r.Float64(), CutReset) },
	"cutclean": func(r *rand.Rand) *Fault { return CutOf(r.Float64(), CutText) },
	"garble":   func(r *rand.Rand) *Fault { return GarbleOf(r.Float64(), "\x01") },
	"html":     func(*rand.Rand) *Fault { return HTML() },
	"empty":    func(*rand.Rand) *Fault { return EmptyBody() },
	"object":   func(*rand.Rand) *Fault { return NoAlerts() },
	"open":     func(*rand.Rand) *Fault { return NeverClosed() },
	"partial":  func(r *rand.Rand) *Fault { return Partial(r.Float64()) },
	"token": func(r *rand.Rand) *Fault {
		codes := []int{90055, 50033, 90033}
		return Entra(codes[r.IntN(len(codes))])
	},
	"tokenrefused": func(*rand.Rand) *Fault { return Entra(7000215) },
}

// FaultNames are the names that RandomFaults knows.
func FaultNames() []string { return slices.Sorted(maps.Keys(namedFaults)) }

// RandomFaults makes a hook for OnRequest that gives a share (0 to 1) of the requests one of the named faults, by
// chance from the seed and the request's number. No names means all but "hang", "403" and "tokenrefused", which a
// reader may answer by waiting long. Faults of one endpoint's own do not befall the other, which lowers the share a
// little.
func RandomFaults(seed uint64, share float64, names ...string) (func(Request) *Fault, error) {
	if len(names) == 0 {
		names = slices.DeleteFunc(FaultNames(), func(n string) bool {
			return n == "hang" || n == "403" || n == "tokenrefused"
		})
	}
	for _, n := range names {
		if namedFaults[n] == nil {
			return nil, fmt.Errorf("fault %q is not known; known are %s", n, strings.Join(FaultNames(), ", "))
		}
	}
	names = slices.Clone(names)
	return func(r Request) *Fault {
		rnd := rand.New(rand.NewPCG(seed, uint64(r.N)))
		if rnd.Float64() >= share {
			return nil
		}
		f := namedFaults[names[rnd.IntN(len(names))]](rnd)
		forTokens, forAlerts := f.AADSTS != 0, f.Status == 401 || f.Status == 403 || f.open
		api := r.Kind == KindAlerts || r.Kind == KindGraph
		if forTokens && r.Kind != KindToken || forAlerts && !api || f.partial > 0 && r.Kind != KindGraph {
			return nil
		}
		return f
	}, nil
}
