package defendersim

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"
)

// TestAReaderOfGraphCanGetAllThatIsDue reads as simply as can be: every few seconds all of the last minutes, in
// pages, again until a pass brings nothing new, while the clock moves on between pages. It gets all that the ledger
// calls due, and nothing that the ledger does not know.
func TestAReaderOfGraphCanGetAllThatIsDue(t *testing.T) {
	for _, order := range []GraphOrder{NewestFirst, NewestUpdated, OldestUpdated, Shuffled} {
		t.Run(fmt.Sprint(order), func(t *testing.T) { readGraph(t, order) })
	}
}

func readGraph(t *testing.T, order GraphOrder) {
	const overlap, poll, span = 30 * time.Second, 5 * time.Second, 5 * time.Minute
	graphMemory(t, Config{TokenLife: 24 * time.Hour, Modes: Modes{Graph: GraphModes{Order: order}}}, func(t *graphRig) {
		mix := GraphMix{Late: overlap, LateShare: 0.3, TieShare: 0.2}
		all := GenerateGraph(source(9), 120, 120, noon.Add(-time.Minute), noon.Add(span), mix)
		for i := range all {
			all[i] = withProps(all[i]) // short texts, for the many passes
		}
		t.svc.AddGraph(all...)
		got := make(map[string]int)
		var slowest time.Duration
		for began := noon; t.clk.Now().Before(noon.Add(span + 2*overlap)); began = t.clk.Now() {
			now := t.clk.Now()
			for fresh := true; fresh; {
				fresh = false
				p := t.query("$top", "7", "$filter", windowOf(now.Add(-overlap-2*poll-time.Minute), now))
				for {
					for _, key := range t.keysOf(p) {
						if got[key]++; got[key] == 1 {
							fresh = true
						}
					}
					if p.next == "" {
						break
					}
					t.clk.advance(50 * time.Millisecond)
					p = t.page(p.next)
				}
			}
			t.clk.advance(poll)
			slowest = max(slowest, t.clk.Now().Sub(began))
		}
		end := t.clk.Now().Add(-poll)
		due := t.svc.DueGraph(GraphDue{
			Since: noon.Add(-overlap), Began: noon, At: end, Overlap: overlap, Stay: 2 * slowest,
		})
		replaced := 0
		for _, v := range due {
			if got[v.Key()] == 0 {
				t.Errorf("never came: %s, visible from %v to %v", v.Key(), v.Visible, v.Replaced)
			}
			if !v.Replaced.IsZero() {
				replaced++
			}
		}
		if len(due) < 150 || replaced < 50 {
			t.Errorf("%d versions due, %d of them replaced later", len(due), replaced)
		}
		for key, n := range got {
			if v, known := t.svc.LookupGraph(key); !known || v.Served != n || v.ServedWhole != n {
				t.Errorf("%s came %d times: %+v", key, n, v)
			}
		}
	})
}

// keysOf are the keys of a page's alerts.
func (t *graphRig) keysOf(p page) (keys []string) {
	t.Helper()
	var body struct{ Value []map[string]any }
	if err := json.Unmarshal(p.body, &body); err != nil {
		t.Fatal(err)
	}
	for _, v := range body.Value {
		keys = append(keys, GraphKeyOf(v))
	}
	return keys
}
