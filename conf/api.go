package conf

import "slices"

// The values of Config.API.
const (
	SIEM  = "siem"  // the SIEM API of Defender for Endpoint
	Graph = "graph" // security/alerts_v2 of Microsoft Graph
)

const (
	allUpdates   = "all"
	firstUpdates = "first"
)

// graphPage is the most rows that Graph gives at once.
const graphPage = 1000

// apiNames are the APIs in a message: `the SIEM API has no ...`.
var apiNames = map[string]string{SIEM: "the SIEM API", Graph: "Microsoft Graph"}

// ownFields are the fields by which records are told apart or that every alert has, beside those of the plugin itself. An
// event id under such a name would replace what an alert says.
var ownFields = map[string][]string{
	SIEM: {"AlertId", "AlertPart", "AlertTime", "FullId", "LastProcessedTimeUtc"},
	Graph: {
		"@odata.type", "actorDisplayName", "additionalData", "alertWebUrl", "assignedTo", "categories", "category", "classification", "comments",
		"createdDateTime", "customDetails", "description", "detectionSource", "detectorId", "determination", "evidence", "firstActivityDateTime", "id",
		"incidentId", "incidentWebUrl", "lastActivityDateTime", "lastUpdateDateTime", "mitreTechniques", "productName", "providerAlertId",
		"recommendedActions", "resolvedDateTime", "serviceSource", "severity", "status", "systemTags", "tenantId", "threatDisplayName",
		"threatFamilyName", "title",
	},
}

// api is the stanza's API; empty while that has a fault of its own.
func (l *loader) api() string {
	if l.bad["api"] {
		return ""
	}
	return l.cfg.API
}

// foreign tells whether k belongs to another API than the stanza's.
func (l *loader) foreign(k *Key) bool { return l.api() != "" && k.API != "" && k.API != l.api() }

// taken tells whether records have a field of that name.
func (l *loader) taken(name string) bool {
	return name == l.cfg.TimeKey || name == "error" || name == "raw" || slices.Contains(ownFields[l.api()], name)
}
