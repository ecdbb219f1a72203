package shape

import "fluent-bit-defender/record"

// OCSF: the class Detection Finding. An enum has its number in x_id and its caption in x; 0 is unknown, 99 something
// else, whose text is the source's then. Times are milliseconds.

const (
	ocsfVersion = "1.8.0"
	ocsfClass   = 2004
	ocsfName    = "Detection Finding"
)

// ocsfHead are the rows of both APIs.
var ocsfHead = []row{
	{"", "class_uid", literalInt(ocsfClass)},
	{"", "class_name", literal(ocsfName)},
	{"", "category_uid", literalInt(2)},
	{"", "category_name", literal("Findings")},
	{theTime, "time", recordTime},
	{"", "metadata.version", literal(ocsfVersion)},
	{"", "metadata.product.vendor_name", literal("Microsoft")},
	{theText, "raw_data", alertText},

	{"", "device.type_id evidences[].device.type_id", literalInt(0)},
	{"", "device.type evidences[].device.type", literal("Unknown")},
	{"", "evidences[].file.type_id evidences[].process.file.type_id", literalInt(1)},
	{"", "evidences[].file.type evidences[].process.file.type", literal("Regular File")},
	{"", "finding_info.analytic.type_id", literalInt(0)},
	{"", "finding_info.analytic.type", literal("Unknown")},
}

// ocsfTail are rows that come into force where nothing else does.
var ocsfTail = []row{
	{theID, "finding_info.uid", eventID},
}

var ocsfDerived = []derived{
	{"severity_id", nil, orInt(0), "0 where the alert has none"},
	{"severity", nil, orText("Unknown"), "`Unknown` where the alert has none"},
	{"activity_id", nil, orInt(0), "0 where the alert tells nothing of it"},
	{"activity_name", nil, orText("Unknown"), "`Unknown` where the alert tells nothing of it"},
	{"type_uid", []string{"activity_id"}, typeUID, "class_uid x 100 + activity_id"},
	{"type_name", []string{"activity_name"}, typeName, "class and activity"},
	{"resources[]", []string{"evidences[].device.uid", "evidences[].device.hostname"}, deviceResource,
		"uid, name and type `device` of each device"},
}

// ocsfNeeds are the fields, any one of which an object must have to be there at all: the schema demands it.
var ocsfNeeds = map[string]string{
	"device":                             "device.uid device.hostname",
	"device.os":                          "device.os.name",
	"finding_info.analytic":              "finding_info.analytic.uid",
	"evidences[].device":                 "evidences[].device.uid evidences[].device.hostname",
	"evidences[].device.os":              "evidences[].device.os.name",
	"evidences[].file":                   "evidences[].file.name",
	"evidences[].process":                "evidences[].process.pid",
	"evidences[].process.file":           "evidences[].process.file.name",
	"evidences[].process.user":           "evidences[].process.user.name evidences[].process.user.uid",
	"evidences[].process.parent_process": "evidences[].process.parent_process.pid",
	"evidences[].user":                   "evidences[].user.name evidences[].user.uid",
	"evidences[].src_endpoint":           "evidences[].src_endpoint.ip",
	"evidences[].dst_endpoint":           "evidences[].dst_endpoint.ip",
	"evidences[].email":                  "evidences[].email.from evidences[].email.to[]",
	"evidences[].reg_key":                "evidences[].reg_key.path",
	"evidences[].reg_value":              "evidences[].reg_value.path",
	"evidences[].container":              "evidences[].container.uid evidences[].container.name",
}

// ocsfRaw is the record of a row that could not be read: a Base Event of which nothing is known.
func ocsfRaw(dst []byte, r *record.Raw) ([]byte, int) {
	for _, name := range []string{"class_uid", "category_uid", "activity_id", "type_uid", "severity_id"} {
		dst = appendInt(appendText(dst, name), 0)
	}
	dst = appendText(appendText(dst, "class_name"), "Base Event")
	dst = appendText(appendText(dst, "activity_name"), "Unknown")
	dst = appendText(appendText(dst, "severity"), "Unknown")
	dst = appendInt(appendText(dst, "time"), r.Time.UnixMilli())
	dst = appendText(appendText(dst, "message"), r.Reason)
	dst = appendText(dst, "metadata")
	if r.Tenant != "" {
		dst = appendText(appendText(appendMapHead(dst, 3), "tenant_uid"), r.Tenant)
	} else {
		dst = appendMapHead(dst, 2)
	}
	dst = appendText(appendText(dst, "version"), ocsfVersion)
	dst = appendMapHead(appendText(dst, "product"), 2)
	dst = appendText(appendText(dst, "vendor_name"), "Microsoft")
	dst = appendText(appendText(dst, "name"), "Microsoft Defender")
	return appendText(appendText(dst, "raw_data"), r.Text), 12
}
