package deploy

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/coreos/go-systemd/v22/unit"
)

const unitFile = "systemd/fluent-bit-defender.service"

// unitOptions reads the unit: the values of each key of each section, in their order.
func unitOptions(t *testing.T) map[string][]string {
	t.Helper()
	text, err := os.Open(unitFile)
	if err != nil {
		t.Fatal(err)
	}
	defer text.Close()
	options, err := unit.DeserializeOptions(text)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][]string{}
	for _, o := range options {
		all[o.Section+"/"+o.Name] = append(all[o.Section+"/"+o.Name], o.Value)
	}
	return all
}

func TestUnitStartsTheConfiguration(t *testing.T) {
	u := unitOptions(t)
	f := func(key string, want ...string) {
		t.Helper()
		if got := u["Service/"+key]; !slices.Equal(got, want) {
			t.Errorf("%s is %q, want %q", key, got, want)
		}
	}
	const (
		config = "/etc/fluent-bit-defender/fluent-bit.conf"
		check  = "/usr/local/bin/defenderctl check --offline -c " + config
	)
	f("Type", "exec")
	f("ExecStartPre", check)
	f("ExecStart", "/opt/fluent-bit/bin/fluent-bit -e /usr/local/lib/fluent-bit-defender/in_defender.so -c "+config)
	f("ExecReload", check, "/bin/kill -HUP $MAINPID") // a bad stanza must not reach a running Fluent Bit
	f("Restart", "always")
	f("LoadCredential", "client_secret:/etc/fluent-bit-defender/client_secret")
	// The name of the unit is in the credential's path, and the name of the state directory in the configuration.
	if want := "/run/credentials/" + filepath.Base(unitFile); want != credentials {
		t.Errorf("systemd puts credentials into %s", want)
	}
	service, stanza, _ := read(t, systemdConf)
	state := "/var/lib/" + strings.Join(u["Service/StateDirectory"], " ") + "/"
	for _, path := range []string{stanza["db"], service["storage.path"]} {
		if !strings.HasPrefix(path, state) {
			t.Errorf("%s is not in %s, and nothing else can be written to", path, state)
		}
	}
	if stanza["client_secret_file"] != credentials+"/client_secret" {
		t.Errorf("client_secret_file is %s", stanza["client_secret_file"])
	}
	raw, err := os.ReadFile(systemdConf)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(raw), "${CREDENTIALS_DIRECTORY}/client_secret") {
		t.Error("the configuration does not ask systemd where the secret is")
	}
}

func TestUnitIsHardened(t *testing.T) {
	u := unitOptions(t)
	for _, key := range []string{"DynamicUser", "NoNewPrivileges", "ProtectHome", "PrivateTmp", "PrivateDevices",
		"PrivateUsers", "ProtectClock",
		"ProtectControlGroups", "ProtectHostname", "ProtectKernelLogs", "ProtectKernelModules", "ProtectKernelTunables",
		"LockPersonality",
		"MemoryDenyWriteExecute", "RestrictNamespaces", "RestrictRealtime", "RestrictSUIDSGID"} {
		if !slices.Equal(u["Service/"+key], []string{"yes"}) {
			t.Errorf("%s is %q", key, u["Service/"+key])
		}
	}
	for key, want := range map[string]string{"ProtectSystem": "strict", "CapabilityBoundingSet": "",
		"AmbientCapabilities": "", "UMask": "0077",
		"StateDirectoryMode": "0700", "SystemCallArchitectures": "native"} {
		if !slices.Equal(u["Service/"+key], []string{want}) {
			t.Errorf("%s is %q", key, u["Service/"+key])
		}
	}
	if got := u["Service/MemoryMax"]; !slices.Equal(got, []string{"256M"}) { // that of deployment.yaml
		t.Errorf("MemoryMax is %q", got)
	}
	for key := range u {
		if strings.HasPrefix(key, "Service/Environment") || strings.Contains(key, "SetCredential") {
			t.Errorf("%s: a secret belongs into a file", key)
		}
	}
}

// systemd's own judgement, where it is installed: no key that it does not know, no value that it cannot read, and
// little that an attacker could reach.
func TestUnitPassesSystemdAnalyze(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("no systemd-analyze")
	}
	text, err := os.ReadFile(unitFile)
	if err != nil {
		t.Fatal(err)
	}
	// It looks for the programs, which are not installed here.
	programs := regexp.MustCompile(`(?m)^(Exec[A-Za-z]+=)/(usr/local|opt)/[^ ]+`)
	if got := len(programs.FindAll(text, -1)); got != 3 {
		t.Fatalf("%d programs", got)
	}
	path := filepath.Join(t.TempDir(), filepath.Base(unitFile))
	if err := os.WriteFile(path, programs.ReplaceAll(text, []byte("${1}/bin/true")), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), analyze, "verify", "--recursive-errors=no",
		path).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
	// 2.0 of 10 in its own count, ten times that in the option.
	out, err := exec.CommandContext(t.Context(), analyze, "security", "--offline=yes", "--threshold=20", "--no-pager",
		path).CombinedOutput()
	if err != nil {
		t.Errorf("systemd-analyze security: %v\n%s", err, out)
	}
}
