package main

import (
	"errors"
	"fmt"
	"strings"

	"fluent-bit-defender/cmd/defenderctl/flbconf"
	"fluent-bit-defender/conf"
	"fluent-bit-defender/state"
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

// load checks the stanza as the plugin does.
func (s stanza) load() (*conf.Config, error) {
	return conf.LoadEnv(s.get, func(name string) string { v, _ := s.env(name); return v })
}

// stateKey is what the plugin keeps the stanza's state under.
func stateKey(cfg *conf.Config) state.Key {
	return state.Key{API: cfg.API, Place: cfg.Place(), Tenant: cfg.TenantID, Filters: cfg.Filters()}
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
	var e *flbconf.Error
	if errors.As(err, &e) && e.Line == 0 && e.File == path && errors.Unwrap(e) != nil {
		return nil, usageError{err}
	}
	return c, err
}

// oneStanza reads a configuration and picks the stanza of that name; without a name there must be just one.
func (a *app) oneStanza(path, name string) (stanza, *conf.Config, error) {
	c, err := a.readConfig(path)
	if err != nil {
		return stanza{}, nil, err
	}
	all := a.stanzas(c)
	var names []string
	for _, s := range all {
		if names = append(names, s.name); s.name == name || name == "" && len(all) == 1 {
			cfg, err := s.load()
			if err != nil {
				return s, nil, fmt.Errorf("stanza %s: %w", s.name, err)
			}
			return s, cfg, nil
		}
	}
	switch {
	case len(all) == 0:
		return stanza{}, nil, fmt.Errorf("%s: no input named %s in it", path, pluginName)
	case name == "":
		return stanza{}, nil, usagef("%s has %d %s stanzas: name one by --stanza: %s", path, len(all), pluginName, strings.Join(names, ", "))
	}
	return stanza{}, nil, usagef("%s has no stanza %s; it has: %s", path, clip(name), strings.Join(names, ", "))
}
