package entra

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"fluent-bit-defender/conf"
	"fluent-bit-defender/internal/defendersim"
	"fluent-bit-defender/internal/simtest"
	"fluent-bit-defender/transport"
)

func TestAzureArcGivesTokens(t *testing.T) {
	t.Setenv("IDENTITY_ENDPOINT", defendersim.IdentityURL)
	t.Setenv("IMDS_ENDPOINT", "http://169.254.169.254")
	dir := t.TempDir()
	was := arcKeys
	arcKeys = dir
	defer func() { arcKeys = was }()
	const key = "a-key-that-only-members-read"
	inBubble(t, func(w *simtest.World) {
		w.Cfg.ManagedIdentityEndpoint = conf.IMDS
		write := func(name string) string {
			path := filepath.Join(dir, name)
			if err := os.WriteFile(path, []byte(key+"\n"), 0o600); err != nil {
				w.Fatal(err)
			}
			return path
		}
		w.Svc.SetMachine(defendersim.Machine{KeyFile: write("a.key"), Key: key})
		good(w, clientOf(w), "Azure Arc")
		for name, want := range map[string]struct{ path, said string }{
			"a key elsewhere":       {"/etc/passwd.key", "names no key in " + dir},
			"a way out":             {dir + "/../x.key", "names no key in " + dir},
			"no key at all":         {write("a.txt"), "names no key in " + dir},
			"one that is not there": {dir + "/b.key", "a member of the group himds"},
		} {
			w.Svc.SetMachine(defendersim.Machine{KeyFile: want.path, Key: key})
			if e := bad(w, clientOf(w), name); e.Kind != transport.KindToken || !strings.Contains(e.Error(),
				want.said) {
				w.Errorf("%s: %v", name, e)
			}
		}
		w.Svc.SetMachine(defendersim.Machine{KeyFile: write("a.key"), Key: "another"})
		if e := bad(w, clientOf(w), "a key that is refused"); e.Status != 401 || strings.Contains(e.Error(), key) {
			w.Errorf("%v", e)
		}
		w.Cfg.ManagedIdentityClientID = simtest.Identity
		_, err := open(w.Cfg, nil, discard)
		if err == nil || !strings.Contains(err.Error(), "system-assigned identity alone") {
			w.Errorf("a user-assigned identity: %v", err)
		}
	})
}

// Whoever answers in place of Azure Arc's agent may name any file as the key: none is opened but a key in the agent's
// own directory.
func FuzzArcKey(f *testing.F) {
	dir := f.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a.key"), []byte("inside"), 0o600); err != nil {
		f.Fatal(err)
	}
	was := arcKeys
	arcKeys = dir
	f.Cleanup(func() { arcKeys = was })
	for _, seed := range []string{
		"Basic realm=" + dir + "/a.key", `Basic realm="` + dir + `/a.key"`, "Basic realm=" + dir + "/../x.key",
		"Basic realm=/etc/passwd", "Basic", "",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, head string) {
		c := &Tokens{net: &transport.Network{Mask: new(transport.Mask)}}
		key, refused := identity{t: c, machine: azureArc}.arcKey(http.Header{"Www-Authenticate": {head}})
		if refused == nil && key != "inside" || refused != nil && key != "" {
			t.Fatalf("%q: %q, %v", head, key, refused)
		}
	})
}
