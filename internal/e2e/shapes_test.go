package e2e

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"fluent-bit-defender/internal/cefline"
)

// Records in the shapes of SIEMs, in the real Fluent Bit: what arrives at the outputs that take them, with the
// recipes of docs/routing.md.
func TestShapesInFluentBit(t *testing.T) {
	t.Parallel()
	needFluentBit(t)

	// An index whose mapping is ECS takes each document: no date, number, address or flag stands where the mapping
	// wants another.
	for _, output := range []string{"es", "opensearch"} {
		t.Run("ECS to "+output, func(t *testing.T) {
			t.Parallel()
			r := newRoute(t)
			r.input += "    format ecs\n"
			c := r.recipe("Elasticsearch")
			c.set("name", output)
			c.replace("${ES_PASSWORD}", "password")
			r.tls(c)
			mapping := ecsMapping(t)
			r.parse("/_bulk", func(body []byte) (out []map[string]any) {
				text := bytes.Split(bytes.TrimSpace(body), []byte("\n"))
				for i := 1; i < len(text); i += 2 {
					if twice := repeatedKey(json.NewDecoder(bytes.NewReader(text[i]))); twice != "" {
						t.Errorf("%s stands twice in %s", twice, text[i])
					}
					doc := object(t, text[i])
					if err := fits(mapping, "", doc); err != nil {
						t.Errorf("%v: %s", err, text[i])
					}
					out = append(out, doc)
				}
				return out
			})
			f := r.run(c)
			f.await(20*time.Second, "all alerts", func() bool { return len(r.came("/_bulk")) >= len(r.due) })
			f.stop(10 * time.Second)
			errors := 0
			r.each(r.came("/_bulk"), func(doc map[string]any) {
				event := doc["event"].(map[string]any)
				if event["kind"] == "pipeline_error" {
					errors++
					return
				}
				at, err := time.Parse(time.RFC3339Nano, fmt.Sprint(doc["@timestamp"]))
				created, cerr := time.Parse(time.RFC3339Nano, fmt.Sprint(event["created"]))
				if err != nil || cerr != nil || at.Sub(created).Abs() > 100*time.Nanosecond {
					t.Errorf("@timestamp %v, event.created %v", doc["@timestamp"], event["created"])
				}
			})
			if errors != 1 {
				t.Errorf("%d rows are marked as pipeline errors, want 1", errors)
			}
		})
	}

	t.Run("OCSF over HTTP", func(t *testing.T) {
		t.Parallel()
		r := newRoute(t)
		r.input += "    format ocsf\n"
		c := r.recipe("HTTP")
		r.tls(c)
		f := r.run(c)
		f.await(20*time.Second, "all findings", func() bool { return len(r.came("/alerts")) >= len(r.due) })
		f.stop(10 * time.Second)
		r.each(r.came("/alerts"), func(finding map[string]any) {
			checkFinding(t, finding,
				fmt.Sprint(finding["date"]))
		})
	})

	t.Run("OCSF to Splunk", func(t *testing.T) {
		t.Parallel()
		r := newRoute(t)
		r.input += "    format ocsf\n"
		c := r.recipe("Splunk")
		c.replace("${SPLUNK_TOKEN}", "00000000-aaaa-bbbb-cccc-000000000000")
		r.tls(c)
		const path = "/services/collector/event"
		r.parse(path, func(body []byte) (out []map[string]any) {
			for dec := json.NewDecoder(bytes.NewReader(body)); ; {
				var event struct {
					Time  float64
					Event map[string]any
				}
				if err := dec.Decode(&event); err == io.EOF {
					return out
				} else if err != nil {
					t.Error(err)
					return out
				}
				event.Event["at"] = time.UnixMicro(int64(event.Time * 1e6)).UTC().Format(time.RFC3339Nano)
				out = append(out, event.Event)
			}
		})
		f := r.run(c)
		f.await(20*time.Second, "all findings", func() bool { return len(r.came(path)) >= len(r.due) })
		f.stop(10 * time.Second)
		r.each(r.came(path), func(finding map[string]any) { checkFinding(t, finding, fmt.Sprint(finding["at"])) })
	})

	// Each line comes over TLS as a message of RFC 5424 and says what its alert says, also where that tries to forge.
	t.Run("CEF over syslog", func(t *testing.T) {
		t.Parallel()
		r := newRoute(t)
		r.input += "    format cef\n"
		server, came := syslogServer(t, r.server.TLS.Certificates[0])
		c := r.recipe("CEF over syslog")
		c.host(server)
		c.last("tls.ca_file " + r.ca)
		f := r.run(c)
		f.await(20*time.Second, "all lines", func() bool { return len(came()) >= len(r.due) })
		f.stop(10 * time.Second)
		events := map[string]cefline.Event{}
		for _, message := range came() {
			line := syslogHeader.ReplaceAllString(message, "")
			e, err := cefline.Parse(line)
			if err != nil || line == message {
				t.Errorf("%v: %q", err, message)
				continue
			}
			events[e.Extension["externalId"]] = e
		}
		if len(came()) != len(r.due) || len(events) != len(r.due) || len(events[""].Header) == 0 ||
			events[""].Header[4] != "raw" {
			t.Errorf("%d lines of %d alerts and rows, of %d: %v", len(came()), len(events), len(r.due), events[""])
		}
		for _, row := range r.due {
			if row.AlertID == "" {
				continue
			}
			alert, e := object(t, row.Text), events[row.AlertID]
			if e.Header == nil || e.Header[5] != strings.ReplaceAll(fmt.Sprint(alert["AlertTitle"]), "\n", " ") {
				t.Errorf("the name is %q, the title %q", e.Header, alert["AlertTitle"])
			}
			for key, field := range map[string]string{"msg": "Description", "cat": "Category", "fname": "FileName",
				"filePath": "FilePath", "suser": "UserName", "cs3": "CommandLine"} {
				want, _ := alert[field].(string)
				if want = strings.NewReplacer("\u2028", "\n", "\t", " ").Replace(want); e.Extension[key] != want {
					t.Errorf("%s is %q, %s %q", key, e.Extension[key], field, want)
				}
			}
		}
	})
}

