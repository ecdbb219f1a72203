package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"fluent-bit-defender/cmd/defenderctl/flbconf"
	"fluent-bit-defender/conf"
	"fluent-bit-defender/tenants"
)

// pluginName is what a stanza calls this input by.
const pluginName = "defender"

// stanza is one defender input of a configuration.
type stanza struct {
	flbconf.Section
	name   string // its alias, else defender.N as Fluent Bit counts
	config *flbconf.Config
	env    func(name string) (string, bool)
}

// stanzas finds the defender inputs, in their order.
func (a *app) stanzas(c *flbconf.Config) []stanza {
	var found []stanza
	inputs := 0
	for _, section := range c.Sections {
		if section.Kind != flbconf.Input {
			continue
		}
		s := stanza{section, fmt.Sprintf("%s.%d", pluginName, inputs), c, a.env}
		inputs++
		name, _, _ := strings.Cut(s.text("name"), "://")
		if !strings.EqualFold(name, pluginName) {
			continue
		}
		if alias := s.text("alias"); alias != "" {
			s.name = alias
		}
		found = append(found, s)
	}
	return found
}

// text is the value Fluent Bit makes of a key: the first one, its variables replaced.
func (s stanza) text(key string) string {
	p, found := s.Get(key)
	if !found || len(p.Values) == 0 {
		return ""
	}
	return s.config.Expand(p.Values[0]).Text
}

// get is text for what reaches the plugin: Fluent Bit keeps some keys for itself.
func (s stanza) get(key string) string {
	if coreKey(key) != nil {
		return ""
	}
	return s.text(key)
}

// load checks the stanza as the plugin does, with all its tenants. Of one tenant_id the only tenant is the stanza
// itself.
func (s stanza) load() (*conf.Stanza, []*conf.Config, error) {
	return tenants.Load(s.get, s.getenv)
}

func (s stanza) getenv(name string) string {
	value, _ := s.env(name)
	return value
}

// pick loads the stanza's tenants: all, or those with this name or id.
func (s stanza) pick(tenant string) ([]*conf.Config, error) {
	_, all, err := s.load()
	if err != nil {
		return nil, fmt.Errorf("stanza %s: %w", s.name, err)
	}
	if tenant == "" {
		return all, nil
	}
	picked := named(all, tenant)
	if len(picked) == 0 {
		return nil, usagef("stanza %s has no tenant %s", s.name, clip(tenant))
	}
	return picked, nil
}

// named are the tenants with this name or id.
func named(all []*conf.Config, tenant string) []*conf.Config {
	return slices.DeleteFunc(slices.Clone(all), func(c *conf.Config) bool {
		return c.Name != tenant && !strings.EqualFold(c.TenantID, tenant)
	})
}

// place is where a key stands in the files, or the stanza where it is missing.
func (s stanza) place(key string) (file string, line int) {
	if p, found := s.Get(key); found {
		return p.File, p.Line
	}
	return s.File, s.Line
}

// readConfig reads a configuration. A file that cannot be opened is a mistake in the command line.
func (a *app) readConfig(path string) (*flbconf.Config, error) {
	if path == "" {
		return nil, usagef("no configuration is given: -c FILE names Fluent Bit's, classic or YAML")
	}
	c, err := flbconf.Load(path, a.env)
	if e, ok := errors.AsType[*flbconf.Error](err); ok && e.Line == 0 && e.File == path && errors.Unwrap(e) != nil {
		return nil, usageError{err}
	}
	return c, err
}

// oneTenant reads a configuration and picks a tenant of the stanza of that name; without names there must be just one
// of each.
func (a *app) oneTenant(path, name, tenant string) (stanza, *conf.Config, error) {
	c, err := a.readConfig(path)
	if err != nil {
		return stanza{}, nil, err
	}
	all := a.stanzas(c)
	var names []string
	for _, s := range all {
		if names = append(names, s.name); s.name == name || name == "" && len(all) == 1 {
			cfgs, err := s.pick(tenant)
			switch {
			case err != nil:
				return s, nil, err
			case len(cfgs) > 1 && tenant == "":
				return s, nil, usagef("stanza %s has %d tenants: name one by --tenant, by its name or id",
					s.name, len(cfgs))
			case len(cfgs) > 1:
				return s, nil, usagef("stanza %s has %d tenants %s: name one by --tenant, by its name",
					s.name, len(cfgs), clip(tenant))
			}
			return s, cfgs[0], nil
		}
	}
	switch {
	case len(all) == 0:
		return stanza{}, nil, fmt.Errorf("%s: no input named %s in it", path, pluginName)
	case name == "":
		return stanza{}, nil, usagef("%s has %d %s stanzas: name one by --stanza: %s",
			path, len(all), pluginName, strings.Join(names, ", "))
	}
	return stanza{}, nil, usagef("%s has no stanza %s; it has: %s", path, clip(name), strings.Join(names, ", "))
}
