package record

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func graphOptions() Options { return Options{Schema: Graph, TimeKey: "createdDateTime"} }

// graphAlertOf makes an alert of Microsoft Graph with n pieces of evidence of six kinds in turn, as the public
// samples have them.
func graphAlertOf(id string, updated time.Time, n int) string {
	var b strings.Builder
	at := updated.Format("2006-01-02T15:04:05.0000000Z")
	fmt.Fprintf(&b, `{"@odata.type":"#microsoft.graph.security.alert","id":"%s","providerAlertId":"%s","incidentId":"28282","status":"new","severity":"high",`+
		`"classification":"unknown","determination":"unknown","serviceSource":"microsoftDefenderForEndpoint","detectionSource":"antivirus","detectorId":"e0da400f-affd-43ef",`+
		`"tenantId":"b3c1b5fc-828c-45fa-a1e1-10d74f6d6e9c","title":"Suspicious execution of hidden file \u00fc","description":"A hidden file has been launched.",`+
		`"recommendedActions":"Collect artifacts\r\n","category":"DefenseEvasion","assignedTo":null,"alertWebUrl":"https://security.microsoft.com/alerts/%s",`+
		`"actorDisplayName":null,"threatDisplayName":null,"threatFamilyName":null,"mitreTechniques":["T1564.001"],"createdDateTime":"2021-04-27T12:19:27.7211305Z",`+
		`"lastUpdateDateTime":"%s","resolvedDateTime":null,"customDetails":{"a":"b"},"comments":[{"@odata.type":"microsoft.graph.security.alertComment","comment":"x"}],`+
		`"systemTags":[],"evidence":[`, id, id, id, at)
	kinds := []string{
		`{"@odata.type":"#microsoft.graph.security.deviceEvidence","createdDateTime":"%s","verdict":"unknown","remediationStatus":"none","roles":[],"tags":["Test Machine"],` +
			`"mdeDeviceId":"73e7e2de709dff64ef64b1d0c30e67fab63279db","deviceDnsName":"yonif-lap3.middleeast.corp.microsoft.com","osBuild":22424,"version":"Other",` +
			`"rbacGroupId":75,"rbacGroupName":"UnassignedGroup","vmMetadata":{"vmId":"ca1b0d41","subscriptionId":null},"loggedOnUsers":[{"accountName":"x","domainName":"y"}]}`,
		`{"@odata.type":"#microsoft.graph.security.fileEvidence","createdDateTime":"%s","detectionStatus":"detected","fileDetails":{"sha1":"5f1e8acedc065031","fileName":"MsSense.exe",` +
			`"filePath":"C:\\Program Files\\temp","fileSize":6136392,"filePublisher":null,"signer":null}}`,
		`{"@odata.type":"#microsoft.graph.security.processEvidence","createdDateTime":"%s","processId":4780,"processCommandLine":"\"MsSense.exe\" -x",` +
			`"imageFile":{"sha256":"8d4c25b7fa3a2b8b","fileSize":6136392},"parentProcessImageFile":{"fileName":"services.exe"},"userAccount":{"userSid":"S-1-5-18","azureAdUserId":null}}`,
		`{"@odata.type":"#microsoft.graph.security.registryKeyEvidence","createdDateTime":"%s","registryKey":"SYSTEM\\CONTROLSET001\\CONTROL\\WMI","registryHive":"HKEY_LOCAL_MACHINE"}`,
		`{"@odata.type":"#microsoft.graph.security.ipEvidence","createdDateTime":"%s","ipAddress":"10.0.0.7","countryLetterCode":null,"location":{"latitude":47.64}}`,
		`{"@odata.type":"#microsoft.graph.security.userEvidence","createdDateTime":"%s","userAccount":{"accountName":"eranb","userPrincipalName":"me@contoso.example"},"stream":null}`,
	}
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, kinds[i%len(kinds)], at)
	}
	b.WriteString("]}")
	return b.String()
}

