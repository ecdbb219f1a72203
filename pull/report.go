package pull

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"fluent-bit-defender/plan"
	"fluent-bit-defender/record"
	"fluent-bit-defender/transport"
)

const (
	tellAgain = 10 * time.Minute
	mostLines = 5 // of one streak in a minute
)

// reports is what a source tells, and has told lately.
type reports struct {
	failures streak  // requests
	aside    streak  // windows that became unread ranges
	full     streak  // unread ranges are as many as are kept
	rows     rowsLog // repaired and raw rows
	hidden   time.Time
}

// tellFailure tells of a failed request, and counts it.
func (s *Source) tellFailure(a plan.Answer, o plan.Outcome, err error) {
	if o.Wait == 0 {
		return
	}
	reason, level, kind := o.Reason, slog.LevelWarn, sortOf(o.Reason)
	if a.Failure == plan.OfOperator {
		level = slog.LevelError
	}
	var ce *transport.Error
	if errors.As(err, &ce) {
		kind = fmt.Sprintln(ce.Kind, ce.Status, ce.Code, kind)
	}
	s.run.meter.count(func(st *Stats) {
		st.Retries++
		if ce != nil && (ce.Kind == transport.KindThrottled || ce.RetryAfter > 0) {
			st.Throttled += o.Wait
		}
	})
	if o.Quiet {
		return
	}
	if o.Wait >= time.Minute/mostLines { // what comes so seldom cannot flood, and would else be told late
		s.report.failures.makeRoom()
	}
	s.report.failures.failed(s.log, level, kind, fmt.Sprintf("%s; trying again in %s, no alert is lost meanwhile",
		reason, o.Wait.Round(time.Second)))
}

// tellFacts tells what the planner found.
func (s *Source) tellFacts() {
	for _, f := range s.planner.Facts() {
		s.tell(f)
	}
}

func (s *Source) tell(f plan.Fact) {
	r := &s.report
	switch f.Kind {
	case plan.PollDone:
		r.failures.recovered(s.log, "alerts are pulled again")
	case plan.OtherFilters:
		s.log.Warn(fmt.Sprintf("no state for these filters, but the tenant was pulled with others until %s: starting "+
			"there or %s ago, whichever is "+
			"earlier; alerts pulled with the other filters may come again", f.To.Format(time.RFC3339),
			s.cfg.InitialLookback))
	case plan.ClockBack:
		s.log.Warn(fmt.Sprintf("the service's clock went back by %s: asking again from %s, and repeats are dropped; "+
			"if it comes again, look for a "+
			"proxy with a cache", f.By.Round(time.Second), f.To.Format(time.RFC3339)))
	case plan.SetAside:
		r.full.over()
		r.aside.failed(s.log, slog.LevelError, sortOf(f.Window.String()+f.Reason),
			fmt.Sprintf("cannot read the alerts processed from %s: %s; newer alerts go on, this range is asked again "+
				"until it can be read; "+
				"nothing to do unless it lasts for hours; unread ranges: %d", f.Window, f.Reason, f.N))
	case plan.Incomplete:
		r.full.over()
		r.failures.failed(s.log, slog.LevelWarn, "partial", fmt.Sprintf("alerts of %s are incomplete: %s; what came "+
			"is delivered, and the range is asked "+
			"again; nothing to do unless it lasts for hours; unread ranges: %d", f.Window, f.Reason, f.N))
	case plan.UnreadFull:
		r.full.failed(s.log, slog.LevelError, "full", fmt.Sprintf("%d ranges are unread already, the most that are "+
			"kept: nothing newer than %s is pulled "+
			"until one can be read; look at the reasons (defenderctl state) and open a case with Microsoft", f.N,
			f.Window))
	case plan.RangeRead:
		s.log.Info(fmt.Sprintf("the unread range from %s was read; unread ranges: %d", f.Window, f.N))
		if f.N == 0 {
			r.aside.over()
		}
	case plan.SplitWindow:
		s.log.Debug(fmt.Sprintf("asking for the halves of %s, of which %d rows came: %s", f.Window, f.N, f.Reason))
	case plan.RowsMayHide:
		if time.Since(r.hidden) > tellAgain {
			r.hidden = time.Now()
			s.log.Error(fmt.Sprintf("the service answers with %d rows at most, and %s alone has that many: alerts "+
				"may be hidden; divide them among "+
				"stanzas by filters (machine_groups)", f.N, f.Window))
		}
	}
}

