package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"fluent-bit-defender/client"
	"fluent-bit-defender/conf"
	"fluent-bit-defender/credential"
	"fluent-bit-defender/entra"
	"fluent-bit-defender/pull"
	"fluent-bit-defender/record"
	"fluent-bit-defender/state"
)

const (
	skewMost = time.Minute // this machine's clock may be off so much: assertions and certificates bear more
	lookBack = time.Hour   // the span of the request that check sends
)

// checkOnline tells what the files that a stanza names, the token and the service say.
func (a *app) checkOnline(ctx context.Context, r *report, s checked, limit time.Duration) {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("no answer within %s (--timeout)", limit))
	defer cancel()
	say := s.sayer(s.cfg, r.add)
	if s.cfg.DB != "" {
		a.checkState(s, say)
	}
	a.checkService(ctx, s, say)
}

// checkService tells what token and service say, of the API and of its successor.
func (a *app) checkService(ctx context.Context, s checked, say sayer) {
	a.checkAPI(ctx, s, say)
	if s.cfg.Successor != nil {
		next := checked{s.stanza, s.cfg.Successor}
		a.checkAPI(ctx, next, func(check string, l level, key, format string, args ...any) {
			say("successor "+check, l, key, format, args...)
		})
	}
}

func (a *app) checkAPI(ctx context.Context, s checked, say sayer) {
	if err := ownLogin(s.cfg); err != nil {
		say("token", bad, "refresh_token_file", "%v", err)
		return
	}
	silent := client.WithLogger(slog.New(slog.DiscardHandler))
	c, err := client.New(s.cfg, append([]client.Option{silent}, a.client...)...)
	switch {
	case errors.Is(err, credential.ErrInUse):
		say("token", skip, "refresh_token_file",
			"another process uses the login, as a running Fluent Bit does: no token was asked for")
		return
	case err != nil:
		say("client", bad, "", "%v", err)
		return
	}
	defer c.Close()
	claims, readable, err := c.Claims(ctx)
	if err != nil {
		say("token", bad, "", "%v", cause(ctx, err))
		say("request", skip, "", "not sent: there is no token")
		return
	}
	say("token", ok, "", "there is one for %s", s.cfg.Resource)
	checkClaims(c, claims, readable, say)
	now, err := c.Now(ctx)
	if err != nil {
		say("clock", bad, "", "%v", cause(ctx, err))
		return
	}
	a.checkClock(now, say)
	checkRequest(ctx, c, s, now, say)
}

// cause prefers why a context ended to the bare fact.
func cause(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return context.Cause(ctx)
	}
	return err
}

// inspectDB looks at a state file without touching it, and tells what is wrong with it, or that it is not there yet.
func (a *app) inspectDB(path string, say sayer) (rep state.Report, usable bool) {
	if shared(path) {
		say("state", skip, "", "%s is not looked at: defenderctl-kubernetes state shows it", path)
		return rep, false
	}
	rep, err := state.Inspect(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		dir := filepath.Dir(path)
		if info, err := os.Stat(dir); err != nil || !info.IsDir() {
			say("state", bad, "db", "there is no directory %s here; make it, for the user that runs Fluent Bit", dir)
			return rep, false
		}
		say("state", ok, "", "%s is not there yet, and will be made", path)
		return rep, false
	case errors.Is(err, state.ErrDamaged):
		say("state", bad, "db", "%v; the plugin moves it aside at its start and begins anew from initial_lookback", err)
		return rep, false
	case err != nil:
		say("state", bad, "db", "%v", err)
		return rep, false
	}
	return rep, true
}

