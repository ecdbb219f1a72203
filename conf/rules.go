package conf

import (
	"path"
	"slices"
	"strings"
	"time"
)

// rule is a check among several keys.
type rule struct {
	says  string   // for the documentation
	keys  []string // the first is blamed; the rule is not asked while one of them has a fault of its own
	wrong func(l *loader) string
}

// when is what is wrong in one case alone.
func when(broken func(l *loader) bool, wrong string) func(*loader) string {
	return func(l *loader) string {
		if broken(l) {
			return wrong
		}
		return ""
	}
}

// judge asks every rule. wrong returns "" where the rule holds, and else completes the sentence `key: "value" ...`; a
// text that starts with "missing" stands without a value.
func (l *loader) judge() {
	for _, r := range rules {
		if slices.ContainsFunc(r.keys, func(k string) bool { return l.bad[k] }) {
			continue
		}
		name, wrong := r.keys[0], r.wrong(l)
		missing := strings.HasPrefix(wrong, "missing")
		switch {
		case wrong == "":
		case missing && wrong[len("missing")] != ',' && l.tenants && !l.entry && keyNamed(name).PerTenant:
			// The entries may have it. Of keys that contradict each other both are there.
		case missing:
			l.fault(name, wrong)
		default:
			l.blame(name, wrong)
		}
	}
}

// isoText writes whole seconds as an ISO 8601 duration: PT16M, P7D.
func isoText(d time.Duration) string {
	text := strings.ToUpper(span(d))
	if strings.HasSuffix(text, "D") {
		return "P" + text
	}
	return "PT" + text
}

// successorAlone is the rule of a key that says how the successor is pulled.
func successorAlone(name string) rule {
	return rule{
		says: "`" + name + "` needs `successor graph`.",
		keys: []string{name, "successor", "api"},
		wrong: func(l *loader) string {
			if l.given(name) && l.api() == SIEM && l.cfg.SuccessorAPI != Graph && !l.tenants { // entries may have one

				return "has no effect without successor graph; allowed: to leave the key out"
			}
			return ""
		},
	}
}

