package plan

import (
	"cmp"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fluent-bit-defender/state"
)

var update = flag.Bool("update", false, "write the transcripts anew")

// dialogue plays a service and its clock to a planner, and writes down what is said.
type dialogue struct {
	p     *Planner
	local time.Time
	skew  time.Duration // of the service's clock
	known bool
	sure  bool // two Dates agreed
	out   strings.Builder
}

var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

func talk(cfg Config, start state.Snapshot) *dialogue {
	cfg.Overlap, cfg.MaxWindow, cfg.Lookback, cfg.PollInterval, cfg.RetryMax = 2*time.Minute, time.Hour, 10*time.Minute,
		time.Minute, 5*time.Minute
	cfg.Jitter = func() float64 { return 0.5 }
	if cfg.CapFloor == 0 {
		cfg.CapFloor = 1000
	}
	d := &dialogue{local: noon}
	d.p = New(cfg, start, d.local)
	return d
}

func (d *dialogue) clock() Clock {
	c := Clock{Local: d.local, Trusted: d.sure}
	if d.known {
		c.Service = d.local.Add(d.skew)
	}
	return c
}

// at writes a time as seconds since noon.
func at(t time.Time) string { return fmt.Sprintf("%+g", t.Sub(noon).Seconds()) }

func (d *dialogue) facts() {
	names := []string{"poll done", "other filters", "clock back", "set aside", "unread full", "incomplete",
		"range read", "split", "rows may hide"}
	for _, f := range d.p.Facts() {
		fmt.Fprintf(&d.out, "    %s", names[f.Kind])
		if f.Window != (Range{}) {
			fmt.Fprintf(&d.out, " %s..%s", at(f.Window.Since), at(f.Window.Until))
		}
		fmt.Fprintln(&d.out)
	}
}

// run takes up to n steps. answer says what comes of a request; its time is a tenth of a second.
func (d *dialogue) run(n int, answer func(Request) Answer) {
	for range n {
		step := d.p.Next(d.clock())
		d.facts()
		var a Answer
		switch step.Kind {
		case Wait:
			if step.At.IsZero() {
				fmt.Fprintln(&d.out, "end")
				return
			}
			fmt.Fprintf(&d.out, "wait until %s, watermark %s, %d unread\n", at(step.At), at(d.p.Watermark()),
				len(d.p.Unread()))
			d.local = step.At
			continue
		case GetTime:
			fmt.Fprintln(&d.out, "get the time")
		case Glance:
			fmt.Fprintln(&d.out, "glance")
			a = answer(step.Request)
		case Ask:
			r := step.Request
			fmt.Fprintf(&d.out, "ask %s..%s", at(r.Since), at(r.Until))
			if r.Limit > 0 {
				fmt.Fprintf(&d.out, " limit %d", r.Limit)
			}
			if r.Ago {
				fmt.Fprint(&d.out, " by ago")
			}
			if r.Page != "" {
				fmt.Fprintf(&d.out, " page %s", r.Page)
			}
			if d.p.asked.unread {
				fmt.Fprint(&d.out, " (unread)")
			}
			a = answer(r)
			fmt.Fprintf(&d.out, ": %d rows, failure %d\n", a.Rows, a.Failure)
		}
		d.local = d.local.Add(100 * time.Millisecond)
		d.sure = d.known
		d.known = true
		if o := d.p.Answer(d.clock(), a); o.Wait > 0 {
			fmt.Fprintf(&d.out, "    failed: %s\n", o.Wait)
		}
		d.facts()
	}
}

func nothing(Request) Answer { return Answer{} }

// rows answers as a service that has rows each so long, from noon less an hour on.
func rows(every time.Duration, limit int) func(Request) Answer {
	return func(r Request) Answer {
		n := 0
		for t := noon.Add(-time.Hour); t.Before(r.Until); t = t.Add(every) {
			if !t.Before(r.Since) {
				n++
			}
		}
		if most := cmp.Or(r.Limit, limit); most > 0 {
			n = min(n, most)
		}
		return Answer{Rows: n, Fresh: n}
	}
}

// failing answers with a failure to whatever touches r.
func failing(since, until time.Duration, f Failure) func(Request) Answer {
	bad := Range{noon.Add(since), noon.Add(until)}
	return func(r Request) Answer {
		if r.Since.Before(bad.Until) && r.Until.After(bad.Since) {
			return Answer{Failure: f, Reason: "it broke"}
		}
		return Answer{}
	}
}

var found = state.Snapshot{Found: true, Watermark: noon.Add(-2 * time.Minute)}

