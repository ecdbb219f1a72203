package defendersim

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// graphRig asks Graph.
type graphRig struct {
	*rig
	url   string
	graph string // the token
}

func graphBothWays(t *testing.T, cfg Config, f func(t *graphRig)) {
	t.Helper()
	bothWays(t, cfg, func(t *rig) { f(graphOf(t)) })
}

// graphMemory runs f over the in-memory wire, in a bubble.
func graphMemory(t *testing.T, cfg Config, f func(t *graphRig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(graphOf(memory(t, cfg))) })
}

func graphOf(t *rig) *graphRig {
	g := &graphRig{rig: t, url: GraphHost + graphPath}
	if t.srv != nil {
		g.url = t.srv.GraphURL()
	}
	g.graph = g.tokenFor(GraphHost)
	return g
}

func (t *graphRig) tokenFor(resource string) string {
	t.Helper()
	form := v1Form()
	form.Del("resource")
	form.Set("scope", resource+"/.default")
	var got struct {
		AccessToken string `json:"access_token"`
	}
	if a := t.post(t.v2, form); json.Unmarshal(a.body, &got) != nil || got.AccessToken == "" {
		t.Fatalf("no token: %v %s", a.err, a.body)
	}
	return got.AccessToken
}

func (t *graphRig) ask(address string, headers ...string) answer {
	t.Helper()
	req, err := http.NewRequest("GET", address, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+t.graph)
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	return t.do(req)
}

// page is one page of an answer.
type page struct {
	status int
	ids    string
	next   string
	count  int // -1: not told
	header http.Header
	code   string // of an error
	body   []byte
}

func (t *graphRig) page(address string, headers ...string) page {
	t.Helper()
	a := t.ask(address, headers...)
	if a.err != nil {
		t.Fatal(a.err)
	}
	var body struct {
		Context string `json:"@odata.context"`
		Count   *int   `json:"@odata.count"`
		Next    string `json:"@odata.nextLink"`
		Value   []struct{ ID string }
		Error   struct {
			Code  string
			Inner map[string]string `json:"innerError"`
		}
	}
	if err := json.Unmarshal(a.body, &body); err != nil {
		t.Fatalf("%s: %d %v in %s", address, a.status, err, a.body)
	}
	p := page{status: a.status, next: body.Next, count: -1, header: a.header, code: body.Error.Code, body: a.body}
	if body.Count != nil {
		p.count = *body.Count
	}
	var ids []string
	for _, v := range body.Value {
		ids = append(ids, v.ID)
	}
	p.ids = strings.Join(ids, " ")
	good := a.status == 200 || a.status == 206
	if good != (body.Context == GraphHost+"/v1.0/$metadata#security/alerts_v2") ||
		good == (body.Error.Inner["request-id"] != "") {
		t.Errorf("form of the body: %s", a.body)
	}
	return p
}

// query asks with query options in pairs.
func (t *graphRig) query(options ...string) page {
	t.Helper()
	return t.page(t.address(options...))
}

func (t *graphRig) address(options ...string) string {
	v := url.Values{}
	for i := 0; i < len(options); i += 2 {
		v.Set(options[i], options[i+1])
	}
	if len(v) == 0 {
		return t.url
	}
	return t.url + "?" + v.Encode()
}

// galert is a small alert, created a minute before it was updated.
func galert(id string, updated time.Time) GraphAlert {
	created := updated.Add(-time.Minute)
	return withProps(GraphAlert{ID: id, Created: created, Updated: updated, UpdatedText: stamp(updated)})
}

func withProps(a GraphAlert) GraphAlert {
	a.Text, _ = json.Marshal(map[string]any{
		"id": a.ID, "createdDateTime": stamp(a.Created), "lastUpdateDateTime": a.UpdatedText,
		"severity": a.Severity, "serviceSource": a.ServiceSource,
	})
	return a
}

func windowOf(since, until time.Time) string {
	return "lastUpdateDateTime ge " + stamp(since) + " and lastUpdateDateTime le " + stamp(until)
}

