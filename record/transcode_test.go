package record

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"os"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestSeedAlert(t *testing.T) {
	text, err := os.ReadFile("testdata/seed.json")
	if err != nil {
		t.Fatal(err)
	}
	row := one(t, siemOptions(), string(text))
	const (
		alertID = "636207535742330111_-1114309685"
		ioc     = "9DE735BA9FF87725E392C6DFBEB2AF279035CDE229FCC00D28C0F3242C5A50AF"
	)
	want := object{
		{"AlertTime", "2017-01-23T07:32:54.1861171Z"},
		{"ComputerDnsName", "desktop-bvccckk"},
		{"AlertTitle", "Suspicious PowerShell commandline"},
		{"Category", "SuspiciousActivity"},
		{"Severity", "Medium"},
		{"AlertId", alertID},
		{"Actor", nil},
		{"LinkToWDATP", "https://securitycenter.windows.com/alert/" + alertID},
		{"IocName", nil},
		{"IocValue", nil},
		{"CreatorIocName", nil},
		{"CreatorIocValue", nil},
		{"Sha1", "69484ca722b4285a234896a2e31707cbedc59ef9"},
		{"FileName", "powershell.exe"},
		{"FilePath", `C:\Windows\SysWOW64\WindowsPowerShell\v1.0`},
		{"IpAddress", nil},
		{"Url", nil},
		{"IoaDefinitiondId", "7f1c3609-a3ff-40e2-995b-c01770161d68"},
		{"UserName", nil},
		{"AlertPart", int64(0)},
		{"FullId", alertID + ":" + ioc},
		{"LastProcessedTimeUtc", "2017-01-23T11:33:45.0760449Z"},
		{"ThreatCategory", nil},
		{"ThreatFamily", nil},
		{"ThreatName", nil},
		{"RemediationAction", nil},
		{"RemediationIsSuccess", nil},
		{"Source", "Microsoft Defender ATP"},
		{"Md5", nil},
		{"Sha256", nil},
		{"WasExecutingWhileDetected", nil},
		{"FileHash", "69484ca722b4285a234896a2e31707cbedc59ef9"},
		{"IocUniqueId", ioc},
	}
	if diff := cmp.Diff(want, row.fields(t)); diff != "" {
		t.Error(diff)
	}
	if at := time.Date(2017, 1, 23, 7, 32, 54, 186117100, time.UTC); !row.time(t).Equal(at) {
		t.Errorf("record time %v", row.time(t))
	}
	if at := time.Date(2017, 1, 23, 11, 33, 45, 76044900, time.UTC); row.Updated != at.UnixNano() {
		t.Errorf("updated %v", time.Unix(0, row.Updated).UTC())
	}
	if row.Raw || row.Repaired || row.Size != len(bytes.TrimSpace(text)) {
		t.Errorf("%+v", row.Row)
	}
}

