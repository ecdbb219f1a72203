package conf

import (
	"math"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestTableIsSound(t *testing.T) {
	seen := map[string]bool{}
	themes := []string{}
	for _, k := range Keys {
		if seen[k.Name] || !regexp.MustCompile(`^[a-z]+(_[a-z]+)*$`).MatchString(k.Name) {
			t.Errorf("%s: a second time, or not a name in lower case", k.Name)
		}
		seen[k.Name] = true
		if n := len(themes); n == 0 || themes[n-1] != k.Theme {
			if slices.Contains(themes, k.Theme) {
				t.Errorf("%s stands apart from its theme %q", k.Name, k.Theme)
			}
			themes = append(themes, k.Theme)
		}
		if (k.API == "") != (k.Why == "") {
			t.Errorf("%s: why has it no place with the other API?", k.Name)
		}
		if k.field == nil {
			t.Errorf("%s has no field", k.Name)
			continue
		}
		if k.Default == "" && k.Absent == "" {
			t.Errorf("%s: nothing says what holds where it is absent", k.Name)
		}
		if k.Secret != (k.Type == Password) {
			t.Errorf("%s: only a Password is secret", k.Name)
		}
		if k.Default != "" {
			if err := k.set(&Config{}, k.Default); err != nil {
				t.Errorf("%s: its default is %v", k.Name, err)
			}
		}
		if read := numbers[k.Type]; read != nil {
			least, err1 := read(k.Min)
			most, err2 := read(k.Max)
			if err1 != nil || err2 != nil || least >= most {
				t.Errorf("%s: bounds %s (%v) and %s (%v)", k.Name, k.Min, err1, k.Max, err2)
			}
			if (k.Type == Integer || k.Type == Size) && most > math.MaxInt32 {
				t.Errorf("%s: %s does not fit an int of 32 bits", k.Name, k.Max)
			}
			// Sums of a few of them, and the distance to any date, must not overflow.
			if (k.Type == Duration || k.Type == Span) && most > math.MaxInt64/16 {
				t.Errorf("%s: %s is too long for arithmetic", k.Name, k.Max)
			}
		}
	}
}

func TestBoundsThemselvesAreAllowed(t *testing.T) {
	for _, k := range Keys {
		if numbers[k.Type] == nil {
			continue
		}
		for _, text := range []string{k.Min, k.Max} {
			if err := k.set(&Config{}, text); err != nil {
				t.Errorf("%s %s is %v", k.Name, text, err)
			}
		}
	}
}

func TestRulesAreAboutKeysOfTheTable(t *testing.T) {
	for _, r := range rules {
		for _, name := range r.keys {
			if keyNamed(name) == nil {
				t.Errorf("rule %q: no key %s", r.says, name)
			}
		}
		if !strings.Contains(r.says, "`"+r.keys[0]+"`") {
			t.Errorf("rule %q does not name %s", r.says, r.keys[0])
		}
	}
}

func TestNoMisspellingIsAKey(t *testing.T) {
	// What Fluent Bit keeps for itself never reaches the plugin, so to look for it would be in vain.
	core := regexp.MustCompile(`^(name|match|tag|alias|log_level|log_suppress_interval|routable|mem_buf_limit|host|port|listen|ipv6|threaded|` +
		`net\..*|tls.*|oauth2.*|storage\..*|thread\..*|rate_.*|workers|processors)$`)
	seen := map[string]bool{}
	for _, m := range misspellings() {
		switch {
		case keyNamed(m.wrong) != nil:
			t.Errorf("%s is a key", m.wrong)
		case core.MatchString(m.wrong):
			t.Errorf("%s is Fluent Bit's own", m.wrong)
		case seen[m.wrong]:
			t.Errorf("%s stands twice", m.wrong)
		case m.wrong != strings.ToLower(m.wrong):
			t.Errorf("%s is not in lower case", m.wrong)
		case m.right == "" && m.note == "", m.right != "" && keyNamed(m.right) == nil:
			t.Errorf("%s leads nowhere", m.wrong)
		}
		seen[m.wrong] = true
	}
}

func TestAliasesStandOnce(t *testing.T) {
	derived := map[string]string{}
	for _, k := range Keys {
		for _, name := range variants(&k) {
			for _, wrong := range separated(name) {
				derived[wrong] = k.Name
			}
		}
	}
	f := func(names, of string) {
		for name := range strings.FieldsSeq(names) {
			if other, found := derived[name]; found {
				t.Errorf("%s, listed for %q, is derived from or listed for %q as well", name, of, other)
			}
			derived[name] = of
		}
	}
	for _, a := range aliases {
		f(a.names, a.key)
	}
	for _, s := range strangers {
		f(s.names, s.note)
	}
}

func TestLikelyWrongSpellingsAreRefused(t *testing.T) {
	f := func(wrong, right string) {
		t.Helper()
		i := slices.IndexFunc(misspellings(), func(m misspelling) bool { return m.wrong == wrong })
		if i < 0 || misspellings()[i].right != right {
			t.Errorf("%s does not lead to %q", wrong, right)
		}
	}
	// The API's own names, as they arrive from a classic and from a YAML file.
	f("machinegroups", "machine_groups")
	f("sincetimeutc", "initial_lookback")
	f("since_time_utc", "initial_lookback")
	f("untiltimeutc", "")
	f("until_time_utc", "")
	f("devicecreatedmachinetags", "device_created_machine_tags")
	f("cloudcreatedmachinetags", "cloud_created_machine_tags")
	// Habits.
	f("client-id", "client_id")
	f("clientid", "client_id")
	f("client_i_d", "client_id")
	f("tenant", "tenant_id")
	f("tenantid", "tenant_id")
	f("app_id", "client_id")
	f("secret", "client_secret")
	f("interval", "poll_interval")
	f("interval_sec", "poll_interval")
	f("poll-frequency", "poll_interval")
	f("db_path", "db")
	f("statefile", "db")
	f("http_proxy", "proxy_url")
	f("machine_group", "machine_groups")
	f("ca_path", "ca_file")
	f("batch-size", "batch_size")
}
