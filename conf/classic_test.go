package conf

import (
	"strings"
	"testing"
)

// stanza is a section of a classic configuration: keys in lower case, the first value of each.
type stanza struct {
	section string
	values  map[string]string
}

func (s stanza) get(key string) string { return s.values[key] }

// readClassic reads the classic format as Fluent Bit does, as far as these tests need it.
func readClassic(text string) []stanza {
	var all []stanza
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		switch {
		case line == "" || line[0] == '#':
		case line[0] == '[':
			all = append(all, stanza{strings.ToUpper(strings.Trim(line, "[]")), map[string]string{}})
		case len(all) > 0:
			key, value, _ := strings.Cut(line, " ")
			key = strings.ToLower(key)
			if values := all[len(all)-1].values; values[key] == "" {
				values[key] = strings.TrimSpace(value)
			}
		}
	}
	return all
}

// inputs returns the defender stanzas of a configuration.
func inputs(t *testing.T, text string) []stanza {
	t.Helper()
	var found []stanza
	for _, s := range readClassic(text) {
		if s.section == "INPUT" && s.values["name"] == "defender" {
			found = append(found, s)
		}
	}
	if len(found) == 0 {
		t.Fatal("no defender stanza")
	}
	return found
}

const (
	sampleTenant = "72f988bf-86f1-41af-91ab-2d7cd011db47"
	sampleClient = "35e0f735-5fe4-4693-9e68-3de80f1d3745"
	sampleSecret = "IKXc6PxB2eoFNJ/IT+l2JZZD9d9032VXz6Ul3D2WyUQ="
)

// with is a valid stanza with further keys, written "key value"; a key alone takes that key out.
func with(lines ...string) func(string) string {
	values := map[string]string{
		"tenant_id": sampleTenant, "client_id": sampleClient, "client_secret": sampleSecret, "region": "eu",
	}
	for _, line := range lines {
		key, value, _ := strings.Cut(line, " ")
		values[key] = value
	}
	return func(key string) string { return values[key] }
}

// noEnv is an environment without variables.
func noEnv(string) string { return "" }

// load is Load for stanzas that must be valid, in an empty environment.
func load(t *testing.T, lines ...string) *Config {
	t.Helper()
	c, err := Load(with(lines...), noEnv)
	if err != nil {
		t.Fatalf("Load: %v", err)
	}
	return c
}
