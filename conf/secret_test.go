package conf

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

func TestSecretIsNeverPrinted(t *testing.T) {
	const text = "IKXc6PxB2eoFNJ"
	c := load(t, "client_secret "+text)
	if c.ClientSecret.Reveal() != text {
		t.Fatal("Reveal does not give the secret")
	}
	var printed []string
	for _, verb := range strings.Split("vTtbcdoOqxXUeEfFgGs", "") {
		for _, flags := range []string{"", "+", "#", "-40", "040", " ", ".3"} {
			format := "%" + flags + verb
			printed = append(printed, fmt.Sprintf(format, c.ClientSecret), fmt.Sprintf(format, c),
				fmt.Sprintf(format, *c),
				fmt.Sprintf(format, []Secret{c.ClientSecret}),
				fmt.Sprintf(format, map[Secret]Secret{c.ClientSecret: c.ClientSecret}))
		}
	}
	printed = append(printed, fmt.Sprint(c.ClientSecret), fmt.Sprintln(c, *c),
		fmt.Errorf("token: %w", fmt.Errorf("%v", c)).Error())

	for _, v := range []any{c, c.ClientSecret, map[string]Secret{"k": c.ClientSecret}} {
		for _, marshal := range []func(any) ([]byte, error){json.Marshal,
			func(v any) ([]byte, error) { return yaml.Marshal(v) }} {
			b, err := marshal(v)
			if err != nil {
				t.Fatal(err)
			}
			printed = append(printed, string(b))
		}
	}

	var log bytes.Buffer
	for _, h := range []slog.Handler{slog.NewJSONHandler(&log, nil), slog.NewTextHandler(&log, nil)} {
		slog.New(h).With("with", c.ClientSecret).Info("x", "secret", c.ClientSecret, "config", c, "value", *c, "list",
			[]Secret{c.ClientSecret})
	}
	printed = append(printed, log.String())

	for _, p := range printed {
		for _, form := range []string{text, fmt.Sprintf("%x", text), fmt.Sprintf("%X", text), text[:5]} {
			if strings.Contains(p, form) {
				t.Errorf("printed: %s", p)
			}
		}
	}
	if got := c.ClientSecret.String(); got != "[redacted]" {
		t.Errorf("String() = %q", got)
	}
}

func TestAddressesAreQuotedWithoutWhatIsSecret(t *testing.T) {
	f := func(text, want string) {
		t.Helper()
		if got := quote(keyNamed("proxy_url"), text, nil); got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
	f("http://me:pw@proxy:3128", `"http://[redacted]@proxy:3128"`)
	f("me:pw@proxy:3128", `"[redacted]@proxy:3128"`)
	f("http://me:p/w?x#y@z@proxy", `"http://[redacted]@proxy"`)
	f("https://proxy/?sig=pw", `"https://proxy/?[redacted]"`)
	f("https://proxy/#pw", `"https://proxy/#[redacted]"`)
	f("https://proxy/", `"https://proxy/"`)
	if got := quote(keyNamed("db"), "https://me:pw@h/x", nil); strings.Contains(got, "pw") {
		t.Errorf("an address under another key: %s", got)
	}
}
