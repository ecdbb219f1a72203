package conf

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const otherTenant = "11111111-2222-3333-4444-555555555555"

// provider is a stanza with tenants_file; lines overlay it as those of with do.
func provider(t testing.TB, lines ...string) *Stanza {
	t.Helper()
	s, faults := LoadStanza(with(append([]string{"tenants_file /etc/defender/tenants.yaml", "tenant_id",
		"client_secret",
		"client_secret_file /etc/defender/secret"}, lines...)...), noEnv)
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	return s
}

func tenants(t testing.TB, s *Stanza, text string) []*Config {
	t.Helper()
	got, faults := s.Tenants([]byte(text))
	if len(faults) > 0 || len(got.Bad) > 0 {
		t.Fatal(faults)
	}
	return got.Good
}

// badTenants returns the files of testdata/tenants: one fault each, but for one. Lines that begin with "# want: " are
// all faults, those that begin with "# stanza: " overlay the stanza.
func badTenants(t testing.TB) map[string]string {
	t.Helper()
	paths, err := filepath.Glob("testdata/tenants/*.yaml")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no bad files: %v", err)
	}
	texts := map[string]string{}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		texts[strings.TrimSuffix(filepath.Base(path), ".yaml")] = string(text)
	}
	return texts
}

func TestBadTenantsAreRefusedToTheLetter(t *testing.T) {
	for name, text := range badTenants(t) {
		t.Run(name, func(t *testing.T) {
			var want, stanza []string
			for line := range strings.Lines(text) {
				if fault, found := strings.CutPrefix(line, "# want: "); found {
					want = append(want, strings.TrimSpace(fault))
				}
				if key, found := strings.CutPrefix(line, "# stanza: "); found {
					stanza = append(stanza, strings.TrimSpace(key))
				}
			}
			_, faults := provider(t, stanza...).Tenants([]byte(text))
			if diff := cmp.Diff(want, strings.Split(faults.Error(), "\n")); diff != "" {
				t.Errorf("faults (-want +got):\n%s", diff)
			}
		})
	}
}

func TestATenantIsItsEntryOverTheStanza(t *testing.T) {
	got := tenants(t, provider(t, "machine_groups A", "limit 7", "poll_interval 5m"), `
- tenant_id: Contoso.onmicrosoft.com
- tenant_id: `+otherTenant+`
  name: fabrikam
  region: us
  client_id: other
  client_secret: of-its-own-1
  machine_groups: [B, C]
  limit: 9
`)
	base := load(t, "tenant_id contoso.onmicrosoft.com", "client_secret", "client_secret_file /etc/defender/secret",
		"machine_groups A", "limit 7",
		"poll_interval 5m", "tenant_id_key TenantId")
	base.TenantsFile = "/etc/defender/tenants.yaml"
	own := load(t, "tenant_id "+otherTenant, "region us", "client_id other", "client_secret of-its-own-1",
		"machine_groups B,C", "limit 9",
		"poll_interval 5m", "tenant_id_key TenantId")
	own.TenantsFile, own.Name = base.TenantsFile, "fabrikam"
	if diff := cmp.Diff([]*Config{base, own}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got[0].Label() != "contoso.onmicrosoft.com" || got[1].Label() != "fabrikam" {
		t.Errorf("%s, %s", got[0].Label(), got[1].Label())
	}
}

// What an entry says must not contradict what the stanza says of the same thing.
func TestAnEntryReplacesWhatItContradicts(t *testing.T) {
	f := func(name string, stanza []string, entry string, url, tokenURL, auth string) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			t.Helper()
			c := tenants(t, provider(t, stanza...), "- {tenant_id: contoso.com, "+entry+"}")[0]
			if diff := cmp.Diff([]string{url, tokenURL, auth}, []string{c.URL, c.TokenURL, c.Auth}); diff != "" {
				t.Errorf("url, token_url, auth (-want +got):\n%s", diff)
			}
		})
	}
	const (
		eu    = "https://wdatp-alertexporter-eu.windows.com/api/alerts"
		com   = "https://login.microsoftonline.com/contoso.com/oauth2/token"
		graph = "https://graph.microsoft.com/v1.0/security/alerts_v2"
	)
	f("a cloud", nil, "cloud: gcc_high", "https://wdatp-alertexporter-us.securitycenter.windows.us/api/alerts",
		"https://login.microsoftonline.us/contoso.com/oauth2/token", ClientSecret)
	f("the same cloud", nil, "cloud: public", eu, com, ClientSecret)
	f("a url", nil, "url: 'https://a.example.com/x'", "https://a.example.com/x", com, ClientSecret)
	f("a region", []string{"region", "url https://a.example.com/x"}, "region: eu", eu, com, ClientSecret)
	f("a token_url", []string{"authority https://login.example.com"}, "token_url: 'https://l.example.com/t'", eu,
		"https://l.example.com/t", ClientSecret)
	f("Graph", []string{"machine_groups A", "ago PT1H"}, "api: Graph", graph,
		"https://login.microsoftonline.com/contoso.com/oauth2/v2.0/token", ClientSecret)
	f("a certificate", nil, "client_certificate_file: /etc/cert.pem", eu, com, ClientCertificate)
	f("a managed identity", nil, "auth: managed_identity", eu, "", ManagedIdentity)
}

