package defendersim

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"time"
)

// Alert is one row of the service (a detection; several rows may share one AlertId). Once added it belongs to the
// service: neither its text nor its slices may change.
type Alert struct {
	FullID  string // "AlertId:IocUniqueId"
	AlertID string
	Part    int
	// Processed is LastProcessedTimeUtc as the text has it; "" when it is missing or null.
	Processed string
	// LastProcessed is what bounds are compared with; zero: the row has no usable time and comes in every answer for
	// Modes.UntimedFor from VisibleAt on.
	LastProcessed time.Time
	// VisibleAt is when the row begins to come in answers; zero: at LastProcessed, or when it is added if it has none.
	VisibleAt time.Time
	// MachineGroup and the tags are what filters are compared with, whether the text has them or not.
	MachineGroup          string
	DeviceTags, CloudTags []string
	// Text is the row as served. It need not be an object, nor valid.
	Text []byte
}

// Key is the row's identity as a reader can compute it from what it received: FullID (else AlertID), AlertPart and
// LastProcessedTimeUtc as written, between bars. A row without ids is known by its text. KeyOf is the other side.
func (a *Alert) Key() string {
	id := a.FullID
	if id == "" {
		id = a.AlertID
	}
	if id == "" {
		return "raw|" + string(a.Text)
	}
	return fmt.Sprintf("%s|%d|%s", id, a.Part, a.Processed)
}

// KeyOf computes an Alert's Key from a received alert, decoded from JSON or msgpack by whatever library. A record of
// a row that could not be read, {"raw": ..., "error": ...}, is known by its text.
func KeyOf(fields map[string]any) string {
	id := textOf(fields["FullId"])
	if id == "" {
		id = textOf(fields["AlertId"])
	}
	if id == "" {
		return "raw|" + textOf(fields["raw"])
	}
	part := textOf(fields["AlertPart"])
	if part == "" {
		part = "0"
	}
	return id + "|" + part + "|" + textOf(fields["LastProcessedTimeUtc"])
}

// textOf is a decoded value as text; "" for null.
func textOf(value any) string {
	switch v := value.(type) {
	case nil:
		return ""
	case []byte:
		return string(v)
	default:
		return fmt.Sprint(v)
	}
}

// ParseAlert makes an Alert of a row's text, for tests that write their own.
func ParseAlert(text []byte) (Alert, error) {
	var f struct {
		FullId, AlertId, LastProcessedTimeUtc, MachineGroup string
		AlertPart                                           int
	}
	if err := json.Unmarshal(text, &f); err != nil {
		return Alert{}, fmt.Errorf("alert text: %w", err)
	}
	a := Alert{
		FullID: f.FullId, AlertID: f.AlertId, Part: f.AlertPart,
		Processed: f.LastProcessedTimeUtc, MachineGroup: f.MachineGroup, Text: text,
	}
	if t, err := time.Parse(time.RFC3339Nano, f.LastProcessedTimeUtc); err == nil && t.Year() > 1 {
		a.LastProcessed = t.UTC()
	}
	return a, nil
}

//go:embed testdata/seed_alert.json
var seedAlert string

// SeedAlertText is the example alert of Microsoft's page, byte for byte, line breaks included.
func SeedAlertText() []byte { return []byte(seedAlert) }

// SeedAlert is the example alert, processed at the given time: LastProcessedTimeUtc and AlertTime are moved, the lag of
// four hours between them stays, all else is verbatim. The zero time leaves it wholly verbatim, in January 2017.
func SeedAlert(at time.Time) Alert {
	a, err := ParseAlert(SeedAlertText())
	if err != nil {
		panic("defendersim: the embedded example is damaged: " + err.Error())
	}
	if at.IsZero() {
		return a
	}
	was := struct{ alert, processed string }{"2017-01-23T07:32:54.1861171Z", a.Processed}
	raised, _ := time.Parse(time.RFC3339Nano, was.alert)
	at = at.UTC().Truncate(100)
	lag := a.LastProcessed.Sub(raised)
	a.LastProcessed, a.Processed = at, stamp(at)
	a.Text = replaceOnce(a.Text, was.alert, stamp(at.Add(-lag)))
	a.Text = replaceOnce(a.Text, was.processed, a.Processed)
	return a
}
