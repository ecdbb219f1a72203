package pull

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime/debug"
	"time"

	"fluent-bit-defender/client"
	"fluent-bit-defender/plan"
	"fluent-bit-defender/record"
)

const (
	sameSyntax   = 3        // answers that end at the same syntax error before the invalid text is delivered raw
	progressMost = 64 << 30 // bytes of an answer without a new alert, after which it is given up
)

// answer is the reading of one answer.
type answer struct {
	plan.Answer
	source *Source
	req    plan.Request
	reader *record.Reader
	body   progressBody
	buf    *buffer // that is being filled
	held   bool    // the download waited for room in the queue
	// counts since they were last told
	rows, duplicates uint64
}

// request sends one request and keeps every row that comes whole, also of an answer that breaks later.
func (s *Source) request(ctx context.Context, req plan.Request) (plan.Answer, error) {
	q := client.Query{Since: req.Since, Until: req.Until, Limit: req.Limit}
	switch {
	case req.Page != "":
		q = client.Query{Page: req.Page}
	case req.Ago:
		q = client.Query{Ago: s.cfg.AgoText, Limit: req.Limit}
	}
	asked := time.Now()
	ans, err := s.client.Fetch(ctx, q)
	if err != nil {
		s.run.meter.request(err, false, asked)
		return plan.Answer{}, err
	}
	defer ans.Body.Close()
	a := answer{source: s, req: req, reader: s.run.readers.get(s), buf: s.run.unpark(&s.lane)}
	defer s.run.readers.put(s, a.reader)
	a.body = progressBody{body: ans.Body, most: s.run.progressMost}
	a.reader.Reset(&a.body, func() time.Time { return req.Now })
	a.reader.SetTenant(s.cfg.TenantID)
	a.reader.Resync(a.passOver)
	err = named(a.read(ctx))
	s.run.park(&s.lane, a.buf)
	a.count()

	var syntax *record.SyntaxError
	a.Cut = err != nil && a.held && !errors.As(err, &syntax)
	a.Cached, a.Partial = ans.Cached, ans.Partial
	if err == nil {
		a.Next = a.reader.NextLink()
	}
	s.run.meter.request(err, ans.Partial != "", asked)
	s.run.meter.count(func(st *Stats) { st.BytesRead += uint64(a.reader.Offset()) })
	if s.log.Enabled(ctx, slog.LevelDebug) {
		s.log.Debug(fmt.Sprintf("%s: %d rows, %d new, %d bytes in %s", req.Window, a.Rows, a.Fresh, a.reader.Offset(),
			time.Since(asked).Round(time.Millisecond)))
	}
	return a.Answer, err
}

