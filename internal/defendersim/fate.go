package defendersim

import (
	"fmt"
	"slices"
	"time"
)

// Fate is what befell a row, of either API.
type Fate struct {
	Poisoned    bool      // rendered broken until PoisonUntil
	PoisonUntil time.Time // zero: for ever
	Broken      []byte    // what comes instead of its text
	Served      int       // answers that carried it whole, as far as the wire could tell
	FirstServed time.Time //
	ServedWhole int       // those of them that were sent to their end
}

// text is what an answer at the time now carries of a row with this text.
func (f *Fate) text(text []byte, now time.Time) []byte {
	if f.Poisoned && (f.PoisonUntil.IsZero() || now.Before(f.PoisonUntil)) {
		return f.Broken
	}
	return text
}

// Poison renders the row, or the version of an alert of Graph, with this key broken until the given time (zero: for
// ever): garbage stands in the middle of its text. Empty garbage means the control character 0x01, a syntax error
// inside and outside of strings.
func (s *Service) Poison(key string, until time.Time, garbage string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var fate *Fate
	var text []byte
	if r := s.rows.byKey[key]; r != nil {
		fate, text = &r.Fate, r.Text
	} else if v := s.graph.byKey[key]; v != nil {
		fate, text = &v.Fate, v.Text
	} else {
		panic(fmt.Sprintf("defendersim: no alert to poison: %.200s", key))
	}
	if garbage == "" {
		garbage = "\x01"
	}
	mid := len(text) / 2
	fate.Broken = slices.Concat(text[:mid], []byte(garbage), text[mid:])
	fate.Poisoned, fate.PoisonUntil = true, until
}

// served notes in the ledger what an answer carried.
func (s *Service) served(fates []*Fate, at time.Time, whole bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range fates {
		if f.Served++; f.Served == 1 {
			f.FirstServed = at
		}
		if whole {
			f.ServedWhole++
		}
	}
}
