package conf

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// defaults are those of a stanza of the SIEM API.
func defaults() *Config {
	return &Config{
		API: "siem", TenantID: sampleTenant,
		Credential: Credential{ClientID: sampleClient, Auth: "client_secret", ClientSecret: sampleSecret},
		Service: Service{
			Cloud: "public", Region: "eu",
			URL:       "https://wdatp-alertexporter-eu.windows.com/api/alerts",
			Authority: "https://login.microsoftonline.com",
			TokenURL:  "https://login.microsoftonline.com/" + sampleTenant + "/oauth2/token",
			Resource:  "https://graph.windows.net",
		},
		Windows: Windows{
			PollInterval: time.Minute, InitialLookback: 2 * time.Hour, Overlap: 15 * time.Minute,
			MaxWindow: time.Hour,
		},
		Storage:    Storage{Workers: 3, LeaseDuration: 15 * time.Second, TakeoverOverlap: time.Minute},
		Succession: Succession{SuccessorAPI: "none", SuccessorAfter: time.Hour},
		Memory:     Memory{BatchSize: 1_000_000, QueueLimit: 8_000_000, MaxAlertSize: 1_000_000},
		Network: Network{
			ConnectTimeout: 10 * time.Second, ReadTimeout: time.Minute, RetryMax: 5 * time.Minute,
			Parallel: 8,
		},
		Shape: Shape{Format: "native", TimeKey: "AlertTime"},
	}
}

func TestDefaults(t *testing.T) {
	if diff := cmp.Diff(defaults(), load(t)); diff != "" {
		t.Errorf("Config (-want +got):\n%s", diff)
	}
}

func TestEveryKeyReachesItsField(t *testing.T) {
	want := &Config{
		API: "siem", TenantID: "contoso.onmicrosoft.com",
		Credential: Credential{
			ClientID: sampleClient, Auth: "client_secret", ClientSecretFile: "/etc/defender/secret",
		},
		Service: Service{
			Cloud: "gcc_high", URL: "https://alerts.example.com:8443/api/alerts",
			Authority: "https://login.microsoftonline.us",
			TokenURL:  "https://login.example.com/contoso/oauth2/v2.0/token",
			Resource:  "https://WDATPAlertExport.Seville.onmicrosoft.com",
		},
		Selection: Selection{
			MachineGroups: []string{"UKMachines", "France Machines"}, DeviceCreatedMachineTags: "servers",
			CloudCreatedMachineTags: "tier0", Limit: 20, Ago: 90 * time.Minute, AgoText: "PT1H30M",
		},
		Succession: Succession{
			SuccessorAPI: "graph", SuccessorAfter: 2 * time.Hour,
			SuccessorURL: "https://graph.example.com/v1.0/security/alerts_v2",
		},
		Windows: Windows{
			PollInterval: 90 * time.Second, InitialLookback: 7 * 24 * time.Hour, Overlap: 5 * time.Minute,
			MaxWindow: 30 * time.Minute,
		},
		Storage: Storage{
			DB: "kubernetes://siem/alerts", Kubeconfig: "/etc/kubeconfig", Workers: 5,
			LeaseDuration: 30 * time.Second, TakeoverOverlap: 5 * time.Minute,
		},
		Memory: Memory{BatchSize: 2_000_000, QueueLimit: 16_000_000, MaxAlertSize: 512_000},
		Network: Network{
			ConnectTimeout: 3 * time.Second, ReadTimeout: 30 * time.Second, RetryMax: time.Hour,
			Parallel: 20, ProxyURL: "http://proxy.example.com:3128", CAFile: "/etc/ssl/ca.pem",
		},
		Shape: Shape{
			Format: "native", TimeKey: "LastProcessedTimeUtc", EventIDKey: "event_id",
			TenantIDKey: "customer", DropNull: true,
		},
	}
	successor := *want
	successor.API, successor.URL, successor.Resource = "graph", want.SuccessorURL, "https://graph.microsoft.us"
	successor.MachineGroups, successor.DeviceCreatedMachineTags, successor.CloudCreatedMachineTags = nil, "", ""
	successor.Filter, successor.Updates, successor.Ago, successor.AgoText, successor.TimeKey = "severity eq 'high'",
		"first", 0, "", "lastUpdateDateTime"
	want.Successor = &successor
	got := load(t, "api SIEM", "successor Graph", "successor_after 2h", "successor_url "+
		"https://Graph.Example.com/v1.0/security/alerts_v2",
		"filter severity eq 'high'", "updates first", "tenant_id Contoso.onmicrosoft.com", "auth Client_Secret",
		"client_secret", "client_secret_file /etc/defender/secret",
		"cloud GCC_High", "region", "url HTTPS://Alerts.Example.com:8443/api/alerts",
		"token_url https://login.example.com/contoso/oauth2/v2.0/token",
		"resource https://WDATPAlertExport.Seville.onmicrosoft.com", "machine_groups  UKMachines,France Machines "+
			", UKMachines",
		"device_created_machine_tags servers", "cloud_created_machine_tags tier0", "limit 20", "ago PT1H30M",
		"poll_interval 90",
		"initial_lookback 7d", "overlap 5m", "max_window 30M", "db kubernetes://siem/alerts",
		"kubeconfig /etc/kubeconfig", "workers 5", "lease_duration 30s", "takeover_overlap 5m", "batch_size 2MB",
		"queue_limit 16000000", "max_alert_size 512k",
		"connect_timeout 3s", "read_timeout 30s", "retry_max 1h", "proxy_url http://proxy.example.com:3128/",
		"ca_file /etc/ssl/ca.pem",
		"time_key LastProcessedTimeUtc", "event_id_key event_id", "tenant_id_key customer", "parallel 20",
		"drop_null Yes")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Config (-want +got):\n%s", diff)
	}
}

