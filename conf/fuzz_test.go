package conf

import (
	"math"
	"net/url"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func FuzzDuration(f *testing.F) {
	for _, text := range []string{"90s", "5m", "2h", "7d", "90", "1h30m", "-1s", "1.5h", "999999999999999999d", "", "s",
		"0", "5M"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		n, err := parseDuration(text)
		if n < 0 || err != nil && n != 0 || n%int64(time.Second) != 0 {
			t.Fatalf("%q: %d, %v", text, n, err)
		}
		if err != nil {
			return
		}
		if again, err := parseDuration(span(time.Duration(n))); err != nil || again != n {
			t.Fatalf("%q: %d, written as %s gives %d, %v", text, n, span(time.Duration(n)), again, err)
		}
	})
}

func FuzzSize(f *testing.F) {
	for _, text := range []string{"512k", "1M", "16MB", "1G", "4096", "1MiB", "9223372036854775807k", "-1", "", "kb"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		n, err := parseSize(text)
		if n < 0 || err != nil && n != 0 {
			t.Fatalf("%q: %d, %v", text, n, err)
		}
		if upper, errUpper := parseSize(strings.ToUpper(text)); err == nil && (upper != n || errUpper != nil) {
			t.Fatalf("%q: %d, in capitals %d, %v", text, n, upper, errUpper)
		}
	})
}

func FuzzSpan(f *testing.F) {
	for _, text := range []string{"PT10M", "P1D", "PT1H30M", "P1W", "P1Y", "P1M", "PT", "P", "P1DT", "P99999999999999W",
		"P106751DT23H47M16S", ""} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		n, err := parseSpan(text)
		if n < 0 || err != nil && n != 0 {
			t.Fatalf("%q: %d, %v", text, n, err)
		}
		if err == nil && n <= math.MaxInt64/16 {
			// What is sent means what was checked.
			if again, err := parseSpan(withoutWeeks(text)); err != nil || again != n {
				t.Fatalf("%q: %d, sent as %q: %d, %v", text, n, withoutWeeks(text), again, err)
			}
			if again, err := parseSpan(isoText(time.Duration(n))); err != nil || again != n {
				t.Fatalf("%q: %d, written as %q: %d, %v", text, n, isoText(time.Duration(n)), again, err)
			}
		}
	})
}

func FuzzFilter(f *testing.F) {
	for _, text := range []string{"severity eq 'high'", "(a eq 'b') or (c eq 'it''s')", "a eq 'b", "(a", "a)",
		"a) or (b", "''''", "'''", `a eq "b"`,
		"\u2018a\u2019", "$filter=a", "now()", "')'", "", "a eq '\xff'", "a\nb"} {
		f.Add(text)
	}
	quoted := regexp.MustCompile(`'[^']*'`)
	f.Fuzz(func(t *testing.T, text string) {
		got, err := checkFilter(text)
		if err != nil {
			if got != "" {
				t.Fatalf("%q: %q beside %v", text, got, err)
			}
			return
		}
		if got != text || len(text) > maxFilter || strings.ContainsAny(text, "\n\r\x00") {
			t.Fatalf("%q became %q", text, got)
		}
		// Without its texts, what stands between the parentheses that are put around it never closes them.
		bare := quoted.ReplaceAllString(text, "")
		if strings.ContainsAny(bare, `'"`) {
			t.Fatalf("%q has a quote left over", text)
		}
		for depth, rest := 1, bare+")"; rest != ""; rest = rest[1:] {
			switch rest[0] {
			case '(':
				depth++
			case ')':
				depth--
			}
			if (depth == 0) != (rest == ")") {
				t.Fatalf("(%s) ends %d bytes before its end", text, len(rest)-1)
			}
		}
	})
}

func FuzzList(f *testing.F) {
	for _, text := range []string{"a", "a,b", " a , b ", "a,,b", ",", "", "UKMachines, France Machines", "\u200b",
		"a\x00b", "\xff"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		items, err := parseList(text)
		if err != nil {
			if items != nil {
				t.Fatalf("%q: %q beside %v", text, items, err)
			}
			return
		}
		seen := map[string]bool{}
		for _, item := range items {
			if item == "" || item != strings.TrimSpace(item) || strings.Contains(item, ",") ||
				!utf8.ValidString(item) || seen[item] {
				t.Fatalf("%q: item %q", text, item)
			}
			seen[item] = true
		}
		if again, err := parseList(strings.Join(items, ",")); err != nil || !reflect.DeepEqual(again, items) {
			t.Fatalf("%q: %q, read again %q, %v", text, items, again, err)
		}
	})
}