var graphTime = time.Date(2021, 4, 27, 12, 19, 46, 333333300, time.UTC)

// graphPageOf is an answer with these alerts and what Graph puts before and behind them.
func graphPageOf(before, behind string, alerts ...string) string {
	return `{"@odata.context":"https://graph.microsoft.com/v1.0/$metadata#security/alerts_v2","@odata.count":7,` +
		before + `"value":[` + strings.Join(alerts, ",") + "]" + behind + "}"
}

func TestPagesOfGraph(t *testing.T) {
	const next = `"@odata.nextLink":"https://graph.microsoft.com/v1.0/security/alerts_v2?$top=2&$skiptoken=a%3d\u0026x=1"`
	const link = "https://graph.microsoft.com/v1.0/security/alerts_v2?$top=2&$skiptoken=a%3d&x=1"
	a, b := graphAlertOf("a", graphTime, 2), graphAlertOf("b", graphTime, 3)
	f := func(name, body, want string) {
		t.Helper()
		for how, wrap := range map[string]func(io.Reader) io.Reader{"whole": func(r io.Reader) io.Reader { return r },
			"byte by byte": iotest.OneByteReader} {
			r := NewReader(graphOptions())
			rows, err := readAll(r, wrap(strings.NewReader(body)))
			if err != nil || len(rows) != 2 || r.NextLink() != want {
				t.Errorf("%s, %s: %d rows, link %q, %v", name, how, len(rows), r.NextLink(), err)
				continue
			}
			for i, text := range []string{a, b} {
				if diff := cmp.Diff(modelFields([]byte(text)), rows[i].fields(t)); diff != "" {
					t.Errorf("%s, row %d (-want +got):\n%s", name, i, diff)
				}
			}
		}
	}
	f("the last page", graphPageOf("", "", a, b), "")
	f("the link before the list", graphPageOf(next+",", "", a, b), link)
	f("the link behind the list", graphPageOf("", ","+next, a, b), link)
	f("more behind the link", graphPageOf("", ","+next+`,"@microsoft.graph.tips":"Use $select"`, a, b), link)
	f("no link after all", graphPageOf("", `,"@odata.nextLink":null`, a, b), "")

	r := NewReader(graphOptions())
	if rows, err := readAll(r, strings.NewReader(graphPageOf("", ","+next))); err != nil || len(rows) != 0 ||
		r.NextLink() != link {
		t.Errorf("an empty page: %d rows, link %q, %v", len(rows), r.NextLink(), err)
	}
	if _, err := readAll(r, strings.NewReader(graphPageOf("", ""))); err != nil || r.NextLink() != "" {
		t.Errorf("the link of the page before is left over: %q, %v", r.NextLink(), err)
	}
}

// A link that is not known must not look like the end of the pages.
func TestALinkTooLongToKeepStillTellsOfMore(t *testing.T) {
	for name, link := range map[string]string{"plain": strings.Repeat("x", 2*maxKeptText),
		"escapes": strings.Repeat(`\u0026`, maxKeptText)} {
		r := NewReader(graphOptions())
		rows, err := readAll(r, strings.NewReader(graphPageOf("", `,"@odata.nextLink":"https://x/?`+link+`"`,
			graphAlertOf("a", graphTime, 0))))
		if err != nil || len(rows) != 1 || !strings.HasPrefix(r.NextLink(), "https://x/?") ||
			len(r.NextLink()) > maxKeptText {
			t.Errorf("%s: %d rows, link of %d bytes, %v", name, len(rows), len(r.NextLink()), err)
		}
	}
}

