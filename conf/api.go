package conf

import (
	"errors"
	"slices"
)

// The values of Config.API.
const (
	SIEM  = "siem"  // the SIEM API of Defender for Endpoint
	Graph = "graph" // security/alerts_v2 of Microsoft Graph
)

// noSuccessor is the successor of a stanza that has none.
const noSuccessor = "none"

const (
	allUpdates   = "all"
	firstUpdates = "first"
)

// graphPage is the most rows that Graph gives at once.
const graphPage = 1000

// apiNames are the APIs in a message: `the SIEM API has no ...`.
var apiNames = map[string]string{SIEM: "the SIEM API", Graph: "Microsoft Graph"}

// ownFields are the fields by which records are told apart or that every alert has, beside those of the plugin
// itself. An event id under such a name would replace what an alert says.
var ownFields = map[string][]string{
	SIEM: {"AlertId", "AlertPart", "AlertTime", "FullId", "LastProcessedTimeUtc"},
	Graph: {
		"@odata.type", "actorDisplayName", "additionalData", "alertWebUrl", "assignedTo", "categories", "category",
		"classification", "comments", "createdDateTime", "customDetails", "description", "detectionSource",
		"detectorId", "determination", "evidence", "firstActivityDateTime", "id", "incidentId", "incidentWebUrl",
		"lastActivityDateTime", "lastUpdateDateTime", "mitreTechniques", "productName", "providerAlertId",
		"recommendedActions", "resolvedDateTime", "serviceSource", "severity", "status", "systemTags", "tenantId",
		"threatDisplayName", "threatFamilyName", "title",
	},
}

// The values of Config.Format.
const (
	Native = "native"
	ECS    = "ecs"
	OCSF   = "ocsf"
	CEF    = "cef"
)

// MaxBatchSize is the most that batch_size may be, in bytes.
const MaxBatchSize = 16 << 20

// shapeFields are the outermost fields that records of a format may have.
var shapeFields = map[string][]string{
	ECS: {
		"@timestamp", "cloud", "container", "destination", "dns", "ecs", "email", "error", "event", "file", "gen_ai",
		"group", "host", "message", "microsoft", "network", "observer", "orchestrator", "process", "registry",
		"related", "rule", "source", "threat", "url", "user", "user_agent",
	},
	OCSF: {
		"activity_id", "activity_name", "assignee", "category_name", "category_uid", "class_name", "class_uid",
		"device",
		"end_time", "evidences", "finding_info", "is_alert", "malware", "message", "metadata", "observables",
		"raw_data", "remediation", "resources", "severity", "severity_id", "src_url", "start_time", "status",
		"status_id", "time", "type_name", "type_uid", "unmapped", "verdict", "verdict_id",
	},
	CEF: {"error", "message", "native", "raw"},
}

// FieldsOf are the outermost fields that records of a format other than Native may have: no key may add one of that
// name.
func FieldsOf(format string) []string { return shapeFields[format] }

// WithFormat returns c with records of another format. The error completes the sentence "format x ...".
func (c *Config) WithFormat(format string) (*Config, error) {
	if k := keyNamed("format"); !slices.Contains(k.Values, format) {
		return nil, errors.New("is not known; allowed: " + k.allowed())
	}
	of := *c
	of.Format, of.KeepNative = format, c.KeepNative && format != Native
	for _, name := range []string{of.EventIDKey, of.TenantIDKey} {
		if name != "" && slices.Contains(shapeFields[format], name) {
			return nil, errors.New("has a field " + name + " already: give event_id_key or tenant_id_key another name")
		}
	}
	return &of, nil
}

// api is the stanza's API; empty while that has a fault of its own.
func (l *loader) api() string {
	if l.bad["api"] {
		return ""
	}
	return l.cfg.API
}

// foreign tells whether k belongs to another API than the stanza's, and not to that one's successor.
func (l *loader) foreign(k *Key) bool {
	return l.api() != "" && k.API != "" && k.API != l.api() && !(k.Succeeds && l.cfg.SuccessorAPI == Graph)
}

// taken tells whether records have a field of that name.
func (l *loader) taken(name string) bool {
	if of, shaped := shapeFields[l.cfg.Format]; shaped {
		return slices.Contains(of, name)
	}
	return name == l.cfg.TimeKey || name == "error" || name == "raw" || slices.Contains(ownFields[l.api()], name) ||
		l.cfg.SuccessorAPI == Graph && slices.Contains(ownFields[Graph], name)
}
