package e2e

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"fluent-bit-defender/internal/defendersim"
)

// route is a Fluent Bit between the simulated service and a server that records what comes.
type route struct {
	*testing.T
	dir, db, ca string
	input       string
	due         []defendersim.Row
	server      *httptest.Server

	mu      sync.Mutex
	parsers map[string]func(body []byte) []map[string]any // called with mu held
	got     map[string][]map[string]any                   // by path
	headers map[string]http.Header
	bulk    string // answer to Elasticsearch's requests; set before the start
}

// newRoute makes the service with 40 alerts, one that would be more than one wherever lines are made of it, and a row
// that cannot become a record, and the page's input for it.
func newRoute(t *testing.T) *route {
	t.Helper()
	svc, srv, ca := service(t, defendersim.Config{})
	history(svc, 40, 10*time.Minute)
	at := svc.Now().Add(-time.Minute).UTC()
	svc.Add(defendersim.Alert{LastProcessed: at, Text: []byte(`"no object"`)}, defendersim.Alert{AlertID: "forger",
		LastProcessed: at,
		Text: fmt.Appendf(nil, `{"AlertId":"forger","AlertTime":"%s","Severity":"Low",`+
			`"ComputerDnsName":"pc-7.example.com","AlertTitle":"x|9|src=1.2.3.4\nCEF:0|y","Description":`+
			`"a=b c\\=d \\\r\n\u2028CEF:0|z\n<13>1 - - - - - - forged"}`, at.Format(time.RFC3339Nano))})
	r := &route{T: t, dir: t.TempDir(), due: of(svc), parsers: map[string]func([]byte) []map[string]any{},
		got: map[string][]map[string]any{}, headers: map[string]http.Header{},
		bulk: `{"took":1,"errors":false,"items":[]}`}
	r.server = httptest.NewTLSServer(r)
	t.Cleanup(r.server.Close)
	r.db, r.ca = filepath.Join(r.dir, "defender.db"), filepath.Join(r.dir, "server.pem")
	writeCertificate(t, r.ca, r.server.Certificate().Raw)
	secret := filepath.Join(r.dir, "secret")
	if err := os.WriteFile(secret, []byte(defendersim.DefaultSecret), 0o600); err != nil {
		t.Fatal(err)
	}
	in := r.recipe("Routing: alerts to outputs")
	in.replace("/etc/fluent-bit/defender.secret", secret)
	in.replace("/var/lib/fluent-bit/defender.db", r.db)
	in.replace("region             eu", "url "+srv.AlertsURL())
	in.last("token_url "+srv.TokenURL(), "ca_file "+ca, "poll_interval 1s", "initial_lookback 15m")
	r.input = in.text
	return r
}

// run starts Fluent Bit with the page's input and these sections.
func (r *route) run(c *recipe) *fluentBit {
	r.Helper()
	f := newFluentBit(r.T, "    storage.path "+filepath.Join(r.dir, "chunks"), r.input, c.text)
	f.start()
	return f
}

func (r *route) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	var body io.Reader = q.Body
	if q.Header.Get("Content-Encoding") == "gzip" || strings.HasSuffix(q.URL.Path, ".gz") {
		z, err := gzip.NewReader(q.Body)
		if err != nil {
			r.Error(err)
			return
		}
		body = z
	}
	text, err := io.ReadAll(body)
	if err != nil {
		return // it was killed, and will send all of it again
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	parse := r.parsers[q.URL.Path]
	if parse == nil {
		parse = func(body []byte) (out []map[string]any) {
			for line := range bytes.Lines(body) {
				out = append(out, object(r.T, line))
			}
			return out
		}
	}
	r.headers[q.URL.Path] = q.Header
	r.got[q.URL.Path] = append(r.got[q.URL.Path], parse(text)...)
	w.Header().Set("Content-Type", "application/json")
	if q.URL.Path == "/_bulk" {
		fmt.Fprint(w, r.bulk)
	}
}

// parse says how the bodies of a path are read; without it they are JSON lines.
func (r *route) parse(path string, f func(body []byte) []map[string]any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.parsers[path] = f
}