func TestAnAlertOfGraphIsOneRecord(t *testing.T) {
	text := graphAlertOf("da637551227677560813_-961444813", graphTime, 6)
	row := one(t, graphOptions(), graphPageOf("", "", text))
	fields := row.fields(t)
	if diff := cmp.Diff(modelFields([]byte(text)), fields); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if f := fields[0]; f.Name != "@odata.type" || f.Value != "#microsoft.graph.security.alert" {
		t.Errorf("the first field is %v", f)
	}
	evidence := fields[len(fields)-1].Value.([]any)
	for i, kind := range []string{"device", "file", "process", "registryKey", "ip", "user"} {
		if f := evidence[i].(object)[0]; f.Name != "@odata.type" || f.Value != "#microsoft.graph.security."+kind+
			"Evidence" {
			t.Errorf("evidence %d: %v", i, f)
		}
	}
	if want := time.Date(2021, 4, 27, 12, 19, 27, 721130500, time.UTC); !row.time(t).Equal(want) ||
		row.Updated != graphTime.UnixNano() {
		t.Errorf("time %v, want %v; updated %d, want %d", row.time(t), want, row.Updated, graphTime.UnixNano())
	}
}

func TestALargeAlertOfGraphPassesWhole(t *testing.T) {
	const size = 1 << 20
	text := graphAlertOf("a", graphTime, 400)
	text = strings.Replace(text, "has been launched", "has been launched "+strings.Repeat("again ", (size-len(text))/6),
		1)
	if len(text) > size || len(text) < size-6 || strings.Count(text, "#microsoft.graph.security.") != 401 {
		t.Fatalf("the test's alert has %d bytes", len(text))
	}
	opt := graphOptions()
	opt.MaxAlert = len(text)
	for name, wrap := range map[string]func(io.Reader) io.Reader{"in halves": iotest.HalfReader,
		"in pieces": func(r io.Reader) io.Reader { return smallReads{r} }} {
		rows, err := readAll(NewReader(opt),
			wrap(strings.NewReader(graphPageOf("", "", graphAlertOf("x", graphTime, 1), text,
				graphAlertOf("y", graphTime, 1)))))
		if err != nil || len(rows) != 3 || rows[1].Raw || rows[1].Size != len(text) {
			t.Fatalf("%s: %d rows, %v", name, len(rows), err)
		}
		fields := rows[1].fields(t)
		if want := modelFields([]byte(text)); !reflect.DeepEqual(want, fields) {
			t.Errorf("%s (-want +got):\n%s", name, cmp.Diff(want, fields))
		}
		if n := len(fields[len(fields)-1].Value.([]any)); n != 400 {
			t.Errorf("%s: %d pieces of evidence", name, n)
		}
	}
	opt.MaxAlert--
	rows, err := readAll(NewReader(opt), strings.NewReader(graphPageOf("", "", text, graphAlertOf("y", graphTime, 1))))
	if err != nil || len(rows) != 2 || !rows[0].Raw || rows[0].Size != len(text) || rows[1].Raw {
		t.Errorf("with a byte less: %d rows, %v", len(rows), err)
	}
}

func TestNestedEvidenceOfGraph(t *testing.T) {
	// The alert, its list, the piece of evidence: three levels before what stands in it.
	alert := func(levels int) string {
		within := strings.Repeat(`{"childProcesses":[`, levels/2) + strings.Repeat(`{"x":`, levels%2) + "1" +
			strings.Repeat("}", levels%2) + strings.Repeat("]}", levels/2)
		return strings.Replace(graphAlertOf("a", graphTime, 1), `"osBuild":22424`, `"osBuild":`+within, 1)
	}
	for levels, deep := range map[int]bool{2: false, maxDepth - 4: false, maxDepth - 3: false, maxDepth - 2: true} {
		text := alert(levels)
		if got := depthOf([]byte(text)); got != 3+levels {
			t.Fatalf("the test's alert has %d levels", got)
		}
		row := one(t, graphOptions(), graphPageOf("", "", text))
		if row.Raw != deep {
			t.Errorf("%d levels: raw %t", 3+levels, row.Raw)
		}
		if deep {
			if raw, reason := row.raw(t); raw != text || reason != "nested deeper than 28 levels" {
				t.Errorf("%s: %s", reason, raw)
			}
		} else if !reflect.DeepEqual(modelFields([]byte(text)), row.fields(t)) { // go-cmp takes minutes for this depth
			t.Errorf("%d levels: %v", 3+levels, row.fields(t))
		}
	}
}

