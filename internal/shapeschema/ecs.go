package main

import (
	"fmt"
	"io"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// ecsLeftOut are fields that alerts never have: they would be nine tenths of the list.
var ecsLeftOut = regexp.MustCompile(`\.(entity|elf|macho|pe|x509|io|tty|thread|changes|effective|geo|nat|vlan|interface)\.|_leader\.|^(threat\.(indicator|enrichments)|` +
	`gen_ai|faas|volume|dll|tls|dns|http|agent|client|server|package|data_stream|span|trace|transaction|log|device|vulnerability|entity|user_agent|x509)\.|` +
	`\.(target|origin|previous|supplemental_groups|saved_user|saved_group|real_user|real_group|attested_user|attested_groups)\.`)

// ecsKept are those among them that some alerts do have.
var ecsKept = regexp.MustCompile(`\.geo\.country_iso_code$|^(dns\.(question\.name|resolved_ip)|gen_ai\.agent\.(id|name)|user_agent\.original)$`)

type ecsField struct {
	Type      string
	Normalize []string
	Allowed   []struct {
		Name  string
		Types []string `yaml:"expected_event_types"`
	} `yaml:"allowed_values"`
}

// ecs writes a line for each field: its name, its type, "array" where it takes a list, and the values it is limited
// to. A line that begins with ! names an event.category and the event.type values that go with it.
func ecs(path string, out io.Writer) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var fields map[string]ecsField
	if err := yaml.Unmarshal(text, &fields); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	fmt.Fprintln(out, "# Names, types and allowed values of fields of the Elastic Common Schema "+
		"(github.com/elastic/ecs, generated/ecs/ecs_flat.yml),")
	fmt.Fprintln(out, "# Apache License 2.0, Elasticsearch B.V. Written by internal/shapeschema.")
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		f := fields[name]
		if ecsLeftOut.MatchString(name) && !ecsKept.MatchString(name) {
			continue
		}
		line := name + " " + f.Type
		if slices.Contains(f.Normalize, "array") {
			line += " array"
		}
		var allowed []string
		for _, a := range f.Allowed {
			allowed = append(allowed, a.Name)
		}
		if allowed != nil {
			line += " =" + strings.Join(allowed, ",")
		}
		fmt.Fprintln(out, line)
	}
	for _, c := range fields["event.category"].Allowed {
		fmt.Fprintln(out, "!"+c.Name, strings.Join(c.Types, " "))
	}
	return nil
}