var rules = []rule{
	{
		says:  "`auth` follows from the keys given; keys of two credentials contradict each other.",
		keys:  []string{"auth"},
		wrong: contradiction,
	},
	{
		says: "`client_secret` or `client_secret_file` is required with `auth client_secret`, and only one of them " +
			"is allowed.",
		// Beside a fault in another credential's key that one is the fault, not a missing secret.
		keys:  append([]string{"client_secret", "auth"}, credentialKeys("")...),
		wrong: secretAndFile,
	},
	{
		says: "`tenant_id` has no place beside `tenants_file`, whose entries name the tenants.",
		keys: []string{"tenant_id", "tenants_file"},
		wrong: when(func(l *loader) bool { return l.tenants && !l.entry && l.given("tenant_id") },
			"has no place beside tenants_file, whose entries name the tenants; allowed: one of the two"),
	},
	{
		says: "`token_url` has no place beside `tenants_file`, because it holds a tenant; an entry may have one.",
		keys: []string{"token_url", "tenants_file"},
		wrong: when(func(l *loader) bool { return l.tenants && !l.entry && l.given("token_url") },
			"has no place beside tenants_file, because it holds a tenant; allowed: authority, or "+
				"token_url in an entry of the file"),
	},
	{
		says: "`region` is required with `api siem` in `cloud public`, unless `url` is given.",
		keys: []string{"region", "cloud", "url", "api"},
		wrong: func(l *loader) string {
			if l.api() == SIEM && l.cfg.Region == "" && l.cfg.URL == "" && presets[l.cfg.Cloud].byRegion() {
				return "missing; allowed: " + keyNamed("region").allowed() + ", or url with the whole alerts endpoint"
			}
			return ""
		},
	},
	{
		says: "`region` has no place beside `url`, which names the endpoint whole.",
		keys: []string{"region", "url"},
		wrong: when(func(l *loader) bool { return l.cfg.Region != "" && l.cfg.URL != "" },
			"has no effect beside url; allowed: one of the two"),
	},
	{
		says: "`region` is for `cloud public` only: the other clouds are one region each.",
		keys: []string{"region", "cloud"},
		wrong: func(l *loader) string {
			if l.cfg.Region != "" && !presets[l.cfg.Cloud].byRegion() {
				return "has no effect in cloud " + l.cfg.Cloud + ", which is one region; allowed: to leave the key out"
			}
			return ""
		},
	},
	{
		says: "`authority` has no place beside `token_url`, which names the token endpoint whole.",
		keys: []string{"authority", "token_url"},
		wrong: when(func(l *loader) bool { return l.cfg.Authority != "" && l.cfg.TokenURL != "" },
			"has no effect beside token_url; allowed: one of the two"),
	},
	{
		says: "`authority` does not hold the tenant, which is added to it.",
		keys: []string{"authority", "tenant_id"},
		wrong: when(func(l *loader) bool {
			return l.cfg.TenantID != "" && strings.EqualFold(path.Base(l.cfg.Authority), l.cfg.TenantID)
		},
			"ends in the tenant, which is added to it; allowed: the address without it"),
	},
	{
		says: "`successor` is `graph` beside `machine_groups` or machine tags, by which Microsoft Graph cannot " +
			"filter, only if `filter` says what it is asked for.",
		keys: []string{"successor", "filter", "machine_groups", "device_created_machine_tags",
			"cloud_created_machine_tags"},
		wrong: func(l *loader) string {
			c := l.cfg
			if c.SuccessorAPI == Graph && c.Filter == "" && (len(c.MachineGroups) > 0 ||
				c.DeviceCreatedMachineTags != "" || c.CloudCreatedMachineTags != "") {
				return "would pull the alerts of all machines, for Microsoft Graph cannot filter by machine groups " +
					"or tags; allowed: filter with what it shall be asked " +
					"for, such as severity ne 'informational', or successor none"
			}
			return ""
		},
	},
	successorAlone("successor_after"),
	successorAlone("successor_url"),
	{
		says: "`limit` is at most 1000 with `api graph`, whose pages hold no more.",
		keys: []string{"limit", "api"},
		wrong: func(l *loader) string {
			if l.api() == Graph && l.cfg.Limit > graphPage {
				return "is more than a page of Microsoft Graph holds; allowed: 1 to " + count(graphPage) +
					" with api graph"
			}
			return ""
		},
	},
	{
		says: "`ago` is at least `overlap` + `poll_interval`, or rows between two polls would be missed.",
		keys: []string{"ago", "overlap", "poll_interval"},
		wrong: func(l *loader) string {
			if least := l.cfg.Overlap + l.cfg.PollInterval; l.given("ago") && l.cfg.Ago < least {
				return "is less than overlap " + l.value("overlap") + " + poll_interval " + l.value("poll_interval") +
					", so rows would be missed; allowed: " + isoText(least) + " or more"
			}
			return ""
		},
	},
	{
		says:  "`db` is a file of its own: not `ca_file`, `tenants_file`, nor a file of the credential.",
		keys:  append([]string{"db"}, filesRead...),
		wrong: func(l *loader) string { return l.shared("db", filesRead) },
	},
	sharedAlone("kubeconfig"),
	sharedAlone("workers"),
	sharedAlone("lease_duration"),
	sharedAlone("takeover_overlap"),
	{
		says:  "`refresh_token_file` is a file of its own, because it is written.",
		keys:  []string{"refresh_token_file", "ca_file", "tenants_file"},
		wrong: func(l *loader) string { return l.shared("refresh_token_file", []string{"ca_file", "tenants_file"}) },
	},
	{
		says: "`queue_limit` is at least `batch_size`.",
		keys: []string{"queue_limit", "batch_size"},
		wrong: func(l *loader) string {
			if l.cfg.QueueLimit < l.cfg.BatchSize {
				return "is less than batch_size " + l.value("batch_size") + "; allowed: batch_size or more"
			}
			return ""
		},
	},
	{
		says: "`max_alert_size` is at most `batch_size`.",
		keys: []string{"max_alert_size", "batch_size"},
		wrong: func(l *loader) string {
			if l.cfg.MaxAlertSize > l.cfg.BatchSize {
				return "is more than batch_size " + l.value("batch_size") + "; allowed: batch_size or less"
			}
			return ""
		},
	},
	{
		says: "`keep_native` has no place with `format native`, whose records are the native alert.",
		keys: []string{"keep_native", "format"},
		wrong: when(func(l *loader) bool { return l.cfg.KeepNative && l.cfg.Format == Native },
			"has no effect with format native, whose records are the native alert; allowed: to leave the "+
				"key out, or another format"),
	},
	{
		says: "`event_id_key` is not the name of `time_key`, nor of another field that the API's alerts have; with " +
			"another `format` than `native` not that of a field of the format.",
		keys: []string{"event_id_key", "time_key", "api", "format"},
		wrong: when(func(l *loader) bool { return l.taken(l.cfg.EventIDKey) },
			"is a field of the records already; allowed: a name that no alert has, such as event_id"),
	},
	{
		says: "`tenant_id_key` is a name that no field of the records has, and needs `tenant_id` or `tenants_file`.",
		keys: []string{"tenant_id_key", "event_id_key", "time_key", "tenant_id", "api", "format"},
		wrong: func(l *loader) string {
			switch name := l.cfg.TenantIDKey; {
			case name == "":
			case l.taken(name) || name == l.cfg.EventIDKey:
				return "is a field of the records already; allowed: a name that no alert has, such as TenantId"
			case l.cfg.TenantID == "" && !l.tenants:
				return "adds nothing, for the stanza names no tenant; allowed: to leave the key out, or tenant_id"
			}
			return ""
		},
	},
}
