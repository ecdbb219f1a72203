package defendersim

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sort"
	"time"
)

// Row is an alert in the ledger.
type Row struct {
	Alert
	ID    string    // Alert.Key
	Added time.Time // when the service got it; it comes in no earlier answer
	Fate
	at  int64 // LastProcessed in unix ns
	seq int
}

func (r *Row) timed() bool { return !r.LastProcessed.IsZero() }

type rowStore struct {
	timed   []*Row // by at, then seq
	untimed []*Row // by seq
	byKey   map[string]*Row
	seq     int
}

// Add gives alerts to the service. It panics when a Key comes twice, since no reader could tell such rows apart.
func (s *Service) Add(alerts ...Alert) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	st := &s.rows
	inOrder := true
	for _, a := range alerts {
		st.seq++
		r := &Row{Alert: a, ID: a.Key(), Added: now, at: nanos(a.LastProcessed), seq: st.seq}
		if r.VisibleAt.IsZero() {
			if r.VisibleAt = r.LastProcessed; !r.timed() {
				r.VisibleAt = now
			}
		}
		if st.byKey[r.ID] != nil {
			panic(fmt.Sprintf("defendersim: alert added twice: %.200s", r.ID))
		}
		st.byKey[r.ID] = r
		if !r.timed() {
			st.untimed = append(st.untimed, r)
			continue
		}
		n := len(st.timed)
		inOrder = inOrder && (n == 0 || st.timed[n-1].at <= r.at)
		st.timed = append(st.timed, r)
	}
	if !inOrder {
		// Nearly sorted, so that the stable sort's insertion passes do little.
		slices.SortStableFunc(st.timed, func(a, b *Row) int {
			switch {
			case a.at < b.at:
				return -1
			case a.at > b.at:
				return 1
			}
			return a.seq - b.seq
		})
	}
	if s.cfg.Retain > 0 {
		st.forget(now.Add(-s.cfg.Retain))
	}
}

func (st *rowStore) forget(before time.Time) {
	drop := func(rows []*Row) []*Row {
		n := 0
		for n < len(rows) && rows[n].VisibleAt.Before(before) {
			delete(st.byKey, rows[n].ID)
			rows[n] = nil
			n++
		}
		return rows[n:]
	}
	st.timed, st.untimed = drop(st.timed), drop(st.untimed)
}

// answerRows are the rows of one answer, with their texts as they are now.
func (s *Service) answerRows(q Query, m Modes, now time.Time, rnd func() *rand.Rand) (rows []*Row, texts [][]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	rows = s.rows.choose(q, m, now, rnd)
	texts = make([][]byte, len(rows))
	for i, r := range rows {
		texts[i] = r.text(r.Text, now)
	}
	return rows, texts
}

func (st *rowStore) choose(q Query, m Modes, now time.Time, rnd func() *rand.Rand) []*Row {
	since, until := nanos(q.Since), nanos(q.Until)
	if m.TruncateBounds > 0 {
		since, until = floor(since, m.TruncateBounds), floor(until, m.TruncateBounds)
	}
	in := func(at int64) bool {
		if m.TruncateRows > 0 {
			at = floor(at, m.TruncateRows)
		}
		if at < since || m.SinceExclusive && at == since {
			return false
		}
		return at < until || at == until && !m.UntilExclusive
	}
	end := until
	if m.TruncateRows > 0 && end < math.MaxInt64-int64(m.TruncateRows) {
		end += int64(m.TruncateRows)
	}
	var timed, untimed []*Row
	first := sort.Search(len(st.timed), func(i int) bool { return st.timed[i].at >= since })
	for _, r := range st.timed[first:] {
		if r.at > end {
			break
		}
		if in(r.at) && !r.VisibleAt.After(now) && q.Filter.Match(&r.Alert) {
			timed = append(timed, r)
		}
	}
	for _, r := range st.untimed {
		if !r.VisibleAt.After(now) && now.Before(r.VisibleAt.Add(m.untimedFor())) && q.Filter.Match(&r.Alert) {
			untimed = append(untimed, r)
		}
	}
	rows := timed
	switch {
	case len(untimed) == 0:
	case m.UntimedNewest:
		rows = append(timed, untimed...)
	default:
		rows = append(untimed, timed...)
	}
	if q.Limit >= 0 {
		rows = newest(rows, q.Limit, m, rnd)
	}
	if m.Cap > 0 {
		rows = newest(rows, m.Cap, m, rnd)
	}
	switch m.Order {
	case Descending:
		slices.Reverse(rows)
	case Random:
		rnd().Shuffle(len(rows), func(i, j int) { rows[i], rows[j] = rows[j], rows[i] })
	}
	return rows
}

