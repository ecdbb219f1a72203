package deploy

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"fluent-bit-defender/internal/defendersim"
	"fluent-bit-defender/internal/flbhost"
)

// dpkg runs a program of Debian's on this machine.
func dpkg(t *testing.T, env []string, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// systemctl stands in for systemd's, and notes what it was asked for.
func systemctl(t *testing.T) (env []string, asked func() []string) {
	t.Helper()
	dir := t.TempDir()
	log := filepath.Join(dir, "log")
	// a program
	if err := os.WriteFile(filepath.Join(dir, "systemctl"), []byte("#!/bin/sh\necho \"$@\" >>"+log+"\n"),
		0o755); err != nil {
		t.Fatal(err)
	}
	return []string{"PATH=" + dir + ":" + os.Getenv("PATH")}, func() []string {
		text, _ := os.ReadFile(log) // none: it was not asked
		_ = os.Remove(log)
		return strings.FieldsFunc(string(text), func(r rune) bool { return r == '\n' })
	}
}

// The package of this machine is installed, runs under what the unit allows, is upgraded and removed: nothing is
// started, the configuration and the state of whoever has it stay, and a service is restarted only if it ran.
func TestThePackage(t *testing.T) {
	dist := os.Getenv("PACKAGES")
	program, found := flbhost.FluentBit()
	switch {
	case dist == "":
		t.Skip("SKIPPED: no PACKAGES: make test-package makes them")
	case os.Getuid() != 0:
		t.Skip("SKIPPED: only root may install a package")
	case !found:
		t.Skip("SKIPPED: no Fluent Bit: set FLUENT_BIT or put fluent-bit on PATH")
	}
	if _, err := exec.LookPath("dpkg"); err != nil {
		t.Skip("SKIPPED: no dpkg")
	}
	if out, _ := exec.CommandContext(t.Context(), "dpkg-query", "-W", "fluent-bit-defender").Output(); len(out) > 0 {
		t.Fatalf("it is installed here: %s", out)
	}
	const systemd = "/run/systemd/system"
	if _, err := os.Stat(systemd); err == nil {
		t.Skip("SKIPPED: systemd runs here, and would be asked")
	}
	if err := os.MkdirAll(systemd, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove(systemd) })
	env, asked := systemctl(t)
	deb := func(version string) string {
		return filepath.Join(dist, fmt.Sprintf("fluent-bit-defender_%s_%s.deb", version, runtime.GOARCH))
	}
	expect := func(when string, want ...string) {
		t.Helper()
		if got := asked(); !slices.Equal(got, want) {
			t.Errorf("%s: systemd was asked for %q, want %q", when, got, want)
		}
	}

	dpkg(t, env, "dpkg", "-i", deb("0.0.1"))
	t.Cleanup(func() { _ = exec.Command("dpkg", "--purge", "fluent-bit-defender").Run() })
	expect("installation", "daemon-reload")
	const conf = "/etc/fluent-bit-defender/fluent-bit.conf"
	dpkg(t, []string{"CREDENTIALS_DIRECTORY=" + credentials}, "defenderctl", "check", "--offline", "-c", conf)
	if out := dpkg(t, nil, "dpkg", "--verify", "fluent-bit-defender"); out != "" {
		t.Errorf("installed files differ: %s", out)
	}
	runInstalled(t, program, conf)

	text, err := os.ReadFile(conf)
	if err != nil {
		t.Fatal(err)
	}
	mine := string(text) + "\n# mine\n"
	write(t, conf, mine)
	const state = "/var/lib/private/fluent-bit-defender"
	write(t, filepath.Join(state, "defender.db"), "state")
	dpkg(t, env, "dpkg", "--force-confold", "-i", deb("0.0.2"))
	expect("upgrade", "daemon-reload", "try-restart fluent-bit-defender.service")
	if now, err := os.ReadFile(conf); err != nil || string(now) != mine {
		t.Errorf("the upgrade changed the configuration: %v", err)
	}
	dpkg(t, env, "dpkg", "-r", "fluent-bit-defender")
	expect("removal", "disable --now fluent-bit-defender.service", "daemon-reload")
	for path, stays := range map[string]bool{conf: true, filepath.Join(state, "defender.db"): true,
		"/usr/bin/defenderctl":         false,
		"/usr/lib/fluent-bit-defender": false, "/usr/lib/systemd/system/fluent-bit-defender.service": false} {
		if _, err := os.Stat(path); (err == nil) != stays {
			t.Errorf("after the removal: %s: %v", path, err)
		}
	}
	dpkg(t, env, "dpkg", "--purge", "fluent-bit-defender")
	for _, path := range []string{conf, state} {
		if _, err := os.Stat(path); err == nil {
			t.Errorf("after the purge %s is there", path)
		}
	}
}

// runInstalled runs the installed plugin with the installed configuration, as another user without any right, as the
// unit does.
func runInstalled(t *testing.T, program, conf string) {
	t.Helper()
	_, srv := serve(t)
	dir := t.TempDir()
	write(t, filepath.Join(dir, "credential", "client_secret"), defendersim.DefaultSecret)
	moved := moved(t, conf, dir, freePort(t), srv)
	const nobody = 65534
	err := filepath.Walk(dir, func(path string, _ os.FileInfo, err error) error {
		if err == nil {
			err = os.Chown(path, nobody, nobody)
		}
		return err
	})
	if err == nil {
		err = os.Chmod(filepath.Dir(dir), 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	if setpriv, err := exec.LookPath("setpriv"); err == nil {
		wrapper := filepath.Join(t.TempDir(), "fluent-bit")
		line := fmt.Sprintf("#!/bin/sh\nexec %s --reuid %d --regid %d --clear-groups --no-new-privs "+
			"--bounding-set=-all --inh-caps=-all %s \"$@\"\n", setpriv, nobody, nobody, program)
		if err := os.WriteFile(wrapper, []byte(line), 0o755); err != nil { // a program
			t.Fatal(err)
		}
		program = wrapper
	}
	run := start(t, program, "/usr/lib/fluent-bit-defender/in_defender.so", dir, moved)
	run.await("all alerts", func() bool { return len(run.ids()) >= alerts })
	run.stop()
}
