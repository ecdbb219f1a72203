package deploy

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
)

const alertsFile = "prometheus/alerts.yaml"

// rules reads the rules as Prometheus does: strictly, expressions and templates included.
func rules(t *testing.T) map[string]rulefmt.Rule {
	t.Helper()
	groups, errs := rulefmt.ParseFile(alertsFile, false, model.UTF8Validation)
	for _, err := range errs {
		t.Error(err)
	}
	all := map[string]rulefmt.Rule{}
	if groups == nil {
		t.FailNow()
	}
	for _, group := range groups.Groups {
		for _, rule := range group.Rules {
			if _, twice := all[rule.Alert]; twice || rule.Alert == "" {
				t.Errorf("%q is there twice, or is no alert", rule.Alert)
			}
			all[rule.Alert] = rule
		}
	}
	return all
}

func TestRulesAskForMetricsThatExist(t *testing.T) {
	for name, rule := range rules(t) {
		known(t, name, asked(t, rule.Expr))
		for _, m := range regexp.MustCompile(`fluentbit_[a-z_]+`).FindAllString(rule.Annotations["description"], -1) {
			known(t, name+"'s description", []string{m})
		}
		if !slices.Contains([]string{"critical", "warning"}, rule.Labels["severity"]) {
			t.Errorf("%s: severity %q", name, rule.Labels["severity"])
		}
		if rule.Annotations["summary"] == "" || rule.Annotations["description"] == "" {
			t.Errorf("%s does not say what is wrong and what to do", name)
		}
	}
}

// on gives each line the labels of a scrape.
func on(lines ...string) []string {
	for i, line := range lines {
		name, rest, _ := strings.Cut(line, " ")
		own := ""
		if bare, more, found := strings.Cut(strings.TrimSuffix(name, "}"), "{"); found {
			name, own = bare, ","+more
		}
		if !strings.Contains(own, "name=") {
			own += `,name="defender_eu"`
		}
		lines[i] = fmt.Sprintf(`%s{job="fluent-bit",instance="pod:2020"%s} %s`, name, own, rest)
	}
	return lines
}

const (
	started     = "fluentbit_defender_start_timestamp_seconds "
	success     = "fluentbit_defender_last_success_timestamp_seconds "
	requestsOK  = `fluentbit_defender_requests_total{outcome="ok"} `
	behind      = "fluentbit_defender_behind_seconds "
	paused      = "fluentbit_defender_paused "
	certificate = "fluentbit_defender_certificate_expiry_timestamp_seconds "
	alive       = started + "now+0x200" // since the series begin
)

