package defendersim

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestTheSeedsRequestExamples(t *testing.T) {
	bothWays(t, Config{}, func(t *rig) {
		for i := range 30 {
			t.svc.Add(row(fmt.Sprintf("old%02d", i), time.Date(2016, 9, 12, 0, 0, i, 0, time.UTC)))
		}
		t.svc.Add(SeedAlert(time.Time{}), row("new", noon.Add(-time.Hour)))
		want(t, "all of the last two hours", t.keys(""), "new")
		got := strings.Fields(t.keys("limit=20&sinceTimeUtc=2016-09-12T00:00:00.000"))
		want(t, "rows under limit=20", len(got), 20)
		want(t, "the newest are among them", got[19], "new")
		want(t, "the oldest of the 20", got[0], "old12")
	})
}

func TestTheSeedsAlertIsServedVerbatim(t *testing.T) {
	bothWays(t, Config{}, func(t *rig) {
		t.svc.Add(SeedAlert(time.Time{}))
		a := t.get("sinceTimeUtc=2017-01-23T11:33:45.0760449Z&untilTimeUtc=2017-01-23T11:33:45.0760449Z")
		want(t, "body", string(a.body), "["+string(SeedAlertText())+"]")
		want(t, "content type", a.header.Get("Content-Type"), "application/json; charset=utf-8")
	})
	var was, moved map[string]any
	at := SeedAlert(noon)
	if json.Unmarshal(SeedAlertText(), &was) != nil || json.Unmarshal(at.Text, &moved) != nil {
		t.Fatal("not JSON")
	}
	want(t, "LastProcessedTimeUtc", moved["LastProcessedTimeUtc"], any("2024-05-06T12:00:00Z"))
	want(t, "AlertTime", moved["AlertTime"], any("2024-05-06T07:59:09.1100722Z"))
	for k, v := range was {
		if k != "LastProcessedTimeUtc" && k != "AlertTime" && moved[k] != v {
			t.Errorf("%s changed to %v", k, moved[k])
		}
	}
	want(t, "fields", len(moved), 33)
}

func TestQueryParameters(t *testing.T) {
	at := func(d time.Duration) time.Time { return noon.Add(d) }
	rows := []Alert{
		row("a", at(-3*time.Hour)), row("b", at(-2*time.Hour)), row("c", at(-time.Hour)), row("d", at(-10*time.Minute)),
		row("e", at(-10*time.Minute+100)), row("f", at(-time.Second)), row("g", at(time.Minute)),
	}
	for i := range rows {
		rows[i].MachineGroup = []string{"UKMachines", "FranceMachines", "A & B/ü"}[i%3]
	}
	rows[2].DeviceTags = []string{"lab", "kiosk"}
	rows[3].DeviceTags, rows[3].CloudTags = []string{"lab"}, []string{"vip"}
	rows[6].VisibleAt = at(-time.Minute)
	bothWays(t, Config{}, func(t *rig) {
		t.svc.Add(rows...)
		for _, c := range []struct{ name, query, want string }{
			{"default: two hours until now", "", "b c d e f"},
			{"ago", "ago=PT10M", "d e f"},
			{"ago of days and more", "ago=P1DT1H1M0.5S", "a b c d e f"},
			{"since", "sinceTimeUtc=2024-05-06T11:00:00Z", "c d e f"},
			{"since without a zone is UTC", "sinceTimeUtc=2024-05-06T11:00:00", "c d e f"},
			{"since with a zone", "sinceTimeUtc=2024-05-06T13:00:00%2B02:00", "c d e f"},
			{"since to the 100 ns", "sinceTimeUtc=2024-05-06T11:50:00.0000001Z", "e f"},
			{"since as a date", "sinceTimeUtc=2024-05-06", "a b c d e f"},
			{"until alone: since stays two hours ago", "untilTimeUtc=2024-05-06T11:50:00Z", "b c d"},
			{"until in the future", "untilTimeUtc=2024-05-07T00:00:00Z", "b c d e f g"},
			{"window", window(at(-3*time.Hour), at(-time.Hour)), "a b c"},
			{"window the wrong way round", window(at(-time.Hour), at(-2*time.Hour)), ""},
			{"before all times", "sinceTimeUtc=0001-01-01T00:00:00Z", "a b c d e f"},
			{"limit: the most recent", "limit=2", "e f"},
			{"limit larger than what is there", "limit=100", "b c d e f"},
			{"limit 0", "limit=0", ""},
			{"limit in a window", "limit=2&" + window(at(-3*time.Hour), at(-time.Hour)), "b c"},
			{"one machine group", "machinegroups=UKMachines", "d"},
			{"two machine groups", "machinegroups=UKMachines&machinegroups=FranceMachines", "b d e"},
			{"an escaped machine group", "machinegroups=A%20%26%20B%2F%C3%BC", "c f"},
			{"a machine group in another case", "machinegroups=ukmachines", ""},
			{"device tag", "DeviceCreatedMachineTags=lab", "c d"},
			{"cloud tag", "CloudCreatedMachineTags=vip", "d"},
			{"both tags", "DeviceCreatedMachineTags=kiosk&CloudCreatedMachineTags=vip", ""},
			{"names in any case", "SINCETIMEUTC=2024-05-06T11:00:00Z&Limit=1&MachineGroups=UKMachines", "d"},
			{"unknown names are ignored", "sinceTime=2024-05-06T11:59:00Z", "b c d e f"},
		} {
			want(t, c.name, t.keys(c.query), c.want)
		}
	})
}

