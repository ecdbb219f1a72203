package main

import (
	"encoding/json"
	"strings"
	"testing"

	"fluent-bit-defender/internal/golden"
)

const classicFaults = `# Every way to lose something between a file and the plugin.
@SET REGION=eu
[SERVICE]
    daemon ${DAEMON}
@INCLUDE defender_*.conf
[INPUT]
    name  dummy
[INPUT]
    Name           Defender
    Alias          eu
    client-id      35e0f735-5fe4-4693-9e68-3de80f1d3745
    tenant_id      72f988bf-86f1-41af-91ab-2d7cd011db47
    client_secret  ${DEFENDER_SECRET}
    region         ${REGION}
    machine_groups UKMachines
    machine_groups FranceMachines
    storage.typ    filesystem
    storage.type   memory
    storage.type   filesystem
    tls.ca_file    /etc/ca.pem
    host           wdatp-alertexporter-eu.windows.com
    net.keepalive  on
    tls            on
    tennant_id     x
    frobnicate     y
    client_secret=hunter2 z
    overlap        ${OVERLAP
    max_window     1y
`

const included = `[INPUT]
    name          defender
    alias         first
    tenant_id     72f988bf-86f1-41af-91ab-2d7cd011db47
    client_id     35e0f735-5fe4-4693-9e68-3de80f1d3745
    client_secret ${OLD_SECRET}
    region        ${REGION}
    machine_groups b, a
    db            first.db
[INPUT]
    name          defender
    tenant_id     72F988BF-86f1-41af-91ab-2d7cd011db47
    client_id     35e0f735-5fe4-4693-9e68-3de80f1d3746
    client_secret ${OLD_SECRET}
    region        EU
    machine_groups a,b
    db            second.db
`

const yamlFaults = `service:
  daemon: "off"
pipeline:
  inputs:
    - name: defender
      tenantId: 72f988bf-86f1-41af-91ab-2d7cd011db47
      clientID: 35e0f735-5fe4-4693-9e68-3de80f1d3745
      client_id: 35e0f735-5fe4-4693-9e68-3de80f1d3745
      client_secret_file: secret
      region: eu
      machine_groups: [UKMachines, FranceMachines]
      cloud_created_machine_tags: [tier0]
      db: null
      proxy_url: {host: x}
      ca_file: []
      tls: off
      processors:
        logs: []
`

func TestCheckOffline(t *testing.T) {
	w := newWorld(t)
	w.env = map[string]string{"DAEMON": "on", "OLD_SECRET": "hunter2hunter2"}
	w.secrets = append(w.secrets, "hunter2")
	w.write("fluent-bit.conf", classicFaults)
	w.write("defender_old.conf", included)
	w.write("fluent-bit.yaml", yamlFaults)
	w.write("good.conf", w.stanza("db x.db"))
	w.write("none.conf", "[INPUT]\n    name dummy\n")
	w.write("broken.conf", "[INPUT]\n    client_secret\thunter2\n")
	for _, args := range [][]string{
		{"check", "--offline", "-c", "fluent-bit.conf"},
		{"check", "--offline", "-c", "fluent-bit.yaml"},
		{"check", "--offline", "-c", "good.conf"},
		{"check", "--offline", "-c", "none.conf"},
		{"check", "--offline", "-c", "broken.conf"},
		{"check", "--offline", "-c", "broken.conf", "--json"},
		{"check", "--offline", "-c", "good.conf", "--json"},
	} {
		w.run(args...)
	}
	w.golden("check_offline")
	if n := w.svc.Stats(); n.Tokens+n.Alerts != 0 {
		t.Errorf("the service was asked: %+v", n)
	}
}

func TestCheckJSONIsWhatTheTextSays(t *testing.T) {
	w := newWorld(t)
	w.write("fluent-bit.conf", classicFaults)
	w.write("defender_old.conf", included)
	text := w.run("check", "--offline", "-c", "fluent-bit.conf")
	machines := w.run("check", "--offline", "--json", "-c", "fluent-bit.conf")
	var r struct {
		OK       bool
		Findings int
		Results  []struct {
			Stanza, Check, Status, Key, File, Message string
			Line                                      int
		}
	}
	if err := json.Unmarshal([]byte(machines.out), &r); err != nil {
		t.Fatal(err)
	}
	failed := 0
	for _, l := range r.Results {
		if l.Status == "fail" {
			failed++
		}
		if !strings.Contains(text.out, l.Message) {
			t.Errorf("not in the text: %+v", l)
		}
	}
	if r.OK || text.code != 1 || machines.code != 1 ||
		r.Findings != failed || failed != strings.Count(text.out, "FAIL ") {
		t.Errorf("%d findings, %d fail, codes %d and %d:\n%s", r.Findings, failed, text.code, machines.code, text.out)
	}
}

func TestTicksOnlyWhereTheyCanBeShown(t *testing.T) {
	f := func(tty bool, env map[string]string, want string) {
		t.Helper()
		a := &app{outTTY: tty, env: func(name string) (string, bool) { v, set := env[name]; return v, set }}
		if got := a.marksFor()[bad]; got != want {
			t.Errorf("%v: %q, want %q", env, got, want)
		}
	}
	utf8 := map[string]string{"LANG": "en_GB.UTF-8", "TERM": "xterm"}
	f(true, utf8, "\x1b[31m✗\x1b[0m")
	f(false, utf8, "FAIL")
	f(true, map[string]string{"LANG": "C.utf8", "TERM": "dumb"}, "✗")
	f(true, map[string]string{"LC_ALL": "de_DE.UTF-8", "TERM": "xterm", "NO_COLOR": "1"}, "✗")
	f(true, map[string]string{"LC_ALL": "C", "LANG": "en_GB.UTF-8", "TERM": "xterm"}, "FAIL")
	f(true, map[string]string{"TERM": "xterm"}, "FAIL")
}

