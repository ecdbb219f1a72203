package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fluent-bit-defender/internal/defendersim"
)

// graphStanza is a stanza with api graph that the service answers.
func (w *world) graphStanza(keys ...string) string {
	own := []string{"url", "token_url", "api graph", "url " + w.srv.GraphURL(), "token_url " + w.srv.TokenURLV2()}
	return w.stanza(append(own, keys...)...)
}

// graphAlert is an alert that was updated so long before noon, with further fields.
func graphAlert(t *testing.T, id string, ago time.Duration, more string) defendersim.GraphAlert {
	t.Helper()
	at := noon.Add(-ago).Format("2006-01-02T15:04:05.0000000Z")
	a, err := defendersim.ParseGraphAlert(fmt.Appendf(nil, `{"@odata.type":"#microsoft.graph.security.alert",`+
		`"id":%q,"title":"Suspicious PowerShell commandline","severity":"medium",`+
		`"serviceSource":"microsoftDefenderForEndpoint","createdDateTime":"2024-05-06T07:00:00.1234567Z",`+
		`"lastUpdateDateTime":%q%s}`, id, at, more))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestCheckGraph(t *testing.T) {
	w := newWorld(t)
	w.write("fluent-bit.conf", w.graphStanza("alias graph", "db defender.db",
		"filter serviceSource eq 'microsoftDefenderForEndpoint'"))
	w.write("filter.conf", w.graphStanza("db defender.db", "filter title eq 'x'"))
	check := func(code int, want string, args ...string) {
		t.Helper()
		if r := w.run(append([]string{"check", "-c"}, args...)...); r.code != code || !strings.Contains(r.out, want) {
			t.Errorf("%q: exit %d, without %q", args, r.code, want)
		}
	}
	check(0, "no alert was updated in the last hour", "fluent-bit.conf")
	w.svc.AddGraph(graphAlert(t, "da1", 20*time.Minute, ""), graphAlert(t, "da2", 3*time.Hour, ""))
	check(0, "an alert was updated at 2024-05-06T11:40:00Z", "fluent-bit.conf")
	w.svc.Queue(defendersim.KindGraph, defendersim.Partial(1))
	check(0, "answered in part (206)", "fluent-bit.conf")
	check(1, "check filter", "filter.conf")
	w.svc.SetGraphRoles(defendersim.DefaultClientID, "SecurityIncident.Read.All")
	check(1, "and not SecurityAlert.Read.All", "fluent-bit.conf")
	w.svc.SetGraphRoles(defendersim.DefaultClientID)
	check(1, "carries no permission", "fluent-bit.conf")
	w.golden("check_graph")

	asked := 0
	w.svc.OnRequest(func(r defendersim.Request) *defendersim.Fault {
		if r.Kind == defendersim.KindGraph {
			asked++
			// Bounds are widened to the 100 ns.
			span := r.Query.Until.Sub(r.Query.Since)
			if r.Graph.Top != 1 || span < lookBack || span > lookBack+time.Microsecond {
				t.Errorf("asked for %d rows of %s", r.Graph.Top, span)
			}
		}
		return nil
	})
	w.svc.SetGraphRoles(defendersim.DefaultClientID, defendersim.GraphPermission)
	w.run("check", "-c", "fluent-bit.conf")
	if asked != 1 {
		t.Errorf("%d requests", asked)
	}
}

// What belongs to the other API is told offline: by the plugin's own words where it refuses, and where it would take
// it as well.
func TestCheckKnowsTheOtherAPIsKeys(t *testing.T) {
	w := newWorld(t)
	w.write("graph.conf", w.graphStanza("db defender.db", "region eu", "machine_groups a",
		"device_created_machine_tags b", "ago PT1H", "limit 5000", "url", "filter (severity eq 'high'")+
		w.stanza("api graph", "alias copied", "resource https://graph.windows.net", "machine_groups", "db defender.db")+
		w.graphStanza("alias legacy", "db other.db", "url", "url https://graph.microsoft.com/v1.0/security/alerts"))
	w.write("siem.conf", w.stanza("filter severity eq 'high'", "updates first", "db defender.db")+
		w.stanza("alias forgotten", "url", "url https://graph.microsoft.com/v1.0/security/alerts_v2",
			"resource https://graph.microsoft.com", "db defender.db"))
	for _, config := range []string{"graph.conf", "siem.conf"} {
		if r := w.run("check", "--offline", "-c", config); r.code != 1 {
			t.Errorf("%s: exit %d", config, r.code)
		}
	}
	w.golden("check_other_api")
}

func TestLoginForGraph(t *testing.T) {
	w := newWorld(t)
	w.svc.SetNative(native, true)
	login := []string{"client_id", "client_secret_file", "client_id " + native, "refresh_token_file login"}
	w.write("fluent-bit.conf", w.graphStanza(append(login, "alias graph")...)+w.stanza(append(login, "alias siem")...))
	shown := w.visit("accept")
	first := w.run("login", "-c", "fluent-bit.conf", "--stanza", "graph")
	if first.code != 0 || strings.Contains(first.err, "but the token") {
		t.Fatalf("exit %d: %s", first.code, first.err)
	}
	<-shown
	w.svc.AddGraph(graphAlert(t, "da1", 20*time.Minute, ""))
	// A refresh token is its application's: it serves the stanza of the other API too.
	r := w.run("check", "-c", "fluent-bit.conf")
	for _, want := range []string{
		"scp SecurityAlert.Read.All, user analyst@contoso.example", "an alert was updated",
		"scp Alert.Read, user analyst@contoso.example", "no alert was processed",
	} {
		if r.code != 0 || !strings.Contains(r.out, want) {
			t.Errorf("exit %d, without %q: %s", r.code, want, r.out)
		}
	}
}

// The stanzas of the page are such that the plugin takes them, and each has its own state in the file they share.
func TestStanzasOfTheMigrationPage(t *testing.T) {
	text := read(t, here+"/../../docs/migration.md")
	t.Chdir(t.TempDir())
	blocks := strings.Split(text, "```")
	n := 0
	for i := 1; i < len(blocks); i += 2 {
		if !strings.Contains(blocks[i], "[INPUT]") {
			continue
		}
		n++
		if err := os.WriteFile("fluent-bit.conf", []byte(blocks[i]), 0o600); err != nil {
			t.Fatal(err)
		}
		var out strings.Builder
		none := func(string) (string, bool) { return "", false }
		a := &app{in: strings.NewReader(""), out: &out, err: &out, env: none, now: time.Now}
		code := a.run(t.Context(), []string{"check", "--offline", "-c", "fluent-bit.conf"})
		if code != 0 || !strings.Contains(out.String(), "graph of graph.microsoft.com") {
			t.Errorf("exit %d for%s%s", code, blocks[i], out.String())
		}
	}
	if n != 3 {
		t.Errorf("%d pieces of configuration", n)
	}
}

func TestPullGraph(t *testing.T) {
	w := newWorld(t)
	w.svc.AddGraph(
		graphAlert(t, "da-old", 3*time.Hour, ""),
		graphAlert(t, "da-one", 2*time.Hour, `,"evidence":[`+
			`{"@odata.type":"#microsoft.graph.security.deviceEvidence",`+
			`"deviceDnsName":"desktop-bvccckk","tags":["a"]},`+
			`{"@odata.type":"#microsoft.graph.security.ipEvidence","ipAddress":"192.0.2.1"}],"additionalData":null`),
		graphAlert(t, "da-two", 90*time.Minute, `,"status":"new"`),
		graphAlert(t, "da-three", time.Hour, ""),
	)
	w.write("fluent-bit.conf", w.graphStanza("event_id_key event_id"))
	span := []string{
		"pull", "-c", "fluent-bit.conf",
		"--since", "2024-05-06T09:30:00Z", "--until", "2024-05-06T11:00:00Z", "--db", "pull.db",
	}
	w.run(span...)
	w.run(span...)
	w.svc.AddGraph(graphAlert(t, "da-two", 30*time.Minute, `,"status":"resolved"`))
	w.run("pull", "-c", "fluent-bit.conf", "--since", "1h")
	w.golden("pull_graph")
}

// Pages, ties and faults keep nothing back, and nothing comes twice.
func TestPullGraphFindsAllWhateverTheServiceDoes(t *testing.T) {
	t.Chdir(t.TempDir())
	for seed := range uint64(4) {
		synctest.Test(t, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 9))
			graph := defendersim.GraphModes{Order: defendersim.GraphOrder(seed)}
			v := newVirtual(seed, defendersim.Modes{Graph: graph, Gzip: true})
			v.where = "  api graph\n"
			since, until, args := v.span(4)
			mix := defendersim.GraphMix{TieShare: 0.5}
			versions := defendersim.GenerateGraph(rnd, 400, 120, since.Add(-time.Hour), v.now, mix)
			v.svc.AddGraph(versions...)
			last := map[string]defendersim.GraphAlert{} // Graph has no other version of an alert
			for _, a := range versions {
				last[a.ID] = a
			}
			want := map[string]int{}
			for _, a := range last {
				if !a.Updated.Before(since) && a.Updated.Before(until) {
					want[a.Key()]++
				}
			}
			v.extra = fmt.Sprintf("  limit %d\n", 10+rnd.IntN(90))
			v.finds(t, rnd, want, defendersim.GraphKeyOf, args)
		})
	}
}
