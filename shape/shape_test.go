package shape

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"fluent-bit-defender/conf"
	"fluent-bit-defender/internal/defendersim"
	"fluent-bit-defender/record"
)

func TestGoldenRecords(t *testing.T) {
	for _, s := range shapes {
		rows := [][]byte{defendersim.SeedAlertText(), []byte(siemOdd)}
		if s.api == graph {
			rows = append(graphRows(10, 0), []byte(graphOdd))
		}
		var out bytes.Buffer
		for _, r := range readAll(t, optionsOf(t, s.format, s.api, false),
			list(append(rows, []byte(`"no object"`))...)) {
			if err := json.Indent(&out, r.text, "", "  "); err != nil {
				t.Fatal(err)
			}
			out.WriteByte('\n')
		}
		path := fmt.Sprintf("testdata/%s_%s.golden.json", s.format, s.api)
		if *update {
			if err := os.WriteFile(path, out.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(out.Bytes(), want) {
			t.Errorf("%s: the records are others; if that is meant: go test ./shape -update", path)
		}
	}
}

// The configuration knows all formats, and the fields of theirs that no key may add again.
func TestTheConfigurationKnowsEachFormat(t *testing.T) {
	for _, k := range conf.Keys {
		if k.Name == "format" && !slices.Equal(k.Values, append([]string{conf.Native}, Formats...)) {
			t.Errorf("format takes %v, and the shapes are %v", k.Values, Formats)
		}
	}
	for _, s := range shapes {
		fields := conf.FieldsOf(s.format)
		for _, r := range readAll(t, optionsOf(t, s.format, s.api, true),
			list(append(sampleRows(t, s.api, 60), []byte(`5`))...)) {
			for name := range r.fields(t) {
				if !slices.Contains(fields, name) {
					t.Fatalf("%s of %s: conf does not know the field %s", s.format, s.api, name)
				}
			}
		}
	}
}

// Identity, time and order are those of native.
func TestIdentityTimeAndOrderAreThoseOfNative(t *testing.T) {
	for _, s := range shapes {
		body := list(append(sampleRows(t, s.api, 60), []byte(`5`))...)
		want := readAll(t, optionsOf(t, "native", s.api, false), body)
		got := readAll(t, optionsOf(t, s.format, s.api, true), body)
		if len(got) != len(want) {
			t.Fatalf("%s of %s: %d records, want %d", s.format, s.api, len(got), len(want))
		}
		for i := range got {
			if got[i].row != want[i].row || !got[i].time.Equal(want[i].time) {
				t.Errorf("%s of %s: record %d: %+v %v, want %+v %v", s.format, s.api, i, got[i].row, got[i].time,
					want[i].row, want[i].time)
			}
		}
	}
}

// A record costs no allocation once its encoder has met the fields of such records.
func TestNoAllocationPerRow(t *testing.T) {
	for _, s := range shapes {
		rows := siemRows(100)
		if s.api == graph {
			rows = graphRows(100, 0)
		}
		body := list(rows...)
		r := record.NewReader(optionsOf(t, s.format, s.api, true))
		in := bytes.NewReader(nil)
		dst := make([]byte, 0, 4<<20)
		read := func() {
			in.Reset(body)
			r.Reset(in, func() time.Time { return pulled })
			dst = dst[:0]
			for {
				var err error
				if dst, _, err = r.Next(dst); err == io.EOF {
					return
				} else if err != nil {
					t.Fatal(err)
				}
			}
		}
		read()
		if n := testing.AllocsPerRun(5, read); n > 20 {
			t.Errorf("%s of %s: %.0f allocations for %d rows", s.format, s.api, n, len(rows))
		}
	}
}

// What an alert says stands somewhere in the record: as it is, or as a word of the shape's that says the same.
func TestNothingIsLost(t *testing.T) {
	plain := func(s string) string { return strings.ToLower(strings.ReplaceAll(s, " ", "")) }
	for _, s := range shapes {
		if s.table.vendor == "" {
			continue
		}
		body := list(sampleRows(t, s.api, 60)...)
		native := readAll(t, optionsOf(t, "native", s.api, false), body)
		for i, r := range readAll(t, optionsOf(t, s.format, s.api, false), body) {
			text := plain(strings.Join(leaves(r.fields(t)), "\n"))
			for name, v := range native[i].fields(t) {
				for _, leaf := range leaves(v) {
					parts := []string{leaf}
					if !strings.Contains(text, plain(leaf)) {
						parts = strings.FieldsFunc(leaf, func(r rune) bool { return r == ';' || r == ',' })
					}
					for _, p := range parts {
						if !strings.Contains(text, plain(p)) {
							t.Fatalf("%s of %s, record %d: %q of %s is lost: %s", s.format, s.api, i, p, name, r.text)
						}
					}
				}
			}
		}
	}
}

// Two fields for one target, in whatever order, lose nothing.
func TestTwoFieldsForOneTarget(t *testing.T) {
	pairs := []string{"IoaDefinitionId", "IoaDefinitiondId", "LinkToWDATP", "LinkToMTP", "ThreatFamily", "ThreatName",
		"Description", "AlertTitle", "Url", "URL",
		"ComputerDnsName", "MachineName", "Sha1", "FileHash"}
	for _, format := range []string{ECS, OCSF} {
		for i := 0; i < len(pairs); i += 2 {
			for _, order := range []string{`{"AlertId":"a","%s":"first-value","%s":"other-value"}`,
				`{"AlertId":"a","%[2]s":"other-value","%[1]s":"first-value"}`} {
				r := readAll(t, optionsOf(t, format, siem, false),
					list(fmt.Appendf(nil, order, pairs[i], pairs[i+1])))[0]
				if !bytes.Contains(r.text, []byte("first-value")) || !bytes.Contains(r.text, []byte("other-value")) {
					t.Errorf("%s: %s and %s: %s", format, pairs[i], pairs[i+1], r.text)
				}
			}
		}
	}
}

func leaves(v any) (out []string) {
	switch v := v.(type) {
	case map[string]any:
		for _, x := range v {
			out = append(out, leaves(x)...)
		}
	case []any:
		for _, x := range v {
			out = append(out, leaves(x)...)
		}
	case string:
		out = append(out, v)
	case json.Number:
		out = append(out, v.String())
	}
	return out
}

func TestManyValuesOfOneList(t *testing.T) {
	var b strings.Builder
	const n = 5000
	for i := range n {
		fmt.Fprintf(&b, `%s{"@odata.type":"#microsoft.graph.security.ipEvidence","ipAddress":"10.0.%d.%d"}`,
			[]string{"", ","}[min(i, 1)], i%1000/256, i%1000%256)
	}
	body := list([]byte(`{"id":"a","lastUpdateDateTime":"2024-01-01T00:00:00Z","evidence":[` + b.String() + `]}`))
	r := readAll(t, optionsOf(t, ECS, graph, false), body)[0].fields(t)
	if got := len(r["related"].(map[string]any)["ip"].([]any)); got != 1000 {
		t.Errorf("%d addresses, want 1000, each once", got)
	}
}

// SHAPE_SAMPLES names a directory of public samples, which are not ours to keep: files below it with one alert, an
// array or an object around alerts, or JSON lines. What else lies there, as notes on their sources, is no JSON.
func TestPublicSamples(t *testing.T) {
	dir := os.Getenv("SHAPE_SAMPLES")
	if dir == "" {
		t.Skip("SHAPE_SAMPLES names no directory with samples")
	}
	ecs, ocsf := readECSSchema(t), readOCSFSchema(t)
	seen := map[string]int{}
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "json") {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for d := json.NewDecoder(bytes.NewReader(text)); ; {
			var body json.RawMessage
			if err := d.Decode(&body); err == io.EOF {
				return nil
			} else if err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
			api := siem
			if bytes.Contains(body, []byte("lastUpdateDateTime")) {
				api = graph
			}
			for _, r := range readAll(t, optionsOf(t, "native", api, false), body) {
				seen["alerts of "+api]++
				evidence, _ := r.fields(t)["evidence"].([]any)
				for _, piece := range evidence {
					seen[fmt.Sprint(piece.(map[string]any)["@odata.type"])]++
				}
			}
			for _, r := range readAll(t, optionsOf(t, ECS, api, false), body) {
				ecs.check(t, &r)
				t.Logf("%s: %s", filepath.Base(path), r.text)
			}
			for _, r := range readAll(t, optionsOf(t, OCSF, api, false), body) {
				ocsf.check(t, &r)
				t.Logf("%s: %s", filepath.Base(path), r.text)
			}
			for _, r := range readAll(t, optionsOf(t, CEF, api, false), body) {
				checkCEF(t, &r)
				t.Logf("%s: %s", filepath.Base(path), r.text)
			}
		}
	})
	if err != nil || len(seen) == 0 {
		t.Fatalf("no samples in %s: %v", dir, err)
	}
	t.Log(seen)
}