func TestSharedStateIsTakenApart(t *testing.T) {
	f := func(db, namespace, name string, shared bool) {
		t.Helper()
		c := Config{Storage: Storage{DB: db}}
		if n, m, s := c.Shared(); n != namespace || m != name || s != shared {
			t.Errorf("%q is %q, %q, %v", db, n, m, s)
		}
	}
	f("kubernetes://alerts", "", "alerts", true)
	f("kubernetes://siem/alerts", "siem", "alerts", true)
	f("/var/lib/kubernetes/alerts", "", "", false)
	f("", "", "", false)
}

func TestPresets(t *testing.T) {
	f := func(name string, lines []string, url, tokenURL, place string) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			t.Helper()
			c := load(t, append(lines, "tenant_id contoso.com")...)
			got := []string{c.URL, c.TokenURL, c.Place()}
			if diff := cmp.Diff([]string{url, tokenURL, place}, got); diff != "" {
				t.Errorf("url, token_url, place (-want +got):\n%s", diff)
			}
		})
	}
	const com, us = "https://login.microsoftonline.com/contoso.com/oauth2/token",
		"https://login.microsoftonline.us/contoso.com/oauth2/token"
	f("us", []string{"region us"}, "https://wdatp-alertexporter-us.windows.com/api/alerts", com, "public/us")
	f("eu", []string{"region eu"}, "https://wdatp-alertexporter-eu.windows.com/api/alerts", com, "public/eu")
	f("uk", []string{"region UK"}, "https://wdatp-alertexporter-uk.windows.com/api/alerts", com, "public/uk")
	f("gcc", []string{"region", "cloud gcc"}, "https://wdatp-alertexporter-us.gcc.securitycenter.windows.us/api/alerts",
		com, "gcc/us")
	f("gcc_high", []string{"region", "cloud gcc_high"},
		"https://wdatp-alertexporter-us.securitycenter.windows.us/api/alerts", us, "gcc_high/us")
	f("dod", []string{"region", "cloud dod"}, "https://wdatp-alertexporter-us.securitycenter.windows.us/api/alerts", us,
		"dod/us")
	f("url", []string{"region", "url http://127.0.0.1:8443/api/alerts"}, "http://127.0.0.1:8443/api/alerts", com,
		"127.0.0.1:8443")
	f("url in a cloud", []string{"region", "cloud dod", "url https://Alerts.example.us:443/x"},
		"https://alerts.example.us/x", us, "alerts.example.us")
	f("authority", []string{"authority https://login.partner.microsoftonline.cn/"},
		"https://wdatp-alertexporter-eu.windows.com/api/alerts",
		"https://login.partner.microsoftonline.cn/contoso.com/oauth2/token", "public/eu")
	f("token_url", []string{"token_url https://login.example.com/t/oauth2/v2.0/token"},
		"https://wdatp-alertexporter-eu.windows.com/api/alerts",
		"https://login.example.com/t/oauth2/v2.0/token", "public/eu")
}

