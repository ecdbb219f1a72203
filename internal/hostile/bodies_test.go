package hostile

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"fluent-bit-defender/internal/defendersim"
	"fluent-bit-defender/internal/flbhost"
)

// attack is a hostile answer and what must come of it. In every case the alerts beside it come whole, pulling goes on
// afterwards, and the memory stays within the bound.
type attack struct {
	faults []*defendersim.Fault // of the next answers, one each
	tokens []*defendersim.Fault // of the next answers of the token endpoint; the token is taken away before
	stanza string
	says   []string            // words of one line of the log, a warning at least
	beside []defendersim.Alert // in the same answer
	raw    string              // some text of the one raw record that must come; "": none may
	why    string              // its error
	pieces int                 // characters, if it comes in several
}

// run lets the attack happen to a host that idles, and looks at what comes of it.
func (a attack) run(w *world, name string) {
	o := options(w.config("info", a.stanza))
	h, got := w.run(o)
	w.arrive(h, got, w.add())
	g := newGauge(w.T, h)
	if len(a.tokens) > 0 {
		w.svc.Queue(defendersim.KindToken, a.tokens...)
		w.svc.RevokeTokens()
	}
	w.svc.Queue(defendersim.KindAlerts, a.faults...)
	for _, b := range a.beside {
		w.arrive(h, got, b)
	}
	if a.raw != "" {
		h.MustAwait(w.T, limit, "the raw record", func(*flbhost.View) bool { return got.rawWith(a.raw) > 0 })
	}
	if len(a.says) > 0 {
		if err := h.Await(20*time.Second, fmt.Sprintf("a line with %q", a.says),
			func(v *flbhost.View) bool { return says(v, a.says...) }); err != nil {
			w.Error(err)
		}
	}
	w.arrive(h, got, w.add()) // pulling goes on
	g.note(name)
	h.MustStop(w.T, limit)
	quiet(w.T, h)
	for _, b := range a.beside {
		got.whole(w.T, b)
	}
	a.checkRaw(w.T, got)
}

func (a attack) checkRaw(t *testing.T, got *arrivals) {
	t.Helper()
	if a.raw == "" {
		if len(got.raw) > 0 {
			t.Errorf("%d raw records came, the first %.200q", len(got.raw), got.raw[0].String("raw"))
		}
		return
	}
	if len(got.raw) != 1 && a.pieces == 0 || got.rawWith(a.raw) != 1 {
		t.Errorf("%d raw records came", len(got.raw))
	}
	characters := 0
	for _, r := range got.raw {
		characters += utf8.RuneCountInString(r.String("raw"))
		if why := r.String("error"); !strings.Contains(why, a.why) || len(r) != 2 {
			t.Errorf("a raw record of %d fields with the error %q, want %q", len(r), why, a.why)
		}
	}
	if a.pieces > 0 && characters != a.pieces {
		t.Errorf("%d characters of %d came in raw records", characters, a.pieces)
	}
}

// part writes a piece of a body.
type part func(io.Writer) error

func text(s string) part {
	return func(w io.Writer) error { _, err := io.WriteString(w, s); return err }
}

// repeat writes unit again and again until that are size bytes.
func repeat(unit string, size int64) part {
	return func(w io.Writer) error {
		block := []byte(strings.Repeat(unit, max(1, (256<<10)/len(unit))))
		for left := size / int64(len(unit)) * int64(len(unit)); left > 0; left -= int64(len(block)) {
			if _, err := w.Write(block[:min(left, int64(len(block)))]); err != nil {
				return err
			}
		}
		return nil
	}
}

// numbered writes n pieces, made by format from their number.
func numbered(n int, format string) part {
	return func(w io.Writer) error {
		var b bytes.Buffer
		for i := range n {
			fmt.Fprintf(&b, format, i)
			if b.Len() >= 256<<10 || i == n-1 {
				if _, err := b.WriteTo(w); err != nil {
					return err
				}
			}
		}
		return nil
	}
}

// then flushes what was written and waits until done is closed, writing trickle each second.
func then(done <-chan struct{}, trickle string) part {
	return func(w io.Writer) error {
		w.(http.Flusher).Flush()
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return io.ErrUnexpectedEOF
			case <-tick.C:
			}
			if trickle == "" {
				continue
			}
			if _, err := io.WriteString(w, trickle); err != nil {
				return err
			}
			w.(http.Flusher).Flush()
		}
	}
}

// page answers with these parts, one after the other.
func page(parts ...part) *defendersim.Fault {
	return defendersim.Page("page", "", func(w io.Writer) error {
		for _, p := range parts {
			if err := p(w); err != nil {
				return err
			}
		}
		return nil
	})
}

// beside returns an answer with two good alerts, and the parts of one row between them.
func (w *world) beside(parts ...part) (*defendersim.Fault, []defendersim.Alert) {
	at := w.svc.Now().Add(-2 * time.Second)
	a, b := w.gen.Alert(at), w.gen.Alert(at)
	all := append([]part{text("["), text(string(a.Text)), text(",")}, parts...)
	return page(append(all, text(","), text(string(b.Text)), text("]"))...), []defendersim.Alert{a, b}
}

// times is the same answer n times in a row.
func times(n int, f *defendersim.Fault) (all []*defendersim.Fault) {
	for range n {
		all = append(all, f)
	}
	return all
}

// size is a size of the issue where SOAK is set, else a smaller one for CI.
func size(soak, ci int64) int64 {
	if soaking {
		return soak
	}
	return ci
}

func TestHostileRows(t *testing.T) {
	t.Parallel()
	f := func(name string, answers int, a attack, parts ...part) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, defendersim.Config{})
			fault, beside := w.beside(parts...)
			a.beside, a.faults = beside, times(answers, fault)
			a.run(w, name)
		})
	}
	const large, deep = "larger than 1000000 bytes", "nested deeper than 28 levels"
	row := `{"AlertId":"large","AlertPart":0,"Description":"`
	n := size(200, 48)
	f(fmt.Sprintf("one row of %d MB", n), 1, attack{raw: row, why: large, says: []string{"raw", large}},
		text(row), repeat("A", n*mb), text(`"}`))
	f("a million keys in one row", 1, attack{raw: `"k1":1,"k2":1`, why: large, says: []string{"raw", large}},
		text(`{"AlertId":"keys"`), numbered(1_000_000, `,"k%d":1`), text("}"))
	f("depth 100,000", 1, attack{raw: `"AlertId":"deep"`, why: deep, says: []string{"raw", deep}},
		text(`{"AlertId":"deep","Deep":`), repeat("[", 100_000), repeat("]", 100_000), text("}"))
	// Deeper than the scanner counts is a syntax error, and comes in pieces.
	begin := `{"AlertId":"deeper","Deep":`
	f("depth 2,000,000", 5,
		attack{raw: begin, why: "no valid JSON", pieces: len(begin) + 4_000_000 + 1, says: []string{"same syntax error",
			"raw"}},
		text(begin), repeat("[", 2_000_000), repeat("]", 2_000_000), text("}"))
	begin = `{"AlertId":"bytes","Description":"`
	f("a row of 8 MB that is no JSON", 5, // each byte that is no UTF-8 becomes one character
		attack{raw: begin, why: "no valid JSON", pieces: len(begin) + 3_000_000 + 1 + 4_000_000 + 2,
			says: []string{"same syntax error", "raw"}},
		text(begin), repeat("\xff\xfe\x80", 3_000_000), text("\x01"), repeat("\x00", 4_000_000), text(`"}`))
}