func TestGraphQueries(t *testing.T) {
	at := func(d time.Duration) time.Time { return noon.Add(d) }
	var rows []GraphAlert
	for i, id := range []string{"a", "b", "c", "d"} {
		a := galert(id, at(time.Duration(i-4)*time.Minute))
		a.Severity = []string{"low", "medium", "high", "high"}[i]
		a.ServiceSource = []string{"microsoftDefenderForEndpoint", "microsoft365Defender"}[i%2]
		a.Status = "new"
		rows = append(rows, a)
	}
	rows[3].AssignedTo = "o'hara@contoso.example"
	rows[3].Classification, rows[3].Determination = "truePositive", "malware"
	graphBothWays(t, Config{}, func(t *graphRig) {
		t.svc.AddGraph(rows...)
		for _, c := range []struct{ name, filter, want string }{
			{"window", windowOf(at(-3*time.Minute), at(-2*time.Minute)), "c b"},
			{"gt and lt",
				"lastUpdateDateTime gt 2024-05-06T11:57:00Z and lastUpdateDateTime lt 2024-05-06T11:59:00Z", "c"},
			{"a zone", "lastUpdateDateTime ge 2024-05-06T13:58:00+02:00", "d c"},
			{"to the 100 ns", "lastUpdateDateTime gt 2024-05-06T11:58:59.9999999Z", "d"},
			{"a date", "createdDateTime ge 2024-05-06", "d c b a"},
			{"creation", "createdDateTime lt 2024-05-06T11:56:00Z", "a"},
			{"severity", "severity eq 'high'", "d c"},
			{"enums have an order", "severity gt 'low' and severity le 'high'", "d c b"},
			{"a filter beside a window", "(severity eq 'low' or severity eq 'high') and " +
				windowOf(at(-4*time.Minute), at(-2*time.Minute)), "c a"},
			{"and before or",
				"severity eq 'low' or severity eq 'high' and serviceSource eq 'microsoft365Defender'", "d a"},
			{"not", "not (severity eq 'high') and not severity eq 'low'", "b"},
			{"not of a window", "not (lastUpdateDateTime lt 2024-05-06T11:58:00Z)", "d c"},
			{"null", "assignedTo eq null", "c b a"},
			{"not null", "classification ne null and determination eq 'malware'", "d"},
			{"ne of null", "assignedTo ne 'x'", "d c b a"},
			{"null is not less", "assignedTo lt 'zzz'", "d"},
			{"a quote", "assignedTo eq 'o''hara@contoso.example'", "d"},
			{"status", "status ne 'new'", ""},
			{"a point in time", "lastUpdateDateTime eq 2024-05-06T11:57:00Z", "b"},
			{"no point in time", "lastUpdateDateTime ne 2024-05-06T11:57:00Z", "d c a"},
		} {
			want(t, c.name, t.query("$filter", c.filter).ids, c.want)
		}
		want(t, "no filter: newest first", t.query().ids, "d c b a")
		want(t, "$skip", t.query("$skip", "1", "$top", "2").ids, "c b")
		p := t.query("$count", "true", "$top", "1")
		want(t, "$count", p.count, 4)
		want(t, "ids under $count", p.ids, "d")
		want(t, "count unasked", t.query().count, -1)
		verbatim := strings.Contains(string(t.query("$top", "1").body), string(rows[3].Text))
		want(t, "the alert is verbatim", verbatim, true)
	})
}

func TestGraphRefusesMalformedQueries(t *testing.T) {
	graphBothWays(t, Config{}, func(t *graphRig) {
		const high = "severity eq 'high'"
		for _, filter := range []string{
			"", "severity", "severity eq", "severity eq high", "severity eq 'huge'", "severity eq 'high",
			"severity = 'high'", "title eq 'x'", "contains(title,'x')", high + " and", "(" + high, high + ")",
			"severity in ('high')", "lastUpdateDateTime ge '2024-05-06T11:00:00Z'",
			"lastUpdateDateTime ge 2024-05-06T11:00:00", "lastUpdateDateTime ge yesterday",
			"lastUpdateDateTime eq null", "severity gt null", "AND", "Severity eq 'high'", "severity EQ 'high'",
			"'severity' eq 'high'", "severity 'eq' 'high'", "assignedTo eq 5", "not", "()",
			high + " severity eq 'low'", strings.Repeat("(", 60) + high + strings.Repeat(")", 60),
			strings.Repeat("not ", 60) + high, "lastUpdateDateTime ge 2024-05-06T11:00:00.12345678Z",
			strings.Repeat(high+" or ", 1000) + high,
		} {
			p := t.query("$filter", filter)
			want(t, filter, p.status, 400)
			want(t, filter, p.code, "BadRequest")
		}
		for _, raw := range []string{
			"$top=0", "$top=-1", "$top=ten", "$top=", "$skip=501", "$skip=-1", "$count=yes",
			"$orderby=createdDateTime", "$select=id", "$expand=x", "$search=x", "$top=1&$top=2",
			"$skiptoken=", "$skiptoken=abc", "$skiptoken=%zz",
			"$filter=lastUpdateDateTime%20ge%202024-05-06T11:00:00+02:00",
		} {
			want(t, raw, t.page(t.url+"?"+raw).status, 400)
		}
		want(t, "other names are ignored", t.page(t.url+"?top=0&x=1").status, 200)
		want(t, "largest $skip", t.query("$skip", "500").status, 200)
		want(t, "a large $top is taken for the largest", t.query("$top", "5000").status, 200)
	})
}

