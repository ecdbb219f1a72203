package conf

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"text/template"

	"fluent-bit-defender/internal/golden"
)

const pagePath = "../docs/configuration.md"

func TestConfigurationPageIsUpToDate(t *testing.T) {
	golden.Check(t, pagePath, page(t))
}

func TestConfigurationPageNamesEveryKey(t *testing.T) {
	text := page(t)
	for _, k := range Keys {
		if k.Help == "" || !strings.Contains(text, "`"+k.Name+"`") || !strings.Contains(text, k.Help) {
			t.Errorf("%s is not explained", k.Name)
		}
	}
}

// page renders the documentation from the tables.
func page(t *testing.T) string {
	t.Helper()
	tmpl, err := template.New("configuration.md.tmpl").
		Funcs(template.FuncMap{"default": docDefault, "values": docValues, "stands": docStands, "only": docOnly}).
		ParseFiles("testdata/configuration.md.tmpl")
	if err != nil {
		t.Fatal(err)
	}
	type theme struct {
		Name string
		Keys []Key
	}
	type cloud struct{ Name, Authority, Alerts, Graph string }
	type names struct{ Names, Meant string }
	type credential struct{ Auth, Keys, Entra string }
	var data struct {
		Themes  []theme
		Rules   []string
		Clouds  []cloud
		Aliases []names

		Credentials []credential
		PerTenant   string
	}
	for _, auth := range keyNamed("auth").Values {
		data.Credentials = append(data.Credentials, credential{auth, codes(credentialKeys(auth)), entra[auth]})
	}
	for _, k := range Keys {
		i := slices.IndexFunc(data.Themes, func(th theme) bool { return th.Name == k.Theme })
		if i < 0 {
			i = len(data.Themes)
			data.Themes = append(data.Themes, theme{Name: k.Theme})
		}
		data.Themes[i].Keys = append(data.Themes[i].Keys, k)
	}
	var perTenant []string
	for _, k := range Keys {
		if k.PerTenant {
			perTenant = append(perTenant, k.Name)
		}
	}
	data.PerTenant = codes(perTenant)
	for _, r := range rules {
		data.Rules = append(data.Rules, r.says)
	}
	for _, name := range keyNamed("cloud").Values {
		data.Clouds = append(data.Clouds, cloud{name, presets[name].authority, presets[name].alerts,
			presets[name].graph})
	}
	for _, a := range aliases {
		data.Aliases = append(data.Aliases, names{codes(strings.Fields(a.names)), "`" + a.key + "`"})
	}
	for _, s := range strangers {
		data.Aliases = append(data.Aliases, names{codes(strings.Fields(s.names)), "none: " + s.note})
	}
	var out bytes.Buffer
	if err := tmpl.Execute(&out, data); err != nil {
		t.Fatal(err)
	}
	return strings.TrimRight(out.String(), "\n") + "\n"
}

// entra says what an operator prepares in Entra ID for each credential.
var entra = map[string]string{
	ClientSecret:      "a client secret of the application",
	ClientCertificate: "the certificate, uploaded to the application",
	WorkloadIdentity:  "a federated credential of the application, for the service account",
	AuthorizationCode: "the redirect URI `http://localhost` under mobile and desktop applications, and a " +
		"delegated permission",
	ManagedIdentity: "an identity of the machine, with an application role on the API",
}

func codes(values []string) string { return "`" + strings.Join(values, "`, `") + "`" }

// docOnly says which API a key belongs to.
func docOnly(k Key) string {
	if k.API == "" {
		return ""
	}
	if k.Succeeds {
		return "`api " + k.API + "` only, or beside `successor " + k.API + "` for that. "
	}
	return "`api " + k.API + "` only. "
}

// docStands says where a variable stands in for a key.
func docStands(k Key) string {
	if k.Env == "" {
		return ""
	}
	return " With `auth workload_identity` the variable `" + k.Env + "` stands in for it."
}

func docDefault(k Key) string {
	switch {
	case k.OfGraph != "":
		return "`" + k.Default + "`; with `api graph` `" + k.OfGraph + "`"
	case k.Default != "":
		return "`" + k.Default + "`"
	}
	return k.Absent
}

func docValues(k Key) string {
	switch k.Type {
	case Choice:
		return codes(k.Values)
	case Integer, Duration, Size, Span:
		return string(k.Type) + ", `" + k.Min + "` to `" + k.Max + "`"
	}
	if k.Allowed != "" {
		return k.Allowed
	}
	return string(k.Type)
}