// read reads all rows. A fault of ours in one answer must not hide what is newer: it counts as the window's own
// failure.
func (a *answer) read(ctx context.Context) (err error) {
	defer func() {
		if r := recover(); r != nil {
			a.source.log.Error(fmt.Sprintf("internal error while reading an answer: %v; please report this: %s", r,
				debug.Stack()))
			err = fmt.Errorf("internal error: %v; please report the error line before", r)
		}
	}()
	for err == nil {
		err = a.row(ctx)
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// progressBody is a body that fails once more than most bytes of it came without a new row: white space, repetitions
// or one row without end would else keep the source busy for ever.
type progressBody struct {
	body       io.Reader
	read, most int64
}

func (b *progressBody) Read(p []byte) (int, error) {
	if b.read > b.most {
		return 0, fmt.Errorf("%d MiB came without a new alert: the answer has no end; if it lasts, look for a proxy "+
			"that repeats answers, "+
			"and report it to Microsoft", b.read>>20)
	}
	n, err := b.body.Read(p)
	b.read += int64(n)
	return n, err
}

// row reads one row into the buffer; it waits while the queue is full. io.EOF: the answer is read to its end.
func (a *answer) row(ctx context.Context) error {
	s, run := a.source, a.source.run
	at := len(a.buf.data)
	data, row, err := a.reader.Next(a.buf.data)
	if err != nil {
		return err
	}
	a.Rows++
	a.rows++
	own := row.Updated != 0 && row.Updated >= a.req.Window.Since.Add(-2*plan.Edge).UnixNano() &&
		row.Updated <= a.req.Window.Until.Add(plan.Edge).UnixNano()
	t := row.Updated
	if !own {
		a.Outside++
	}
	if s.outsideOnce(&row) {
		a.buf.data = data[:at]
		return ctx.Err()
	}
	if !own || s.firstOnly() {
		t, own = a.req.Now.UnixNano(), false
	}
	fresh := !s.came(&row) && s.ledger.Add(row.ID, t, own)
	alert := s.remember(&row, a.req.Now)
	if !fresh {
		a.duplicates++
		a.buf.data = data[:at]
		return ctx.Err()
	}
	a.Fresh++
	a.body.read = 0
	if at > 0 && len(data) > run.opt.BatchSize { // the row begins the next buffer
		a.buf.data = data[:at]
		a.push(data[at:])
	} else {
		a.buf.data = data
	}
	if a.buf.rows++; a.buf.rows == 1 {
		a.buf.opened = time.Now()
	}
	a.buf.IDs = append(a.buf.IDs, row.ID)
	if alert != (record.ID{}) {
		a.buf.IDs = append(a.buf.IDs, alert)
	}
	a.unusual(&row)
	if len(a.buf.data) >= run.opt.BatchSize || run.hungry.Load() && time.Since(a.buf.opened) >= openFor {
		a.push(nil)
	}
	if _, full := run.crowded(&s.lane, len(a.buf.data)); !full {
		return ctx.Err()
	}
	if a.buf.rows > 0 {
		a.push(nil)
	}
	if _, full := run.crowded(&s.lane, 0); full {
		a.held = true
		if !run.wait(ctx, &s.lane) {
			return ctx.Err()
		}
	}
	return nil
}

// push gives away the buffer; rest begins the next one.
func (a *answer) push(rest []byte) {
	a.buf = a.source.run.push(&a.source.lane, a.buf, rest)
	a.count()
}

// count tells the meter of the rows since it was last told.
func (a *answer) count() {
	a.source.run.meter.count(func(st *Stats) { st.Rows, st.Duplicates = st.Rows+a.rows, st.Duplicates+a.duplicates })
	a.rows, a.duplicates = 0, 0
}

func (s *Source) firstOnly() bool { return s.cfg.Updates == "first" }

// unusual counts and tells of a row that did not become a record as it was.
func (a *answer) unusual(row *record.Row) {
	if row.Repaired {
		a.buf.repaired++
	}
	if row.Raw {
		a.buf.raw++
	}
	a.source.report.unusual(a.source.log, row)
}

// syntaxErrors counts the answers that ended at each syntax error.
type syntaxErrors map[record.ID]int

// mostSyntax bounds the syntax errors that are remembered.
const mostSyntax = 10_000

// passOver decides, at a syntax error, whether the invalid text is delivered raw: when three answers ended there, and
// then for the rest of that answer and for the same text in any other.
func (a *answer) passOver(sig record.ID) bool {
	s := a.source
	n := s.syntax[sig] + 1
	if n < sameSyntax && !a.Resynced {
		s.syntax.set(sig, n)
		return false
	}
	if n <= sameSyntax || a.Resynced && n < sameSyntax {
		s.report.rows.came(s.log, "syntax", fmt.Sprintf("an answer for %s has the same syntax error again: the "+
			"invalid text is delivered raw, "+
			"with the error beside it; look at records with raw and error, and report them to Microsoft", a.req.Window))
	}
	s.syntax.set(sig, sameSyntax)
	a.Resynced = true
	return true
}

func (m *syntaxErrors) set(sig record.ID, n int) {
	if *m == nil || len(*m) >= mostSyntax {
		*m = syntaxErrors{}
	}
	(*m)[sig] = n
}
