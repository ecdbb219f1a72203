package shape

import (
	"bytes"

	"fluent-bit-defender/record"
)

// The Elastic Common Schema. Its @timestamp is the record's time, which Fluent Bit's outputs write themselves.

const (
	ecsVersion = "9.4.0"
	ecsModule  = "microsoft_defender"
	ecsVendor  = "microsoft.defender"
)

// ecsHead are the rows of both APIs.
var ecsHead = []row{
	{"", "ecs.version", literal(ecsVersion)},
	{"", "event.kind", literal("alert")},
	{"", "event.module", literal(ecsModule)},
	{"", "event.dataset", literal(ecsModule + ".alert")},
	{"", "event.category[]", literal("intrusion_detection")},
	{"", "event.type[]", literal("info")},
	{"", "observer.vendor", literal("Microsoft")},
	{"", "cloud.provider", literal("azure")},
	{theText, "event.original", alertText},
}

var ecsDerived = []derived{
	{"threat.framework", []string{"threat.technique.id[]", "threat.tactic.id[]"}, framework,
		"`MITRE ATT&CK`, where a technique or tactic is known"},
	{"event.duration", []string{"event.start", "event.end"}, duration, "from start to end, in nanoseconds"},
	{"file.path", []string{"file.directory", "file.name"}, joinPath, "folder and name, joined"},
}

// ecsSeverity has the numbers that Elastic's rules know: 21 low, 47 medium, 73 high, 99 critical.
var ecsSeverity = numbers("21 informational and low, 47 medium, 73 high, 99 critical",
	map[string]int64{"informational": 21, "low": 21, "medium": 47, "high": 73, "critical": 99})

// alertText is the alert's JSON, with U+FFFD for what is no UTF-8.
var alertText = conv{doc: "the alert's JSON", fn: func(e *encoder, r *rule, _ []byte) bool {
	s := e.alert.Text
	if e.alert.Row.Repaired {
		s = bytes.ToValidUTF8(s, []byte("\uFFFD"))
	}
	return e.put(r, e.textOf(s))
}}

// tactics are MITRE's, by the name that Microsoft's categories have.
var tactics = []struct{ category, id, name string }{
	{"reconnaissance", "TA0043", "Reconnaissance"},
	{"resourcedevelopment", "TA0042", "Resource Development"},
	{"initialaccess", "TA0001", "Initial Access"},
	{"execution", "TA0002", "Execution"},
	{"persistence", "TA0003", "Persistence"},
	{"privilegeescalation", "TA0004", "Privilege Escalation"},
	{"defenseevasion", "TA0005", "Defense Evasion"},
	{"credentialaccess", "TA0006", "Credential Access"},
	{"discovery", "TA0007", "Discovery"},
	{"lateralmovement", "TA0008", "Lateral Movement"},
	{"collection", "TA0009", "Collection"},
	{"exfiltration", "TA0010", "Exfiltration"},
	{"commandandcontrol", "TA0011", "Command and Control"},
	{"impact", "TA0040", "Impact"},
}

// tactic takes a category that is one: its id goes to the first target, its name to the second.
var tactic = func() conv {
	type coded struct{ id, name []byte }
	m := map[string]coded{}
	for _, t := range tactics {
		m[t.category] = coded{appendText(nil, t.id), appendText(nil, t.name)}
	}
	of := newDictionary(m)
	const doc = "MITRE's id and name, of the categories that are tactics"
	return conv{doc: doc, fn: func(e *encoder, r *rule, v []byte) bool {
		t := of.find(textIn(v))
		return t != nil && e.putTo(r.puts[:1], t.id) && e.putTo(r.puts[1:2], t.name)
	}}
}()

var (
	ecsCategory = words("`malware` for malware and ransomware",
		map[string]string{"malware": "malware", "ransomware": "malware"})

	// technique takes the part of T1059.001 before the dot, subtechnique ids with a dot.
	technique = conv{doc: "the technique: what stands before a dot", fn: func(e *encoder, r *rule, v []byte) bool {
		s := textIn(v)
		k := bytes.IndexByte(s, '.')
		switch {
		case len(s) == 0:
			return false
		case k < 0:
			return e.put(r, v)
		}
		return k > 0 && e.put(r, e.textOf(s[:k]))
	}}
	subtechnique = conv{doc: "ids with a dot", fn: func(e *encoder, r *rule, v []byte) bool {
		return bytes.IndexByte(textIn(v), '.') > 0 && e.put(r, v)
	}}
)

