package conf

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"
)

const (
	classicExample = "../fluent-bit.conf.example"
	yamlExample    = "../fluent-bit.yaml.example"
)

func readExample(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// yamlInput returns the defender stanza of a YAML pipeline as Fluent Bit would hand it over.
func yamlInput(t *testing.T, text string) stanza {
	t.Helper()
	var doc struct {
		Pipeline struct{ Inputs []map[string]any }
	}
	if err := yaml.Unmarshal([]byte(text), &doc); err != nil {
		t.Fatal(err)
	}
	if len(doc.Pipeline.Inputs) != 1 {
		t.Fatalf("%d inputs", len(doc.Pipeline.Inputs))
	}
	s := stanza{"INPUT", map[string]string{}}
	for key, value := range doc.Pipeline.Inputs[0] {
		s.values[key] = fmt.Sprint(value)
	}
	return s
}

func TestExamplesAreTwins(t *testing.T) {
	classic, err := Load(inputs(t, readExample(t, classicExample))[0].get, noEnv)
	if err != nil {
		t.Fatal(err)
	}
	fromYAML, err := Load(yamlInput(t, readExample(t, yamlExample)).get, noEnv)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(classic, fromYAML); diff != "" {
		t.Errorf("examples differ (-classic +yaml):\n%s", diff)
	}
	if classic.DB == "" || classic.ClientSecretFile == "" {
		t.Error("the example keeps its state in memory or its secret in the stanza")
	}
}

// Settings that are commented out ("#key value", no blank after the #) must be right too.
var (
	offClassic = regexp.MustCompile(`(?m)^( +)#([a-z_]+) +(\S.*)$`)
	offYAML    = regexp.MustCompile(`(?m)^( +)#([a-z_]+): +(\S.*)$`)
)

func TestExamplesOffSettingsAreValid(t *testing.T) {
	f := func(text string, off *regexp.Regexp, read func(string) stanza) {
		found := map[string]bool{}
		for _, m := range off.FindAllStringSubmatch(text, -1) {
			key, value := m[2], m[3]
			found[key] = true
			s := read(text)
			if keyNamed(key) == nil {
				t.Errorf("%s is no key", key)
			}
			s.values[key] = value
			if key == "url" || key == "cloud" { // "instead of region", the example says
				delete(s.values, "region")
			}
			if _, err := Load(s.get, noEnv); err != nil {
				t.Errorf("with %s %s: %v", key, value, err)
			}
		}
		for key := range read(text).values {
			found[key] = true
		}
		for _, k := range Keys {
			if !found[k.Name] && !seldom[k.Name] {
				t.Errorf("%s is not shown", k.Name)
			}
		}
	}
	f(readExample(t, classicExample), offClassic, func(text string) stanza { return inputs(t, text)[0] })
	f(readExample(t, yamlExample), offYAML, func(text string) stanza { return yamlInput(t, text) })
}

// seldom are the keys that an example would only confuse with: one API, one credential and one tenant are enough.
var seldom = map[string]bool{"api": true, "filter": true, "updates": true, "auth": true, "client_secret": true,
	"authority": true, "token_url": true,
	"client_certificate_file": true, "client_certificate_password": true, "federated_token_file": true,
	"refresh_token_file":         true,
	"managed_identity_client_id": true, "managed_identity_endpoint": true, "tenants_file": true, "tenant_id_key": true,
	"parallel":        true,
	"successor_after": true, "successor_url": true, "kubeconfig": true, "workers": true, "lease_duration": true,
	"takeover_overlap": true}

func TestExamplesHaveNoUnknownKeys(t *testing.T) {
	core := map[string]bool{"name": true, "alias": true, "tag": true, "storage.type": true}
	for _, s := range []stanza{inputs(t, readExample(t, classicExample))[0],
		yamlInput(t, readExample(t, yamlExample))} {
		for key := range s.values {
			if keyNamed(key) == nil && !core[key] {
				t.Errorf("%s is neither ours nor Fluent Bit's", key)
			}
		}
	}
}

// Fluent Bit refuses a section whose lines are not indented alike, comments among them.
func TestClassicExamplesAreIndentedAlike(t *testing.T) {
	for _, path := range []string{classicExample, "../plugins.conf.example"} {
		for line := range strings.Lines(readExample(t, path)) {
			line = strings.TrimRight(line, "\n")
			if line == "" || strings.HasPrefix(line, "#") || strings.HasPrefix(line, "[") {
				continue
			}
			if !regexp.MustCompile(`^ {4}[^ ]`).MatchString(line) || strings.ContainsRune(line, '\t') ||
				strings.TrimSpace(line) != line[4:] {
				t.Errorf("%s: %q", path, line)
			}
		}
	}
}

func TestConfigurationPageStanzaIsValid(t *testing.T) {
	_, text, _ := strings.Cut(readExample(t, pagePath), "```\n")
	text, _, found := strings.Cut(text, "```")
	if !found {
		t.Fatal("the page shows no stanza")
	}
	if _, err := Load(inputs(t, text)[0].get, noEnv); err != nil {
		t.Error(err)
	}
}
