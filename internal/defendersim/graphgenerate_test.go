package defendersim

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestGeneratedGraphAlerts(t *testing.T) {
	from, to := noon.Add(-time.Hour), noon
	mix := GraphMix{LateShare: 0.2, Late: 10 * time.Minute, TieShare: 0.1}
	all := GenerateGraph(source(5), 700, 300, from, to, mix)
	want(t, "count", len(all), 1000)
	New(Config{Now: func() time.Time { return noon }}).AddGraph(all...) // refuses a key that comes twice
	last := make(map[string]GraphAlert)
	kinds := make(map[string]int)
	var updates, ties, late, escaped, plain, later int
	for i, a := range all {
		var m map[string]any
		if err := json.Unmarshal(a.Text, &m); err != nil {
			t.Fatalf("%v in %s", err, a.Text)
		}
		want(t, "key of the decoded alert", GraphKeyOf(m), a.Key())
		parsed, err := ParseGraphAlert(a.Text)
		want(t, "error", err, nil)
		parsed.VisibleAt, parsed.Text = a.VisibleAt, nil
		b := a
		b.Text = nil
		if !parsed.Created.Equal(b.Created) || !parsed.Updated.Equal(b.Updated) {
			t.Errorf("times of %+v became %+v", b, parsed)
		}
		parsed.Created, parsed.Updated = b.Created, b.Updated
		if parsed.Key() != b.Key() || parsed.Severity != b.Severity || parsed.Status != b.Status ||
			parsed.Classification != b.Classification || parsed.Determination != b.Determination ||
			parsed.ServiceSource != b.ServiceSource || parsed.AssignedTo != b.AssignedTo {
			t.Errorf("%+v became %+v", b, parsed)
		}
		if len(a.Text) < 2000 || len(a.Text) > 7000 {
			t.Errorf("%d bytes", len(a.Text))
		}
		for _, field := range []string{
			"incidentId", "title", "recommendedActions", "classification", "mitreTechniques", "comments",
			"systemTags", "resolvedDateTime",
		} {
			if _, ok := m[field]; !ok {
				t.Errorf("%s is missing", field)
			}
		}
		for _, e := range m["evidence"].([]any) {
			kinds[e.(map[string]any)["@odata.type"].(string)]++
		}
		if title := m["title"].(string); slices.ContainsFunc([]rune(title), func(r rune) bool { return r > 127 }) {
			if strings.Contains(string(a.Text), title) {
				plain++
			} else {
				escaped++
			}
		}
		if was, ok := last[a.ID]; ok {
			updates++
			if !a.Updated.After(was.Updated) || a.Status == was.Status || len(m["comments"].([]any)) == 0 {
				t.Errorf("update: %+v after %+v", b, was.Updated)
			}
		}
		last[a.ID] = a
		if i > 0 && all[i-1].Updated.Equal(a.Updated) {
			ties++
		}
		disordered := i > 0 && all[i-1].Updated.After(a.Updated)
		if disordered || a.Updated.Before(from.Add(-time.Second)) || a.Updated.After(to.Add(time.Second)) {
			t.Errorf("out of order: %v", a.Updated)
		}
		if n := a.Updated.Nanosecond(); (int64(n)*3+500)%10_000_000 > 1000 {
			t.Errorf("%v is no multiple of 1/300 s", a.Updated)
		}
		if !a.VisibleAt.IsZero() {
			late++
		}
		if a.ServiceSource == "microsoftDefenderForCloud" {
			later++
		}
	}
	want(t, "updates", updates, 300)
	want(t, "kinds of evidence", len(kinds), 6)
	for name, n := range map[string]int{
		"ties": ties, "late": late, "escaped": escaped, "not escaped": plain, "of a later member": later,
	} {
		if n < 50 {
			t.Errorf("%s: %d of 1000", name, n)
		}
	}
}

func TestALargeGraphAlert(t *testing.T) {
	all := GenerateGraph(source(1), 3, 0, noon, noon.Add(time.Minute), GraphMix{Large: true})
	a := all[slices.IndexFunc(all, func(a GraphAlert) bool { return len(a.Text) > 10_000 })]
	var m struct{ Evidence []map[string]any }
	if err := json.Unmarshal(a.Text, &m); err != nil {
		t.Fatal(err)
	}
	want(t, "pieces of evidence", len(m.Evidence), 400)
	if n := len(a.Text); n < 1<<20 || n > 1<<20+20_000 {
		t.Errorf("%d bytes", n)
	}
}

func TestGraphGeneratorsAreDeterministic(t *testing.T) {
	make := func() []GraphAlert { return GenerateGraph(source(1), 50, 30, noon, noon.Add(time.Hour), GraphMix{}) }
	same := func(a, b GraphAlert) bool { return string(a.Text) == string(b.Text) }
	want(t, "equal", slices.EqualFunc(make(), make(), same), true)
}

func TestTimesOfGraphAlerts(t *testing.T) {
	g := NewGraphGenerator(source(1), GraphMix{})
	for text, tick := range map[string]string{
		"2024-05-06T12:00:00Z":         "2024-05-06T12:00:00Z",
		"2024-05-06T12:00:00.0033332Z": "2024-05-06T12:00:00Z",
		"2024-05-06T12:00:00.0033333Z": "2024-05-06T12:00:00.0033333Z",
		"2024-05-06T12:00:00.0066666Z": "2024-05-06T12:00:00.0033333Z",
		"2024-05-06T12:00:00.0066667Z": "2024-05-06T12:00:00.0066667Z",
		"2024-05-06T12:00:00.9999999Z": "2024-05-06T12:00:00.9966667Z",
	} {
		at, err := time.Parse(time.RFC3339Nano, text)
		want(t, "error", err, nil)
		want(t, text, g.Alert(at).UpdatedText, tick)
	}
	a := g.Alert(noon)
	for _, expect := range []string{".0033333", ".0066667", ".01", ".0133333"} {
		a = g.Update(a, noon)
		want(t, "an update at once", a.UpdatedText, "2024-05-06T12:00:00"+expect+"Z")
	}
	exact := NewGraphGenerator(source(1), GraphMix{Exact: true})
	b := exact.Alert(noon.Add(123456700))
	want(t, "exact", b.UpdatedText, "2024-05-06T12:00:00.1234567Z")
	want(t, "exact update", exact.Update(b, noon).UpdatedText, "2024-05-06T12:00:00.1234569Z")
}

func TestKeysOfGraphRecordsThatCouldNotBeRead(t *testing.T) {
	a := GraphAlert{Text: []byte("42"), Updated: noon}
	want(t, "key", GraphKeyOf(map[string]any{"raw": "42", "error": "not an object"}), a.Key())
	b := galert("a", noon)
	row := map[string]any{"id": []byte("a"), "lastUpdateDateTime": []byte("2024-05-06T12:00:00Z")}
	want(t, "decoded from msgpack", GraphKeyOf(row), b.Key())
}
