package defendersim

import (
	"fmt"
	"net/http"
	"sort"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestModesOfBounds has rows around both bounds of the window 11:00:10.5 to 11:00:20.5.
func TestModesOfBounds(t *testing.T) {
	base := time.Date(2024, 5, 6, 11, 0, 0, 0, time.UTC)
	at := func(s float64) time.Time { return base.Add(time.Duration(s * 1e9)) }
	synctest.Test(t, func(t *testing.T) {
		r := memory(t, Config{})
		for _, s := range []float64{10, 10.2, 10.5, 10.5004, 20.2, 20.5, 20.5004, 20.8} {
			r.svc.Add(row(fmt.Sprint(s), at(s)))
		}
		for _, c := range []struct {
			name         string
			modes        Modes
			since, until float64
			want         string
		}{
			{"both inclusive", Modes{}, 10.5, 20.5, "10.5 10.5004 20.2 20.5"},
			{"since exclusive", Modes{SinceExclusive: true}, 10.5, 20.5, "10.5004 20.2 20.5"},
			{"until exclusive", Modes{UntilExclusive: true}, 10.5, 20.5, "10.5 10.5004 20.2"},
			{"both exclusive", Modes{SinceExclusive: true, UntilExclusive: true}, 10.5, 20.5, "10.5004 20.2"},
			{"bounds cut to seconds", Modes{TruncateBounds: time.Second}, 10.5, 20.5, "10 10.2 10.5 10.5004"},
			{"bounds cut to milliseconds", Modes{TruncateBounds: time.Millisecond}, 10.5004, 20.5004,
				"10.5 10.5004 20.2 20.5"},
			{"bounds cut and exclusive", Modes{TruncateBounds: time.Second, SinceExclusive: true}, 10.5, 20.5,
				"10.2 10.5 10.5004"},
			{"rows cut to seconds", Modes{TruncateRows: time.Second}, 10.5, 20.5, "20.2 20.5 20.5004 20.8"},
			{"rows cut to milliseconds", Modes{TruncateRows: time.Millisecond}, 10.5, 20.5,
				"10.5 10.5004 20.2 20.5 20.5004"},
			{"one point in time", Modes{}, 20.5, 20.5, "20.5"},
		} {
			r.svc.SetModes(func(m *Modes) { *m = c.modes })
			want(t, c.name, r.keys(window(at(c.since), at(c.until))), c.want)
		}
	})
}

func TestModesOfOrderAndCap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := memory(t, Config{Seed: 7})
		for i := range 5 {
			r.svc.Add(row(fmt.Sprint(i), noon.Add(time.Duration(i-10)*time.Second)))
		}
		mode := func(f func(m *Modes)) { r.svc.SetModes(func(m *Modes) { *m = Modes{}; f(m) }) }
		mode(func(m *Modes) { m.Order = Descending })
		want(t, "descending", r.keys(""), "4 3 2 1 0")
		want(t, "limit of a descending answer", r.keys("limit=2"), "4 3")
		mode(func(m *Modes) { m.Cap = 3 })
		want(t, "hidden cap", r.keys(""), "2 3 4")
		want(t, "limit under the cap", r.keys("limit=2"), "3 4")
		want(t, "limit over the cap", r.keys("limit=4"), "2 3 4")

		mode(func(m *Modes) { m.Order = Random })
		orders := make(map[string]bool)
		for range 20 {
			got := strings.Fields(r.keys(""))
			orders[strings.Join(got, " ")] = true
			sort.Strings(got)
			want(t, "rows in random order", strings.Join(got, " "), "0 1 2 3 4")
		}
		if len(orders) < 10 {
			t.Errorf("only %d orders in 20 answers", len(orders))
		}
	})
}

func TestTheSameSeedGivesTheSameAnswers(t *testing.T) {
	run := func(seed uint64) (all string) {
		synctest.Test(t, func(t *testing.T) {
			r := memory(t, Config{Seed: seed, Modes: Modes{Order: Random, DateSkew: time.Hour, DateSkewShare: 0.5}})
			r.svc.Add(Generate(source(seed), 20, noon.Add(-time.Hour), noon, Mix{Style: MixedStyle})...)
			for range 5 {
				a := r.get("limit=10")
				all += a.header.Get("Date") + string(a.body)
			}
			all += string(r.post(r.v1, nil).body) + r.token()
		})
		return all
	}
	first := run(1)
	want(t, "equal for equal seeds", run(1) == first, true)
	want(t, "equal for other seeds", run(2) == first, false)
}