func TestValues(t *testing.T) {
	cases := []struct {
		name, json string
		want       any
	}{
		{"zero", "0", int64(0)},
		{"minus zero is the integer", "-0", int64(0)},
		{"fixint", "127", int64(127)},
		{"uint8", "128", int64(128)},
		{"uint16", "65535", int64(65535)},
		{"uint32", "4294967295", int64(4294967295)},
		{"beyond 32 bits", "4294967296", int64(4294967296)},
		{"greatest signed", "9223372036854775807", int64(math.MaxInt64)},
		{"beyond signed", "9223372036854775808", uint64(1 << 63)},
		{"greatest unsigned", "18446744073709551615", uint64(math.MaxUint64)},
		{"beyond unsigned", "18446744073709551616", "18446744073709551616"},
		{"twenty digits beyond a carry", "99999999999999999999", "99999999999999999999"},
		{"negative fixint", "-32", int64(-32)},
		{"int8", "-33", int64(-33)},
		{"int8 floor", "-128", int64(-128)},
		{"int16", "-129", int64(-129)},
		{"int16 floor", "-32768", int64(-32768)},
		{"int32", "-32769", int64(-32769)},
		{"int32 floor", "-2147483648", int64(-2147483648)},
		{"int64", "-2147483649", int64(-2147483649)},
		{"least signed", "-9223372036854775808", int64(math.MinInt64)},
		{"below signed", "-9223372036854775809", "-9223372036854775809"},
		{"400 digits", strings.Repeat("7", 400), strings.Repeat("7", 400)},
		{"fraction", "1.5", 1.5},
		{"fraction of zero", "0.0", 0.0},
		{"exponent", "1e2", 100.0},
		{"exponent with signs", "-12.5E+3", -12500.0},
		{"small exponent", "1e-7", 1e-7},
		{"greatest double", "1.7976931348623157e308", math.MaxFloat64},
		{"too large for a double", "1e400", "1e400"},
		{"too small for a double", "1e-400", "1e-400"},
		{"zero of any exponent", "0e400", 0.0},
		{"fraction of 400 digits", "0." + strings.Repeat("3", 400), 1.0 / 3},
		{"null", "null", nil},
		{"true", "true", true},
		{"false", "false", false},
		{"empty string", `""`, ""},
		{"escapes", `"\"\\\/\b\f\n\r\t"`, "\"\\/\b\f\n\r\t"},
		{"escape of ASCII", `"\u0041"`, "A"},
		{"escape of two bytes", `"\u00e9"`, "é"},
		{"escape of three bytes", `"\u4E0D"`, "不"},
		{"surrogate pair", `"\ud83d\ude00"`, "😀"},
		{"NUL as an escape", `"a\u0000b"`, "a\x00b"},
		{"delete is an ordinary character", "\"\x7f\"", "\x7f"},
		{"beyond ASCII", `"Verdächtige 不審な 😀"`, "Verdächtige 不審な 😀"},
		{"beyond ASCII and escaped", `"ä\\ö\nü"`, "ä\\ö\nü"},
		{"empty list", `[]`, []any{}},
		{"empty object", `{}`, object{}},
		{"nested", `[1,[2,{"a":[null,{"b":"c"}]}]]`,
			[]any{int64(1), []any{int64(2), object{{"a", []any{nil, object{{"b", "c"}}}}}}}},
		{"white space", " [ 1 ,\t2\r\n, {\n\"a\" :\t[ ] } ] ", []any{int64(1), int64(2), object{{"a", []any{}}}}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			row := one(t, siemOptions(), `[{"before":1,"value":`+c.json+`,"after":2}]`)
			want := object{{"before", int64(1)}, {"value", c.want}, {"after", int64(2)}}
			if diff := cmp.Diff(want, row.fields(t)); diff != "" {
				t.Error(diff)
			}
			if row.Raw || row.Repaired {
				t.Errorf("%+v", row.Row)
			}
		})
	}
}

