package pull

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"fluent-bit-defender/client"
	"fluent-bit-defender/conf"
	"fluent-bit-defender/ledger"
	"fluent-bit-defender/plan"
	"fluent-bit-defender/record"
	"fluent-bit-defender/state"
	"fluent-bit-defender/transport"
)

// leastAlerts is how long behind the watermark the alerts of detections are remembered at least (issue 19).
const leastAlerts = 24 * time.Hour

// successor is the API that a source goes on with when its own is gone.
type successor struct {
	cfg    *conf.Config
	client *client.Client
	tune   tuning
	decide *plan.Succession
	fails  streak
}

// rememberAlerts is how long behind the watermark the alerts of detections are remembered. A row of the successor is
// asked for from an overlap before the watermark on, and may be older than the detection by one more.
func rememberAlerts(cfg *conf.Config) time.Duration {
	if cfg.Successor.Updates == "first" {
		return ledger.KeepFirst
	}
	return max(leastAlerts, 2*cfg.Overlap)
}

func (s *Source) closeClients() {
	for _, c := range s.clients {
		c.Close()
	}
}

// looks tells whether the successor is to be asked now, and else when; zero: never.
func (s *Source) looks() (ask bool, at time.Time) {
	if s.next == nil {
		return false, time.Time{}
	}
	return s.next.decide.Next(time.Now())
}

// heard notes what came of a request to the API that has a successor.
func (s *Source) heard(err error) {
	if s.next == nil || errors.Is(err, errPutOff) {
		return
	}
	var ce *transport.Error
	s.next.decide.Heard(time.Now(), errors.As(err, &ce) && ce.Gone)
}

// askSuccessor makes one request to the successor, whose rows do not matter, and goes on with it if the API is gone.
func (s *Source) askSuccessor(ctx context.Context) result {
	next := s.next
	ans, err := next.client.Fetch(ctx, client.Query{Limit: 1})
	if err == nil {
		ans.Body.Close()
	}
	now := time.Now()
	r := result{kind: plan.Glance, due: now}
	switch cause := context.Cause(ctx); {
	case err == nil:
	case cause == errPutOff:
		err = errPutOff
	case cause != nil:
		r.err = cause
		return r
	}
	gone := next.decide.Since()
	if next.decide.Answered(now, err == nil) {
		s.succeed(now, gone)
		return r
	}
	if err == nil {
		next.fails.recovered(s.log, "Microsoft Graph, the successor, answers")
		return r
	}
	text := fmt.Sprintf("successor graph: Microsoft Graph could not be pulled if the SIEM API ended now: %v; "+
		"`defenderctl check` says more", err)
	if !gone.IsZero() {
		text = fmt.Sprintf("successor graph: the SIEM API refuses every request since %s, and Microsoft Graph cannot "+
			"be pulled in its place: %v; no alert is pulled meanwhile",
			gone.UTC().Format(time.RFC3339), err)
	}
	next.fails.failed(s.log, slog.LevelWarn, sortOf(text), text)
	return r
}

// succeed goes on with the successor, from an overlap before the watermark on, or before the first unread range: an
// alert in it may have been updated since, and is found by the time of that.
func (s *Source) succeed(now, gone time.Time) {
	next := s.next
	var start state.Snapshot
	from := "initial_lookback"
	if w := s.planner.Watermark(); !w.IsZero() {
		if unread := s.planner.Unread(); len(unread) > 0 && unread[0].Since.Before(w) {
			w = unread[0].Since
		}
		start.Found, start.Watermark = true, w.Add(-s.cfg.Overlap)
		from = start.Watermark.Format(time.RFC3339)
	}
	s.next, s.report, s.syntax = nil, reports{}, nil
	s.ledger.Succeed(now.Round(0).UTC(), next.cfg.Updates == "first")
	s.begin(next.cfg, next.client, start, next.tune)
	s.run.meter.outcome(s, false)
	s.log.Warn(fmt.Sprintf("successor graph: the SIEM API has refused every request since %s: going on with "+
		"Microsoft Graph from %s, also after a restart; "+
		"what was delivered of the SIEM API does not come again; `defenderctl state --successor-back` would return",
		gone.UTC().Format(time.RFC3339), from))
}

// remember notes of a row of an API with a successor which alert it belongs to, and returns that if it is to be
// delivered with the row.
func (s *Source) remember(row *record.Row, now time.Time) (alert record.ID) {
	if s.next == nil || row.Alerts[0] == (record.ID{}) {
		return record.ID{}
	}
	t := now.UnixNano()
	if row.Updated != 0 {
		t = min(t, row.Updated)
	}
	if !s.ledger.AddAlert(row.Alerts[0], t, row.ID) {
		return record.ID{}
	}
	return row.Alerts[0]
}

// came tells whether a row of the successor is of an alert of which a detection was delivered, and was not updated
// since.
func (s *Source) came(row *record.Row) bool {
	if s.next != nil || len(s.clients) == 1 || row.Updated == 0 {
		return false
	}
	for _, alert := range row.Alerts {
		if t, known := s.ledger.Alert(alert); known && (s.firstOnly() || row.Updated <= t+int64(s.cfg.Overlap)) {
			return true
		}
	}
	return false
}
