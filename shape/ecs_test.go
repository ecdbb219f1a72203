package shape

import (
	"bufio"
	"encoding/json"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// ecsType is a line of testdata/ecs_fields.txt.
type ecsType struct {
	kind    string
	array   bool
	allowed []string
}

type ecsSchema struct {
	fields  map[string]ecsType
	types   map[string][]string // event.type values by event.category
	objects map[string]bool     // what has fields
}

func readECSSchema(t testing.TB) *ecsSchema {
	t.Helper()
	f, err := os.Open("testdata/ecs_fields.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	s := &ecsSchema{map[string]ecsType{}, map[string][]string{}, map[string]bool{}}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		words := strings.Fields(lines.Text())
		switch {
		case words[0] == "#":
		case words[0][0] == '!':
			s.types[words[0][1:]] = words[1:]
		default:
			ty := ecsType{kind: words[1]}
			for _, w := range words[2:] {
				if w == "array" {
					ty.array = true
				} else {
					ty.allowed = strings.Split(w[1:], ",")
				}
			}
			s.fields[words[0]] = ty
			for at := strings.LastIndexByte(words[0], '.'); at > 0; at = strings.LastIndexByte(words[0][:at], '.') {
				s.objects[words[0][:at]] = true
			}
		}
	}
	if len(s.fields) < 400 || len(s.types) < 15 {
		t.Fatalf("%d fields and %d categories: the list is damaged", len(s.fields), len(s.types))
	}
	return s
}

// check holds a record against the schema. What stands under the vendor's name is not ECS's.
func (s *ecsSchema) check(t testing.TB, r *encoded) {
	t.Helper()
	m := r.fields(t)
	s.checkObject(t, r, "", m)
	event, _ := m["event"].(map[string]any)
	ecs, _ := m["ecs"].(map[string]any)
	if event["kind"] == nil || event["module"] == nil || event["dataset"] == nil || ecs["version"] != ecsVersion ||
		m["@timestamp"] != nil {
		t.Errorf("a field that each record has is missing, or is one that the output adds: %s", r.text)
	}
	if r.row.Raw {
		return
	}
	types, _ := event["type"].([]any)
	var allowed []string
	for _, c := range event["category"].([]any) {
		may := s.types[c.(string)]
		allowed = append(allowed, may...)
		if !slices.ContainsFunc(may, func(ty string) bool { return slices.Contains(types, any(ty)) }) {
			t.Errorf("event.category %s has none of its types %v in %v", c, may, types)
		}
	}
	for _, ty := range types {
		if !slices.Contains(allowed, ty.(string)) {
			t.Errorf("event.type %s belongs to no category of %v", ty, event["category"])
		}
	}
}

func (s *ecsSchema) checkObject(t testing.TB, r *encoded, path string, m map[string]any) {
	t.Helper()
	for name, v := range m {
		full := strings.TrimPrefix(path+"."+name, ".")
		if full == "microsoft" {
			continue
		}
		ty, known := s.fields[full]
		if object, ok := v.(map[string]any); ok && s.objects[full] {
			s.checkObject(t, r, full, object)
			continue
		}
		items, isList := v.([]any)
		switch {
		case !known:
			t.Errorf("%s is no field of ECS: %s", full, r.text)
		case isList && !ty.array:
			t.Errorf("%s takes no list: %v", full, v)
		case !isList && ty.array:
			t.Errorf("%s is always a list: %v", full, v)
		}
		if !isList {
			items = []any{v}
		}
		for _, item := range items {
			if !ty.holds(item) {
				t.Errorf("%s is %s, and not %T %v", full, ty.kind, item, item)
			}
		}
	}
}

// holds tells whether Elasticsearch takes a value for a field of the type.
func (ty ecsType) holds(v any) bool {
	text, isText := v.(string)
	number, isNumber := v.(json.Number)
	if len(ty.allowed) > 0 && !slices.Contains(ty.allowed, text) {
		return false
	}
	switch ty.kind {
	case "keyword", "wildcard", "match_only_text", "constant_keyword":
		return isText && text != ""
	case "long":
		_, err := number.Int64()
		return isNumber && err == nil
	case "float":
		return isNumber
	case "date":
		_, err := time.Parse(time.RFC3339Nano, text)
		return isText && err == nil
	case "ip":
		a, err := netip.ParseAddr(text)
		return isText && err == nil && a.Zone() == ""
	case "boolean":
		_, ok := v.(bool)
		return ok
	}
	return false
}

func TestECSRecordsAreValid(t *testing.T) {
	s := readECSSchema(t)
	for _, api := range []string{siem, graph} {
		records := readAll(t, optionsOf(t, ECS, api, true),
			list(append(sampleRows(t, api, thousand), []byte(`"no object"`), []byte(`[[]]`))...))
		for i := range records {
			s.check(t, &records[i])
		}
	}
}

func TestECSTargetsAreFields(t *testing.T) {
	s := readECSSchema(t)
	for _, sh := range shapes {
		if sh.format != ECS {
			continue
		}
		for path, target := range sh.program().names {
			path = strings.TrimSuffix(path, "[]")
			if path[0] == '(' || path == ecsVendor {
				continue
			}
			if ty, known := s.fields[path]; !known || ty.array != target.list {
				t.Errorf("%s: %s is no such field of ECS: %+v", sh.api, path, ty)
			}
		}
	}
}

func FuzzECS(f *testing.F) {
	fuzzFormat(f, ECS, readECSSchema(f).check)
}

// fuzzFormat gives every row that is JSON to a format, as one of either API, and every record of it to the check.
func fuzzFormat(f *testing.F, format string, check func(testing.TB, *encoded)) {
	f.Add([]byte(siemOdd), false)
	f.Add([]byte(graphOdd), true)
	for _, r := range kindRows(f) {
		f.Add(r, true)
	}
	f.Fuzz(func(t *testing.T, row []byte, ofGraph bool) {
		if !json.Valid(row) || len(row) == 0 {
			return
		}
		api := siem
		if ofGraph {
			api = graph
		}
		for _, r := range readAll(t, optionsOf(t, format, api, true), list(row)) {
			check(t, &r)
		}
	})
}

func TestTheMainPieceOfEvidenceFillsItsObject(t *testing.T) {
	kind := func(kind, fields string) string {
		return `{"@odata.type":"#microsoft.graph.security.` + kind + `Evidence",` + fields + `}`
	}
	f := func(want string, evidence ...string) {
		t.Helper()
		row := `{"id":"a","lastUpdateDateTime":"2024-01-01T00:00:00Z","evidence":[` + strings.Join(evidence, ",") + `]}`
		r := readAll(t, optionsOf(t, ECS, graph, false), list([]byte(row)))[0]
		if !strings.Contains(string(r.text), want) {
			t.Errorf("%s: want %s in %s", row, want, r.text)
		}
	}
	process := kind("process", `"processId":7,"userAccount":{"accountName":"p","domainName":"d"}`)
	user := kind("user", `"userAccount":{"accountName":"u"}`)
	f(`"user":{"name":"p","domain":"d"}`, process)
	f(`"user":{"name":"u"}`, process, user)
	f(`"user":{"name":"u"}`, user, process)
	f(`"user":{"name":"u"}`, user, kind("user", `"userAccount":{"domainName":"x"}`))
	f(`"user":["p","u"]`, process, user)
	f(`"host":{"name":"one"}`, kind("device", `"deviceDnsName":"one"`),
		kind("device", `"mdeDeviceId":"2","ipInterfaces":["1.1.1.1"]`))
	f(`"source":{"ip":"1.1.1.1"}`, kind("ip", `"ipAddress":"1.1.1.1","roles":["attacker"]`))
	f(`"destination":{"ip":"1.1.1.1"}`, kind("ip", `"ipAddress":"1.1.1.1","roles":["commandAndControl"]`))
	f(`"related":{"ip":["1.1.1.1"]}`, kind("ip", `"ipAddress":"1.1.1.1","roles":[]`))
	f(`"registry":{"hive":"HKLM","key":"a\\b","path":"HKLM\\a\\b"}`,
		kind("registryKey", `"registryHive":"HKEY_LOCAL_MACHINE","registryKey":"a\\b"`))
	f(`"process":{"name":"a.exe","executable":"C:\\x\\a.exe"}`,
		kind("process", `"imageFile":{"fileName":"a.exe","filePath":"C:\\x"}`))
	f(`"process":{"name":"a.exe","executable":"C:\\x\\A.exe"}`,
		kind("process", `"imageFile":{"fileName":"a.exe","filePath":"C:\\x\\A.exe"}`))
}
