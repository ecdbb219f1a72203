package defendersim

import (
	"encoding/json"
	"slices"
	"testing"
	"time"
)

func decode(t *testing.T, a Alert) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal(a.Text, &m); err != nil {
		t.Fatalf("%v in %s", err, a.Text)
	}
	return m
}

func TestGeneratedRowsHaveTheKeysOfTheExamples(t *testing.T) {
	seed := decode(t, SeedAlert(time.Time{}))
	plain := decode(t, NewGenerator(source(1), Mix{}).Alert(noon))
	for k := range seed {
		if _, ok := plain[k]; !ok {
			t.Errorf("%s is missing", k)
		}
	}
	want(t, "keys of SeedStyle", len(plain), 33)
	gen := NewGenerator(source(1), Mix{
		Style: WideStyle, Groups: []string{"A"}, DeviceTags: []string{"d"}, CloudTags: []string{"c"},
	})
	size := 0
	for range 200 {
		a := gen.Alert(noon)
		m := decode(t, a)
		size += len(a.Text)
		want(t, "keys of WideStyle", len(m), 50)
		want(t, "MachineGroup", m["MachineGroup"], any("A"))
		want(t, "tags", m["DeviceCreatedMachineTags"].(string)+m["CloudCreatedMachineTags"].(string), "dc")
		if users, ok := m["LogOnUsers"].([]any); !ok || len(users) != 2 {
			t.Errorf("LogOnUsers: %v", m["LogOnUsers"])
		}
		if ips, ok := m["InternalIPv4List"].([]any); !ok || len(ips) != 2 {
			t.Errorf("InternalIPv4List: %v", m["InternalIPv4List"])
		}
	}
	if size /= 200; size < 1650 || size > 1850 {
		t.Errorf("a wide row has %d bytes", size)
	}
	padded := NewGenerator(source(1), Mix{Size: 100_000}).Alert(noon)
	want(t, "padded", len(padded.Text), 100_000)
	decode(t, padded)
}

func TestGenerateMixesAllThereIs(t *testing.T) {
	from, to := noon.Add(-time.Hour), noon
	mix := Mix{Style: MixedStyle, Groups: []string{"A", "B"}, LateShare: 0.2, Late: 10 * time.Minute, TieShare: 0.1,
		UpdateShare: 0.1, PartShare: 0.1, UntimedShare: 0.1}
	alerts := Generate(source(5), 2000, from, to, mix)
	want(t, "count", len(alerts), 2000)
	svc := New(Config{Now: func() time.Time { return noon }})
	svc.Add(alerts...) // refuses a key that comes twice
	var ties, updates, parts, late, escaped, plain int
	how := make(map[any]int)
	last := from
	ids := make(map[string]bool)
	for _, a := range alerts {
		m := decode(t, a)
		want(t, "key of the decoded row", KeyOf(m), a.Key())
		parsed, err := ParseAlert(a.Text)
		if err != nil || parsed.Key() != a.Key() || !parsed.LastProcessed.Equal(a.LastProcessed) {
			t.Errorf("parsed: %v %v", parsed, err)
		}
		if ids[a.FullID] && a.Part == 0 {
			updates++
		}
		ids[a.FullID] = true
		if a.Part > 0 {
			parts++
		}
		if title := m["AlertTitle"].(string); slices.ContainsFunc([]rune(title), func(r rune) bool { return r > 127 }) {
			if slices.ContainsFunc(a.Text, func(b byte) bool { return b > 127 }) {
				plain++
			} else {
				escaped++
			}
		}
		if a.LastProcessed.IsZero() {
			v, ok := m["LastProcessedTimeUtc"]
			how[[2]any{v, ok}]++
			continue
		}
		if a.LastProcessed.Before(from) || a.LastProcessed.After(to) || a.LastProcessed.Before(last) {
			t.Errorf("%v comes after %v", a.LastProcessed, last)
		}
		if a.LastProcessed.Equal(last) {
			ties++
		}
		last = a.LastProcessed
		if !a.VisibleAt.IsZero() {
			late++
			if d := a.VisibleAt.Sub(a.LastProcessed); d < 0 || d > mix.Late {
				t.Errorf("late by %v", d)
			}
		}
	}
	for name, n := range map[string]int{
		"ties": ties, "updates": updates, "parts": parts, "late": late,
		"missing": how[[2]any{nil, false}], "null": how[[2]any{nil, true}],
		"zero": how[[2]any{"0001-01-01T00:00:00", true}], "escaped": escaped, "not escaped": plain,
	} {
		if n < 20 {
			t.Errorf("%s: %d of 2000", name, n)
		}
	}
}

func TestGeneratorsAreDeterministic(t *testing.T) {
	a := Generate(source(1), 100, noon, noon.Add(time.Hour), Mix{Style: MixedStyle, UpdateShare: 0.3})
	b := Generate(source(1), 100, noon, noon.Add(time.Hour), Mix{Style: MixedStyle, UpdateShare: 0.3})
	want(t, "equal", slices.EqualFunc(a, b, func(a, b Alert) bool { return string(a.Text) == string(b.Text) }), true)
}

func TestUpdatesAndPartsOfOneAlert(t *testing.T) {
	gen := NewGenerator(source(1), Mix{})
	a := gen.Alert(noon)
	u, p := gen.Update(a, noon.Add(time.Minute)), gen.Part(a, 1)
	m := decode(t, u)
	want(t, "update: FullId", m["FullId"], any(a.FullID))
	want(t, "update: time", m["LastProcessedTimeUtc"], any("2024-05-06T12:01:00Z"))
	want(t, "update: what changed", m["RemediationIsSuccess"], any(true))
	want(t, "part", decode(t, p)["AlertPart"], any(1.0))
	want(t, "part: key", p.Key(), a.FullID+"|1|2024-05-06T12:00:00Z")
	want(t, "the first is as it was", decode(t, a)["AlertPart"], any(0.0))
}

func TestKeysOfRecordsThatCouldNotBeRead(t *testing.T) {
	a := Alert{Text: []byte("42"), LastProcessed: noon}
	want(t, "key", KeyOf(map[string]any{"raw": "42", "error": "not an object"}), a.Key())
	b := row("a", noon)
	want(t, "decoded from msgpack", KeyOf(map[string]any{"AlertId": []byte("a"), "AlertPart": int8(0),
		"LastProcessedTimeUtc": []byte("2024-05-06T12:00:00Z")}), b.Key())
}
