package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"fluent-bit-defender/cmd/defenderctl/flbconf"
	"fluent-bit-defender/conf"
	"fluent-bit-defender/pull"
	"fluent-bit-defender/state"
)

func (a *app) checkCommand() *cobra.Command {
	var o checkOptions
	var path string
	var forMachines bool
	c := &cobra.Command{
		Use:   "check -c FILE",
		Short: "Check the defender stanzas of a configuration, down to one answer of the service",
		Long: "check reads a configuration of Fluent Bit and looks at every defender stanza: " +
			"keys that nobody knows, repeated keys, lists and\n" +
			"variables that lose something on the way, and all that the plugin itself would refuse. " +
			"For stanzas without a fault it then gets a\n" +
			"token, looks at what the token says and at the clock, and asks for one alert of the last hour; " +
			"with successor graph that is done of\n" +
			"Microsoft Graph too, which tells what the switch would need.\n\n" +
			"Of a stanza with tenants_file all tenants are asked, as many at once as its key parallel says, " +
			"and a table tells how many are well and\n" +
			"why the others are not; --tenant shows one in full.\n\n" +
			"Each line is good (ok), a finding with its remedy (FAIL), or worth knowing (warn). " +
			"The exit code is 0 without findings, 1 with\n" +
			"findings, 2 when the command line is wrong. " +
			"On a terminal that can show them, ticks and crosses stand for the words; NO_COLOR\n" +
			"takes the colour away.",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			r := &report{
				Version: cmd.Root().Version, Config: path, Lines: []line{},
				out: a.out, json: forMachines, marks: a.marksFor(),
			}
			return a.check(cmd.Context(), r, o)
		},
	}
	c.Flags().StringVarP(&path, "config", "c", "", "Fluent Bit's configuration `FILE`, classic or YAML")
	c.Flags().BoolVar(&o.offline, "offline", false,
		"look at the configuration alone: no files that it names, no network (for CI)")
	c.Flags().BoolVar(&forMachines, "json", false, "write one JSON object")
	c.Flags().DurationVar(&o.limit, "timeout", time.Minute, "longest `TIME` to wait for the service, for each tenant")
	c.Flags().StringVar(&o.tenant, "tenant", "", tenantHelp)
	return c
}

// checkOptions are the flags of check.
type checkOptions struct {
	offline bool
	limit   time.Duration // for each tenant
	tenant  string
}

// checked is a tenant that has no fault.
type checked struct {
	stanza
	cfg *conf.Config
}

func (a *app) check(ctx context.Context, r *report, o checkOptions) error {
	config, err := a.readConfig(r.Config)
	var broken *flbconf.Error
	switch {
	case errors.As(err, &broken) && !errors.As(err, new(usageError)):
		r.add(line{Check: "configuration", Level: bad, File: broken.File, Line: broken.Line, Message: broken.Message})
		return r.end()
	case err != nil:
		return err
	}
	checkDaemon(r, config)
	all := a.stanzas(config)
	if len(all) == 0 {
		r.add(line{Check: "configuration", Level: bad,
			Message: fmt.Sprintf("no input named %s in %s", pluginName, strings.Join(config.Files, ", "))})
	}
	owners := map[state.Key]string{}
	aliases := map[string]stanza{}
	logins := map[string]checked{}
	picked := 0 // tenants that --tenant names
	for _, s := range all {
		r.title(fmt.Sprintf("%s (%s:%d)", s.name, s.File, s.Line))
		say := s.sayer(nil, r.add)
		if first, taken := aliases[s.name]; taken {
			say("keys", bad, "alias", "the stanza at %s:%d has the same alias: "+
				"log lines and metrics cannot tell them apart; give each its own", first.File, first.Line)
		}
		aliases[s.name] = s
		cfgs, refused := checkStanza(r, s, o.offline)
		if refused {
			say("service", skip, "", "not asked: the faults come first")
			continue
		}
		for _, cfg := range cfgs {
			key := pull.KeyOf(cfg)
			if first, taken := owners[key]; taken {
				r.add(line{
					Stanza: s.name, Tenant: tenantOf(cfg), Check: "state", Level: bad, File: s.File, Line: s.Line,
					Message: "the plugin refuses this stanza: " + first + " has the same api, cloud and region " +
						"(or url), tenant (" + cfg.TenantID + ") and filters; " +
						"remove one of the two, or tell them apart by their filters",
				})
			} else {
				owners[key] = s.name
			}
			if file := cfg.RefreshTokenFile; file != "" {
				if first, shared := logins[file]; shared && first.cfg.ClientID != cfg.ClientID {
					say("keys", bad, "refresh_token_file", "the plugin refuses this stanza: %s has the same file with "+
						"another client_id, and a login is for one application; give each its own", first.name)
				}
				logins[file] = checked{s, cfg}
			}
		}
		if o.tenant != "" {
			cfgs = named(cfgs, o.tenant)
			picked += len(cfgs)
		}
		switch {
		case o.offline || len(cfgs) == 0:
		case len(cfgs) == 1:
			a.checkOnline(ctx, r, checked{s, cfgs[0]}, o.limit)
		default:
			a.checkTenants(ctx, r, s, cfgs, o.limit)
		}
	}
	if o.tenant != "" && picked == 0 && r.Found == 0 {
		return usagef("%s has no tenant %s", r.Config, clip(o.tenant))
	}
	return r.end()
}