func TestTiesUnderALimitAreCutByChance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := memory(t, Config{Modes: Modes{Order: Random}})
		r.svc.Add(row("old", noon.Add(-2*time.Second)), row("x", noon), row("y", noon), row("z", noon))
		seen := make(map[string]bool)
		for range 30 {
			seen[r.keys("limit=1")] = true
		}
		want(t, "rows seen", len(seen), 3)
		want(t, "the old one is not among them", seen["old"], false)
	})
}

func TestRowsBecomeVisibleLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := memory(t, Config{})
		a := row("late", noon.Add(-time.Minute))
		a.VisibleAt = noon.Add(time.Minute)
		r.svc.Add(a, row("future", noon.Add(30*time.Second)))
		want(t, "before", r.keys(""), "")
		r.clk.advance(time.Minute - 1)
		want(t, "just before", r.keys(""), "future")
		r.clk.advance(1)
		want(t, "then", r.keys(""), "late future")
	})
}

func TestRowsWithoutAUsableTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := memory(t, Config{TokenLife: 24 * time.Hour, Modes: Modes{UntimedFor: time.Hour}})
		untimed := row("untimed", time.Time{})
		untimed.Processed, untimed.VisibleAt = "0001-01-01T00:00:00", noon.Add(time.Minute)
		r.svc.Add(untimed, row("timed", noon))
		old := window(noon.Add(-99*time.Hour), noon.Add(-98*time.Hour))
		want(t, "before its arrival", r.keys(""), "timed")
		r.clk.advance(time.Minute)
		want(t, "in any window", r.keys(old), "untimed")
		want(t, "beside others", r.keys(""), "untimed timed")
		want(t, "older than others under limit", r.keys("limit=1"), "timed")
		r.svc.SetModes(func(m *Modes) { m.UntimedNewest = true })
		want(t, "or newer", r.keys("limit=1"), "untimed")
		r.clk.advance(time.Hour - 1)
		want(t, "until its hour ends", r.keys(old), "untimed")
		r.clk.advance(1)
		want(t, "and no longer", r.keys(old), "")
	})
}

func TestDates(t *testing.T) {
	bothWays(t, Config{}, func(t *rig) {
		date := func(a answer) string { return strings.Join(a.header["Date"], ",") }
		at := func(d time.Duration) string { return noon.Add(d).Format(http.TimeFormat) }
		t.clk.advance(900 * time.Millisecond)
		want(t, "cut to seconds", date(t.get("")), at(0))
		want(t, "of a token", date(t.post(t.v1, v1Form())), at(0))
		t.svc.SetModes(func(m *Modes) { m.DateOffset = -time.Hour })
		want(t, "without the clock", date(t.get("")), at(-time.Hour))
		t.svc.SetModes(func(m *Modes) { m.DateOffset = 0; m.DateSkew = time.Minute; m.DateSkewShare = 0.5 })
		seen := make(map[string]int)
		for range 30 {
			seen[date(t.get(""))]++
		}
		if len(seen) != 2 || seen[at(0)] == 0 || seen[at(time.Minute)] == 0 {
			t.Errorf("a share is off: %v", seen)
		}
		t.svc.SetModes(func(m *Modes) { m.DateSkewShare = 0; m.NoDate = true })
		want(t, "none", len(t.get("").header["Date"]), 0)
		t.svc.SetModes(func(m *Modes) { m.NoDate = false })
		t.svc.Shift(10 * time.Minute)
		want(t, "with the clock", date(t.get("")), at(10*time.Minute))
		t.svc.Add(row("a", noon.Add(9*time.Minute)))
		want(t, "and the rows", t.keys("ago=PT2M"), "a")
	})
}

func TestRefusals(t *testing.T) {
	bothWays(t, Config{}, func(t *rig) {
		future := "untilTimeUtc=2024-05-06T12:00:00.0000001Z"
		want(t, "until in the future", t.get(future).status, 200)
		t.svc.SetModes(func(m *Modes) { m.RefuseFuture = true })
		want(t, "refused", t.get(future).status, 400)
		want(t, "until now", t.get("untilTimeUtc=2024-05-06T12:00:00Z").status, 200)
		want(t, "no until", t.get("").status, 200)
		t.svc.SetModes(func(m *Modes) { m.Forbidden = true })
		a := t.get("")
		want(t, "forbidden", a.status, 403)
		contains(t, "403", a.body, "not managed by the tenant administrator")
		req, _ := http.NewRequest("GET", t.alerts, nil)
		want(t, "without a token it is still 401", t.do(req).status, 401)
	})
}