func TestTheTenantIsNeverTakenFromTheEnvironment(t *testing.T) {
	env := func(name string) string {
		return map[string]string{"AZURE_TENANT_ID": "wrong.com", "AZURE_CLIENT_ID": sampleClient,
			"AZURE_FEDERATED_TOKEN_FILE": "/var/token"}[name]
	}
	s, faults := LoadStanza(with("tenants_file /t", "tenant_id", "client_id", "client_secret",
		"auth workload_identity"), env)
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	got, faults := s.Tenants([]byte("- tenant_id: contoso.com\n- name: none\n"))
	if len(got.Good) != 1 || got.Good[0].TenantID != "contoso.com" || got.Good[0].FederatedTokenFile != "/var/token" ||
		len(faults) != 1 {
		t.Errorf("%+v %v", got, faults)
	}
}

func TestFaultsOfTheStanzaAreToldOnce(t *testing.T) {
	s, faults := LoadStanza(with("tenants_file /t", "tenant_id", "region de", "poll_interval 5x"), noEnv)
	if len(faults) != 2 {
		t.Fatal(faults)
	}
	_, faults = s.Tenants([]byte("- tenant_id: contoso.com\n- tenant_id: fabrikam.com\n  region: fr\n"))
	want := `tenants_file: line 3: region: "fr" is not one of its values; allowed: us, eu or uk`
	if faults.Error() != want {
		t.Errorf("got  %v\nwant %s", faults, want)
	}
}

func TestJSONIsRead(t *testing.T) {
	text := "[\n\t{\"tenant_id\": \"contoso.com\", \"name\": \"a \\u00e9 \\/ \\ud83d\\ude00 " +
		"\\\\/\"},\n\t{\"tenant_id\":\"fabrikam.com\",\"limit\":5}\n]\n"
	got := tenants(t, provider(t), text)
	if len(got) != 2 || got[0].Name != "a é / 😀 \\/" || got[1].Limit != 5 {
		t.Errorf("%+v", got)
	}
}

func TestManyFaultsAreToldUpToAHundred(t *testing.T) {
	_, faults := provider(t, "region").Tenants([]byte(strings.Repeat("- tenant_id: contoso.com\n", 1000)))
	if len(faults) != maxTold+1 || faults[maxTold].Error() != "tenants_file: 900 more faults" {
		t.Errorf("%d faults, the last %v", len(faults), faults[len(faults)-1])
	}
}

func TestDifferBetweenTwoFiles(t *testing.T) {
	s := provider(t)
	entry := func(id, more string) string { return "- tenant_id: " + id + "\n" + more }
	old := entry("a.com", "  name: a\n") + entry("b.com", "") + entry("c.com", "")
	f := func(name, text string, want ...string) {
		t.Helper()
		now, _ := s.Tenants([]byte(text))
		d := Differ(tenants(t, s, old), now)
		var got []string
		for _, c := range d.Begin {
			got = append(got, "begin "+c.TenantID+c.Filters())
		}
		for _, c := range d.Stop {
			got = append(got, "stop "+c.TenantID+c.Filters())
		}
		for _, r := range d.Change {
			got = append(got, fmt.Sprintf("change %s limit %d to %d", r.New.TenantID, r.Old.Limit, r.New.Limit))
		}
		if diff := cmp.Diff(want, got); diff != "" || d.Empty() != (len(want) == 0) {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	f("the same", old)
	f("another order", entry("c.com", "")+entry("b.com", "")+entry("a.com", "  name: a\n"))
	f("one more, one less", entry("a.com", "  name: a\n")+entry("b.com", "")+entry("d.com", ""), "begin d.com",
		"stop c.com")
	f("other settings", entry("a.com", "  name: a\n")+entry("b.com", "  limit: 5\n")+entry("c.com", ""),
		"change b.com limit 0 to 5")
	f("other filters", entry("a.com", "  name: a\n")+entry("b.com", "  machine_groups: x\n")+entry("c.com", ""),
		"begin b.commachine_groups=x", "stop b.com")
	f("a faulty entry goes on, by its id", entry("a.com", "  name: a\n")+entry("b.com", "  region: de\n"), "stop c.com")
	f("a faulty entry goes on, by its name", entry("a .com", "  name: a\n")+entry("b.com", ""), "stop c.com")
	f("whose it is nobody knows", entry("x x", "")+entry("a.com", "  name: a\n"))
	// the caller has faults and no entry: it must not ask
	f("nothing that can be read", "- {", "stop a.com", "stop b.com", "stop c.com")
}

func BenchmarkTenants(b *testing.B) {
	s := provider(b)
	var text strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&text, "- tenant_id: %08d-2222-3333-4444-555555555555\n  name: customer %d\n  region: us\n", i, i)
	}
	for b.Loop() {
		if got, faults := s.Tenants([]byte(text.String())); len(faults) > 0 || len(got.Good) != 1000 {
			b.Fatal(faults)
		}
	}
}