func TestExitCodes(t *testing.T) {
	w := newWorld(t)
	w.write("good.conf", w.stanza("db x.db"))
	w.write("two.conf", w.stanza("db x.db", "alias one")+w.stanza("db x.db", "alias two", "machine_groups a"))
	w.write("faults.conf", w.stanza("limit x"))
	f := func(want int, args ...string) {
		t.Helper()
		if r := w.run(args...); r.code != want {
			t.Errorf("%q: exit %d, want %d", args, r.code, want)
		}
	}
	f(0)
	f(0, "--version")
	f(0, "check", "--help")
	f(0, "check", "--offline", "-c", "good.conf")
	f(1, "check", "--offline", "-c", "faults.conf")
	f(2, "frobnicate")
	f(2, "check")
	f(2, "check", "-c", "nowhere.conf")
	f(2, "check", "-c", "nowhere.yaml")
	f(2, "check", "--frobnicate", "-c", "good.conf")
	f(2, "check", "good.conf")
	f(2, "man")
	f(2, "pull", "-c", "good.conf")
	f(2, "pull", "-c", "good.conf", "--since", "yesterday")
	f(2, "pull", "-c", "good.conf", "--since", "2024-05-06", "--until", "2024-05-05")
	f(2, "pull", "-c", "good.conf", "--since", "2h", "--db", "pull.db")
	f(2, "pull", "-c", "two.conf", "--since", "2h")
	f(2, "pull", "-c", "two.conf", "--since", "2h", "--stanza", "three")
	f(1, "pull", "-c", "faults.conf", "--since", "2h")
	f(2, "pull", "--since", "2h")
	f(2, "state")
	f(1, "state", "--db", "nowhere.db")
	f(1, "state", "-c", "good.conf")
	f(2, "state", "-c", "two.conf", "--reset-to", "2024-05-06")
	f(2, "state", "-c", "good.conf", "--reset-to", "2034-05-06")
	f(1, "state", "-c", "faults.conf")
	w.golden("usage")
}

func TestManualPagesAndCompletion(t *testing.T) {
	t.Setenv("SOURCE_DATE_EPOCH", "0")
	w := newWorld(t)
	w.run("man", "pages/man1")
	w.golden("man")
	for _, page := range []string{
		"defenderctl", "defenderctl-check", "defenderctl-login", "defenderctl-pull", "defenderctl-state",
		"defenderctl-man",
	} {
		text := read(t, "pages/man1/"+page+".1")
		if page == "defenderctl-check" {
			golden.Check(t, here+"/testdata/check.1.golden", text)
		}
		if !strings.Contains(text, ".SH SYNOPSIS") {
			t.Errorf("%s: %s", page, text)
		}
	}
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		if r := w.run("completion", shell); r.code != 0 || !strings.Contains(r.out, "defenderctl") {
			t.Errorf("completion %s: exit %d", shell, r.code)
		}
	}
}

func TestNoSecretIsShownWhereverItStands(t *testing.T) {
	const secret = "Xy7~hunter2hunter2"
	w := newWorld(t)
	w.secrets = append(w.secrets, secret)
	for _, text := range []string{
		"client_id " + secret, "client_secret " + secret, "client_secret=" + secret + " z",
		"client_secret: " + secret, "tenant_id " + secret, "password " + secret, "client_secret_file " + secret,
		"url https://me:" + secret + "@host/x", "proxy_url http://me:" + secret + "@host:1",
		"token_url https://host/x?code=" + secret, "region " + secret, "machine_groups a,," + secret,
		"client_secret ${" + secret, "client_secret ${" + secret + "}", "refresh_token " + secret,
		"oauth2.client_secret " + secret, "tls.key_passwd " + secret, "limit " + secret, "client-secret " + secret,
		"client_secret_file", secret,
	} {
		key, _, _ := strings.Cut(text, " ")
		w.write("fluent-bit.conf", w.stanza(key, text, "client_secret "+secret))
		w.run("check", "--offline", "-c", "fluent-bit.conf")
		w.run("check", "--offline", "--json", "-c", "fluent-bit.conf")
		w.run("pull", "--since", "1h", "-c", "fluent-bit.conf")
		w.run("state", "-c", "fluent-bit.conf")
		w.run("login", "-c", "fluent-bit.conf")
	}
}

// What Fluent Bit takes without a word, and what costs alerts or blinds who reads the log (issue 13).
func TestThinPlacesAreFound(t *testing.T) {
	w := newWorld(t)
	f := func(want string, lines ...string) {
		t.Helper()
		second := w.stanza("db x.db", "alias second", "machine_groups a")
		w.write("thin.conf", w.stanza(append(lines, "db x.db")...)+second)
		r := w.run("check", "--offline", "-c", "thin.conf")
		if (r.code == 1) != (want != "") || !strings.Contains(r.out, want) {
			t.Errorf("%q: exit %d, not %q in\n%s", lines, r.code, want, r.out)
		}
	}
	f("")
	f("client_secret: stands in quotes", "client_secret_file", `client_secret "a~secret~in~quotes"`)
	f("filter: stands in quotes", "filter 'x'")
	f("alias: the stanza at ", "alias second")
	f("storage.type: memrb drops the oldest", "storage.type memrb")
	f("", "storage.type filesystem")
	if strings.Contains(w.run("check", "--offline", "-c", "thin.conf").out, "secret~in") {
		t.Error("a secret is shown")
	}
}