func TestStringsOfEveryLength(t *testing.T) {
	for n := range 300 { // more than 255 bytes, and more than eight blocks
		checkString(t, strings.Repeat("x", n))
		checkString(t, strings.Repeat("x", n)+`\`)
		checkString(t, "é"+strings.Repeat("x", n))
	}
	for _, n := range []int{65534, 65535, 65536, 65537} {
		checkString(t, strings.Repeat("x", n))
		checkString(t, strings.Repeat("x", n-1)+`\`)
	}
}

func checkString(t *testing.T, s string) {
	t.Helper()
	r := NewReader(siemOptions())
	r.w.size = 4 << 10
	rows, err := readAll(r, strings.NewReader(`[{"a":"`+strings.ReplaceAll(s, `\`, `\\`)+`"}]`))
	if err != nil || len(rows) != 1 || !reflect.DeepEqual(rows[0].fields(t), object{{"a", s}}) {
		t.Fatalf("%d bytes: %d rows, %v", len(s), len(rows), err)
	}
}

func TestRepairs(t *testing.T) {
	cases := []struct{ name, json, want string }{
		{"lone high surrogate", `"a\ud800b"`, "a\uFFFDb"},
		{"lone low surrogate", `"a\udc00b"`, "a\uFFFDb"},
		{"high surrogate and another escape", `"\ud800\u0041"`, "\uFFFDA"},
		{"two high surrogates and a low one", `"\ud83d\ud83d\ude00"`, "\uFFFD😀"},
		{"high surrogate at the end", `"\ud800"`, "\uFFFD"},
		{"a byte that begins nothing", "\"a\xffb\"", "a\uFFFDb"},
		{"a cut character", "\"a\xe4\xb8\"", "a\uFFFD\uFFFD"},
		{"an overlong form", "\"\xc0\xaf\"", "\uFFFD\uFFFD"},
		{"a surrogate as UTF-8", "\"\xed\xa0\x80\"", "\uFFFD\uFFFD\uFFFD"},
		{"many", `"` + strings.Repeat("\xff", 300) + `"`, strings.Repeat("\uFFFD", 300)},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			row := one(t, siemOptions(), `[{"a":`+c.json+`}]`)
			if diff := cmp.Diff(object{{"a", c.want}}, row.fields(t)); diff != "" {
				t.Error(diff)
			}
			if !row.Repaired || row.Raw {
				t.Errorf("%+v", row.Row)
			}
			row = one(t, siemOptions(), `[{`+c.json+`:1}]`)
			if diff := cmp.Diff(object{{c.want, int64(1)}}, row.fields(t)); diff != "" || !row.Repaired {
				t.Error("as a key:", diff, row.Row)
			}
		})
	}
	if one(t, siemOptions(), `[{"a":"`+"\uFFFD"+`\ufffd"}]`).Repaired {
		t.Error("U+FFFD itself counts as repaired")
	}
}

func TestDuplicateKeys(t *testing.T) {
	cases := []struct {
		name, json string
		dropNull   bool
		want       object
	}{
		{"the last wins, where it stands", `{"a":1,"b":2,"a":3}`, false, object{{"b", int64(2)}, {"a", int64(3)}}},
		{"thrice", `{"a":1,"a":{"x":1},"a":[2]}`, false, object{{"a", []any{int64(2)}}}},
		{"nested", `{"o":{"a":1,"a":2},"l":[{"b":1,"c":null,"b":"x"}]}`, false,
			object{{"o", object{{"a", int64(2)}}}, {"l", []any{object{{"c", nil}, {"b", "x"}}}}}},
		{"of two levels are none", `{"a":{"a":{"a":1}}}`, false, object{{"a", object{{"a", object{{"a", int64(1)}}}}}}},
		{"of siblings are none", `{"l":[{"a":1},{"a":2}]}`, false,
			object{{"l", []any{object{{"a", int64(1)}}, object{{"a", int64(2)}}}}}},
		{"by an escape", `{"a":1,"\u0061":2}`, false, object{{"a", int64(2)}}},
		{"by a repair", "{\"\xff\":1,\"\xfe\":2}", false, object{{"\uFFFD", int64(2)}}},
		{"null last", `{"a":1,"a":null,"b":1}`, false, object{{"a", nil}, {"b", int64(1)}}},
		{"null last and dropped", `{"a":1,"a":null,"b":1}`, true, object{{"b", int64(1)}}},
		{"null first and dropped", `{"a":null,"a":1}`, true, object{{"a", int64(1)}}},
		{"nothing stays", `{"a":null,"a":null}`, true, object{}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			opt := siemOptions()
			opt.DropNull = c.dropNull
			r := NewReader(opt)
			rows, err := readAll(r, strings.NewReader(`[{"a":0,"b":0},`+c.json+`,{"a":0,"b":0}]`))
			if err != nil || len(rows) != 3 {
				t.Fatal(len(rows), err)
			}
			if diff := cmp.Diff(c.want, rows[1].fields(t)); diff != "" {
				t.Error(diff)
			}
			for _, i := range []int{0, 2} {
				if diff := cmp.Diff(object{{"a", int64(0)}, {"b", int64(0)}}, rows[i].fields(t)); diff != "" {
					t.Error("the row beside:", diff)
				}
			}
		})
	}
}

func TestDropNull(t *testing.T) {
	opt := siemOptions()
	opt.DropNull = true
	row := one(t, opt, `[{"a":null,"b":1,"AlertId":null,"c":{"d":null,"e":[null,1],"f":{"g":null}},"h":null}]`)
	want := object{{"b", int64(1)}, {"c", object{{"e", []any{nil, int64(1)}}, {"f", object{}}}}}
	if diff := cmp.Diff(want, row.fields(t)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(object{}, one(t, opt, `[{"a":null}]`).fields(t)); diff != "" {
		t.Error(diff)
	}
}

func TestDepth(t *testing.T) {
	nest := func(levels int) string {
		return strings.Repeat(`{"a":`, levels) + "1" + strings.Repeat("}", levels)
	}
	if row := one(t, siemOptions(), "["+nest(maxDepth)+"]"); row.Raw {
		t.Errorf("28 levels are raw: %s", row.Reason)
	}
	for name, text := range map[string]string{
		"objects": nest(maxDepth + 1),
		"arrays":  `{"a":` + strings.Repeat("[", maxDepth) + strings.Repeat("]", maxDepth) + "}",
	} {
		row := one(t, siemOptions(), "["+text+"]")
		raw, reason := row.raw(t)
		if raw != text || reason != "nested deeper than 28 levels" || row.Size != len(text) {
			t.Errorf("%s: %q, %q", name, raw, reason)
		}
		if !row.time(t).Equal(pulled) {
			t.Errorf("%s: time %v", name, row.time(t))
		}
	}
}

func TestRowsThatAreNoObjects(t *testing.T) {
	texts := []string{"1", `"a"`, "null", "true", "[1,2]", "-1.5e3", "[]"}
	rows, err := readAll(NewReader(siemOptions()), strings.NewReader("["+strings.Join(texts, " , ")+
		`,{"AlertId":"a"}]`))
	if err != nil || len(rows) != len(texts)+1 {
		t.Fatal(len(rows), err)
	}
	ids := map[ID]bool{}
	for i, text := range texts {
		if raw, reason := rows[i].raw(t); raw != text || reason != "not an object" {
			t.Errorf("%q became %q, %q", text, raw, reason)
		}
		ids[rows[i].ID] = true
	}
	if len(ids) != len(texts) || rows[len(texts)].Raw {
		t.Errorf("%d IDs, %+v", len(ids), rows[len(texts)].Row)
	}
}

func TestRecordTime(t *testing.T) {
	cases := []struct {
		name, value string
		want        time.Time
	}{
		{"seven digits", `"2017-01-23T07:32:54.1861171Z"`, time.Date(2017, 1, 23, 7, 32, 54, 186117100, time.UTC)},
		{"escaped", `"2017-01-23T07:32:5\u0034Z"`, time.Date(2017, 1, 23, 7, 32, 54, 0, time.UTC)},
		{"null", `null`, pulled},
		{"number", `1485156774`, pulled},
		{"text", `"yesterday"`, pulled},
		{"object", `{"a":"2017-01-23T07:32:54Z"}`, pulled},
		{".NET's zero", `"0001-01-01T00:00:00"`, pulled},
		{"before 1970", `"1969-12-31T23:59:59.9999999Z"`, pulled},
		{"after 2106", `"2106-02-07T06:28:16Z"`, pulled},
		{"Fluent Bit's marker", `"2106-02-07T06:28:15Z"`, pulled},
		{"Fluent Bit's other marker", `"2106-02-07T06:28:14Z"`, pulled},
		{"the last", `"2106-02-07T06:28:13.9999999Z"`, time.Date(2106, 2, 7, 6, 28, 13, 999999900, time.UTC)},
	}
	for _, c := range cases {
		if row := one(t, siemOptions(), `[{"AlertId":"a","AlertTime":`+c.value+`}]`); !row.time(t).Equal(c.want) ||
			row.Raw {
			t.Errorf("%s: %v, want %v", c.name, row.time(t), c.want)
		}
	}
	if row := one(t, siemOptions(), `[{"AlertId":"a"}]`); !row.time(t).Equal(pulled) {
		t.Errorf("no time: %v", row.time(t))
	}
	if row := one(t, siemOptions(), `[{"a":{"AlertTime":"2017-01-23T07:32:54Z"}}]`); !row.time(t).Equal(pulled) {
		t.Errorf("only a field of the alert itself gives the time, not a nested one: %v", row.time(t))
	}
}

func TestPullTimeOutOfRange(t *testing.T) {
	for want, now := range map[int64]time.Time{
		0:          time.Unix(-5, 3),
		maxSeconds: time.Date(2500, 1, 1, 0, 0, 0, 0, time.UTC),
	} {
		if sec, nsec := inRange(now); sec != want || nsec != 0 {
			t.Errorf("%v became %d, %d", now, sec, nsec)
		}
	}
}

func TestIdentity(t *testing.T) {
	const base = `"FullId":"f","AlertId":"a","AlertPart":0,"LastProcessedTimeUtc":"2024-01-01T00:00:00Z"`
	id := func(fields string) ID { return one(t, siemOptions(), "[{"+fields+"}]").ID }
	same := map[string]string{
		"other fields":        base + `,"Severity":"High"`,
		"order":               `"LastProcessedTimeUtc":"2024-01-01T00:00:00Z","AlertPart":0,"AlertId":"a","FullId":"f"`,
		"FullId counts first": `"FullId":"f","AlertId":"other","AlertPart":0,"LastProcessedTimeUtc":"2024-01-01T00:00:00Z"`,
		"escapes":             `"Full\u0049d":"\u0066","AlertPart":0,"LastProcessedTimeUtc":"2024-01-01T00:00:00\u005a"`,
		"the last duplicate":  `"FullId":"x",` + base,
		"an object before it": `"AlertPart":{"n":1},` + base,
		"white space":         "\n" + strings.ReplaceAll(base, ",", " ,\t"),
	}
	for name, fields := range same {
		if id(fields) != id(base) {
			t.Errorf("%s: another ID", name)
		}
	}
	all := map[ID]string{}
	for name, fields := range map[string]string{
		"base":                   base,
		"another FullId":         strings.Replace(base, `"f"`, `"g"`, 1),
		"another part":           strings.Replace(base, `:0`, `:1`, 1),
		"another update":         strings.Replace(base, "00Z", "01Z", 1),
		"AlertId alone":          `"AlertId":"a","AlertPart":0,"LastProcessedTimeUtc":"2024-01-01T00:00:00Z"`,
		"no part":                `"FullId":"f","LastProcessedTimeUtc":"2024-01-01T00:00:00Z"`,
		"part and time shifted":  `"FullId":"f","AlertPart":"02024-01-01T00:00:00Z"`,
		"id swallows the part":   `"FullId":"f\u00ff0","LastProcessedTimeUtc":"2024-01-01T00:00:00Z"`,
		"no id at all":           `"Severity":"High"`,
		"no id, another row":     `"Severity":"Low"`,
		"repaired":               "\"FullId\":\"f\xff\",\"AlertId\":\"a\"",
		"repaired to the same":   "\"FullId\":\"f\xfe\",\"AlertId\":\"a\"",
		"part is an object":      `"FullId":"f","AlertPart":{"n":1},"LastProcessedTimeUtc":"2024-01-01T00:00:00Z"`,
		"part, another object":   `"FullId":"f","AlertPart":{"n":2},"LastProcessedTimeUtc":"2024-01-01T00:00:00Z"`,
		"part is an array":       `"FullId":"f","AlertPart":[],"LastProcessedTimeUtc":"2024-01-01T00:00:00Z"`,
		"update is an array":     `"FullId":"f","AlertPart":0,"LastProcessedTimeUtc":["2024-01-01T00:00:00Z"]`,
		"update, another array":  `"FullId":"f","AlertPart":0,"LastProcessedTimeUtc":["2024-01-01T00:00:01Z"]`,
		"no update":              `"FullId":"f","AlertPart":0`,
		"nested keys mean none":  `"o":{"FullId":"f"}`,
		"nested keys mean none.": `"o":{"FullId":"g"}`,
	} {
		if other, taken := all[id(fields)]; taken {
			t.Errorf("%q and %q have one ID", name, other)
		}
		all[id(fields)] = name
	}
	for name, fields := range map[string]string{
		"empty":  `"FullId":"","AlertId":"a"`,
		"null":   `"FullId":null,"AlertId":"a"`,
		"object": `"FullId":{"x":1},"AlertId":"a"`,
	} {
		if id(fields) != id(`"AlertId":"a"`) {
			t.Errorf("FullId %s: AlertId does not stand in", name)
		}
	}
	if id(`"AlertId":12,"AlertPart":1.50`) == id(`"AlertId":12,"AlertPart":1.5`) {
		t.Error("numbers do not count by their text")
	}
}

// State files and outputs hold IDs: of the same alert they must be the same in every version, process and machine.
func TestIDsLast(t *testing.T) {
	for text, want := range map[string]string{
		`{"FullId":"636688558380765161_-2136280442:q1cZ","AlertPart":0,"LastProcessedTimeUtc":"2018-09-30T10:00:00.123Z"}`: "235aa34f6203c7bc33583123746a2f68",
		`{"Severity":"High"}`: "15e616b2ce2ccd56920ba180ff01b4f7", // SHA-256 of ff and the text
		`17`:                  "817cb1a009ded43599b886a69b88836f",
	} {
		if got := one(t, siemOptions(), "["+text+"]").ID.String(); got != want {
			t.Errorf("%s: %s, where %s is in use", text, got, want)
		}
	}
}

func TestUpdated(t *testing.T) {
	for value, want := range map[string]int64{
		`"2024-01-01T00:00:00.0000001Z"`: time.Date(2024, 1, 1, 0, 0, 0, 100, time.UTC).UnixNano(),
		`"0001-01-01T00:00:00Z"`:         0,
		`null`:                           0,
		`5`:                              0,
		`"no time"`:                      0,
	} {
		if row := one(t, siemOptions(), `[{"AlertId":"a","LastProcessedTimeUtc":`+value+`}]`); row.Updated != want {
			t.Errorf("%s: %d", value, row.Updated)
		}
	}
}

func TestEventID(t *testing.T) {
	opt := siemOptions()
	opt.EventIDKey = "event_id"
	row := one(t, opt, `[{"AlertId":"a","x":1}]`)
	if diff := cmp.Diff(object{{"AlertId", "a"}, {"x", int64(1)}, {"event_id", row.ID.String()}},
		row.fields(t)); diff != "" {
		t.Error(diff)
	}
	row = one(t, opt, `[{"event_id":"theirs","AlertId":"a","o":{"event_id":2},"event_id":{}}]`)
	want := object{{"AlertId", "a"}, {"o", object{{"event_id", int64(2)}}}, {"event_id", row.ID.String()}}
	if diff := cmp.Diff(want, row.fields(t)); diff != "" {
		t.Error("the alert has the field itself:", diff)
	}
	row = one(t, opt, `[{}]`)
	if diff := cmp.Diff(object{{"event_id", row.ID.String()}}, row.fields(t)); diff != "" {
		t.Error("an empty alert:", diff)
	}
	row = one(t, opt, `[17]`)
	if diff := cmp.Diff(object{{"raw", "17"}, {"error", "not an object"}, {"event_id", row.ID.String()}},
		row.fields(t)); diff != "" {
		t.Error("a raw row:", diff)
	}
	opt.EventIDKey = "FullId" // odd, but then the identity still comes from the field
	row = one(t, opt, `[{"FullId":"f","x":1}]`)
	if diff := cmp.Diff(object{{"x", int64(1)}, {"FullId", row.ID.String()}}, row.fields(t)); diff != "" {
		t.Error(diff)
	}
	if row.ID != one(t, siemOptions(), `[{"FullId":"f","x":1}]`).ID {
		t.Error("the identity depends on EventIDKey")
	}
}

func TestRowsOfManyShapes(t *testing.T) {
	// optional fields, other orders, long names, other white space: what was predicted wrongly is read all the same
	texts := []string{
		`{"a":1,"b":2,"c":3}`, `{"a":1,"c":3}`, `{"c":3,"b":2,"a":1}`, `{"b":2}`, `{}`, `{"a":1,"b":2,"c":3,"d":4}`,
		`{"` + strings.Repeat("n", 29) + `":1,"` + strings.Repeat("n", 30) + `":2,"` + strings.Repeat("n", 61) + `":3}`,
		`{"` + strings.Repeat("n", 61) + `":1,"` + strings.Repeat("n", 62) + `":2,"` + strings.Repeat("n", 300) +
			`":3}`,
		`{"` + strings.Repeat("n", 60) + `m":1,"` + strings.Repeat("n", 61) + `":2}`,
		`{ "a" : 1 , "b" : 2 }`, `{"a": 1, "b": 2}`, "{\"a\":1,\n\"b\":2}", `{"":1,"a":2}`,
		`{"ä":1,"\u00e4x":2,"a\"b":3}`,
		`{"a":{"b":{"c":1}},"b":{"a":1}}`, `{"a":[{"b":1},{"c":2},{"b":1,"c":2},{"c":1,"b":2}]}`,
	}
	var all []string
	for i := range 3 * len(texts) * len(texts) {
		all = append(all, texts[i%len(texts)], texts[i/len(texts)%len(texts)])
	}
	rows, err := readAll(NewReader(siemOptions()), strings.NewReader("["+strings.Join(all, ",")+"]"))
	if err != nil || len(rows) != len(all) {
		t.Fatal(len(rows), err)
	}
	for i, text := range all {
		want, _ := model([]byte(text), false)
		if diff := cmp.Diff(want, any(rows[i].fields(t))); diff != "" {
			t.Fatalf("row %d, %s: %s", i, text, diff)
		}
	}
}

// What is predicted of a key is its text without escapes, which is no JSON where one is needed.
func TestPredictedKeysAreJSON(t *testing.T) {
	for _, name := range []string{`a"b`, `"`, `a\q`, "a\nb", "a\x00b"} {
		escaped, _ := json.Marshal(name)
		body := "[{" + string(escaped) + ":1},{" + string(escaped) + ":2}"
		if rows, err := readAll(NewReader(siemOptions()), strings.NewReader(body+"]")); err != nil || len(rows) != 2 {
			t.Errorf("%q: %d rows, %v", name, len(rows), err)
		}
		rows, err := readAll(NewReader(siemOptions()), strings.NewReader(body+`,{"`+name+`":3}]`))
		var syntax *SyntaxError
		if !errors.As(err, &syntax) || len(rows) != 2 {
			t.Errorf("%q passes as it is: %d rows, %v", name, len(rows), err)
		}
	}
}

func TestManyKeysAndElements(t *testing.T) {
	for _, n := range []int{maxFields - 3, maxFields, 65535, 65536} {
		var b bytes.Buffer
		b.WriteString(`[{"list":[0`)
		for i := 1; i < n; i++ {
			b.WriteString("," + strconv.Itoa(i))
		}
		b.WriteString(`],"object":{"k0":0`)
		for i := 1; i < n; i++ {
			b.WriteString(`,"k` + strconv.Itoa(i) + `":` + strconv.Itoa(i))
		}
		b.WriteString(`},"AlertId":"a"}]`)
		opt := siemOptions()
		opt.MaxAlert = 4 << 20
		for range 1 + maxFields/n { // of few keys all are kept
			row := one(t, opt, b.String())
			fields := row.fields(t)
			list, keys := fields[0].Value.([]any), fields[1].Value.(object)
			if row.Raw || len(list) != n || len(keys) != n || fields[2].Value != "a" {
				t.Fatalf("%d: %d elements, %d keys, %+v", n, len(list), len(keys), row.Row)
			}
			if keys[n-1].Value != int64(n-1) || list[n-1] != int64(n-1) || row.ID != one(t, siemOptions(),
				`[{"AlertId":"a"}]`).ID {
				t.Fatalf("%d: %v, %v", n, keys[n-1], list[n-1])
			}
		}
	}
}
