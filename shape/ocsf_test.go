package shape

import (
	"bufio"
	"encoding/json"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// ocsfAttribute is a line of testdata/ocsf_objects.txt.
type ocsfAttribute struct {
	kind                  string
	array                 bool
	required, recommended bool
	enum                  map[string]string
}

type ocsfObject struct {
	attributes map[string]ocsfAttribute
	oneOf      []string
}

type ocsfSchema map[string]ocsfObject

func readOCSFSchema(t testing.TB) ocsfSchema {
	t.Helper()
	f, err := os.Open("testdata/ocsf_objects.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	s := ocsfSchema{}
	at := ""
	for lines := bufio.NewScanner(f); lines.Scan(); {
		line := lines.Text()
		words := strings.SplitN(line, " ", 4)
		switch {
		case words[0] == "#":
		case line[0] == '@':
			words = strings.Fields(line)
			at = words[0][1:]
			s[at] = ocsfObject{map[string]ocsfAttribute{}, words[1:]}
		default:
			a := ocsfAttribute{kind: strings.TrimSuffix(words[1], "[]"), array: strings.HasSuffix(words[1], "[]"),
				required: words[2] == "required", recommended: words[2] == "recommended"}
			if len(words) == 4 {
				a.enum = map[string]string{}
				for _, m := range strings.Split(words[3], "|") {
					id, caption, _ := strings.Cut(m, "=")
					a.enum[id] = caption
				}
			}
			s[at].attributes[words[0]] = a
		}
	}
	if len(s) < 25 || len(s["detection_finding"].attributes) < 40 {
		t.Fatalf("%d objects: the list is damaged", len(s))
	}
	return s
}

// check holds a record against its class.
func (s ocsfSchema) check(t testing.TB, r *encoded) {
	t.Helper()
	if t.Failed() {
		return // one is enough
	}
	m := r.fields(t)
	class := "detection_finding"
	if r.row.Raw {
		class = "base_event"
	}
	s.object(t, r, class, class, m)
	uid, _ := m["class_uid"].(json.Number).Int64()
	activity, _ := m["activity_id"].(json.Number).Int64()
	typeUID, _ := m["type_uid"].(json.Number).Int64()
	if typeUID != uid*100+activity || !r.row.Raw && uid != 2004 {
		t.Errorf("class %d, activity %d, type %d", uid, activity, typeUID)
	}
	if ms, _ := m["time"].(json.Number).Int64(); ms != r.time.UnixMilli() {
		t.Errorf("time %d, the record's is %d", ms, r.time.UnixMilli())
	}
}

func (s ocsfSchema) object(t testing.TB, r *encoded, path, kind string, m map[string]any) {
	t.Helper()
	o, known := s[kind]
	if !known {
		t.Errorf("%s: %s is not in the list of objects", path, kind)
		return
	}
	for name, a := range o.attributes {
		if a.required && m[name] == nil {
			t.Errorf("%s has no %s, which is required: %s", path, name, r.text)
		}
	}
	if len(o.oneOf) > 0 && !slices.ContainsFunc(o.oneOf, func(name string) bool { return m[name] != nil }) {
		if _, data := m["data"]; kind != "evidences" || !data {
			t.Errorf("%s has none of %v: %s", path, o.oneOf, r.text)
		}
	}
	for name, v := range m {
		a, known := o.attributes[name]
		at := path + "." + name
		if !known {
			t.Errorf("%s is no attribute of %s", at, kind)
			continue
		}
		items, isList := v.([]any)
		if a.kind == "json_t" || name == "unmapped" {
			continue
		}
		if isList != a.array {
			t.Errorf("%s: list %v, want %v", at, isList, a.array)
		}
		if !isList {
			items = []any{v}
		}
		for _, item := range items {
			s.value(t, r, at, a, item)
		}
		s.caption(t, at, name, m, o)
	}
}

// caption compares the number of an enum with the text beside it.
func (s ocsfSchema) caption(t testing.TB, path, name string, m map[string]any, o ocsfObject) {
	t.Helper()
	a := o.attributes[name]
	id, isNumber := m[name].(json.Number)
	if a.enum == nil || !isNumber || !strings.HasSuffix(name, "_id") {
		return
	}
	caption := strings.TrimSuffix(name, "_id")
	if _, known := o.attributes[caption]; !known {
		caption += "_name"
	}
	if text, _ := m[caption].(string); text == "" || id != "99" && a.enum[id.String()] != text {
		t.Errorf("%s is %s, %s is %q and not %q", path, id, caption, text, a.enum[id.String()])
	}
}

var (
	ocsfMail = regexp.MustCompile("^[a-zA-Z0-9!#$%&'*+-/=?^_`{|}~.]+@[a-zA-Z0-9-]+\\.[a-zA-Z0-9-.]+$")
	ocsfUUID = regexp.MustCompile(`^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$`)
)

func (s ocsfSchema) value(t testing.TB, r *encoded, path string, a ocsfAttribute, v any) {
	t.Helper()
	text, isText := v.(string)
	number, isNumber := v.(json.Number)
	n, err := strconv.ParseInt(number.String(), 10, 64)
	ok := false
	switch a.kind {
	case "string_t", "hostname_t", "url_t", "username_t", "file_name_t", "file_path_t", "file_hash_t", "process_name_t",
		"resource_uid_t", "reg_key_path_t":
		ok = isText && text != ""
	case "integer_t":
		ok = isNumber && err == nil && n == int64(int32(n))
	case "port_t":
		ok = isNumber && err == nil && n == int64(uint16(n))
	case "long_t", "timestamp_t":
		ok = isNumber && err == nil
	case "boolean_t":
		_, ok = v.(bool)
	case "ip_t":
		_, err := netip.ParseAddr(text)
		ok = isText && err == nil
	case "email_t":
		ok = ocsfMail.MatchString(text)
	case "uuid_t":
		ok = ocsfUUID.MatchString(text)
	default:
		if object, is := v.(map[string]any); is {
			s.object(t, r, path, a.kind, object)
			ok = true
		}
	}
	if !ok {
		t.Errorf("%s is %s, and not %T %v", path, a.kind, v, v)
	}
	if _, member := a.enum[number.String()]; a.enum != nil && !member {
		t.Errorf("%s: %v is no member of the enum", path, v)
	}
}

func TestOCSFRecordsAreValid(t *testing.T) {
	s := readOCSFSchema(t)
	for _, api := range []string{siem, graph} {
		records := readAll(t, optionsOf(t, OCSF, api, true),
			list(append(sampleRows(t, api, thousand), []byte(`"no object"`), []byte(`[[]]`))...))
		for i := range records {
			s.check(t, &records[i])
		}
	}
}

// The required and recommended attributes that alerts have something for are there.
func TestOCSFHasWhatIsRecommended(t *testing.T) {
	want := []string{"message", "observables", "evidences", "is_alert", "resources", "status_id", "status",
		"finding_info.title", "finding_info.analytic",
		"metadata.tenant_uid", "metadata.original_time", "metadata.product.name"}
	r := readAll(t, optionsOf(t, OCSF, graph, false), list(graphRows(1, 0)...))[0]
	for _, path := range want {
		m := r.fields(t)
		parts := strings.Split(path, ".")
		for _, p := range parts[:len(parts)-1] {
			m, _ = m[p].(map[string]any)
		}
		if m[parts[len(parts)-1]] == nil {
			t.Errorf("%s is missing: %s", path, r.text)
		}
	}
}

func FuzzOCSF(f *testing.F) {
	fuzzFormat(f, OCSF, readOCSFSchema(f).check)
}

// What the profile incident allows comes with its name.
func TestOCSFHasTheIncident(t *testing.T) {
	f := func(fields string, want ...string) {
		t.Helper()
		r := readAll(t, optionsOf(t, OCSF, graph, false),
			list([]byte(`{"id":"a","lastUpdateDateTime":"2024-01-01T00:00:00Z",`+fields+`}`)))[0]
		for _, w := range append(want, `"profiles":["incident"]`) {
			if !strings.Contains(string(r.text), w) {
				t.Errorf("%s: want %s in %s", fields, w, r.text)
			}
		}
	}
	f(`"assignedTo":"ann@contoso.example"`, `"assignee":{"name":"ann@contoso.example","email_addr":"ann@contoso.example"}`)
	f(`"status":"resolved"`, `"is_alert":false`, `"activity_id":3`)
	f(`"status":"new"`, `"is_alert":true`, `"activity_id":1`)
	f(`"severity":"low"`, `"is_alert":true`, `"activity_id":0`)
	f(`"assignedTo":"Automation"`, `"assignee":{"name":"Automation"}`)
	f(`"classification":"falsePositive"`, `"verdict_id":1,"verdict":"False Positive"`)
	f(`"classification":"benignPositive"`, `"verdict_id":99,"verdict":"benignPositive"`)
	f(`"incidentWebUrl":"https://x.example/29"`, `"src_url":"https://x.example/29"`)
}

func TestUsersThatWereLoggedOnAreObservables(t *testing.T) {
	r := readAll(t, optionsOf(t, OCSF, siem, false), list([]byte(`{"AlertId":"a","LogOnUsers":"D\\ann;D\\bob"}`)))[0]
	for _, w := range []string{`"type":"User Name","value":"D\\ann"`, `"value":"D\\bob"`, `"LogOnUsers":"D\\ann;D\\bob"`} {
		if !strings.Contains(string(r.text), w) {
			t.Errorf("want %s in %s", w, r.text)
		}
	}
}
