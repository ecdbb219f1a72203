package deploy

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"fluent-bit-defender/cmd/defenderctl/flbconf"
	"fluent-bit-defender/conf"
)

const (
	exampleConf    = "../fluent-bit.conf.example"
	kubernetesConf = "kubernetes/deployment/fluent-bit.conf"
	workloadConf   = "kubernetes/workload-identity/deployment/fluent-bit.conf"
	systemdConf    = "systemd/fluent-bit.conf"
)

// alone are the configurations of one process. Those of daemonSets share the work over the Kubernetes API.
var (
	alone      = []string{kubernetesConf, workloadConf, systemdConf}
	daemonSets = []string{"kubernetes/daemonset/fluent-bit.conf",
		"kubernetes/workload-identity/daemonset/fluent-bit.conf"}
	deployed = slices.Concat(alone, daemonSets)
)

// federated tells whether a configuration has workload identity.
func federated(path string) bool { return strings.Contains(path, "/workload-identity/") }

// credentials is where systemd puts what the unit loads.
const credentials = "/run/credentials/fluent-bit-defender.service"

// environment is what the configurations may ask for: the unit's, and nothing else.
func environment(name string) (string, bool) {
	if name == "CREDENTIALS_DIRECTORY" {
		return credentials, true
	}
	return "", false
}

// section is a section of a configuration as Fluent Bit reads it: keys in lower case, variables replaced.
type section map[string]string

func (s section) get(key string) string { return s[key] }

// read reads a configuration by Fluent Bit's rules and returns its service section, its one defender stanza and its
// outputs.
func read(t *testing.T, path string) (service, stanza section, outputs []section) {
	t.Helper()
	cfg, err := flbconf.Load(path, environment)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range cfg.Sections {
		got := section{}
		for _, p := range s.Properties {
			if len(p.Values) != 1 {
				t.Fatalf("%s:%d: %s has %d values", path, p.Line, p.Key, len(p.Values))
			}
			value := cfg.Expand(p.Values[0])
			if _, twice := got[p.Key]; twice {
				t.Errorf("%s:%d: %s stands there twice", path, p.Line, p.Key)
			}
			got[p.Key] = value.Text
		}
		switch s.Kind {
		case flbconf.Service:
			service = got
		case flbconf.Input:
			if stanza != nil || got["name"] != "defender" {
				t.Fatalf("%s: an input beside the defender stanza", path)
			}
			stanza = got
		case flbconf.Output:
			outputs = append(outputs, got)
		}
	}
	if service == nil || stanza == nil || len(outputs) == 0 {
		t.Fatalf("%s is no whole pipeline", path)
	}
	return service, stanza, outputs
}

// All of them pull the same: apart from paths, the stanzas are that of the example. With workload identity the
// token's file takes the place of the secret's.
func TestStanzasAreThatOfTheExample(t *testing.T) {
	plain := func(path string) section {
		_, stanza, _ := read(t, path)
		for key, value := range stanza {
			if strings.HasPrefix(value, "/") || key == "db" && slices.Contains(daemonSets, path) &&
				value == "kubernetes://in-defender" {
				stanza[key] = "a path"
			}
		}
		return stanza
	}
	want := plain(exampleConf)
	for _, path := range deployed {
		got := plain(path)
		if federated(path) {
			if got["federated_token_file"] == "" {
				t.Errorf("%s: no federated_token_file", path)
			}
			delete(got, "federated_token_file")
			got["client_secret_file"] = want["client_secret_file"]
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s differs from %s (-example +it):\n%s", path, exampleConf, diff)
		}
	}
}

// What the stanza is worth hangs on the service section as well.
func TestServiceSectionsAreThatOfTheExample(t *testing.T) {
	want, _, _ := read(t, exampleConf)
	for _, path := range deployed {
		got, _, _ := read(t, path)
		for _, key := range []string{"flush", "grace", "log_level", "storage.sync", "storage.backlog.mem_limit"} {
			if got[key] != want[key] || got[key] == "" {
				t.Errorf("%s: %s is %q, in the example %q", path, key, got[key], want[key])
			}
		}
		if got["storage.path"] == "" || got["health_check"] != "on" || got["http_server"] != "on" ||
			got["http_port"] != "2020" {
			t.Errorf("%s: chunks, health or metrics are missing: %v", path, got)
		}
		if got["daemon"] != "" || got["plugins_file"] != "" {
			t.Errorf("%s: it forks, or loads the plugin a second time", path)
		}
	}
	systemd, _, _ := read(t, systemdConf)
	if systemd["http_listen"] != "127.0.0.1" || systemd["hot_reload"] != "on" {
		t.Errorf("%s: %v: the unit reloads, and nobody outside asks it", systemdConf, systemd)
	}
	for _, path := range slices.Concat(daemonSets, []string{kubernetesConf, workloadConf}) {
		// With hot_reload anyone who reaches the port for metrics can reload.
		if cluster, _, _ := read(t, path); cluster["http_listen"] != "0.0.0.0" || cluster["hot_reload"] != "" {
			t.Errorf("%s: %v: probes come from outside, reloads must not", path, cluster)
		}
	}
}

func TestPluginAcceptsTheStanzas(t *testing.T) {
	for _, path := range deployed {
		auth := conf.ClientSecret
		if federated(path) {
			auth = conf.WorkloadIdentity
		}
		_, stanza, _ := read(t, path)
		core := []string{"name", "alias", "tag", "storage.type"}
		for _, key := range slices.Sorted(maps.Keys(stanza)) {
			known := slices.Contains(core, key) || slices.ContainsFunc(conf.Keys,
				func(k conf.Key) bool { return k.Name == key })
			if !known {
				t.Errorf("%s: %s is neither ours nor Fluent Bit's", path, key)
			}
		}
		for _, key := range core {
			delete(stanza, key) // Fluent Bit keeps them for itself
		}
		cfg, err := conf.Load(stanza.get, func(string) string { return "" })
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		if cfg.Auth != auth || cfg.DB == "" || cfg.EventIDKey == "" {
			t.Errorf("%s: auth %s, db %q, event_id_key %q", path, cfg.Auth, cfg.DB, cfg.EventIDKey)
		}
	}
}

// Every output takes the stanza's tag, those that stand there as a comment too; and these lose nothing while a
// service is down, nor fill the disk.
func TestOutputsMatchTheTag(t *testing.T) {
	for _, path := range deployed {
		_, stanza, outputs := read(t, path)
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		_, comment, found := strings.Cut(string(text), "#[OUTPUT]\n")
		if !found {
			t.Fatalf("%s shows no other output", path)
		}
		shown := filepath.Join(t.TempDir(), "fluent-bit.conf")
		write(t, shown, string(text)+"[OUTPUT]\n"+strings.ReplaceAll(comment, "#  ", "  "))
		_, _, more := read(t, shown)
		if len(more) != len(outputs)+1 {
			t.Fatalf("%s: %d outputs and %d", path, len(outputs), len(more))
		}
		for _, out := range more {
			prefix, star := strings.CutSuffix(out["match"], "*")
			if !star || !strings.HasPrefix(stanza["tag"], prefix) {
				t.Errorf("%s: output %s matches %s, the tag is %s", path, out["name"], out["match"], stanza["tag"])
			}
		}
		es := more[len(outputs)]
		if es["name"] != "es" || es["id_key"] != stanza["event_id_key"] || es["retry_limit"] != "no_limits" ||
			es["storage.total_limit_size"] != "4G" {
			t.Errorf("%s: the output shown is %v", path, es)
		}
	}
}