func TestGraphTokens(t *testing.T) {
	graphBothWays(t, Config{TokenLife: time.Hour}, func(t *graphRig) {
		try := func(name, token string, status int, code string) {
			t.Helper()
			t.graph = token
			p := t.query()
			want(t, name, p.status, status)
			want(t, name+": code", p.code, code)
			want(t, name+": challenge", strings.Contains(p.header.Get("WWW-Authenticate"), GraphAppID), status == 401)
		}
		good := t.graph
		for _, resource := range []string{
			GraphHost, "https://graph.microsoft.us", "https://dod-graph.microsoft.us", GraphAppID,
		} {
			try(resource, t.tokenFor(resource), 200, "")
		}
		try("none", "", 401, "InvalidAuthenticationToken")
		try("unknown", "abc", 401, "InvalidAuthenticationToken")
		try("of the SIEM API", t.token(), 401, "InvalidAuthenticationToken")
		t.clk.advance(time.Hour)
		try("expired", good, 401, "InvalidAuthenticationToken")
		t.svc.SetGraphRoles(DefaultClientID, "Alert.Read.All")
		try("without the role", t.tokenFor(GraphHost), 403, "Forbidden")
		t.svc.SetGraphRoles(DefaultClientID)
		try("without any role", t.tokenFor(GraphHost), 403, "Forbidden")
		t.svc.SetGraphRoles(DefaultClientID, "SecurityAlert.ReadWrite.All")
		try("with a greater role", t.tokenFor(GraphHost), 200, "")
		form := v1Form()
		form.Set("resource", GraphHost)
		var v1 struct {
			AccessToken string `json:"access_token"`
		}
		if err := json.Unmarshal(t.post(t.v1, form).body, &v1); err != nil {
			t.Fatal(err)
		}
		try("of the v1 endpoint", v1.AccessToken, 200, "")
		t.svc.SetModes(func(m *Modes) { m.Forbidden = true })
		try("forbidden", v1.AccessToken, 403, "Forbidden")
		siem, err := http.NewRequest("GET", t.alerts, nil)
		if err != nil {
			t.Fatal(err)
		}
		siem.Header.Set("Authorization", "Bearer "+v1.AccessToken)
		want(t, "Graph's token at the SIEM API", t.do(siem).status, 401)
		want(t, "tokens astray", t.svc.Stats().StrayTokens, 0)
	})
}

func TestGraphFaults(t *testing.T) {
	graphBothWays(t, Config{}, func(t *graphRig) {
		t.svc.AddGraph(galert("a", noon.Add(-time.Minute)), galert("b", noon.Add(-time.Second)))
		f := func(name string, fault *Fault, status int, code, ids string) page {
			t.Helper()
			t.svc.Queue(KindGraph, fault)
			p := t.query()
			want(t, name, p.status, status)
			want(t, name+": code", p.code, code)
			want(t, name+": ids", p.ids, ids)
			return p
		}
		f("none", nil, 200, "", "b a")
		throttled := f("429", Throttle(7*time.Second), 429, "TooManyRequests", "")
		want(t, "Retry-After", throttled.header.Get("Retry-After"), "7")
		contains(t, "500", f("500", Status(500), 500, "UnknownError", "").body,
			`{"error":{"code":"UnknownError","message":"","innerError":{`)
		f("503", Status(503), 503, "UnknownError", "")
		f("400", Status(400), 400, "BadRequest", "")
		f("401", Status(401), 401, "InvalidAuthenticationToken", "")
		f("403", Status(403), 403, "Forbidden", "")
		p := f("all left out", Partial(1), 206, "", "")
		want(t, "Warning", strings.HasPrefix(p.header.Get("Warning"), `199 - "Microsoft/`), true)
		t.svc.Queue(KindGraph, CutOf(0.5, CutBroken), NeverClosed())
		want(t, "cut", t.ask(t.url).err != nil, true)
		open := t.ask(t.url)
		want(t, "never closed: status", open.status, 200)
		want(t, "never closed: valid", json.Valid(open.body), false)
		want(t, "never closed: an alert's end", strings.HasSuffix(string(open.body), "}"), true)

		t.svc.FailSpan(noon.Add(-90*time.Second), noon.Add(-30*time.Second), noon.Add(time.Hour), Status(500))
		touching := windowOf(noon.Add(-time.Hour), noon.Add(-90*time.Second))
		beside := windowOf(noon.Add(-29*time.Second), noon)
		want(t, "a window that touches", t.query("$filter", touching).status, 500)
		want(t, "an open window", t.query().status, 500)
		want(t, "a window beside", t.query("$filter", beside).status, 200)
		t.svc.OnRequest(func(r Request) *Fault {
			since := r.Query.Since.Equal(noon.Add(-29 * time.Second))
			if r.Kind == KindGraph && r.Graph.Top == 7 && since && r.Query.Limit == 7 {
				return Status(418)
			}
			return nil
		})
		want(t, "a hook sees the query", t.query("$top", "7", "$filter", beside).status, 418)
		want(t, "and others", t.query("$filter", beside).ids, "b")
	})
}

func TestGraphMethodAndPath(t *testing.T) {
	graphBothWays(t, Config{}, func(t *graphRig) {
		req, err := http.NewRequest("POST", t.url, strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		a := t.do(req)
		want(t, "POST", fmt.Sprint(a.status, a.header.Get("Allow")), "405GET")
		want(t, "another case", t.page(strings.Replace(t.url, "alerts_v2", "Alerts_v2", 1)).status, 200)
		want(t, "the old API", t.ask(strings.TrimSuffix(t.url, "_v2")).status, 404)
	})
}
