package pull

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"strings"
	"time"

	"fluent-bit-defender/client"
	"fluent-bit-defender/record"
	"fluent-bit-defender/state"
)

// answer is what came of one request.
type answer struct {
	rows  int   // all that came
	fresh int   // of which not seen before
	alien int   // of which without a usable time, or of one that was not asked for
	err   error // nil: it was read to its end
	cut   bool  // it broke after we had held the download

	salvaged bool // it held bad text, which was handed over raw
	cached   bool // it may be older than its request

	next    string // the link to its next page
	partial string // why the service calls it incomplete
}

// request sends one request and keeps every row that comes whole, also of an answer that breaks later.
func (e *Engine) request(ctx context.Context, pc *piece, q client.Query, now time.Time) (got answer) {
	e.asked, e.held, e.salvage = pc, false, false
	asked := time.Now()
	if q.Page == "" {
		pc.asked = asked
	}
	ans, err := e.client.Fetch(ctx, q)
	if err != nil {
		e.countRequest(err, false, asked)
		return answer{err: err}
	}
	e.cur = e.unpark()
	e.body = barren{body: ans.Body, most: e.barrenMost}
	e.reader.Reset(&e.body, func() time.Time { return now })
	func() {
		defer ans.Body.Close()
		defer func() { // a fault of ours in one answer must not hide what is newer: it counts as the step's own failure
			if r := recover(); r != nil {
				e.log.Error(fmt.Sprintf("internal error while reading an answer: %v; please report this: %s", r, debug.Stack()))
				got.err = fmt.Errorf("internal error: %v; please report the error line before", r)
			}
		}()
		for got.err == nil {
			got.err = e.row(ctx, pc, now, &got)
		}
	}()
	if errors.Is(got.err, io.EOF) {
		got.err = nil
	}
	got.err = named(got.err)
	got.salvaged, got.cached, got.next, got.partial = e.salvage, ans.Cached, e.reader.NextLink(), ans.Partial
	e.park(e.cur)
	e.cur = nil
	var syntax *record.SyntaxError
	got.cut = got.err != nil && e.held && !errors.As(got.err, &syntax)
	e.countRequest(got.err, ans.Partial != "", asked)
	e.count(func(s *Stats) { s.BytesRead += uint64(e.reader.Offset()) })
	e.log.Debug(fmt.Sprintf("%s: %d rows, %d new, %d bytes in %s", pc, got.rows, got.fresh, e.reader.Offset(), time.Since(asked).Round(time.Millisecond)))
	return got
}

// barren is a body that fails once more than most bytes of it came without a new row: white space, repetitions or one row without end would
// else keep the stanza busy for ever.
type barren struct {
	body       io.Reader
	read, most int64
}

func (b *barren) Read(p []byte) (int, error) {
	if b.read > b.most {
		return 0, fmt.Errorf("%d MiB came without a new alert: the answer has no end; if it lasts, look for a proxy that repeats answers, and report it to Microsoft", b.read>>20)
	}
	n, err := b.body.Read(p)
	b.read += int64(n)
	return n, err
}

// row reads one row into the current batch; it waits while the queue is full. io.EOF: the answer is read to its end.
func (e *Engine) row(ctx context.Context, pc *piece, now time.Time, got *answer) error {
	at := len(e.cur.Data)
	data, row, err := e.reader.Next(e.cur.Data)
	if err != nil {
		return err
	}
	got.rows++
	fresh, asked := e.remembered(pc, row, now)
	if !asked {
		got.alien++
	}
	if !fresh {
		e.cur.Data = data[:at]
		return ctx.Err()
	}
	got.fresh++
	e.body.read = 0
	if at > 0 && len(data) > e.cfg.BatchSize { // the row begins the next batch
		full := e.cur
		full.Data = data[:at]
		e.cur = e.push(full)
		// The row still stands behind the end of the full batch: only this goroutine gives a buffer out again.
		e.cur.Data = append(e.cur.Data, data[at:]...)
	} else {
		e.cur.Data = data
	}
	if len(e.cur.ids) == 0 {
		e.cur.opened = time.Now()
	}
	e.cur.ids = append(e.cur.ids, row.ID)
	e.odd(row)
	e.lastSeq = e.cur.seq
	if len(e.cur.Data) >= e.cfg.BatchSize || e.hungry.Load() && time.Since(e.cur.opened) >= openFor {
		e.publish()
	}
	if len(e.cur.Data)+e.queued() < e.cfg.QueueLimit {
		return ctx.Err()
	}
	e.publish()
	if e.queued() >= e.cfg.QueueLimit {
		e.held = true
		if !e.wait(ctx) {
			return ctx.Err()
		}
	}
	return nil
}

