package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// The recipes of docs/routing.md, in the real Fluent Bit: each takes the stanzas that stand on the page, with this
// machine's addresses in place of the page's, and looks at what arrives.
func TestRoutingRecipes(t *testing.T) {
	t.Parallel()
	needFluentBit(t)

	t.Run("severity", func(t *testing.T) {
		t.Parallel()
		r := newRoute(t)
		c := r.recipe("Severity to different outputs")
		c.set("path", filepath.Join(r.dir, "rest"))
		r.tls(c)
		f := r.run(c)
		urgent := func() int { return len(r.came("/alerts")) }
		rest := func() []string { return lines(t, filepath.Join(r.dir, "rest", "defender.alerts")) }
		f.await(20*time.Second, "all alerts", func() bool { return urgent()+len(rest()) >= len(r.due) })
		f.stop(10 * time.Second)
		high := 0
		for _, alert := range r.came("/alerts") {
			if alert["Severity"] != "High" {
				t.Errorf("among the urgent ones: %v", alert["Severity"])
			}
			high++
		}
		raw := 0
		for _, line := range rest() {
			alert := object(t, []byte(line))
			if alert["Severity"] == "High" {
				t.Error("an alert of high severity among the rest")
			}
			if alert["raw"] != nil {
				raw++
			}
		}
		if high == 0 || high+len(rest()) != len(r.due) || raw != 1 {
			t.Errorf("%d urgent, %d others, %d raw, of %d", high, len(rest()), raw, len(r.due))
		}
	})

	t.Run("HTTP", func(t *testing.T) {
		t.Parallel()
		r := newRoute(t)
		c := r.recipe("HTTP")
		r.tls(c)
		f := r.run(c)
		f.await(20*time.Second, "all alerts", func() bool { return len(r.came("/alerts")) >= len(r.due) })
		f.stop(10 * time.Second)
		r.each(r.came("/alerts"), func(alert map[string]any) {
			r.wantTime(alert, fmt.Sprint(alert["date"]), time.Microsecond)
		})
		if got := r.header("/alerts").Get("X-Source"); got != "defender" {
			t.Errorf("the header is %q", got)
		}
	})

	// What comes again, because the state file is gone, overwrites its document.
	t.Run("Elasticsearch", func(t *testing.T) {
		t.Parallel()
		r := newRoute(t)
		c := r.recipe("Elasticsearch")
		c.replace("${ES_PASSWORD}", "password")
		r.tls(c)
		docs, actions := map[string]map[string]any{}, 0
		r.parse("/_bulk", func(body []byte) (out []map[string]any) {
			text := bytes.Split(bytes.TrimSpace(body), []byte("\n"))
			for i := 0; i+1 < len(text); i += 2 {
				var head struct{ Index map[string]string }
				if err := json.Unmarshal(text[i], &head); err != nil || len(head.Index) != 2 ||
					head.Index["_index"] != "defender-alerts" {
					t.Errorf("an action is %s", text[i])
				}
				doc := object(t, text[i+1])
				if id := head.Index["_id"]; len(id) != 32 || id != doc["event_id"] {
					t.Errorf("the _id is %q, the event id %v", id, doc["event_id"])
				}
				docs[head.Index["_id"]] = doc
				actions++
				out = append(out, doc)
			}
			return out
		})
		count := func() (int, int) {
			r.mu.Lock()
			defer r.mu.Unlock()
			return len(docs), actions
		}
		f := r.run(c)
		f.await(20*time.Second, "all alerts", func() bool { _, n := count(); return n >= len(r.due) })
		f.stop(10 * time.Second)
		if err := os.Remove(r.db); err != nil {
			t.Fatal(err)
		}
		f.start()
		f.await(20*time.Second, "all alerts again", func() bool { _, n := count(); return n >= 2*len(r.due) })
		f.stop(10 * time.Second)
		if n, actions := count(); n != len(r.due) || actions != 2*len(r.due) {
			t.Errorf("%d documents of %d alerts after %d actions", n, len(r.due), actions)
		}
		r.each(r.came("/_bulk"), func(alert map[string]any) {
			r.wantTime(alert, fmt.Sprint(alert["@timestamp"]), 100*time.Nanosecond)
		})
		if user, pass, ok := (&http.Request{Header: r.header("/_bulk")}).BasicAuth(); !ok || user != "fluent-bit" ||
			pass != "password" {
			t.Errorf("the user is %q, the password %q", user, pass)
		}
	})

	// Why the recipe has write_operation index: with create, Fluent Bit 5.1.1 sends a chunk again for ever when
	// Elasticsearch has all of it.
	t.Run("Elasticsearch with create", func(t *testing.T) {
		t.Parallel()
		needFluentBit(t)
		if realBefore("3.2.10") {
			t.Skip("this Fluent Bit does not send it again")
		}
		r := newRoute(t)
		c := r.recipe("Elasticsearch")
		c.replace("${ES_PASSWORD}", "password")
		c.replace("write_operation    index", "write_operation create")
		r.tls(c)
		sent := map[string]int{} // by body
		most := 0
		r.parse("/_bulk", func(body []byte) []map[string]any {
			sent[string(body)]++
			most = max(most, sent[string(body)])
			return nil
		})
		r.bulk = `{"took":1,"errors":true,"items":[{"create":{"status":409}}]}`
		f := newFluentBit(t, "    scheduler.base 1\n    scheduler.cap 1\n    storage.path "+filepath.Join(r.dir,
			"chunks"), r.input, c.text)
		f.start()
		f.await(20*time.Second, "the same chunk again and again", func() bool {
			r.mu.Lock()
			defer r.mu.Unlock()
			return most > 2
		})
		f.kill()
	})

	t.Run("Loki", func(t *testing.T) {
		t.Parallel()
		r := newRoute(t)
		c := r.recipe("Loki")
		c.host(r.server.Listener.Addr().String())
		c.last("tls on", "tls.ca_file "+r.ca)
		r.parse("/loki/api/v1/push", func(body []byte) (out []map[string]any) {
			var push struct {
				Streams []struct {
					Stream map[string]string
					Values [][]string
				}
			}
			if err := json.Unmarshal(body, &push); err != nil {
				t.Error(err)
			}
			for _, s := range push.Streams {
				for _, v := range s.Values {
					alert := object(t, []byte(v[1]))
					alert["labels"], alert["at"] = s.Stream, v[0]
					out = append(out, alert)
				}
			}
			return out
		})
		f := r.run(c)
		f.await(20*time.Second, "all alerts", func() bool { return len(r.came("/loki/api/v1/push")) >= len(r.due) })
		f.stop(10 * time.Second)
		r.each(r.came("/loki/api/v1/push"), func(alert map[string]any) {
			labels, _ := alert["labels"].(map[string]string)
			want := 2
			if alert["raw"] != nil {
				want = 1
			}
			if labels["job"] != "defender" || len(labels) != want || want == 2 && labels["Severity"] == "" {
				t.Errorf("labels %q", labels)
			}
			// Before 4.0 a label stays in the line.
			if _, twice := alert["Severity"]; twice && !realBefore("4.0.0") {
				t.Error("Severity stands in the line as well")
			}
			ns, err := strconv.ParseInt(fmt.Sprint(alert["at"]), 10, 64)
			if err != nil {
				t.Error(err)
			}
			r.wantTime(alert, time.Unix(0, ns).UTC().Format(time.RFC3339Nano), 100*time.Nanosecond)
		})
	})

	t.Run("Splunk", func(t *testing.T) {
		t.Parallel()
		r := newRoute(t)
		c := r.recipe("Splunk")
		c.replace("${SPLUNK_TOKEN}", "00000000-aaaa-bbbb-cccc-000000000000")
		r.tls(c)
		const path = "/services/collector/event"
		r.parse(path, func(body []byte) (out []map[string]any) {
			for dec := json.NewDecoder(bytes.NewReader(body)); ; {
				var event struct {
					Time                      json.Number
					Source, Sourcetype, Index string
					Event                     map[string]any
				}
				err := dec.Decode(&event)
				if err == io.EOF {
					return out
				}
				if err != nil || event.Source != "defender" || event.Sourcetype != "defender:alert" ||
					event.Index != "security" {
					t.Errorf("an event of %q, %q, %q: %v", event.Source, event.Sourcetype, event.Index, err)
					return out
				}
				s, err := event.Time.Float64()
				if err != nil {
					t.Error(err)
				}
				event.Event["at"] = time.UnixMicro(int64(s * 1e6)).UTC().Format(time.RFC3339Nano)
				out = append(out, event.Event)
			}
		})
		f := r.run(c)
		f.await(20*time.Second, "all alerts", func() bool { return len(r.came(path)) >= len(r.due) })
		f.stop(10 * time.Second)
		r.each(r.came(path), func(alert map[string]any) {
			r.wantTime(alert, fmt.Sprint(alert["at"]), 2*time.Microsecond)
		})
		if got := r.header(path).Get("Authorization"); got != "Splunk 00000000-aaaa-bbbb-cccc-000000000000" {
			t.Errorf("the token is %q", got)
		}
	})

	t.Run("Azure Logs Ingestion", func(t *testing.T) {
		t.Parallel()
		needFluentBit(t)
		if realBefore("5.1.0") {
			t.Skip("this Fluent Bit asks Microsoft for its token: it has no auth_url")
		}
		r := newRoute(t)
		c := r.recipe("Azure Logs Ingestion (Sentinel, Log Analytics)")
		c.replace("${INGESTION_SECRET}", "the-secret")
		c.replace("https://defender-abcd.westeurope-1.ingest.monitor.azure.com", r.server.URL)
		login := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			if err := q.ParseForm(); err != nil || q.Form.Get("client_secret") != "the-secret" ||
				q.Form.Get("scope") != "https://monitor.azure.com/.default" {
				t.Errorf("asked for a token with %q: %v", q.Form, err)
			}
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprint(w, `{"token_type":"Bearer","expires_in":3600,"access_token":"a-token"}`)
		}))
		t.Cleanup(login.Close)
		c.last("auth_url "+login.URL+"/token", "tls.ca_file "+r.ca)
		const path = "/dataCollectionRules/dcr-00000000000000000000000000000000/streams/Custom-DefenderAlerts_CL"
		r.parse(path, func(body []byte) (out []map[string]any) {
			if err := json.Unmarshal(body, &out); err != nil {
				t.Errorf("%v: %.100q", err, body)
			}
			return out
		})
		f := r.run(c)
		f.await(20*time.Second, "all alerts", func() bool { return len(r.came(path)) >= len(r.due) })
		f.stop(10 * time.Second)
		r.each(r.came(path), func(alert map[string]any) {
			r.wantTime(alert, fmt.Sprint(alert["TimeGenerated"]), time.Millisecond)
		})
		if got := r.header(path).Get("Authorization"); got != "Bearer a-token" {
			t.Errorf("the token is %q", got)
		}
	})

	// One object holds the alerts of an upload, one in each line.
	t.Run("S3", func(t *testing.T) {
		t.Parallel()
		r := newRoute(t)
		c := r.recipe("S3")
		c.set("store_dir", filepath.Join(r.dir, "s3"))
		c.set("upload_timeout", "1s")
		c.last("endpoint "+r.server.URL, "tls.ca_file "+r.ca)
		f := newFluentBit(t, "    storage.path "+filepath.Join(r.dir, "chunks"), r.input, c.text)
		f.env = []string{"AWS_ACCESS_KEY_ID=key-id", "AWS_SECRET_ACCESS_KEY=secret-key"}
		f.start()
		f.await(30*time.Second, "all alerts",
			func() bool { return len(r.allCame("/defender-alerts/defender/")) >= len(r.due) })
		f.stop(10 * time.Second)
		r.each(r.allCame("/defender-alerts/defender/"), func(alert map[string]any) {
			r.wantTime(alert, fmt.Sprint(alert["date"]), time.Microsecond)
		})
	})
}