func TestMalformedQueriesAreRefused(t *testing.T) {
	bothWays(t, Config{}, func(t *rig) {
		for _, query := range []string{
			"sinceTimeUtc=yesterday", "sinceTimeUtc=", "sinceTimeUtc=2024-05-06T11:00:00+02:00",
			"sinceTimeUtc=2024-13-06T11:00:00Z", "sinceTimeUtc=2024-05-06T11:00:00.12345678Z",
			"sinceTimeUtc=2024-05-06T11:00:00,5Z", "sinceTimeUtc=2024-05-06T11:00:00.Z",
			"untilTimeUtc=1714993200", "ago=10m", "ago=P", "ago=PT", "ago=P1W", "ago=PT1.5M", "ago=-PT10M",
			"ago=PT10", "ago=P1H", "ago=PT1M1H", "ago=P9999999999D", "ago=P1000Y",
			"ago=PT10M&sinceTimeUtc=2024-05-06T11:00:00Z", "limit=ten", "limit=-1",
			"limit=1.5", "limit=99999999999", "limit=", "limit=1&limit=2", "limit=1&LIMIT=1",
			"DeviceCreatedMachineTags=a&DeviceCreatedMachineTags=b", "limit=%zz", "limit=1;ago=PT1M",
		} {
			a := t.get(query)
			want(t, query, a.status, 400)
			contains(t, query, a.body, `{"Message":"The request is invalid`)
		}
	})
}

func TestPathAndMethod(t *testing.T) {
	bothWays(t, Config{}, func(t *rig) {
		base := strings.TrimSuffix(t.alerts, "/api/alerts")
		for path, status := range map[string]int{
			"/api/alerts": 200, "/api/Alerts/": 200, "/API/ALERTS": 200, "/api/alert": 200,
			"/api/alertz": 404, "/": 404, "/api/alerts/1": 404,
		} {
			t.alerts = base + path
			want(t, path, t.get("").status, status)
		}
		req, _ := http.NewRequest("POST", base+"/api/alerts", strings.NewReader("{}"))
		a := t.do(req)
		want(t, "POST", a.status, 405)
		want(t, "Allow", a.header.Get("Allow"), "GET")
	})
}

func TestTokensAreChecked(t *testing.T) {
	bothWays(t, Config{TokenLife: time.Hour}, func(t *rig) {
		ask := func(authorization string) (int, string) {
			req, _ := http.NewRequest("GET", t.alerts, nil)
			if authorization != "" {
				req.Header.Set("Authorization", authorization)
			}
			a := t.do(req)
			return a.status, a.header.Get("WWW-Authenticate")
		}
		const from = `Bearer authorization_uri="https://login.microsoftonline.com/` + DefaultTenant + `"`
		check := func(name, authorization string, status int, challenge string) {
			t.Helper()
			s, c := ask(authorization)
			want(t, name, s, status)
			want(t, name+": challenge", c, challenge)
		}
		bad := func(why string) string { return from + `, error="invalid_token", error_description="` + why + `"` }
		check("no token", "", 401, from)
		check("no bearer", "Basic abc", 401, from)
		check("unknown token", "Bearer abc", 401, bad("The signature is invalid"))
		check("good token", "Bearer "+t.token(), 200, "")
		form := v1Form()
		form.Set("resource", "https://graph.microsoft.com")
		var other struct {
			AccessToken string `json:"access_token"`
		}
		if err := json.Unmarshal(t.post(t.v1, form).body, &other); err != nil {
			t.Fatal(err)
		}
		check("wrong audience", "Bearer "+other.AccessToken, 401, bad("The audience is invalid"))
		t.clk.advance(time.Hour - time.Second)
		check("shortly before its end", "Bearer "+t.token(), 200, "")
		t.clk.advance(time.Second)
		check("expired", "Bearer "+t.token(), 401, bad("The access token expired"))
		t.tok = ""
		check("renewed", "Bearer "+t.token(), 200, "")
		t.svc.RevokeTokens()
		check("revoked", "Bearer "+t.token(), 401, bad("The signature is invalid"))
	})
}

func TestBodyForms(t *testing.T) {
	bothWays(t, Config{}, func(t *rig) {
		a, b := row("a", noon.Add(-time.Minute)), row("b", noon.Add(-time.Second))
		body := func(f Form, query string) string {
			t.svc.SetModes(func(m *Modes) { m.Form = f })
			return string(t.get(query).body)
		}
		want(t, "array, no rows", body(FormArray, ""), "[]")
		want(t, "value, no rows", body(FormValue, ""), `{"value":[]}`)
		want(t, "single, no rows", body(FormSingle, ""), "[]")
		t.svc.Add(a, b)
		want(t, "array", body(FormArray, ""), "["+string(a.Text)+","+string(b.Text)+"]")
		want(t, "value", body(FormValue, ""), `{"value":[`+string(a.Text)+","+string(b.Text)+"]}")
		want(t, "single, two rows", body(FormSingle, ""), "["+string(a.Text)+","+string(b.Text)+"]")
		want(t, "single, one row", body(FormSingle, "limit=1"), string(b.Text))
	})
}

