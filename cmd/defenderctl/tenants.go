package main

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"fluent-bit-defender/conf"
	"fluent-bit-defender/pull"
	"fluent-bit-defender/state"
)

// checkTenants asks the service for each tenant of a stanza, several at once. The lines are noted for machines;
// people get a table.
func (a *app) checkTenants(ctx context.Context, r *report, s stanza, cfgs []*conf.Config, limit time.Duration) {
	if cfgs[0].DB != "" {
		a.checkStates(r, s, cfgs)
	}
	lines := make([][]line, len(cfgs)) // by tenant
	var mu sync.Mutex
	done, failing := 0, 0
	todo := make(chan int)
	var workers sync.WaitGroup
	for range min(cfgs[0].Parallel, len(cfgs)) {
		workers.Go(func() {
			for i := range todo {
				one := checked{s, cfgs[i]}
				late := fmt.Errorf("no answer within %s (--timeout)", limit)
				ctx, cancel := context.WithTimeoutCause(ctx, limit, late)
				a.checkService(ctx, one, one.sayer(one.cfg, func(l line) { lines[i] = append(lines[i], l) }))
				cancel()
				mu.Lock()
				if done++; worst(lines[i]) != nil {
					failing++
				}
				a.checking(done, failing, len(cfgs))
				mu.Unlock()
			}
		})
	}
	for i := range cfgs {
		todo <- i
	}
	close(todo)
	workers.Wait()
	if a.errTTY {
		fmt.Fprint(a.err, "\r\x1b[K")
	}
	for _, of := range lines {
		for _, l := range of {
			r.note(l)
		}
	}
	if !r.json {
		r.table(cfgs, lines)
	}
}

// checking shows on a terminal how far the check of many tenants is.
func (a *app) checking(done, failing, of int) {
	if a.errTTY {
		fmt.Fprintf(a.err, "\r\x1b[K%d of %s asked, %d failing", done, plural(of, "tenant"), failing)
	}
}

// worst is the first finding among a tenant's lines; nil: all is well.
func worst(lines []line) *line {
	for i := range lines {
		if lines[i].Level == bad {
			return &lines[i]
		}
	}
	return nil
}

// ownPart is what differs between the failures of two tenants for one reason.
var ownPart = regexp.MustCompile(`[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}|` +
	`[0-9]{4}-[0-9]{2}-[0-9]{2}[ T][0-9:.]+Z?`)

// table prints how many tenants are well, and the others by their reason, the most frequent first.
func (r *report) table(cfgs []*conf.Config, lines [][]line) {
	type reason struct {
		line    line
		tenants []string
	}
	well := 0
	found := map[string]*reason{}
	var order []*reason
	for i, of := range lines {
		l := worst(of)
		if l == nil {
			well++
			continue
		}
		id := strings.ReplaceAll(l.Message, cfgs[i].TenantID, "")
		key := l.Check + "\n" + l.Key + "\n" + ownPart.ReplaceAllString(id, "")
		if found[key] == nil {
			found[key] = &reason{line: *l}
			order = append(order, found[key])
		}
		found[key].tenants = append(found[key].tenants, cfgs[i].Label())
	}
	slices.SortStableFunc(order, func(a, b *reason) int { return len(b.tenants) - len(a.tenants) })
	if well > 0 {
		fmt.Fprintf(r.out, "  %s %s\n", r.marks[ok], plural(well, "tenant"))
	}
	for _, why := range order {
		fmt.Fprintf(r.out, "  %s %s (%s): %s: %s\n", r.marks[bad],
			plural(len(why.tenants), "tenant"), some(why.tenants), why.line.Check, oneLine(why.line.Message))
	}
}

// some names up to three of many.
func some(names []string) string {
	if n := len(names) - 3; n > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:3], ", "), n)
	}
	return strings.Join(names, ", ")
}

// checkStates tells in a line or two what the state file holds of many tenants.
func (a *app) checkStates(r *report, s stanza, cfgs []*conf.Config) {
	say := s.sayer(nil, r.add)
	rep, usable := a.inspectDB(cfgs[0].DB, say)
	if !usable {
		return
	}
	byKey := map[state.Key]state.SourceReport{}
	for _, st := range rep.Sources {
		byKey[st.Key] = st
	}
	stored, unread := 0, 0
	behind := cfgs[0]
	for _, cfg := range cfgs {
		st, found := byKey[pull.KeyOf(cfg)]
		if !found || st.Watermark.IsZero() {
			continue
		}
		if stored++; stored == 1 || st.Watermark.Before(byKey[pull.KeyOf(behind)].Watermark) {
			behind = cfg
		}
		if len(st.Unread) > 0 {
			unread++
		}
	}
	if stored == 0 {
		say("state", ok, "", "%s holds nothing of these tenants yet", cfgs[0].DB)
		return
	}
	l := ok
	if unread > 0 {
		l = warn
	}
	say("state", l, "", "%s: %d of %s are in it, %d with unread ranges; furthest behind is %s, pulled up to %s",
		cfgs[0].DB, stored, plural(len(cfgs), "tenant"),
		unread, behind.Label(), stamp(byKey[pull.KeyOf(behind)].Watermark))
}