// Each dialogue is a file of testdata: what is asked, what follows from the answers, and when.
func TestDialogues(t *testing.T) {
	for name, play := range map[string]func() *dialogue{
		"the first polls of a life": func() *dialogue {
			d := talk(Config{}, state.Snapshot{})
			d.run(7, nothing)
			return d
		},
		"a window that fails while the service answers is set aside and read in halves": func() *dialogue {
			d := talk(Config{}, found)
			d.run(13, failing(-100*time.Second, -90*time.Second, OfWindow))
			d.run(10, nothing)
			return d
		},
		"a service that fails at all is asked for halves, and nothing is set aside": func() *dialogue {
			d := talk(Config{}, found)
			d.run(2, nothing)
			d.run(24, func(Request) Answer { return Answer{Failure: OfWindow, Reason: "500"} })
			return d
		},
		"an operator must act": func() *dialogue {
			d := talk(Config{}, found)
			d.run(2, nothing)
			d.run(5, func(Request) Answer { return Answer{Failure: OfOperator, Reason: "403"} })
			return d
		},
		"a service that throttles is obeyed": func() *dialogue {
			d := talk(Config{}, found)
			d.run(2, nothing)
			d.run(3, func(Request) Answer { return Answer{Failure: OfService, After: time.Minute} })
			return d
		},
		"a limit that is met splits down to two seconds and is left out then": func() *dialogue {
			d := talk(Config{Limit: 2}, state.Snapshot{Found: true, Watermark: noon.Add(-4 * time.Second)})
			d.run(18, rows(100*time.Millisecond, 0))
			return d
		},
		"a round number of rows may be a cap": func() *dialogue {
			d := talk(Config{}, found)
			d.run(12, rows(50*time.Millisecond, 1000))
			return d
		},
		"invalid text may hide that an answer met a cap": func() *dialogue {
			d := talk(Config{}, found)
			some := rows(100*time.Millisecond, 1000)
			d.run(12, func(r Request) Answer {
				a := some(r)
				if a.Rows = min(a.Rows, 987); r.Since.Before(noon.Add(-time.Minute)) { // the rest is in the text
					a.Resynced = true
				}
				return a
			})
			return d
		},
		"pages of a short window are read in passes": func() *dialogue {
			d := talk(Config{PageSize: 1000}, state.Snapshot{Found: true, Watermark: noon.Add(-time.Second)})
			d.run(2, nothing)
			fresh := 50
			d.run(26, func(r Request) Answer {
				if r.Since.After(noon.Add(-2*time.Minute)) || r.Until.Before(noon.Add(-2*time.Minute)) {
					return Answer{}
				}
				a := Answer{Rows: 50, Fresh: fresh}
				if r.Page == "" {
					a.Next = "two"
				} else {
					fresh = 0
				}
				return a
			})
			return d
		},
		"a link that is refused splits, and leaves an unread range": func() *dialogue {
			d := talk(Config{PageSize: 1000}, state.Snapshot{Found: true, Watermark: noon.Add(-30 * time.Millisecond)})
			d.run(2, nothing)
			d.run(60, func(r Request) Answer {
				if r.Page != "" {
					return Answer{Failure: OfLink, Reason: "400"}
				}
				if r.Until.Before(noon) || r.Since.After(noon) {
					return Answer{}
				}
				return Answer{Rows: 50, Fresh: 50, Next: "two"}
			})
			return d
		},
		"incomplete answers become one unread range": func() *dialogue {
			d := talk(Config{PageSize: 1000}, found)
			d.run(2, nothing)
			d.run(9, func(Request) Answer { return Answer{Partial: "a provider did not answer"} })
			return d
		},
		"a clock that goes back takes the watermark along": func() *dialogue {
			d := talk(Config{}, found)
			d.run(4, nothing)
			d.skew = -time.Hour
			d.run(4, nothing)
			return d
		},
		"ago is one request, and windows follow where it does not cover": func() *dialogue {
			d := talk(Config{Ago: 5 * time.Minute}, found)
			d.p.reach = time.Time{}
			d.run(5, nothing)
			d.run(4, func(r Request) Answer {
				if r.Ago {
					return Answer{Cached: true}
				}
				return Answer{}
			})
			return d
		},
		"one range is read": func() *dialogue {
			d := talk(Config{}, state.Snapshot{})
			d.p.Once(Range{noon.Add(-2 * time.Hour), noon.Add(-time.Hour)})
			d.run(12, failing(-100*time.Minute, -100*time.Minute+time.Second, OfWindow))
			d.run(40, nothing)
			return d
		},
		"unread ranges of other filters are taken over": func() *dialogue {
			u := state.UnreadRange{Since: noon.Add(-time.Hour), Until: noon.Add(-50 * time.Minute), Reason: "500"}
			d := talk(Config{}, state.Snapshot{Neighbour: noon.Add(-30 * time.Minute),
				NeighbourUnread: []state.UnreadRange{u}})
			d.run(5, nothing)
			return d
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := play().out.String()
			file := filepath.Join("testdata", strings.ReplaceAll(name, " ", "_")+".txt")
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil || got != string(want) {
				t.Errorf("got\n%s\nwant\n%s\n%v", got, want, err)
			}
		})
	}
}