func TestFiltersAreCanonical(t *testing.T) {
	f := func(name, want string, lines ...string) {
		t.Helper()
		if got := load(t, lines...).Filters(); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	f("none", "")
	f("order of a list", "machine_groups=A&machine_groups=B", "machine_groups B, A")
	f("case counts", "machine_groups=A&machine_groups=a", "machine_groups a,A,a")
	f("all three", "cloud_created_machine_tags=c&device_created_machine_tags=d&machine_groups=m",
		"machine_groups m", "device_created_machine_tags d", "cloud_created_machine_tags c")
	f("names that look like filters", "device_created_machine_tags=x%26machine_groups%3Dm",
		"device_created_machine_tags x&machine_groups=m")
	f("what is no filter", "", "limit 5", "ago PT1H", "overlap 1m")
}

func TestFiltersDoNotReorderTheConfig(t *testing.T) {
	c := load(t, "machine_groups B,A")
	c.Filters()
	if diff := cmp.Diff([]string{"B", "A"}, c.MachineGroups); diff != "" {
		t.Errorf("MachineGroups (-want +got):\n%s", diff)
	}
}

func TestWarnings(t *testing.T) {
	f := func(name string, want []string, lines ...string) {
		t.Helper()
		got := load(t, lines...).Warnings()
		ok := len(got) == len(want)
		for i := range min(len(got), len(want)) {
			ok = ok && strings.Contains(got[i], want[i])
		}
		if !ok {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	f("memory", []string{"security/alerts_v2", "begins 2h back"})
	f("memory, another lookback", []string{"security/alerts_v2", "begins 90s back"}, "initial_lookback 90s")
	f("file", []string{"security/alerts_v2"}, "db x.db")
	f("the id of the secret", []string{"security/alerts_v2", "the form of a GUID"}, "db x.db", "client_secret "+
		sampleTenant)
	for _, w := range load(t, "client_secret "+sampleTenant, "tenant_id contoso.com").Warnings() {
		if strings.Contains(w, sampleTenant) {
			t.Errorf("a warning shows the secret: %s", w)
		}
	}
}

func TestAgoIsSentWithoutWeeks(t *testing.T) {
	f := func(text, want string, length time.Duration) {
		t.Helper()
		if c := load(t, "ago "+text); c.AgoText != want || c.Ago != length {
			t.Errorf("ago %s: %s, %v; want %s, %v", text, c.AgoText, c.Ago, want, length)
		}
	}
	f("P2W", "P14D", 14*24*time.Hour)
	f("PT90M", "PT90M", 90*time.Minute)
	f("P1DT12H", "P1DT12H", 36*time.Hour)
	f("PT16M", "PT16M", 16*time.Minute) // overlap + poll_interval to the second
}

func TestLimitsOfTheRulesAreAllowed(t *testing.T) {
	load(t, "batch_size 16M", "queue_limit 16M", "max_alert_size 16M")
	load(t, "batch_size 1k", "queue_limit 1k", "max_alert_size 1k")
	load(t, "overlap 10s", "poll_interval 1s", "ago PT11S")
}