// checkState tells what the state file holds of one tenant.
func (a *app) checkState(s checked, say sayer) {
	rep, usable := a.inspectDB(s.cfg.DB, say)
	if !usable {
		return
	}
	for _, st := range rep.Sources {
		if st.Key != pull.KeyOf(s.cfg) || st.Watermark.IsZero() {
			continue
		}
		l := ok
		if len(st.Unread) > 0 {
			l = warn
		}
		say("state", l, "", "%s: pulled up to %s, %s, %s remembered", s.cfg.DB, stamp(st.Watermark),
			plural(len(st.Unread), "unread range"), plural(st.IDs, "row"))
		return
	}
	say("state", ok, "", "%s holds nothing of this stanza yet", s.cfg.DB)
}

// checkClaims tells what the token says of itself, and what of that does not fit.
func checkClaims(c *client.Client, claims entra.Claims, readable bool, say sayer) {
	if !readable {
		say("claims", skip, "", "the token is opaque")
		return
	}
	all := ok
	for _, d := range c.Doubts(claims) {
		l, key := bad, map[string]string{"aud": "resource", "tid": "tenant_id"}[d.Claim]
		if d.Claim == "roles" { // the request will tell
			l = warn
		}
		all = warn
		say("claims", l, key, "the token %s; %s", d.What, d.Remedy)
	}
	said := []string{"aud " + claims.Audience}
	if claims.Tenant != "" {
		said = append(said, "tid "+claims.Tenant)
	}
	if len(claims.Roles) > 0 {
		said = append(said, "roles "+strings.Join(claims.Roles, " "))
	}
	if len(claims.Scopes) > 0 {
		said = append(said, "scp "+strings.Join(claims.Scopes, " "))
	}
	if claims.User != "" {
		said = append(said, "user "+claims.User)
	}
	if !claims.Expires.IsZero() {
		said = append(said, "exp "+stamp(claims.Expires))
	}
	say("claims", all, "", "%s", strings.Join(said, ", "))
}

// checkClock compares this machine's clock with the service's, which is known to about a second.
func (a *app) checkClock(service time.Time, say sayer) {
	skew := a.now().Sub(service).Round(time.Second)
	switch {
	case skew > skewMost:
		say("clock", bad, "", "this machine is %s ahead of the service; set its clock right (NTP)", longTime(skew))
	case skew < -skewMost:
		say("clock", bad, "", "this machine is %s behind the service; set its clock right (NTP)", longTime(-skew))
	default:
		say("clock", ok, "", "this machine and the service agree (%s apart)", skew.Abs())
	}
}

// checkRequest asks for one alert; of the SIEM API that is the newest.
func checkRequest(ctx context.Context, c *client.Client, s checked, now time.Time, say sayer) {
	answer, err := c.Fetch(ctx, client.Query{Since: now.Add(-lookBack), Until: now, Limit: 1})
	if err != nil {
		say("request", bad, "", "%v", cause(ctx, err))
		return
	}
	defer answer.Body.Close()
	reader := record.NewReader(record.Options{
		Schema: schema(s.cfg), MaxAlert: s.cfg.MaxAlertSize, MaxRecord: s.cfg.BatchSize,
	})
	reader.Reset(answer.Body, func() time.Time { return now })
	rows, newest := 0, time.Time{}
	for {
		_, row, err := reader.Next(nil)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			say("request", bad, "", "%v", cause(ctx, err))
			return
		}
		rows++
		if t := time.Unix(0, row.Updated); row.Updated != 0 && t.After(newest) {
			newest = t
		}
	}
	none, found := "no alert was processed in the last hour", "the newest alert was processed at "
	if s.cfg.API == conf.Graph {
		none, found = "no alert was updated in the last hour", "an alert was updated at "
	}
	switch {
	case answer.Partial != "":
		say("request", warn, "", "answered in part (206): the service says %q; "+
			"the plugin keeps what comes, and asks again until all does", answer.Partial)
	case rows == 0:
		say("request", ok, "", "answered: %s", none)
	case newest.IsZero():
		say("request", ok, "", "answered with an alert")
	default:
		say("request", ok, "", "answered: %s%s", found, stamp(newest))
	}
}