// More kinds of evidence than names that are kept for one level: the alert is read the careful way, and stays what it
// is.
func TestEvidenceOfManyKinds(t *testing.T) {
	var evidence []string
	for kind := range 60 {
		e := fmt.Sprintf(`{"@odata.type":"#k%d"`, kind)
		for field := range 20 {
			e += fmt.Sprintf(`,"field%dOfKind%d":{"a%d":null}`, field, kind, field)
		}
		evidence = append(evidence, e+"}")
	}
	text := strings.Replace(graphAlertOf("a", graphTime, 0), `"evidence":[`, `"evidence":[`+strings.Join(evidence, ","),
		1)
	for range 3 {
		row := one(t, graphOptions(), graphPageOf("", "", text))
		if diff := cmp.Diff(modelFields([]byte(text)), row.fields(t)); diff != "" {
			t.Fatalf("-want +got:\n%s", diff)
		}
	}
}

func TestIdentityOfGraph(t *testing.T) {
	first := graphOptions()
	first.Schema.FirstOnly = true
	later := graphTime.Add(3333300)
	a, again := graphAlertOf("a", graphTime, 2), strings.Replace(graphAlertOf("a", graphTime, 3), `"new"`, `"resolved"`,
		1)
	updated, other := graphAlertOf("a", later, 2), graphAlertOf("b", graphTime, 2)
	nameless := func(text string) string { return strings.Replace(text, `"id":"a"`, `"id":null`, 1) }
	f := func(name string, opt Options, one1, one2 string, same bool) {
		t.Helper()
		r1, r2 := one(t, opt, "["+one1+"]"), one(t, opt, "["+one2+"]")
		if (r1.ID == r2.ID) != same {
			t.Errorf("%s, first only %t: IDs %s and %s", name, opt.Schema.FirstOnly, r1.ID, r2.ID)
		}
	}
	all := graphOptions()
	f("the same update", all, a, again, true)
	f("another update", all, a, updated, false)
	f("another alert", all, a, other, false)
	f("no id, the same text", all, nameless(a), nameless(a), true)
	f("no id, another text", all, nameless(a), nameless(updated), false)
	f("the same update", first, a, again, true)
	f("another update", first, a, updated, true)
	f("another alert", first, a, other, false)
	f("an update at a time that no UTF-8 tells", first, a, strings.Replace(a, graphTime.Format("2006-01-02T"), "\xff",
		1), true)
	f("an update at a time that is no text", first, a, strings.Replace(a, `"lastUpdateDateTime":`,
		`"lastUpdateDateTime":[],"x":`, 1), true)
	f("updates at times that are no text", all, strings.Replace(a, `"lastUpdateDateTime":`,
		`"lastUpdateDateTime":[1],"x":`, 1),
		strings.Replace(a, `"lastUpdateDateTime":`, `"lastUpdateDateTime":[2],"x":`, 1), false)
	f("no id, another text", first, nameless(a), nameless(updated), false)
	f("the id's own repair", first, strings.Replace(a, `"id":"a"`, "\"id\":\"\xff\"", 1), strings.Replace(a, `"id":"a"`,
		"\"id\":\"\xfe\"", 1), false)

	if row := one(t, first, "["+updated+"]"); row.Updated != later.UnixNano() {
		t.Errorf("first only: updated %d, want %d", row.Updated, later.UnixNano())
	}
	if one(t, all, "["+a+"]").ID == one(t, first, "["+a+"]").ID {
		t.Error("an update has the ID of its alert")
	}
	first.EventIDKey = "event_id"
	row := one(t, first, "["+a+"]")
	if fields := row.fields(t); fields[len(fields)-1] != (field1{"event_id", row.ID.String()}) {
		t.Errorf("the last field is %v", fields[len(fields)-1])
	}
}