var (
	mitre = appendText(nil, "MITRE ATT&CK")
	osOf  = []struct{ prefix, family string }{{"windows", "windows"}, {"macos", "macos"}, {"mac os", "macos"},
		{"linux", "linux"}, {"ubuntu", "linux"}, {"ios", "ios"}, {"android", "android"}, {"centos", "linux"},
		{"redhat", "linux"}, {"debian", "linux"}, {"suse", "linux"}, {"fedora", "linux"}, {"oracle", "linux"},
		{"amazonlinux", "linux"}, {"rocky", "linux"}, {"almalinux", "linux"}}
	osType = conv{doc: "`windows`, `macos`, `linux`, `ios` or `android`, where it begins so",
		fn: func(e *encoder, r *rule, v []byte) bool {
			family := osFamily(textIn(v))
			return family != "" && e.put(r, e.text(family))
		}}
	outcome = conv{doc: "`success` for true, `failure` for false", fn: func(e *encoder, r *rule, v []byte) bool {
		c := record.NewCursor(v)
		switch {
		case c.Kind() != record.Bool:
			return false
		case c.Bool():
			return e.put(r, e.text("success"))
		}
		return e.put(r, e.text("failure"))
	}}
	hive = words("as ECS has it: `HKLM`, `HKCU`, `HKCR`, `HKU`, `HKCC`", map[string]string{
		"hkey_local_machine": "HKLM", "hkey_current_user": "HKCU", "hkey_classes_root": "HKCR", "hkey_users": "HKU",
		"hkey_current_config": "HKCC",
		"hklm":                "HKLM", "hkcu": "HKCU", "hkcr": "HKCR", "hku": "HKU", "hkcc": "HKCC",
	})

	registryType = words("as ECS has it: `REG_SZ`, `REG_DWORD` and so on", map[string]string{
		"none": "REG_NONE", "string": "REG_SZ", "expandstring": "REG_EXPAND_SZ", "multistring": "REG_MULTI_SZ",
		"binary": "REG_BINARY", "dword": "REG_DWORD", "qword": "REG_QWORD",
	})
)

// osFamily tells the family of a system by the beginning of its name.
func osFamily(name []byte) string {
	for i := range osOf {
		o := &osOf[i]
		if len(name) >= len(o.prefix) && isLower(name[:len(o.prefix)], o.prefix) {
			return o.family
		}
	}
	return ""
}

func framework(e *encoder, r *rule, of []*value) {
	if len(of[0].many)+len(of[1].many) > 0 {
		e.put(r, mitre)
	}
}

func duration(e *encoder, r *rule, of []*value) {
	if of[0].one == nil || of[1].one == nil {
		return
	}
	sec0, nsec0, _ := record.ParseTime(textIn(of[0].one))
	sec1, nsec1, _ := record.ParseTime(textIn(of[1].one))
	if n := (sec1-sec0)*1e9 + int64(nsec1) - int64(nsec0); n >= 0 {
		e.put(r, e.number(n))
	}
}

// registryPath joins hive and key, where these and what else it is made of are there.
func registryPath(e *encoder, r *rule, of []*value) {
	for _, part := range of {
		if part.one == nil {
			return
		}
	}
	h, key := textIn(of[0].one), textIn(of[1].one)
	from := len(e.scratch)
	e.scratch = append(appendTextHead(e.scratch, len(h)+1+len(key)), h...)
	e.scratch = append(append(e.scratch, '\\'), key...)
	e.put(r, e.made(from))
}

// ecsRaw is the record of a row that could not be read.
func ecsRaw(dst []byte, r *record.Raw) ([]byte, int) {
	dst = appendMapHead(appendText(dst, "ecs"), 1)
	dst = appendText(appendText(dst, "version"), ecsVersion)
	dst = appendMapHead(appendText(dst, "event"), 4)
	dst = appendText(appendText(dst, "kind"), "pipeline_error")
	dst = appendText(appendText(dst, "module"), ecsModule)
	dst = appendText(appendText(dst, "dataset"), ecsModule+".alert")
	dst = appendText(appendText(dst, "original"), r.Text)
	dst = appendMapHead(appendText(dst, "error"), 1)
	dst = appendText(appendText(dst, "message"), r.Reason)
	if r.Tenant == "" {
		return dst, 3
	}
	dst = appendMapHead(appendText(dst, "cloud"), 2)
	dst = appendText(appendText(dst, "provider"), "azure")
	dst = appendMapHead(appendText(dst, "account"), 1)
	return appendText(appendText(dst, "id"), r.Tenant), 4
}