// Each fact: what Prometheus scraped, a value a minute, and what fires at that minute.
func TestRulesFire(t *testing.T) {
	all := rules(t)
	fired := map[string]bool{}
	f := func(fact, alert string, at time.Duration, want string, lines ...string) {
		t.Run(alert+": "+fact, func(t *testing.T) {
			rule, found := all[alert]
			if !found {
				t.Fatal("no such rule")
			}
			got := strings.Join(scraped(t, on(lines...)...).firing(t, rule, at), " | ")
			if got != want {
				t.Errorf("after %s: %q, want %q", at, got, want)
			}
			if want != "" {
				fired[alert] = true
			}
		})
	}
	const never = ""

	f("a success each minute is fine", "DefenderNoSuccess", 2*time.Hour, never, alive, success+"now+0+60x130")
	f("the last success is 14 minutes old", "DefenderNoSuccess", 14*minute, never, alive, success+"now+0x200")
	f("the last success is 16 minutes old", "DefenderNoSuccess", 16*minute, "No Defender alerts could be pulled for "+
		"16m 0s (defender_eu)",
		alive, success+"now+0x200", requestsOK+"7x200")
	f("it never succeeded since the start", "DefenderNoSuccess", 16*minute, "No Defender alerts could be pulled for "+
		"16m 0s (defender_eu)",
		alive, success+"NaNx200")
	f("it started just now", "DefenderNoSuccess", 10*minute, never, alive, success+"NaNx200")
	f("a restart after a long failure gives it time again", "DefenderNoSuccess", 40*minute, never,
		started+"now+0x29 now1800x30", success+"NaNx200")
	f("a long backlog is being pulled", "DefenderNoSuccess", 40*minute, never, alive, success+"NaNx200",
		requestsOK+"0+3x200")
	f("only refusals come", "DefenderNoSuccess", 40*minute, "No Defender alerts could be pulled for 40m 0s "+
		"(defender_eu)",
		alive, success+"NaNx200", `fluentbit_defender_requests_total{outcome="token"} 0+1x200`, requestsOK+"0x200")

	// The metrics of the last stanza stand still while another is paused.
	pausedOther := `fluentbit_defender_paused{name="other"} `
	f("it stands still while another is paused", "DefenderNoSuccess", time.Hour, never,
		alive, success+"now+0x200", requestsOK+"7x200", paused+"0x200", pausedOther+"1x200")
	f("it moves on after another was paused", "DefenderNoSuccess", 35*minute, never,
		alive, success+"now+0x30 now1860+60x60", requestsOK+"7x30 37+1x60", paused+"0x200", pausedOther+"1x30 0x60")
	f("it fails after another was paused", "DefenderNoSuccess", 35*minute, "No Defender alerts could be pulled for "+
		"35m 0s (defender_eu)",
		alive, success+"now+0x200", requestsOK+"7x200", paused+"0x200", pausedOther+"1x30 0x60")
	f("none is paused", "DefenderNoSuccess", 16*minute, "No Defender alerts could be pulled for 16m 0s (defender_eu)",
		alive, success+"now+0x200", requestsOK+"7x200", paused+"0x200", pausedOther+"0x200")
	t.Run("DefenderNoSuccess: one of another Fluent Bit is paused", func(t *testing.T) {
		lines := append(on(alive, success+"now+0x200", paused+"0x200"),
			`fluentbit_defender_paused{job="fluent-bit",instance="other:2020",name="other"} 1x200`)
		if got := scraped(t, lines...).firing(t, all["DefenderNoSuccess"], 16*minute); len(got) != 1 {
			t.Error(got)
		}
	})

	f("no input is seen", "DefenderAbsent", 15*minute, "No Fluent Bit pulls Defender alerts", "up 1x60")
	f("it is gone for a moment", "DefenderAbsent", 24*minute, never, started+"now+0x5 _x12 now+0x60")
	f("an input is seen", "DefenderAbsent", time.Hour, never, alive)

	f("a start each ten minutes", "DefenderRestarting", time.Hour, "Fluent Bit with defender_eu started 5 times "+
		"within an hour",
		started+"1x9 2x9 3x9 4x9 5x9 6x30")
	f("two reloads", "DefenderRestarting", time.Hour, never, started+"1x9 2x9 3x60")

	f("at rest", "DefenderFallingBehind", time.Hour, never, behind+strings.Repeat("905 966 ", 40))
	f("requests fail", "DefenderFallingBehind", 35*minute, "defender_eu is 50m 0s behind and does not catch up",
		behind+"900+60x100")
	f("requests fail, not long yet", "DefenderFallingBehind", 29*minute, never, behind+"900+60x100")
	f("a backlog goes down", "DefenderFallingBehind", time.Hour, never, behind+"20000-100x100")
	f("a backlog stands", "DefenderFallingBehind", 31*minute, "defender_eu is 1h 0m 0s behind and does not catch up",
		behind+"3600x100")
	f("it is not known yet", "DefenderFallingBehind", time.Hour, never, behind+"NaNx100")

	f("a backlog stands still while another is paused", "DefenderFallingBehind", 2*time.Hour, never,
		behind+"4000-100x20 2000x200", paused+"0x200", pausedOther+"0x20 1x200")
	f("pauses now and then hide nothing", "DefenderFallingBehind", 2*time.Hour, "defender_eu is 2h 15m 0s behind and "+
		"does not catch up",
		behind+"900+60x200", paused+"0x200", pausedOther+strings.Repeat("0 0 1 ", 60))

	f("in 31 days", "DefenderCredentialEnds", minute, never, certificate+"now2678400x5")
	f("in 29 days", "DefenderCredentialEnds", minute, "The certificate of defender_eu ends in 28d 23h 59m 0s",
		certificate+"now2505600x5")
	f("none is used", "DefenderCredentialEnds", minute, never, certificate+"NaNx5")

	failing := "fluentbit_defender_tenants_failing "
	f("two tenants fail", "DefenderTenantsFailing", 16*minute, "2 tenants of defender_eu fail", failing+"2x60")
	f("one after the other fails for a minute", "DefenderTenantsFailing", 40*minute, never, failing+"1 0 0 2 0 "+
		"1 0 0 1 0x60")

	f("a gap is open", "DefenderGapsOpen", 31*minute, "2 spans of time of defender_eu cannot be pulled",
		"fluentbit_defender_unread_ranges 2x60")
	f("a gap was filled soon", "DefenderGapsOpen", 31*minute, never, "fluentbit_defender_unread_ranges 2x20 0x60")

	f("rows came raw", "DefenderRowsRaw", 10*minute, "defender_eu delivered rows that could not become records",
		"fluentbit_defender_rows_raw_total 0x5 3x60")
	f("rows came raw a while ago", "DefenderRowsRaw", 90*minute, never, "fluentbit_defender_rows_raw_total 0x5 3x120")

	f("commits fail", "DefenderCommitFailures", 15*minute, "The state of defender_eu cannot be written",
		"fluentbit_defender_commit_failures_total 0x5 0+6x60")
	f("no commit fails", "DefenderCommitFailures", 15*minute, never, "fluentbit_defender_commit_failures_total 4x60")

	f("hashes are forgotten", "DefenderMayRepeat", 15*minute, "defender_eu forgets alerts early and may repeat them",
		"fluentbit_defender_seen_forgotten_total 0x5 0+600x60")

	f("paused since long", "DefenderPausedLong", 36*minute, "Fluent Bit pauses defender_eu most of the time",
		paused+"0x5 1x60")
	f("paused now and then", "DefenderPausedLong", 36*minute, never,
		paused+"0 0 0 1 0 0 0 1 0 0 0 1 0 0 0 1 0 0 0 1 0 0 0 1 0 0 0 1 0 0 0 1 0 0 0 1 0 0 0 1")

	other := `fluentbit_defender_start_timestamp_seconds{job="fluent-bit",instance="other:2020",name="defender_eu"} 1x60`
	f("one pod", "DefenderPulledTwice", 20*minute, never, alive)
	t.Run("DefenderPulledTwice: two pods", func(t *testing.T) {
		got := scraped(t, append(on(alive), other)...).firing(t, all["DefenderPulledTwice"], 20*minute)
		if len(got) != 1 || got[0] != "2 Fluent Bits pull defender_eu" {
			t.Error(got)
		}
		fired["DefenderPulledTwice"] = true
	})

	t.Run("DefenderPulledTwice: two pods that share", func(t *testing.T) {
		got := scraped(t, append(on(alive, "fluentbit_defender_worker 1x60"), other,
			`fluentbit_defender_worker{job="fluent-bit",instance="other:2020",name="defender_eu"} 0x60`)...).firing(t,
			all["DefenderPulledTwice"], 20*minute)
		if len(got) != 0 {
			t.Error(got)
		}
	})
	f("all pods stand by", "DefenderNoWorker", 20*minute, "No pod pulls defender_eu", alive,
		"fluentbit_defender_worker 1x10 0x50")
	f("a pod works", "DefenderNoWorker", 20*minute, never, alive, "fluentbit_defender_worker 1x60")
	f("a tenant that no pod pulls", "DefenderSourcesWithoutOwner", 20*minute, "1 sources of defender_eu are "+
		"pulled by no pod", alive,
		"fluentbit_defender_sources_configured 3x60", "fluentbit_defender_sources_owned 2x60")
	f("a tenant that moves", "DefenderSourcesWithoutOwner", 20*minute, never, alive,
		"fluentbit_defender_sources_configured 3x60", "fluentbit_defender_sources_owned 3x5 2x2 3x60")
	f("fenced again and again", "DefenderFencedOften", 60*minute, "pod:2020 often cannot renew its Lease", alive,
		"fluentbit_defender_fenced_total 0+1x60")
	f("fenced once", "DefenderFencedOften", 60*minute, never, alive, "fluentbit_defender_fenced_total 0x10 1x60")

	f("the ring was full", "DefenderRecordsLostInBuffer", 20*minute, "Fluent Bit dropped alerts of defender_eu",
		alive, "fluentbit_input_ring_buffer_retry_failures_total 0x10 1x60")
	f("the ring of another input was full", "DefenderRecordsLostInBuffer", 20*minute, never,
		alive, `fluentbit_input_ring_buffer_retry_failures_total{name="tail.0"} 0x10 1x60`)

	f("an output dropped records", "DefenderRecordsDroppedByOutput", 12*minute, "Output es.0 dropped about 100 records",
		alive, `fluentbit_output_dropped_records_total{name="es.0"} 0x10 100x60`)
	t.Run("DefenderRecordsDroppedByOutput: of a Fluent Bit without the input", func(t *testing.T) {
		lines := append(on(alive), `fluentbit_output_dropped_records_total{job="fluent-bit",instance="other:2020",name="es.0"} 0x10 100x60`)
		if got := scraped(t, lines...).firing(t, all["DefenderRecordsDroppedByOutput"], 12*minute); len(got) > 0 {
			t.Error(got)
		}
	})

	for name := range all {
		if !fired[name] {
			t.Errorf("no fact shows that %s fires", name)
		}
	}
}
