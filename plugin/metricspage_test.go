package main

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"text/template"

	"fluent-bit-defender/internal/golden"
	"fluent-bit-defender/plugin/flb"
	"fluent-bit-defender/pull"
)

// outcomes say what an operator does about each of pull.Outcomes.
var outcomes = map[string][2]string{
	"ok": {"The answer was read to its end.", "Nothing."},
	"partial": {"So was it, but the service said that something is missing from it.",
		"It is asked again by itself. The log has the service's words."},
	"broken": {"An answer began well and was cut, or ended as no alert list.",
		"Now and then: nothing, the rest is asked again. " +
			"Often: a proxy on the way may cut long answers; a smaller `max_window` makes shorter ones."},
	"network": {"No answer came.", "See the log: name resolution, `proxy_url`, firewall, TLS."},
	"throttled": {"429: asked too often.",
		"Look for other pollers of the tenant with the same application; raise `poll_interval`."},
	"service": {"5xx, and answers nobody asked for.", "Wait; look at the service's health page if it lasts."},
	"refused": {"400 and other 4xx.",
		"A filter or an address of the stanza does not suit the service; the log has its words."},
	"unauthorized": {"401, with a fresh token too.", "Check `resource`, `tenant_id` and `cloud`."},
	"forbidden": {"403.",
		"Give the application its permission and an administrator's consent; the log names it."},
	"token": {"Entra ID gave no token, so nothing was asked.",
		"The log has the reason by its AADSTS number: an ended secret or certificate, an unknown tenant or client."},
	"config": {"An address, a proxy or a trusted certificate is wrong.", "Mend the key that the log names."},
}

// questions are what dashboards and rules ask most.
var questions = []struct{ Asks, Query string }{
	{"Alerts a minute", "60 * rate(fluentbit_defender_alerts_delivered_total[5m])"},
	{"Seconds since the last poll that read all, or since the start",
		`time() - max by (name) ({__name__=~"fluentbit_defender_(last_success|start)_timestamp_seconds"})`},
	{"Share of requests that failed",
		`sum by (name) (rate(fluentbit_defender_requests_total{outcome!~"ok|partial"}[15m])) / ` +
			`sum by (name) (rate(fluentbit_defender_requests_total[15m]))`},
	{"Days until the certificate ends", "(fluentbit_defender_certificate_expiry_timestamp_seconds - time()) / 86400"},
	{"Rows fetched and not yet delivered",
		"fluentbit_defender_rows_received_total - fluentbit_defender_alerts_delivered_total - " +
			"fluentbit_defender_rows_raw_total - fluentbit_defender_duplicates_dropped_total"},
}

func TestMetricsPageIsUpToDate(t *testing.T) {
	golden.Check(t, "../docs/metrics.md", metricsPage(t))
}

// metricsPage renders the documentation from the table.
func metricsPage(t *testing.T) string {
	t.Helper()
	tmpl, err := template.New("metrics.md.tmpl").Funcs(template.FuncMap{
		"labels": func(m metric) string {
			if m.Label == "" {
				return ""
			}
			return "`" + m.Label + "`: `" + strings.Join(m.Values, "`, `") + "`"
		},
		"cell":  func(s string) string { return strings.ReplaceAll(s, "|", `\|`) },
		"wrong": func(m metric) string { return m.wrong },
	}).ParseFiles("testdata/metrics.md.tmpl")
	if err != nil {
		t.Fatal(err)
	}
	type theme struct {
		Name    string
		Metrics []metric
	}
	type outcome struct{ Name, Is, Do string }
	var data struct {
		Prefix    string
		Themes    []theme
		Outcomes  []outcome
		Questions []struct{ Asks, Query string }
	}
	data.Prefix, data.Questions = metricsPrefix, questions
	for _, m := range metrics {
		i := slices.IndexFunc(data.Themes, func(th theme) bool { return th.Name == m.theme })
		if i < 0 {
			i = len(data.Themes)
			data.Themes = append(data.Themes, theme{Name: m.theme})
		}
		data.Themes[i].Metrics = append(data.Themes[i].Metrics, m)
	}
	for _, name := range pull.Outcomes {
		o, ok := outcomes[name]
		if !ok {
			t.Errorf("the outcome %s is not explained", name)
		}
		data.Outcomes = append(data.Outcomes, outcome{name, o[0], o[1]})
	}
	if len(outcomes) != len(pull.Outcomes) {
		t.Errorf("%d outcomes are explained, %d exist", len(outcomes), len(pull.Outcomes))
	}
	var out bytes.Buffer
	if err := tmpl.Execute(&out, data); err != nil {
		t.Fatal(err)
	}
	return strings.TrimRight(out.String(), "\n") + "\n"
}

const metricsPrefix = "fluentbit_" + kind + "_"

// Prometheus' conventions, as far as they can be checked.
func TestMetricsAreNamedByConvention(t *testing.T) {
	seen := map[string]bool{}
	for _, m := range metrics {
		if seen[m.Name] || m.Help == "" || m.wrong == "" || m.theme == "" {
			t.Errorf("%s comes twice, or is not explained", m.Name)
		}
		seen[m.Name] = true
		if total := strings.HasSuffix(m.Name, "_total"); total != (m.Kind == flb.Counter) {
			t.Errorf("%s is a %s", m.Name, m.Kind)
		}
		if strings.Trim(m.Name, "abcdefghijklmnopqrstuvwxyz_") != "" ||
			strings.Contains(m.Help, "|") || strings.Contains(m.wrong, "|") {
			t.Errorf("%s: a character that does not belong there", m.Name)
		}
	}
	noName := func(r rune) bool { return !(r == '_' || 'a' <= r && r <= 'z') }
	for _, query := range questions {
		for word := range strings.FieldsFuncSeq(query.Query, noName) {
			if name, ok := strings.CutPrefix(word, metricsPrefix); ok && name != "" && !seen[name] {
				t.Errorf("%q asks for %s", query.Asks, name)
			}
		}
	}
}