func FuzzAddress(f *testing.F) {
	for _, text := range []string{"https://a/x", "http://localhost:80/x", "http://me:pw@p:1", "//a", "https://[::1]/",
		"https://a?b#c", "a:b", "socks5://p", "%"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, a := range []address{{}, {whole: true}, {plain: true, whole: true}, {plain: true, proxy: true}} {
			got, err := a.parse(text)
			if err != nil {
				continue
			}
			u, err := url.Parse(got)
			if err != nil || u.User != nil || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
				t.Fatalf("%+v %q: %q, %v", a, text, got, err)
			}
			if u.Scheme != "https" && !a.plain && !loopback(u.Hostname()) {
				t.Fatalf("%+v %q: %q is plain", a, text, got)
			}
			if again, err := a.parse(got); err != nil || again != got {
				t.Fatalf("%+v %q: %q, read again %q, %v", a, text, got, again, err)
			}
		}
	})
}

// credentialsOf lists the credentials that a Config holds, those twice that it holds twice.
func credentialsOf(c *Config) (auths []string) {
	for auth, there := range map[string][]bool{
		ClientSecret:      {c.ClientSecret != "", c.ClientSecretFile != ""},
		ClientCertificate: {c.ClientCertificateFile != ""},
		WorkloadIdentity:  {c.FederatedTokenFile != ""},
		ManagedIdentity:   {c.ManagedIdentityEndpoint != ""},
		AuthorizationCode: {c.RefreshTokenFile != ""},
	} {
		for _, given := range there {
			if given {
				auths = append(auths, auth)
			}
		}
	}
	return auths
}

// FuzzLoad reads any stanza. SECRET stands for a secret wherever it is written, so that it can be looked for.
func FuzzLoad(f *testing.F) {
	const marker = "q7Z~needle~7Zq"
	for _, text := range badStanzas(f) {
		f.Add(text)
	}
	f.Add("[INPUT]\nclient_secret SECRET\nclient_id SECRET\ndb /x/SECRET/\nproxy_url http://a:SECRET@b\nlimit SECRET\n")
	f.Add("[INPUT]\npassword SECRET\nurl https://a/b?sig=SECRET\nregion SECRETus\nfilter " +
		"SECRET\nmachinegroups a,SECRET\n")
	f.Fuzz(func(t *testing.T, text string) {
		sections := readClassic("[INPUT]\n" + text)
		values := sections[len(sections)-1].values
		for key, value := range values {
			values[key] = strings.ReplaceAll(value, "SECRET", marker)
		}
		if values["client_secret"] != "" {
			values["client_secret"] = marker
		}
		known := values["client_secret"] != ""
		get := func(key string) string { return values[key] }
		c, err := Load(get, noEnv)
		if _, again := Load(get, noEnv); !reflect.DeepEqual(again, err) {
			t.Fatalf("%v, then %v", err, again)
		}
		if err != nil {
			faults := err.(Faults)
			if len(faults) == 0 || c != nil {
				t.Fatal("an error without faults, or with a Config")
			}
			for _, fault := range faults {
				if fault.Key == "" || fault.Message == "" || strings.ContainsAny(fault.Error(), "\n\r\x00\x1b") {
					t.Fatalf("fault %q", fault.Error())
				}
			}
			if known && strings.Contains(err.Error(), "needle") {
				t.Fatalf("shows the secret: %v", err)
			}
			return
		}
		if c.QueueLimit < c.BatchSize || c.MaxAlertSize > c.BatchSize || c.BatchSize > 16_000_000 ||
			c.Overlap < 10*time.Second ||
			c.PollInterval < time.Second || c.Ago != 0 && c.Ago < c.Overlap+c.PollInterval {
			t.Fatalf("out of bounds: %+v", c)
		}
		if c.URL == "" || c.Resource == "" || c.TenantID == "" || c.Place() == "" || c.Auth == "" {
			t.Fatalf("incomplete: %+v", c)
		}
		if c.API == Graph && (c.Region != "" || c.Ago != 0 || c.Limit > graphPage || c.Updates == "" ||
			c.MachineGroups != nil) ||
			c.API == SIEM && (c.Filter != "" || c.Updates != "") {
			t.Fatalf("keys of both APIs: %+v", c)
		}
		if got := credentialsOf(c); len(got) != 1 || got[0] != c.Auth {
			t.Fatalf("auth %s with credentials %v: %+v", c.Auth, got, c)
		}
		if managed := c.Auth == ManagedIdentity; managed != (c.TokenURL == "") || managed != (c.ClientID == "") {
			t.Fatalf("auth %s with token_url %q and client_id %q", c.Auth, c.TokenURL, c.ClientID)
		}
		if u, err := url.Parse(c.TokenURL); c.TokenURL != "" && (err != nil || u.Scheme != "https" &&
			!loopback(u.Hostname())) {
			t.Fatalf("token_url %q", c.TokenURL)
		}
		if strings.Contains(strings.Join(c.Warnings(), "\n"), "needle") && known {
			t.Fatalf("a warning shows the secret: %q", c.Warnings())
		}
	})
}