// newest keeps the last n rows. Which of equally old rows stay is by chance under Random, else by arrival.
func newest(rows []*Row, n int, m Modes, rnd func() *rand.Rand) []*Row {
	cut := len(rows) - n
	if cut <= 0 {
		return rows
	}
	if m.Order == Random && n > 0 {
		from, to := cut, cut
		for from > 0 && rows[from-1].at == rows[cut].at {
			from--
		}
		for to < len(rows) && rows[to].at == rows[cut].at {
			to++
		}
		tie := rows[from:to]
		rnd().Shuffle(len(tie), func(i, j int) { tie[i], tie[j] = tie[j], tie[i] })
	}
	return rows[cut:]
}

// Match says whether the filter lets the alert through.
func (f Filter) Match(a *Alert) bool {
	return (len(f.MachineGroups) == 0 || slices.Contains(f.MachineGroups, a.MachineGroup)) &&
		(f.DeviceTag == "" || slices.Contains(a.DeviceTags, f.DeviceTag)) &&
		(f.CloudTag == "" || slices.Contains(a.CloudTags, f.CloudTag))
}

// Ledger is every row the service has, those without a usable time last, else by LastProcessed. Texts and slices are
// shared with the service: read only.
func (s *Service) Ledger() []Row {
	s.mu.Lock()
	defer s.mu.Unlock()
	rows := make([]Row, 0, len(s.rows.timed)+len(s.rows.untimed))
	for _, list := range [][]*Row{s.rows.timed, s.rows.untimed} {
		for _, r := range list {
			rows = append(rows, *r)
		}
	}
	return rows
}

// Due is what a reader must have been given that started at service time since, asked last at service time at, and
// counts on rows becoming visible within overlap of their LastProcessedTimeUtc: rows the filter lets through,
// processed from since on, visible at that time, in time. Rows without a usable time are due when they became visible
// between since and at; the caller knows whether the reader asked at all within Modes.UntimedFor of that. Poisoned
// rows are included.
func (s *Service) Due(f Filter, since, at time.Time, overlap time.Duration) []Row {
	return slices.DeleteFunc(s.Ledger(), func(r Row) bool {
		if !f.Match(&r.Alert) || r.VisibleAt.After(at) || r.Added.After(at) {
			return true
		}
		if !r.timed() {
			return r.VisibleAt.Before(since)
		}
		late := r.VisibleAt
		if r.Added.After(late) {
			late = r.Added
		}
		return r.LastProcessed.Before(since) || r.LastProcessed.After(at) || late.After(r.LastProcessed.Add(overlap))
	})
}

// Lookup finds a row by its key.
func (s *Service) Lookup(key string) (Row, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.rows.byKey[key]; r != nil {
		return *r, true
	}
	return Row{}, false
}

// nanos is unix ns, held at the ends of what an int64 can say (before 1678, after 2262).
func nanos(t time.Time) int64 {
	switch {
	case t.Year() < 1678:
		return math.MinInt64
	case t.Year() > 2261:
		return math.MaxInt64
	}
	return t.UnixNano()
}

func floor(n int64, unit time.Duration) int64 {
	if n == math.MinInt64 || n == math.MaxInt64 {
		return n
	}
	rest := n % int64(unit)
	if rest < 0 {
		rest += int64(unit)
	}
	return n - rest
}

// stamp writes a time as the service does: UTC, up to 7 fractional digits, trailing zeros left out.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.9999999Z") }

func replaceOnce(text []byte, old, new string) []byte {
	return bytes.Replace(text, []byte(old), []byte(new), 1)
}