// odd counts and tells of a row that did not become a record as it was.
func (e *Engine) odd(row record.Row) {
	if row.Repaired {
		e.cur.repaired++
	}
	switch {
	case row.Raw:
		e.cur.raw++
		remedy := "look at records with raw and error"
		if strings.HasPrefix(row.Reason, "larger than") {
			remedy = "raise max_alert_size"
		}
		e.oddities.came(e.log, sortOf(row.Reason), fmt.Sprintf("a row of %d bytes cannot become a record: %s; it is handed over raw, with the error beside it; %s", row.Size, row.Reason, remedy))
	case row.Repaired:
		e.oddities.came(e.log, "repaired", "a row holds bad UTF-8 or lone surrogates: they are repaired as U+FFFD; nothing to do")
	}
}

// remembered tells whether row is new, adds it to the seen set, and tells whether it is of the time that was asked for. A row ages by its own
// time; if that is unusable or not what was asked for, by when it last came.
func (e *Engine) remembered(pc *piece, row record.Row, now time.Time) (fresh, asked bool) {
	t, coming := row.Updated, int64(0)
	asked = t != 0 && t >= pc.since.Add(-2*edge).UnixNano() && t <= pc.until.Add(edge).UnixNano()
	if e.firstOnly || !asked {
		t, coming = now.UnixNano(), ofComing
	}
	// Within its second a row ages in the order of arrival: a commit of many rows of one time then touches neighbouring pages of the state
	// file, where the order of their hashes would touch nearly all.
	e.arrivals = (e.arrivals + 4) % int64(time.Second)
	t += e.arrivals + coming - t%int64(time.Second)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.stats.Rows++
	fresh, moved := e.seen.add(row.ID, t)
	if moved != nil {
		e.pending.Drop = append(e.pending.Drop, state.Entry{ID: state.ID(moved.id), Age: moved.old})
		e.pending.Add = append(e.pending.Add, state.Entry{ID: state.ID(moved.id), Age: moved.new})
		e.dirty = true
	}
	if !fresh {
		e.stats.Duplicates++
	}
	return fresh, asked
}

// publish hands the current batch to the queue, if it holds anything.
func (e *Engine) publish() {
	if len(e.cur.ids) == 0 {
		return
	}
	e.cur = e.push(e.cur)
}

// passOver decides, at a syntax error, whether the bad text is handed over raw: when it came three times the same, and then for the
// rest of that answer and for the same text in any other.
func (e *Engine) passOver(sig record.ID) bool {
	pc := e.asked
	if pc.syntax == nil {
		pc.syntax = map[record.ID]int{}
	}
	if !e.salvage && !e.known[sig] {
		if len(pc.syntax) >= 100 {
			clear(pc.syntax)
		}
		if pc.syntax[sig]++; pc.syntax[sig] < sameSyntax {
			return false
		}
	}
	if !e.known[sig] {
		if len(e.known) >= 10_000 {
			clear(e.known)
		}
		e.known[sig] = true
		e.oddities.came(e.log, "syntax", fmt.Sprintf("an answer for %s has the same syntax error again: the bad text is handed over raw, with the error beside it; look at records with raw and error, and report them to Microsoft", pc))
	}
	e.salvage = true
	return true
}