// came are the records that came to a path.
func (r *route) came(path string) []map[string]any {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]map[string]any(nil), r.got[path]...)
}

// allCame are the records that came to paths under one.
func (r *route) allCame(under string) (all []map[string]any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for path, records := range r.got {
		if strings.HasPrefix(path, under) {
			all = append(all, records...)
		}
	}
	return all
}

func (r *route) header(path string) http.Header {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.headers[path]
}

// each calls f for every record, once all that are due have come; each of them needs its id.
func (r *route) each(records []map[string]any, f func(map[string]any)) {
	r.Helper()
	ids := map[any]bool{}
	for _, record := range records {
		ids[record["event_id"]] = true
		f(record)
	}
	if len(ids) != len(r.due) || ids[nil] {
		r.Errorf("%d ids of %d alerts", len(ids), len(r.due))
	}
}

// wantTime fails unless text is the alert's time, but for the unit in which the output writes it.
func (r *route) wantTime(alert map[string]any, text string, unit time.Duration) {
	r.Helper()
	if alert["raw"] != nil {
		return // the time of its pull
	}
	at, err := time.Parse(time.RFC3339Nano, text)
	want, werr := time.Parse(time.RFC3339Nano, fmt.Sprint(alert["AlertTime"]))
	if err != nil || werr != nil || at.Sub(want).Abs() >= max(unit, 2) {
		r.Errorf("the time is %s, AlertTime %v", text, alert["AlertTime"])
	}
}

// recipe is the text of a fence on docs/routing.md.
type recipe struct {
	*testing.T
	text string
}

// recipe reads the first fence under a heading.
func (r *route) recipe(heading string) *recipe {
	r.Helper()
	page, err := os.ReadFile("../../docs/routing.md")
	if err != nil {
		r.Fatal(err)
	}
	_, text, ok := strings.Cut(string(page), "# "+heading+"\n")
	_, text, fence := strings.Cut(text, "\n```\n")
	text, _, end := strings.Cut(text, "\n```\n")
	if !ok || !fence || !end {
		r.Fatalf("docs/routing.md has no recipe under %q", heading)
	}
	return &recipe{r.T, text + "\n"}
}

// tls sends the recipe's output with a host and tls on to the server.
func (r *route) tls(c *recipe) {
	r.Helper()
	c.host(r.server.Listener.Addr().String())
	c.replace("    tls ", "    tls.ca_file "+r.ca+"\n    tls ")
}

// replace puts now in place of the only old.
func (c *recipe) replace(old, now string) {
	c.Helper()
	if n := strings.Count(c.text, old); n != 1 {
		c.Fatalf("the recipe has %q %d times", old, n)
	}
	c.text = strings.Replace(c.text, old, now, 1)
}

// set replaces the value of the only line with this key.
func (c *recipe) set(key, value string) {
	c.Helper()
	found := 0
	text := strings.Split(c.text, "\n")
	for i, line := range text {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == key {
			text[i] = "    " + key + " " + value
			found++
		}
	}
	if found != 1 {
		c.Fatalf("the recipe has the key %q %d times", key, found)
	}
	c.text = strings.Join(text, "\n")
}

func (c *recipe) host(address string) {
	c.Helper()
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		c.Fatal(err)
	}
	c.set("host", host)
	c.set("port", port)
}

// last adds lines to the last section.
func (c *recipe) last(more ...string) { c.text += "    " + strings.Join(more, "\n    ") + "\n" }

func object(t *testing.T, text []byte) map[string]any {
	var m map[string]any
	if err := json.Unmarshal(text, &m); err != nil {
		t.Errorf("not an object: %v: %.200q", err, text)
	}
	return m
}

func lines(t *testing.T, path string) []string {
	text, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for line := range strings.Lines(string(text[:bytes.LastIndexByte(text, '\n')+1])) {
		all = append(all, line)
	}
	return all
}

func writeCertificate(t *testing.T, path string, der []byte) {
	t.Helper()
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}
