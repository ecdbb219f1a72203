package main

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"fluent-bit-defender/internal/defendersim"
	"fluent-bit-defender/state"
)

// The session of the README: three findings in two stanzas.
func TestCheckFindsThreeFaults(t *testing.T) {
	w := newWorld(t)
	w.app.outTTY = true
	w.env = map[string]string{"LANG": "C.UTF-8", "TERM": "xterm", "NO_COLOR": "1"}
	stanza := func(id string, more ...string) string {
		lines := append([]string{
			"name               defender", "tenant_id          " + defendersim.DefaultTenant, id,
			"client_secret_file secret", "url                " + w.srv.AlertsURL(),
			"token_url          " + w.srv.TokenURL(), "ca_file            ca.pem", "db                 defender.db",
		}, more...)
		return "[INPUT]\n    " + strings.Join(lines, "\n    ") + "\n\n"
	}
	w.write("fluent-bit.conf", "[SERVICE]\n    plugins_file plugins.conf\n\n"+
		stanza("client-id          "+defendersim.DefaultClientID, "alias              all_machines")+
		stanza("client_id          "+defendersim.DefaultClientID, "alias              servers",
			"machine_groups     UKServers", "machine_groups     FranceServers"))
	w.svc.Queue(defendersim.KindToken, defendersim.Entra(7000222))
	if r := w.run("check", "-c", "fluent-bit.conf"); r.code != 1 || !strings.HasSuffix(r.out, "3 findings\n") {
		t.Errorf("exit %d", r.code)
	}
	w.golden("check_three_findings")
}

// What the README shows of that session is what it prints, but for the ends of lines cut with "...".
func TestTheSessionInTheReadme(t *testing.T) {
	golden := strings.Split(strings.TrimSpace(read(t, "testdata/check_three_findings.golden")), "\n")
	if last := len(golden) - 1; golden[last] != "[exit 1]" {
		t.Errorf("the session ends with %q", golden[last])
	} else {
		golden = golden[:last] // the text below it says so
	}
	_, text, found := strings.Cut(read(t, "../../README.md"), "\n    "+golden[0]+"\n")
	if !found {
		t.Fatalf("README.md has no %q", golden[0])
	}
	shown := []string{golden[0]}
	for line := range strings.Lines(text) {
		line, indented := strings.CutPrefix(strings.TrimRight(line, "\n"), "    ")
		if !indented {
			break
		}
		begin, cut := strings.CutSuffix(line, "...")
		if cut && len(shown) < len(golden) && strings.HasPrefix(golden[len(shown)], begin) {
			line = golden[len(shown)]
		}
		shown = append(shown, line)
	}
	if diff := cmp.Diff(golden, shown); diff != "" {
		t.Errorf("(-golden +README.md):\n%s", diff)
	}
}

func TestCheckOnline(t *testing.T) {
	w := newWorld(t)
	w.write("fluent-bit.conf", w.stanza("alias eu", "db defender.db"))
	w.write("fluent-bit.yaml", "pipeline:\n  inputs:\n    - name: defender\n"+
		"      tenant_id: "+defendersim.DefaultTenant+"\n      client_id: "+defendersim.DefaultClientID+"\n"+
		"      client_secret: ${SECRET}\n      url: "+w.srv.AlertsURL()+"\n"+
		"      token_url: "+w.srv.TokenURLV2()+"\n      ca_file: ca.pem\n")
	w.env["SECRET"] = defendersim.DefaultSecret
	w.run("check", "-c", "fluent-bit.conf")
	w.svc.Add(defendersim.SeedAlert(noon.Add(-5 * time.Minute)))
	s := w.store("defender.db", w.keyOf("fluent-bit.conf"), state.Change{
		Watermark: noon.Add(-15 * time.Minute), Add: seenRows(3, noon),
	})
	defer s.Close()
	w.run("check", "-c", "fluent-bit.conf")
	w.run("check", "-c", "fluent-bit.yaml")
	w.run("check", "-c", "fluent-bit.yaml", "--json")
	w.golden("check_online")
}

func TestCheckNamesTheRemedy(t *testing.T) {
	w := newWorld(t)
	w.write("fluent-bit.conf", w.stanza())
	w.write("resource.conf", w.stanza("resource https://graph.microsoft.com"))
	w.write("wrong.conf", w.stanza("client_secret_file", "client_secret wrong-but-long-enough"))
	w.write("nofile.conf", w.stanza("client_secret_file", "client_secret_file nowhere"))
	w.write("noca.conf", w.stanza("ca_file", "ca_file nowhere.pem"))
	w.write("nodir.conf", w.stanza("db nowhere/defender.db"))
	w.write("foreign.conf", w.stanza("db ca.pem", "ca_file"))
	check := func(want string, args ...string) {
		t.Helper()
		if r := w.run(append([]string{"check", "-c"}, args...)...); r.code != 1 || !strings.Contains(r.out, want) {
			t.Errorf("%q: exit %d, without %q", args, r.code, want)
		}
	}
	check("AADSTS7000215: the client secret is wrong", "wrong.conf")
	check("client_secret_file: the file named there (not shown): no such file or directory", "nofile.conf")
	check("ca_file: open nowhere.pem", "noca.conf")
	check("there is no directory nowhere here", "nodir.conf")
	check("check resource", "resource.conf")
	check("damaged", "foreign.conf")
	w.svc.Queue(defendersim.KindAlerts, defendersim.Status(403))
	check("access is forbidden (403)", "fluent-bit.conf")
	w.svc.Queue(defendersim.KindAlerts, defendersim.HTML())
	check("no list of alerts", "fluent-bit.conf")
	w.svc.Queue(defendersim.KindAlerts, defendersim.Hang())
	check("no answer within 2s (--timeout)", "fluent-bit.conf", "--timeout", "2s")
	w.shift = 5 * time.Minute
	check("this machine is 5m0s ahead of the service", "fluent-bit.conf")
	w.shift = -72 * time.Hour
	check("this machine is 3 days 0s behind the service", "fluent-bit.conf")
	w.shift = 0
	w.srv.Down()
	check("refused", "fluent-bit.conf")
	w.golden("check_remedies")
}