// tenantOf is how lines name a tenant of many.
func tenantOf(cfg *conf.Config) string {
	if cfg.TenantsFile == "" {
		return ""
	}
	return cfg.Label()
}

// checkDaemon looks at what belongs to no stanza.
func checkDaemon(r *report, c *flbconf.Config) {
	var daemon flbconf.Property
	for _, s := range c.Sections {
		for _, p := range s.Properties {
			if s.Kind == flbconf.Service && p.Is("daemon") && len(p.Values) > 0 {
				daemon = p // the last one counts
			}
		}
	}
	if len(daemon.Values) == 0 {
		return
	}
	switch strings.ToLower(c.Expand(daemon.Values[0]).Text) {
	case "on", "true", "yes":
		r.add(line{Check: "service", Level: bad, Key: "daemon", File: daemon.File, Line: daemon.Line,
			Message: "the plugin refuses to start in daemon mode, because Go does not survive the fork; " +
				"leave it out and run Fluent Bit in the foreground, under a service manager"})
	}
}

// checkStanza tells of all that can be seen without a network, in the order of the file. It returns nil when the
// plugin would refuse the stanza. Offline a file of tenants that is not here is left out.
func checkStanza(r *report, s stanza, offline bool) (cfgs []*conf.Config, refused bool) {
	var found []line
	keep := func(l line) { found = append(found, l) }
	add := func(p flbconf.Property, format string, args ...any) {
		keep(line{
			Stanza: s.name, Check: "keys", Level: bad, Key: shownKey(p.Written), File: p.File, Line: p.Line,
			Message: fmt.Sprintf(format, args...),
		})
	}
	say := s.sayer(nil, r.add)
	whole, cfgs, err := s.load()
	faults, _ := errors.AsType[conf.Faults](err)
	if path := s.get("tenants_file"); offline && path != "" {
		if _, gone := os.Stat(path); errors.Is(gone, os.ErrNotExist) {
			say("tenants", skip, "", "%s is not here, and was not looked at", path)
			whole, faults = conf.LoadStanza(s.get, s.getenv)
		}
	}
	told := map[string]bool{} // keys the plugin itself has something to say about
	for _, f := range faults {
		told[strings.ToLower(f.Key)] = true
	}
	first := map[string]flbconf.Property{}
	vanished := map[string]bool{} // keys whose value is gone with a variable
	for _, p := range s.Properties {
		core := coreKey(p.Key)
		checkKey(p, core, s, told, add)
		for _, v := range p.Values {
			e := s.config.Expand(v)
			for _, name := range e.Unset {
				add(p, "%s is not set here (or empty), and vanishes; "+
					"set it in the environment of Fluent Bit, and of this check", shownVariable(name))
			}
			if quoted(e.Text) {
				add(p, "stands in quotes, and Fluent Bit passes them on as part of the value; leave them out")
			}
			if e.Garbled {
				add(p, "a ${ without its }, or with a } before it: Fluent Bit leaves it as it is, or drops text; "+
					"put the value into a variable of its own")
			}
			if e.Text == "" && len(e.Unset) > 0 {
				vanished[strings.ToLower(p.Key)] = true
			}
		}
		key := strings.ToLower(p.Key)
		if key == "storage.type" && len(p.Values) > 0 && strings.EqualFold(s.config.Expand(p.Values[0]).Text, "memrb") {
			add(p, "memrb drops the oldest of what Fluent Bit was given when its buffer is full, "+
				"and those alerts are lost; use filesystem")
		}
		switch was, repeated := first[key]; {
		case !repeated:
			first[key] = p
		case core == nil || p.Is("name"):
			add(p, "stands in line %d already, and Fluent Bit takes only the first; %s", was.Line, once(p))
		default:
			add(p, "stands in line %d already, and Fluent Bit takes only the last; %s", was.Line, once(p))
		}
	}
	for _, f := range faults {
		if vanished[strings.ToLower(f.Key)] && strings.HasPrefix(f.Message, "missing") {
			continue // its variable was named
		}
		s.sayer(nil, keep)("keys", bad, f.Key, "%s", f.Message)
	}
	for _, cfg := range cfgs {
		for _, h := range otherAPI(cfg) {
			s.sayer(cfg, keep)("keys", bad, h.key, "%s", h.message)
		}
	}
	// By line alone, because a stanza stands in one file.
	slices.SortStableFunc(found, func(a, b line) int { return cmp.Compare(a.Line, b.Line) })
	for _, l := range found {
		r.add(l)
	}
	if len(faults) > 0 {
		return nil, true
	}
	for _, w := range whole.Warnings() {
		say("configuration", warn, "", "%s", w)
	}
	if len(found) == 0 && len(cfgs) > 0 {
		say("configuration", ok, "", "%s", summary(whole, cfgs))
	}
	return cfgs, false
}