func TestGzipAndLength(t *testing.T) {
	bothWays(t, Config{}, func(t *rig) {
		t.svc.Add(Generate(source(1), 100, noon.Add(-time.Hour), noon, Mix{})...)
		plain := t.get("")
		want(t, "not asked for: encoding", plain.header.Get("Content-Encoding"), "")
		want(t, "chunked: length", plain.length, -1)
		want(t, "asked for but off: encoding", t.get("", "Accept-Encoding", "gzip").header.Get("Content-Encoding"), "")
		t.svc.SetModes(func(m *Modes) { m.Gzip, m.ContentLength = true, true })
		want(t, "declared length", t.get("").length, int64(len(plain.body)))
		packed := t.get("", "Accept-Encoding", "gzip")
		want(t, "encoding", packed.header.Get("Content-Encoding"), "gzip")
		if len(packed.body) > len(plain.body)/2 {
			t.Errorf("%d bytes packed of %d", len(packed.body), len(plain.body))
		}
		z, err := gzip.NewReader(bytes.NewReader(packed.body))
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(z)
		want(t, "error", err, nil)
		want(t, "text", string(text), string(plain.body))
	})
}

func TestLedgerAndStats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := memory(t, Config{JournalSize: 3})
		late := row("late", noon.Add(-30*time.Minute))
		late.VisibleAt = noon.Add(5 * time.Minute)
		veryLate := row("very late", noon.Add(-30*time.Minute))
		veryLate.VisibleAt = noon.Add(time.Hour)
		mine := row("mine", noon.Add(-time.Minute))
		mine.MachineGroup = "A"
		untimed := NewGenerator(source(1), Mix{}).Untimed(noon, TimeNull)
		r.svc.Add(row("old", noon.Add(-3*time.Hour)), late, veryLate, mine, untimed)
		due := func(f Filter, at time.Time) (names []string) {
			for _, row := range r.svc.Due(f, noon.Add(-time.Hour), at, 40*time.Minute) {
				names = append(names, row.Processed)
			}
			return names
		}
		want(r, "due now", len(due(Filter{}, noon)), 2)                                // mine, untimed
		want(r, "due with the late one", len(due(Filter{}, noon.Add(2*time.Hour))), 3) // the very late one never
		want(r, "due under a filter", len(due(Filter{MachineGroups: []string{"A"}}, noon)), 1)
		want(r, "in the ledger", len(r.svc.Ledger()), 5)

		want(r, "status", r.get("ago=PT1H").status, 200)
		r.clk.advance(10 * time.Minute)
		want(r, "status", r.get("ago=PT1H").status, 200)
		synctest.Wait() // the service's own end of the exchange
		served := func(key string) int { row, _ := r.svc.Lookup(key); return row.Served }
		want(r, "served", served(mine.Key()), 2)
		want(r, "served late", served(late.Key()), 1)
		want(r, "never served", served(veryLate.Key()), 0)
		row, _ := r.svc.Lookup(late.Key())
		want(r, "first served", row.FirstServed, noon.Add(10*time.Minute))

		r.get("limit=x")
		synctest.Wait()
		st := r.svc.Stats()
		want(r, "tokens", st.Tokens, 1)
		want(r, "issued", st.Issued, 1)
		want(r, "alerts", st.Alerts, 3)
		want(r, "rows", st.Rows, 5)
		want(r, "200", st.Status[200], 3)
		want(r, "400", st.Status[400], 1)
		want(r, "open", st.Open, 0)
		j := r.svc.Journal()
		want(r, "journal holds the last", len(j), 3)
		want(r, "in order", fmt.Sprint(j[0].N, j[1].N, j[2].N), "2 3 4")
		want(r, "rows of one", j[1].Rows, 3)
		want(r, "window of one", j[1].Query.Until.Sub(j[1].Query.Since), time.Hour)
		want(r, "whole", j[1].Whole, true)
	})
}

func TestRetainForgets(t *testing.T) {
	clk := &clock{now: noon}
	svc := New(Config{Now: clk.Now, Retain: time.Hour})
	svc.Add(row("a", noon), NewGenerator(source(1), Mix{}).Untimed(noon, TimeZero))
	clk.advance(2 * time.Hour)
	svc.Add(row("b", clk.Now()))
	got := svc.Ledger()
	if len(got) != 1 || got[0].FullID != "b" {
		t.Errorf("left: %v", got)
	}
}

func TestAddingTwiceIsRefused(t *testing.T) {
	svc := New(Config{})
	defer func() {
		want(t, "panic", fmt.Sprint(recover()), "defendersim: alert added twice: a|0|2024-05-06T12:00:00Z")
	}()
	svc.Add(row("a", noon), row("a", noon))
}
