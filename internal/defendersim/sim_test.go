package defendersim

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// noon is the service's time at the start of every test.
var noon = time.Date(2024, 5, 6, 12, 0, 0, 0, time.UTC)

// clock is a hand-driven service clock.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// rig is a service and one way to it.
type rig struct {
	*testing.T
	svc    *Service
	clk    *clock
	http   *http.Client
	v1, v2 string
	alerts string
	srv    *Server // nil: in memory
	tok    string
}

// bothWays runs a test over the in-memory wire, in a bubble, and over TLS.
func bothWays(t *testing.T, cfg Config, f func(t *rig)) {
	t.Helper()
	t.Run("memory", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { f(memory(t, cfg)) })
	})
	t.Run("tls", func(t *testing.T) {
		clk := &clock{now: noon}
		cfg.Now = clk.Now
		svc := New(cfg)
		srv, err := Start(svc, ServerOptions{})
		if err != nil {
			t.Fatal(err)
		}
		tr := &http.Transport{TLSClientConfig: srv.TLSConfig(), DisableCompression: true}
		defer srv.Close()
		defer tr.CloseIdleConnections()
		f(&rig{T: t, svc: svc, clk: clk, http: &http.Client{Transport: tr, CheckRedirect: stay}, srv: srv,
			v1: srv.TokenURL(), v2: srv.TokenURLV2(), alerts: srv.AlertsURL()})
	})
}

func memory(t *testing.T, cfg Config) *rig {
	clk := &clock{now: noon}
	if cfg.Now == nil {
		cfg.Now = clk.Now
	}
	svc := New(cfg)
	return &rig{
		T: t, svc: svc, clk: clk, http: &http.Client{Transport: svc.Transport(), CheckRedirect: stay},
		v1:     LoginHost + "/" + DefaultTenant + "/oauth2/token",
		v2:     LoginHost + "/" + DefaultTenant + "/oauth2/v2.0/token",
		alerts: AlertsHost + "/api/alerts",
	}
}

func stay(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// answer is a whole answer, or as much of it as came before err.
type answer struct {
	status int
	header http.Header
	length int64
	body   []byte
	err    error
}

func (t *rig) do(req *http.Request) answer {
	res, err := t.http.Do(req)
	if err != nil {
		return answer{err: err}
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return answer{res.StatusCode, res.Header, res.ContentLength, body, err}
}

func (t *rig) post(url string, form url.Values) answer {
	t.Helper()
	req, err := http.NewRequest("POST", url, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return t.do(req)
}

func v1Form() url.Values {
	return url.Values{"resource": {DefaultResource}, "client_id": {DefaultClientID}, "client_secret": {DefaultSecret},
		"grant_type": {"client_credentials"}}
}

// token gets a token of v1 once and keeps it.
func (t *rig) token() string {
	t.Helper()
	if t.tok == "" {
		a := t.post(t.v1, v1Form())
		var got struct {
			AccessToken string `json:"access_token"`
		}
		if err := json.Unmarshal(a.body, &got); err != nil || got.AccessToken == "" {
			t.Fatalf("no token: %v %s", a.err, a.body)
		}
		t.tok = got.AccessToken
	}
	return t.tok
}

// get asks the API with a good token and further headers in pairs.
func (t *rig) get(query string, headers ...string) answer {
	t.Helper()
	u := t.alerts
	if query != "" {
		u += "?" + query
	}
	req, err := http.NewRequest("GET", u, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+t.token())
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	return t.do(req)
}

// keys asks and returns the last letters of each row's FullId, in the order of the answer.
func (t *rig) keys(query string) string {
	t.Helper()
	a := t.get(query)
	if a.err != nil || a.status != 200 {
		t.Fatalf("%s: %d %v %s", query, a.status, a.err, a.body)
	}
	var rows []struct{ FullId string }
	if err := json.Unmarshal(a.body, &rows); err != nil {
		t.Fatalf("%s: %v in %s", query, err, a.body)
	}
	names := make([]string, len(rows))
	for i, r := range rows {
		names[i] = r.FullId
	}
	return strings.Join(names, " ")
}

// row is a small alert, known by its name.
func row(name string, at time.Time) Alert {
	text := fmt.Appendf(nil, `{"AlertId":%q,"FullId":%q,"AlertPart":0,"LastProcessedTimeUtc":%q}`,
		name, name, stamp(at))
	return Alert{FullID: name, AlertID: name, LastProcessed: at, Processed: stamp(at), Text: text}
}

func source(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 1)) }

func window(since, until time.Time) string {
	return "sinceTimeUtc=" + url.QueryEscape(stamp(since)) + "&untilTimeUtc=" + url.QueryEscape(stamp(until))
}

// want fails unless the two are equal.
func want[T comparable](t testing.TB, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func contains(t testing.TB, what string, got []byte, want string) {
	t.Helper()
	if !bytes.Contains(got, []byte(want)) {
		t.Errorf("%s: %q is not in %q", what, want, got)
	}
}