// syslogHeader is what out_syslog puts before a message: facility user, severity notice.
var syslogHeader = regexp.MustCompile(`^<13>1 [0-9TZ:.-]+ fluent-bit defender - - - \x{FEFF}`)

// syslogServer takes messages over TLS, each up to a line break.
func syslogServer(t *testing.T, certificate tls.Certificate) (address string, came func() []string) {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{certificate}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	var mu sync.Mutex
	var all []string
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				for in := bufio.NewScanner(conn); in.Scan(); {
					mu.Lock()
					all = append(all, in.Text())
					mu.Unlock()
				}
			}()
		}
	}()
	return l.Addr().String(), func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(all)
	}
}

func checkFinding(t *testing.T, finding map[string]any, at string) {
	t.Helper()
	class, _ := finding["class_uid"].(float64)
	ms, _ := finding["time"].(float64)
	when, err := time.Parse(time.RFC3339Nano, at)
	if err != nil || when.Sub(time.UnixMilli(int64(ms))).Abs() > 2*time.Millisecond {
		t.Errorf("time %v, the output's %s", finding["time"], at)
	}
	info, _ := finding["finding_info"].(map[string]any)
	if class == 0 && finding["raw_data"] != nil {
		return
	}
	if class != 2004 || finding["is_alert"] != true || info["uid"] == nil || info["title"] == nil ||
		finding["evidences"] == nil || finding["observables"] == nil {
		t.Errorf("no Detection Finding: %v", finding)
	}
}

// ecsMapping reads the types of ECS's fields, which are those of an index for it.
func ecsMapping(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile("../../shape/testdata/ecs_fields.txt")
	if err != nil {
		t.Fatal(err)
	}
	types := map[string]string{"event_id": "keyword"}
	for line := range strings.Lines(string(text)) {
		if words := strings.Fields(line); line[0] != '#' && line[0] != '!' {
			types[words[0]] = words[1]
		}
	}
	return types
}

// fits holds a document against the mapping, as Elasticsearch does. What is the vendor's is mapped as flattened,
// which takes all.
func fits(mapping map[string]string, path string, v any) error {
	if path == "microsoft" {
		return nil
	}
	switch v := v.(type) {
	case map[string]any:
		for name, inner := range v {
			if err := fits(mapping, strings.TrimPrefix(path+"."+name, "."), inner); err != nil {
				return err
			}
		}
		return nil
	case []any:
		for _, inner := range v {
			if err := fits(mapping, path, inner); err != nil {
				return err
			}
		}
		return nil
	}
	text, isText := v.(string)
	number, isNumber := v.(float64)
	ok := false
	switch kind := mapping[path]; kind {
	case "keyword", "wildcard", "match_only_text":
		ok = isText
	case "date":
		_, err := time.Parse(time.RFC3339Nano, text)
		ok = isText && err == nil
	case "ip":
		_, err := netip.ParseAddr(text)
		ok = isText && err == nil
	case "long":
		ok = isNumber && number == float64(int64(number))
	}
	if !ok {
		return fmt.Errorf("%s is mapped as %q, and is %v", path, mapping[path], v)
	}
	return nil
}

// repeatedKey returns a key that an object has twice, which Elasticsearch refuses; "" where none has.
func repeatedKey(d *json.Decoder) string {
	token, err := d.Token()
	if err != nil {
		return ""
	}
	delim, _ := token.(json.Delim)
	keys := map[string]bool{}
	for (delim == '{' || delim == '[') && d.More() {
		if delim == '{' {
			key, err := d.Token()
			if err != nil {
				return ""
			}
			if keys[key.(string)] {
				return key.(string)
			}
			keys[key.(string)] = true
		}
		if twice := repeatedKey(d); twice != "" {
			return twice
		}
	}
	if delim != 0 {
		_, _ = d.Token()
	}
	return ""
}
