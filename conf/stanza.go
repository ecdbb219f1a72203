package conf

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Stanza is one stanza: one tenant, or with tenants_file as many as that has.
type Stanza struct {
	// Config is what the stanza says. With TenantsFile it is what its tenants have in common: no tenant, and no
	// address, which each tenant gets from Tenants.
	*Config

	text map[string]string // the values as given
	bad  map[string]bool   // keys with a fault
	env  func(string) string
}

// LoadStanza reads a stanza as Load does. With faults the Stanza is good for Tenants only, so that the faults of its
// file can be told beside its own.
func LoadStanza(get, env func(name string) string) (*Stanza, Faults) {
	l := newLoader(get, env)
	l.misspelt(get)
	l.parse()
	l.judge()
	s := &Stanza{Config: l.cfg, text: l.text, bad: l.bad, env: env}
	for name := range l.from { // found again for each tenant
		delete(s.text, name)
	}
	l.cfg.Auth = l.auth
	if !l.tenants && len(l.faults) == 0 {
		l.cfg.resolve()
	}
	return s, l.sorted()
}

// replaced are the keys of a stanza that an entry with the first of each list does not inherit: they would contradict
// it.
var replaced = [][]string{
	{"url", "region"},
	{"region", "url"},
	{"authority", "token_url"},
	{"token_url", "authority"},
	{"cloud", "region", "url", "authority", "token_url", "resource", "successor_url"},
	{"api", "url", "token_url", "resource"},
}

// over returns what a tenant has: the entry's values, and the stanza's where the entry has none. An entry with a
// credential of its own takes nothing of the stanza's.
func (s *Stanza) over(e *entry) map[string]string {
	values := maps.Clone(s.text)
	if own := append(credentialKeys(""), "auth"); slices.ContainsFunc(own, e.has) {
		for _, name := range own {
			delete(values, name)
		}
	}
	for _, names := range replaced {
		if e.has(names[0]) && !strings.EqualFold(e.values[names[0]],
			cmp.Or(s.text[names[0]], keyNamed(names[0]).Default)) {
			for _, name := range names[1:] {
				delete(values, name)
			}
		}
	}
	if api := strings.ToLower(e.values["api"]); api == SIEM || api == Graph {
		for name := range values {
			if k := keyNamed(name); k.API != "" && k.API != api &&
				!(k.Succeeds && strings.EqualFold(cmp.Or(e.values["successor"], s.text["successor"]), Graph)) {
				delete(values, name)
			}
		}
	}
	maps.Copy(values, e.values)
	return values
}

// tenant makes the Config of an entry, or adds to its faults. Those of the stanza's own values are the stanza's.
func (s *Stanza) tenant(e *entry) *Config {
	values := s.over(e)
	for name := range values {
		if s.bad[name] && !e.has(name) {
			delete(values, name)
		}
	}
	l := newLoader(func(name string) string { return values[name] }, s.env)
	l.tenants, l.entry = true, true
	for name := range l.text { // such as client_id with a managed identity
		if l.misplaced(keyNamed(name)) && !e.has(name) {
			delete(l.text, name)
		}
	}
	for name := range s.bad {
		l.bad[name] = l.bad[name] || !e.has(name)
	}
	for name := range e.bad {
		l.bad[name] = true
	}
	l.parse()
	l.judge()
	l.cfg.Auth, l.cfg.Name = l.auth, e.name
	for _, f := range l.sorted() {
		e.fault(cmp.Or(e.lines[f.Key], e.line), f)
	}
	if len(e.faults) > 0 {
		return nil
	}
	l.cfg.resolve()
	return l.cfg
}

// at names a line of the file of tenants before a fault.
func at(line int, f Fault) Fault {
	return Fault{Key: "tenants_file", Message: fmt.Sprintf("line %d: %s", line, f.Error())}
}