// FuzzTenants reads any file. SECRET stands for a secret, so that it can be looked for.
func FuzzTenants(f *testing.F) {
	const marker = "q7Z~needle~7Zq"
	for _, text := range badTenants(f) {
		f.Add(text)
	}
	f.Add("- {tenant_id: a.com, client_secret: SECRET, name: SECRET, region: SECRET}\n- *SECRET\n")
	f.Add("[{\"tenant_id\":\"a.com\",\"limit\":1e3}]")
	f.Add("- !!binary SECRET\n- tenant_id: !x SECRET\n- <<: {tenant_id: SECRET}\n- ? [a]\n  : b\n- |\n  SECRET\n")
	s := provider(f)
	f.Fuzz(func(t *testing.T, text string) {
		got, faults := s.Tenants([]byte(strings.ReplaceAll(text, "SECRET", marker)))
		for _, fault := range faults {
			if strings.ContainsAny(fault.Error(), "\n\r\x00\x1b") || fault.Key != "tenants_file" {
				t.Fatalf("fault %q", fault.Error())
			}
		}
		if len(faults) == 0 && len(got.Good) == 0 || len(got.Bad) > 0 && len(faults) == 0 {
			t.Fatalf("%d tenants, %d bad, %v", len(got.Good), len(got.Bad), faults)
		}
		known := map[Source]bool{}
		for _, c := range got.Good {
			if c.TenantID == "" || c.TenantID == NoTenant || c.URL == "" || c.Auth == "" || known[c.Source()] {
				t.Fatalf("tenant %+v", c)
			}
			known[c.Source()] = true
		}
		if d := Differ(got.Good, got); !d.Empty() {
			t.Fatalf("the same file differs: %+v", d)
		}
	})
}

func TestConfigurationPageTenantsAreValid(t *testing.T) {
	_, text, _ := strings.Cut(readExample(t, pagePath), "```yaml\n")
	text, _, found := strings.Cut(text, "```")
	if !found {
		t.Fatal("the page shows no file of tenants")
	}
	if got := tenants(t, provider(t), text); len(got) != 2 {
		t.Errorf("%d tenants", len(got))
	}
}

// Each tenant has its own successor: the stanza's, one of its own, or none; filters that Graph has not need one that it
// has.
func TestTenantsSucceedEachByItself(t *testing.T) {
	s := provider(t, "successor graph", "successor_after 2h")
	got := tenants(t, s, "- tenant_id: a.com\n- tenant_id: b.com\n  successor: none\n- tenant_id: c.com\n  "+
		"api: graph\n"+
		"- tenant_id: d.com\n  successor_url: https://graph.example.com/alerts_v2\n  machine_groups: [x]\n  filter: "+
		"severity eq 'high'\n  updates: first\n")
	a, b, c, d := got[0], got[1], got[2], got[3]
	if n := a.Successor; n == nil || n.API != Graph || n.TenantID != "a.com" ||
		n.URL != "https://graph.microsoft.com/v1.0/security/alerts_v2" ||
		n.Resource != "https://graph.microsoft.com" ||
		n.TokenURL != "https://login.microsoftonline.com/a.com/oauth2/v2.0/token" || a.SuccessorAfter != 2*time.Hour {
		t.Errorf("a.com is succeeded by %+v", n)
	}
	if b.Successor != nil || c.Successor != nil || c.API != Graph {
		t.Errorf("b.com and c.com are succeeded by %+v and %+v", b.Successor, c.Successor)
	}
	if n := d.Successor; n == nil || n.URL != "https://graph.example.com/alerts_v2" ||
		n.Filter != "severity eq 'high'" || n.Updates != firstUpdates || len(n.MachineGroups) > 0 {
		t.Errorf("d.com is succeeded by %+v", n)
	}
	if d.Filter != "" || d.Updates != "" || d.Filters() != "machine_groups=x" {
		t.Errorf("what is Graph's is in the state of d.com: %s", d.Filters())
	}
	if _, faults := s.Tenants([]byte("- tenant_id: e.com\n  machine_groups: [x]\n")); len(faults) != 1 ||
		!strings.Contains(faults[0].Message, "successor") {
		t.Errorf("filters without one for Graph: %v", faults)
	}
}
