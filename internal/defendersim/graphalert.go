package defendersim

import (
	"encoding/json"
	"fmt"
	"time"
)

// GraphAlert is one version of an alert of Microsoft Graph: an update is a further GraphAlert with the same ID and a
// later Updated. Once added it belongs to the service: its text may not change.
type GraphAlert struct {
	ID string
	// UpdatedText is lastUpdateDateTime as the text has it, Updated its time, with which windows are compared.
	UpdatedText      string
	Created, Updated time.Time
	// VisibleAt is when the version begins to come in answers, in the place of the one before; zero: at Updated.
	VisibleAt time.Time
	// What filters are compared with; "": null.
	Severity, Status, Classification, Determination, ServiceSource, AssignedTo string
	// Text is the alert as served. It need not be valid.
	Text []byte
}

// Key is the version's identity as a reader can compute it from what it received: id and lastUpdateDateTime as written,
// with a bar between. GraphKeyOf is the other side.
func (a *GraphAlert) Key() string {
	if a.ID == "" {
		return "raw|" + string(a.Text)
	}
	return a.ID + "|" + a.UpdatedText
}

// GraphKeyOf computes a GraphAlert's Key from a received alert, decoded from JSON or msgpack by whatever library. A
// record of an alert that could not be read, {"raw": ..., "error": ...}, is known by its text.
func GraphKeyOf(fields map[string]any) string {
	id := textOf(fields["id"])
	if id == "" {
		return "raw|" + textOf(fields["raw"])
	}
	return id + "|" + textOf(fields["lastUpdateDateTime"])
}

// ParseGraphAlert makes a GraphAlert of its text, for tests that write their own.
func ParseGraphAlert(text []byte) (GraphAlert, error) {
	var f struct {
		ID, LastUpdateDateTime, CreatedDateTime                                    string
		Severity, Status, Classification, Determination, ServiceSource, AssignedTo string
	}
	if err := json.Unmarshal(text, &f); err != nil {
		return GraphAlert{}, fmt.Errorf("alert text: %w", err)
	}
	a := GraphAlert{
		ID: f.ID, UpdatedText: f.LastUpdateDateTime, Severity: f.Severity, Status: f.Status,
		Classification: f.Classification, Determination: f.Determination,
		ServiceSource: f.ServiceSource, AssignedTo: f.AssignedTo, Text: text,
	}
	var err error
	if a.Updated, err = parseTime(f.LastUpdateDateTime); err != nil {
		return GraphAlert{}, fmt.Errorf("alert text: lastUpdateDateTime: %w", err)
	}
	if a.Created, err = parseTime(f.CreatedDateTime); err != nil {
		return GraphAlert{}, fmt.Errorf("alert text: createdDateTime: %w", err)
	}
	return a, nil
}

// property is what a filter compares; "": null.
func (a *GraphAlert) property(name string) string {
	switch name {
	case "severity":
		return a.Severity
	case "status":
		return a.Status
	case "classification":
		return a.Classification
	case "determination":
		return a.Determination
	case "serviceSource":
		return a.ServiceSource
	}
	return a.AssignedTo
}
