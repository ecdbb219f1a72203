package ledger

import (
	"testing"
	"time"

	"fluent-bit-defender/plan"
	"fluent-bit-defender/record"
	"fluent-bit-defender/state"
)

func TestWithinUnreadRanges(t *testing.T) {
	at := func(s int) time.Time { return time.Unix(1_700_000_000+int64(s), 0) }
	var ranges []state.UnreadRange
	for i := range 1000 { // of 2 s each, in pairs that touch
		ranges = append(ranges, state.UnreadRange{Since: at(100*i + 2*(i%2)), Until: at(100*i + 2*(i%2) + 2)})
	}
	slow := func(s int) bool {
		for _, g := range ranges {
			if !at(s).Before(g.Since.Add(-2*plan.Edge)) && !at(s).After(g.Until.Add(plan.Edge)) {
				return true
			}
		}
		return false
	}
	for s := -10; s < 1200; s++ {
		if got, want := within(ranges, at(s).UnixNano()), slow(s); got != want {
			t.Errorf("second %d: %t", s, got)
		}
	}
	if within(nil, 0) {
		t.Error("no range holds anything")
	}
}

// An alert is remembered with the time of its last row, becomes durable with the row, and lives longer than the row.
func TestAlertsAreRemembered(t *testing.T) {
	at := func(d time.Duration) time.Time { return time.Unix(1_700_000_000, 0).Add(d) }
	id := func(n byte) record.ID { return record.ID{n, n, n, n, n, n, n, n, n} }
	const alert = 100
	all := func(Delivered) bool { return true }
	l := New(state.Snapshot{Found: true, Watermark: at(0)}, Options{Alerts: 24 * time.Hour})
	stored := map[state.Entry]bool{}
	commit := func() {
		c, _, _ := l.Take(all)
		for _, e := range c.Drop {
			delete(stored, e)
		}
		for _, e := range c.Add {
			stored[e] = true
		}
	}
	add := func(row byte, d time.Duration) bool {
		l.Add(id(row), at(d).UnixNano(), true)
		return l.AddAlert(id(alert), at(d).UnixNano(), id(row))
	}
	if _, known := l.Alert(id(alert)); known {
		t.Error("an alert is known before any row of it came")
	}
	if !add(1, time.Minute) || add(1, time.Minute) {
		t.Error("an alert is to be delivered with its first row, and once")
	}
	commit()
	if len(stored) != 0 {
		t.Errorf("%d ids are stored before anything was delivered", len(stored))
	}
	l.Deliver(Delivered{Seq: 1, IDs: []record.ID{id(1), id(alert)}})
	commit()
	if len(stored) != 2 {
		t.Errorf("%d ids are stored, want the row's and the alert's", len(stored))
	}
	if !add(2, 2*time.Minute) {
		t.Error("a later row does not bring its alert along")
	}
	if got, known := l.Alert(id(alert)); !known || got != at(2*time.Minute).UnixNano()&^flags {
		t.Errorf("the alert's last row is of %s, known %t", time.Unix(0, got), known)
	}
	commit()
	if len(stored) != 1 { // what a crash leaves now: the alert comes again, for its second row was not delivered
		t.Errorf("%d ids are stored while the second row is not delivered, want the first row's", len(stored))
	}
	l.Deliver(Delivered{Seq: 2, IDs: []record.ID{id(2), id(alert)}})
	commit()
	if len(stored) != 3 {
		t.Errorf("%d ids are stored, want two rows and the alert", len(stored))
	}

	// Of a row that is durable already, in a life that had no successor, the alert becomes durable at once.
	if l.AddAlert(id(alert+1), at(time.Minute).UnixNano(), id(1)) {
		t.Error("an alert of a durable row is to be delivered")
	}
	commit()
	if len(stored) != 4 {
		t.Errorf("%d ids are stored, want the second alert's too", len(stored))
	}

	l.Checkpoint(Checkpoint{Seq: 2, Watermark: at(3 * time.Hour), KeepFrom: at(3 * time.Hour)})
	for range 2 {
		commit()
	}
	if len(stored) != 2 {
		t.Errorf("%d ids are stored after three hours, want the alerts'", len(stored))
	}
	l.Checkpoint(Checkpoint{Seq: 2, Watermark: at(26 * time.Hour), KeepFrom: at(26 * time.Hour)})
	for range 2 {
		commit()
	}
	if len(stored) != 0 {
		t.Errorf("%d ids are stored after a day and an hour", len(stored))
	}
	var reborn state.Snapshot
	reborn.Found, reborn.IDs = true,
		[]state.Entry{{ID: state.ID(id(alert)), Age: at(time.Minute).UnixNano()&^flags | ofAlert}}
	if got, known := New(reborn, Options{Alerts: time.Hour}).Alert(id(alert)); !known ||
		got != at(time.Minute).UnixNano()&^flags {
		t.Error("a new life does not know the alert")
	}
	if _, known := New(reborn, Options{}).Alert(id(1)); known {
		t.Error("a row is taken for an alert")
	}
}

// A ledger without news has nothing to commit. What is news: a delivery, until it is durable, and a checkpoint, which
// also lets go of what is too old to come again.
func TestTakeWithoutNews(t *testing.T) {
	at := func(d time.Duration) time.Time { return time.Unix(1_700_000_000, 0).Add(d) }
	row := record.ID{1, 2, 3}
	l := New(state.Snapshot{Found: true, Watermark: at(0)}, Options{})
	durable := true
	take := func(when string, want bool) state.Change {
		t.Helper()
		c, dirty, _ := l.Take(func(Delivered) bool { return durable })
		if dirty != want {
			t.Fatalf("%s: something to commit: %t", when, dirty)
		}
		return c
	}
	take("at first", false)
	l.Add(row, at(time.Minute).UnixNano(), true)
	take("a row that is not delivered", false)
	l.Checkpoint(Checkpoint{Seq: 1, Watermark: at(2 * time.Minute), KeepFrom: at(2 * time.Minute)})
	take("a checkpoint behind it", false)
	durable = false
	l.Deliver(Delivered{Seq: 1, IDs: []record.ID{row}})
	take("a delivery that is not durable", false)
	durable = true
	if c := take("one that is", true); len(c.Add) != 1 || !c.Watermark.Equal(at(2*time.Minute)) {
		t.Errorf("%d ids up to %s", len(c.Add), c.Watermark)
	}
	take("after all that", false)
	later := at(2*time.Minute + plan.KeepMargin)
	l.Checkpoint(Checkpoint{Seq: 1, Watermark: later, KeepFrom: later})
	if c := take("an hour later", true); len(c.Drop) != 1 || l.Len() != 0 {
		t.Errorf("%d ids are dropped, %d are left", len(c.Drop), l.Len())
	}
	take("after that", false)
}