// textOf is an error's text, fit for the log and for the state: a body may echo the secrets of a request.
func (s *Source) textOf(err error) string {
	var ce *transport.Error
	if errors.As(err, &ce) {
		return err.Error() // the client masks its own
	}
	return s.client.Mask(err.Error())
}

// named gives an error of an answer the name of its request, which the reader does not know and the client's own
// errors bear.
func named(err error) error {
	const request = "alerts request: "
	if err == nil || strings.HasPrefix(err.Error(), request) {
		return err
	}
	return fmt.Errorf(request+"%w", err)
}

// varying is what differs between two texts of one sort: what they quote, and words with a digit in them.
var varying = regexp.MustCompile(`"[^"]*"|'(?:[^'\\]|\\.[^']*)'|\S*\d\S*`)

// sortOf is what stays of a text that tells of the same again, at another byte, time or address.
func sortOf(text string) string {
	const most = 300
	text = strings.Join(strings.Fields(varying.ReplaceAllString(text, "")), " ")
	return text[:min(len(text), most)]
}

// streak keeps failures in a row from flooding the log: one line for each kind of failure, again every ten minutes
// with a count while it lasts, one when it is over, and no more than mostLines a minute, however the kinds alternate.
// Not safe for concurrent use.
type streak struct {
	kinds map[string]time.Time // when each was logged; their number is bounded by mostLines
	lines []time.Time          // logged in the last minute, less those that room was made for
	since time.Time
	count int // 0: all is well
	told  bool
}

func (t *streak) failed(log *slog.Logger, level slog.Level, kind, text string) {
	now := time.Now()
	if t.count == 0 {
		t.since = now
	}
	t.count++
	if told, ok := t.kinds[kind]; ok && now.Sub(told) < tellAgain {
		return
	}
	t.lines = slices.DeleteFunc(t.lines, func(told time.Time) bool { return now.Sub(told) >= time.Minute })
	if len(t.lines) >= mostLines {
		return // it comes again, or something else does
	}
	t.lines = append(t.lines, now)
	maps.DeleteFunc(t.kinds, func(_ string, told time.Time) bool { return now.Sub(told) >= tellAgain })
	if t.kinds == nil {
		t.kinds = map[string]time.Time{}
	}
	t.kinds[kind] = now
	t.told = true
	if t.count > 1 {
		text = fmt.Sprintf("%s (%d failures since %s)", text, t.count, t.since.UTC().Format(time.RFC3339))
	}
	log.Log(context.Background(), level, text)
}

// makeRoom lets one line more be logged this minute.
func (t *streak) makeRoom() {
	if len(t.lines) > 0 {
		t.lines = t.lines[1:]
	}
}

// recovered says that it is over, if it was said that it began.
func (t *streak) recovered(log *slog.Logger, text string) {
	if t.told {
		failures := "1 failure"
		if t.count != 1 {
			failures = fmt.Sprintf("%d failures", t.count)
		}
		log.Info(fmt.Sprintf("%s after %s", text, failures))
	}
	t.over()
}

// over ends the streak without a word.
func (t *streak) over() { *t = streak{lines: t.lines} }

// rowsLog tells of rows that were repaired or delivered raw: each reason at once, then every ten minutes with a count.
type rowsLog map[string]*rowsTold

type rowsTold struct {
	told time.Time
	rows int
}

// unusual tells of a row that did not become a record as it was.
func (r *reports) unusual(log *slog.Logger, row *record.Row) {
	switch {
	case row.Raw:
		remedy := "look at records with raw and error"
		if strings.HasPrefix(row.Reason, "larger than") {
			remedy = "raise max_alert_size"
		}
		r.rows.came(log, sortOf(row.Reason), fmt.Sprintf("a row of %d bytes cannot become a record: %s; it is "+
			"delivered raw, with the error beside "+
			"it; %s", row.Size, row.Reason, remedy))
	case row.Repaired:
		r.rows.came(log, "repaired", "a row holds bad UTF-8 or lone surrogates: they are repaired as U+FFFD; "+
			"nothing to do")
	}
}

func (l *rowsLog) came(log *slog.Logger, reason, text string) {
	if *l == nil || len(*l) >= 100 { // they are a dozen
		*l = rowsLog{}
	}
	t := (*l)[reason]
	if t == nil {
		t = &rowsTold{}
		(*l)[reason] = t
	}
	t.rows++
	if !t.told.IsZero() && time.Since(t.told) < tellAgain {
		return
	}
	t.told = time.Now()
	rows := "1 such row"
	if t.rows > 1 {
		rows = fmt.Sprintf("%d such rows", t.rows)
	}
	log.Warn(fmt.Sprintf("%s (%s so far)", text, rows))
}