// After a fault of ours in the midst of a poll nothing is passed by: the next begins where the watermark is.
func TestAnAbandonedPollPassesNothingBy(t *testing.T) {
	d := talk(Config{}, state.Snapshot{Found: true, Watermark: noon.Add(-3 * time.Hour)})
	d.run(3, nothing) // the time, a glance, the first window of an hour
	if step := d.p.Next(d.clock()); step.Kind != Ask {
		t.Fatalf("%+v", step)
	}
	was := d.p.Watermark()
	d.p.Abandon(d.local.Add(time.Minute))
	d.run(1, nothing)
	if step := d.p.Next(d.clock()); step.Kind != Ask || !step.Request.Window.Since.Equal(was) ||
		!was.Equal(noon.Add(-2*time.Hour)) {
		t.Errorf("asks from %s, the watermark was %s", at(step.Request.Window.Since), at(was))
	}
}

// However the service answers, nothing is asked before it is due, no time is passed by that was neither read nor set
// aside, and what is remembered stays bounded.
func TestNoTimeIsPassedBy(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		cfg := Config{Limit: []int{0, 3}[r.IntN(2)]}
		if r.IntN(2) == 0 {
			cfg = Config{PageSize: 10}
		}
		d := talk(cfg, state.Snapshot{})
		d.p.cfg.Jitter = r.Float64
		read := map[Range]bool{}
		for range 400 {
			step := d.p.Next(d.clock())
			if step.Kind == Wait {
				d.local = step.At.Add(time.Duration(r.IntN(2)) * time.Millisecond)
				continue
			}
			if d.local.Before(d.p.due) {
				t.Fatalf("seed %d: asked %s before it is due", seed, d.p.due.Sub(d.local))
			}
			var a Answer
			switch r.IntN(8) {
			case 0:
				a = Answer{Failure: Failure(1 + r.IntN(5)), Rows: r.IntN(2), Reason: "it broke"}
			case 1:
				a = Answer{Rows: r.IntN(12), Next: []string{"", "more"}[r.IntN(2)]}
			case 2:
				a = Answer{Partial: []string{"", "a part"}[r.IntN(2)], Cached: r.IntN(2) == 0}
			case 3:
				a = Answer{Rows: 3, Failure: OfWindow, Cut: true, Reason: "cut"}
			}
			a.Fresh = r.IntN(a.Rows + 1)
			if cfg.PageSize == 0 {
				a.Next, a.Partial = "", ""
			}
			if step.Kind == Ask && a.Failure == None && a.Partial == "" {
				read[step.Request.Window] = true
			}
			before := d.p.Watermark()
			d.local = d.local.Add(time.Duration(r.IntN(1000)) * time.Millisecond)
			d.sure, d.known = d.known, true
			d.p.Answer(d.clock(), a)
			d.p.Facts()
			if !before.IsZero() && d.p.Watermark().After(before) {
				covered(t, seed, before, d.p.Watermark(), read, d.p.Unread())
			}
			if n := len(d.p.Unread()) + len(d.p.poll.stack); n > MostUnread+mostWindows {
				t.Fatalf("seed %d: %d windows and ranges", seed, n)
			}
		}
	}
}

// covered fails unless all from since to until was read or is unread.
func covered(t *testing.T, seed uint64, since, until time.Time, read map[Range]bool, unread []state.UnreadRange) {
	t.Helper()
	for moved := true; moved && since.Before(until); {
		moved = false
		step := func(r Range) {
			if !r.Since.After(since) && r.Until.After(since) {
				since, moved = r.Until, true
			}
		}
		for r := range read {
			step(r)
		}
		for _, u := range unread {
			step(rangeOf(u))
		}
	}
	if since.Before(until) {
		t.Fatalf("seed %d: the watermark went from %s to %s, which was not read", seed, at(since), at(until))
	}
}
