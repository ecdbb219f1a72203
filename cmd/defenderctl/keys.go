package main

import (
	"regexp"
	"slices"
	"strings"

	"fluent-bit-defender/conf"
)

// kept is a key that Fluent Bit keeps for itself: the plugin never sees it.
type kept struct {
	name   string // a dot at the end: all that begin so
	useful bool   // it does something for this input
	fatal  bool   // Fluent Bit refuses to start with it (where it is switched on)
}

// coreKeys are those of flb_input_set_property and configure_plugins_type in Fluent Bit 5.1.1.
var coreKeys = []kept{
	{name: "name", useful: true}, {name: "tag", useful: true}, {name: "alias", useful: true},
	{name: "log_level", useful: true}, {name: "log_suppress_interval", useful: true}, {name: "routable", useful: true},
	{name: "mem_buf_limit", useful: true}, {name: "threaded", useful: true},
	{name: "thread.ring_buffer.capacity", useful: true}, {name: "thread.ring_buffer.window", useful: true},
	{name: "storage.type", useful: true}, {name: "storage.pause_on_chunks_overlimit", useful: true},
	{name: "rate_window", useful: true}, {name: "rate_gate", useful: true},
	{name: "rate_gate.max_bytes", useful: true}, {name: "rate_gate.max_records", useful: true},
	{name: "rate_gate.backpressure", useful: true}, {name: "rate_gate.resume_ratio", useful: true},
	{name: "processors", useful: true}, {name: "routes", useful: true}, {name: "telemetry", useful: true},
	{name: "host"}, {name: "port"}, {name: "listen"}, {name: "ipv6"}, {name: "net."},
	{name: "oauth2"}, {name: "oauth2."},
	{name: "tls", fatal: true}, {name: "tls."},
}

// coreKey finds the entry for a key; nil: the plugin gets it.
func coreKey(key string) *kept {
	key = strings.ToLower(key)
	for i, k := range coreKeys {
		if key == k.name || strings.HasSuffix(k.name, ".") && strings.HasPrefix(key, k.name) {
			return &coreKeys[i]
		}
	}
	return nil
}

// known tells whether key is the plugin's.
func known(key string) bool {
	return slices.ContainsFunc(conf.Keys, func(k conf.Key) bool { return strings.EqualFold(k.Name, key) })
}

// nearest finds the key that was probably meant; "": none is near.
func nearest(key string) string {
	key = plain(key)
	best, least := "", 1+min(3, max(1, len(key)/3))
	try := func(name string) {
		if d := distance(key, plain(name)); d < least {
			best, least = name, d
		}
	}
	for _, k := range conf.Keys {
		try(k.Name)
	}
	for _, k := range coreKeys {
		if k.useful {
			try(k.name)
		}
	}
	return best
}

// plain takes the ways to write a separator for one.
func plain(key string) string {
	return strings.NewReplacer("-", "_", ".", "_", " ", "_").Replace(strings.ToLower(key))
}

// counterpart is the plugin's own key for one of Fluent Bit's that has no effect here: net.connect_timeout,
// tls.ca_file.
func counterpart(key string) string {
	if key = strings.ToLower(key); key == "host" || key == "port" {
		return "url"
	}
	if _, last, found := strings.Cut(key, "."); found && known(last) {
		return last
	}
	return ""
}

// distance counts the letters to put in, leave out, change, or swap with their neighbour to make b of a.
func distance(a, b string) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		before, last, row = last, row, before
		row[0] = i
		for j := 1; j <= len(b); j++ {
			differ := 1
			if a[i-1] == b[j-1] {
				differ = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+differ)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
	}
	return row[len(b)]
}

// shownKey is a key as it may be printed: what was glued to it by a = or a : may be a secret.
func shownKey(key string) string {
	if i := strings.IndexAny(key, "=: \t\n"); i >= 0 {
		key = key[:i] + "..."
	}
	return clip(strings.ToValidUTF8(key, "?"))
}

var variableForm = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,63}$`)

// shownVariable is a variable as it may be printed: a secret may have got between the braces.
func shownVariable(name string) string {
	if !variableForm.MatchString(name) {
		return "a variable of an unusual name"
	}
	return "${" + name + "}"
}