// quoted tells whether a value stands in quotes, which nothing takes off.
func quoted(text string) bool {
	return len(text) > 1 && (text[0] == '"' || text[0] == '\'') && text[len(text)-1] == text[0]
}

// summary says in a line what a stanza pulls.
func summary(whole *conf.Stanza, cfgs []*conf.Config) string {
	if whole.TenantsFile != "" {
		return fmt.Sprintf("%s of %s, %d at once, every %s",
			plural(len(cfgs), "tenant"), whole.TenantsFile, whole.Parallel, whole.PollInterval)
	}
	cfg := cfgs[0]
	text := fmt.Sprintf("%s of %s, tenant %s, %s, auth %s, every %s",
		cfg.API, cfg.Place(), cfg.TenantID, cmp.Or(cfg.Filters(), "no filters"), cfg.Auth, cfg.PollInterval)
	if next := cfg.Successor; next != nil {
		text += fmt.Sprintf(", succeeded by %s of %s", next.API, next.Place())
	}
	return text
}

// checkKey looks at the key and the form of one property.
func checkKey(
	p flbconf.Property, core *kept, s stanza, told map[string]bool, add func(flbconf.Property, string, ...any),
) {
	own := known(p.Key)
	switch {
	case p.Map:
		add(p, "is a map: Fluent Bit does not start with it; write a value")
	case p.List && len(p.Values) == 0:
		add(p, "is an empty list: Fluent Bit does not start with it; leave the key out")
	case p.List && len(p.Values) > 1 && own:
		add(p, "is a list of %d items, and Fluent Bit passes on only the first; %s", len(p.Values), once(p))
	case p.Null && own:
		add(p, "is null, which Fluent Bit takes for the text %q; leave the key out", p.Values[0])
	case core != nil && core.fatal:
		if v := strings.ToLower(s.text(p.Key)); v == "on" || v == "true" || v == "yes" {
			add(p, "Fluent Bit does not start with it, as this input opens no port; "+
				"leave it out: connections to the service are always encrypted")
		}
	case core != nil && !core.useful:
		hint := "leave it out"
		if own := counterpart(p.Key); own != "" {
			hint = "did you mean " + own + "?"
		}
		add(p, "has no effect on this input: Fluent Bit keeps it for itself; %s", hint)
	case core == nil && !own && !told[strings.ToLower(p.Key)]:
		hint := "docs/configuration.md lists those there are"
		if near := nearest(p.Key); near != "" {
			hint = "did you mean " + near + "?"
		}
		add(p, "has no effect: there is no such key; %s", hint)
	}
}

// once says how to write what was written in several pieces.
func once(p flbconf.Property) string {
	for _, k := range conf.Keys {
		if p.Is(k.Name) && k.Type == conf.List {
			return "write one text with commas: A, B"
		}
	}
	return "keep one"
}
