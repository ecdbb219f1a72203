package shape

import "slices"

// ocsfSIEM maps an alert of the SIEM API to a Detection Finding with one piece of evidence. A field of an object that
// the schema allows only together with another stays in unmapped too.
var ocsfSIEM = table{
	vendor:  "unmapped",
	derived: slices.Concat(ocsfDerived, []derived{{"evidences[].file.path", []string{"evidences[].file.parent_folder", "evidences[].file.name"}, joinPath, "folder and name, joined"}}),
	needs:   ocsfNeeds,
	rows: slices.Concat(ocsfHead, []row{
		{"", "is_alert", fixed("`true`", yes)},
		{"", "activity_id", literalInt(1)},
		{"", "activity_name", literal("Create")},
		{"", "type_uid", literalInt(ocsfClass*100 + 1)},
		{"", "type_name", literal(ocsfName + ": Create")},
		{"Severity", "severity_id severity", ocsfSeverity},
		{"Description", "message finding_info.desc", text},
		{"AlertTitle", "finding_info.title message", text},
		{"AlertId", "finding_info.uid", text},
		{"FullId", "finding_info.uid_alt", text},
		{"AlertTime", "metadata.original_time", text},
		{"AlertTime", "finding_info.created_time", millis},
		{"LastProcessedTimeUtc", "finding_info.modified_time *", millis},
		{"LinkToWDATP", "finding_info.src_url", text},
		{"LinkToMTP", "finding_info.src_url *", text},
		{"Category", "finding_info.types[]", text},
		{"Category", "finding_info.attacks[]", ocsfTactic},
		{"IoaDefinitionId", "finding_info.analytic.uid", text},
		{"IoaDefinitiondId", "finding_info.analytic.uid", text}, // so in Microsoft's example
		{"Source", "finding_info.data_sources[] metadata.log_provider", text},
		{"ThreatFamily", "malware[]", ocsfMalware},
		{"", "metadata.product.name", literal("Microsoft Defender for Endpoint")},
		{theTenant, "metadata.tenant_uid", text},

		{"DeviceID", "device.uid evidences[].device.uid", text},
		{"ComputerDnsName", "device.hostname evidences[].device.hostname", text},
		{"ComputerDnsName", "observables[]", observable("device.hostname", 1, "Hostname", nil)},
		{"MachineName", "device.name evidences[].device.name *", text},
		{"MachineDomain", "device.domain evidences[].device.domain *", text},
		{"InternalIPv4List", "observables[] *", listed(observable("device.ip", 2, "IP Address", isIP))},
		{"InternalIPv6List", "observables[] *", listed(observable("device.ip", 2, "IP Address", isIP))},

		{"UserName", "evidences[].user.name", text},
		{"UserName", "observables[]", observable("evidences[].user.name", 4, "User Name", nil)},
		{"UserDomain", "evidences[].user.domain *", text},
		{"LogOnUsers", "observables[] *", listed(observable("unmapped.LogOnUsers", 4, "User Name", nil))},

		{"FileName", "evidences[].file.name", text},
		{"FileName", "observables[]", observable("evidences[].file.name", 7, "File Name", nil)},
		{"FilePath", "evidences[].file.parent_folder *", text},
		{"Md5", "evidences[].file.hashes[] observables[]", digest(32, 1, "MD5", "evidences[].file.hashes[].value")},
		{"Sha1", "evidences[].file.hashes[] observables[]", digest(40, 2, "SHA-1", "evidences[].file.hashes[].value")},
		{"Sha256", "evidences[].file.hashes[] observables[]", digest(64, 3, "SHA-256", "evidences[].file.hashes[].value")},

		{"IpAddress", "evidences[].dst_endpoint.ip", ip},
		{"IPAddress", "evidences[].dst_endpoint.ip", ip},
		{"IpAddress", "observables[]", observable("evidences[].dst_endpoint.ip", 2, "IP Address", isIP)},
		{"IPAddress", "observables[]", observable("evidences[].dst_endpoint.ip", 2, "IP Address", isIP)},
		{"Url", "evidences[].url.url_string", text},
		{"URL", "evidences[].url.url_string", text},
		{"Url", "observables[]", observable("evidences[].url.url_string", 6, "URL String", nil)},
		{"URL", "observables[]", observable("evidences[].url.url_string", 6, "URL String", nil)},
	}, ocsfTail),
}