func TestWhatIsAnAlertOfGraph(t *testing.T) {
	f := func(name, body string, rows int, wantErr string) {
		t.Helper()
		got, err := readAll(NewReader(graphOptions()), strings.NewReader(body))
		var no *NotAlertsError
		if errors.As(err, &no) != (wantErr != "") || len(got) != rows || wantErr != "" && !strings.HasPrefix(no.What,
			wantErr) {
			t.Errorf("%s: %d rows, %v", name, len(got), err)
		}
	}
	f("a single alert", graphAlertOf("a", graphTime, 2), 1, "")
	f("a list beside an id", `{"id":"x","value":[`+graphAlertOf("a", graphTime, 0)+`]}`, 1, "")
	f("a bare list", "["+graphAlertOf("a", graphTime, 0)+"]", 1, "")
	f("an error", `{"error":{"code":"UnknownError","message":"","innerError":{"date":"2024-05-06T10:00:00"}}}`, 0,
		"an object without alert fields")
	f("another object of Graph's", `{"@odata.context":"x","id":"b3c1b5fc","displayName":"Contoso"}`, 0,
		"an object without alert fields")
	f("the SIEM API's alert", `{"AlertId":"a","AlertTime":"2024-01-01T00:00:00Z"}`, 0, "an object without alert fields")
	f("a value that is no list", `{"value":{"id":"a"}}`, 0, "an object without alert fields")
}

func FuzzGraph(f *testing.F) {
	f.Add([]byte(graphPageOf("", `,"@odata.nextLink":"https://x/?$skiptoken=a\u0026b"`, graphAlertOf("a", graphTime, 1),
		graphAlertOf("a", graphTime.Add(1e7), 0))))
	f.Add([]byte(graphPageOf(`"@odata.nextLink":"l",`, "", `{"id":"a"}`,
		`{"id":"a","lastUpdateDateTime":"2024-01-01T00:00:00Z"}`)))
	f.Add([]byte(`{"@odata.nextLink":1,"value":[],"@odata.nextLink":"\ud800"}`))
	f.Add([]byte(`{"error":{"code":"x"}}`))
	f.Add([]byte(`{"createdDateTime":"2024-01-01T00:00:00Z","id":"a"}`))
	f.Add([]byte("[{\"id\":\"\xff\"},{\"id\":1}]"))
	f.Fuzz(func(t *testing.T, body []byte) {
		first := graphOptions()
		first.Schema.FirstOnly = true
		all := NewReader(graphOptions())
		rows, err := readAll(all, bytes.NewReader(body))
		only := NewReader(first)
		firsts, errFirst := readAll(only, iotest.OneByteReader(bytes.NewReader(body)))
		if (err == nil) != (errFirst == nil) || len(rows) != len(firsts) || all.NextLink() != only.NextLink() {
			t.Fatalf("%d rows, %q, %v; first only %d rows, %q, %v", len(rows), all.NextLink(), err, len(firsts),
				only.NextLink(), errFirst)
		}
		for i := range rows {
			if !reflect.DeepEqual(rows[i].Data, firsts[i].Data) || rows[i].Updated != firsts[i].Updated {
				t.Fatalf("row %d is not the same record", i)
			}
			for j := range i {
				if rows[i].ID == rows[j].ID && firsts[i].ID != firsts[j].ID {
					t.Fatalf("one update is two alerts: rows %d and %d", j, i)
				}
			}
		}
		// encoding/json stops at a depth of 10,000.
		if text := bytes.TrimPrefix(body, byteOrderMark); err == nil && all.NextLink() != "" && len(text) < 10_000 &&
			!json.Valid(text) {
			t.Fatalf("a link out of what is no JSON: %q", all.NextLink())
		}
	})
}
