package shape

import (
	"slices"
	"strings"
)

// ocsfGraph maps an alert of Microsoft Graph to a Detection Finding. Each piece of evidence becomes one of
// evidences[], whole in data, and with the objects that OCSF has for it.
var ocsfGraph = table{
	vendor: "unmapped",
	derived: slices.Concat(ocsfDerived, []derived{
		{"is_alert", nil, orTrue, "`true` for all else"},
		{"metadata.product.name", nil, orText("Microsoft Defender"), "`Microsoft Defender` where the alert names none"},
		{"evidences[].file.path", []string{"evidences[].file.parent_folder", "evidences[].file.name"}, joinPath, "folder and name, joined"},
		{"evidences[].process.file.path", []string{"evidences[].process.file.parent_folder", "evidences[].process.file.name"}, joinPath, "folder and name, joined"},
		{"evidences[].reg_key.path", []string{"(evidences[].hive)", "(evidences[].key)"}, registryPath, "hive and key, joined"},
		{"evidences[].reg_value.path", []string{"(evidences[].hive)", "(evidences[].key)", "evidences[].reg_value.name"}, registryPath, "hive and key, joined, where the value has a name"},
	}),
	needs: ocsfNeeds,
	rows: slices.Concat(ocsfHead, []row{
		{"status", "activity_id activity_name", ocsfActivity},
		{"status", "status_id status", ocsfStatus},
		{"status", "is_alert", notClosed},
		{"severity", "severity_id severity", ocsfSeverity},
		{"description", "message finding_info.desc", text},
		{"title", "finding_info.title message", text},
		{"id", "finding_info.uid", text},
		{"providerAlertId", "finding_info.uid_alt", text},
		{"", "metadata.profiles[]", literal("incident")},
		{"incidentId", "metadata.correlation_uid", text},
		{"incidentWebUrl", "src_url", text},
		{"assignedTo", "assignee.name", text},
		{"assignedTo", "assignee.email_addr", mail},
		{"classification", "verdict_id verdict", ocsfClassification},
		{"createdDateTime", "metadata.original_time", text},
		{"createdDateTime", "finding_info.created_time", millis},
		{"lastUpdateDateTime", "finding_info.modified_time *", millis},
		{"firstActivityDateTime", "start_time finding_info.first_seen_time *", millis},
		{"lastActivityDateTime", "end_time finding_info.last_seen_time *", millis},
		{"alertWebUrl", "finding_info.src_url", text},
		{"category", "finding_info.types[]", text},
		{"category", "finding_info.attacks[]", ocsfTactic},
		{"categories", "finding_info.types[]", text},
		{"mitreTechniques", "finding_info.attacks[]", ocsfAttack},
		{"detectorId", "finding_info.analytic.uid", text},
		{"serviceSource", "finding_info.data_sources[] metadata.log_provider", text},
		{"detectionSource", "finding_info.data_sources[]", text},
		{"threatFamilyName", "malware[]", ocsfMalware},
		{"recommendedActions", "remediation.desc", text},
		{"productName", "metadata.product.name", text},
		{"tenantId", "metadata.tenant_uid", text},
		{theTenant, "metadata.tenant_uid", text},
		{"evidence[*]", "evidences[].data", anyValue},
		{"evidence[*].verdict", "evidences[].verdict_id evidences[].verdict", ocsfVerdict},
	}, ocsfDevice, ocsfFile, ocsfProcess, ocsfUser, ocsfNetwork, ocsfOthers, ocsfResources, ocsfKinds, ocsfTail),
}

var ocsfDevice = []row{
	{"evidence[device].mdeDeviceId", "device.uid evidences[].device.uid", text},
	{"evidence[device].azureAdDeviceId", "device.uid_alt evidences[].device.uid_alt", text},
	{"evidence[device].deviceDnsName", "device.hostname evidences[].device.hostname", text},
	{"evidence[device].hostName", "device.name evidences[].device.name", text},
	{"evidence[device].dnsDomain", "device.domain evidences[].device.domain", text},
	{"evidence[device].ntDomain", "device.domain evidences[].device.domain", text},
	{"evidence[device].lastIpAddress", "device.ip evidences[].device.ip", ip},
	{"evidence[device].osPlatform", "device.os.name evidences[].device.os.name", text},
	{"evidence[device].osPlatform", "device.os.type_id device.os.type evidences[].device.os.type_id evidences[].device.os.type", ocsfOS},
	{"evidence[device].version", "device.os.version evidences[].device.os.version", text},
	{"evidence[device].riskScore", "device.risk_level_id device.risk_level evidences[].device.risk_level_id evidences[].device.risk_level", ocsfRisk},
	{"evidence[device].osBuild", "device.os.build evidences[].device.os.build", numeral},
	{"evidence[device].vmMetadata.vmId", "device.instance_uid evidences[].device.instance_uid", text},
	{"evidence[device].firstSeenDateTime", "device.first_seen_time evidences[].device.first_seen_time", millis},
	{"evidence[device].deviceDnsName", "observables[]", observable("evidences[].device.hostname", 1, "Hostname", nil)},
	{"evidence[device].lastIpAddress", "observables[]", observable("evidences[].device.ip", 2, "IP Address", isIP)},
	{"evidence[device].lastExternalIpAddress", "observables[]", observable("evidences[].data.lastExternalIpAddress", 2, "IP Address", isIP)},
	{"evidence[device].ipInterfaces", "observables[]", observable("evidences[].data.ipInterfaces", 2, "IP Address", isIP)},
	{"evidence[device].loggedOnUsers.accountName", "observables[]", observable("evidences[].data.loggedOnUsers", 4, "User Name", nil)},
}

var ocsfFile = slices.Concat(
	ocsfFileOf("evidence[file].fileDetails", "evidences[].file"),
	[]row{{"evidence[file].fileDetails.fileSize", "evidences[].file.size", long}},
)

func ocsfFileOf(from, to string) []row {
	return []row{
		{from + ".fileName", to + ".name", text},
		{from + ".filePath", to + ".parent_folder", text},
		{from + ".filePublisher", to + ".company_name", text},
		{from + ".md5", to + ".hashes[] observables[]", digest(32, 1, "MD5", to+".hashes[].value")},
		{from + ".sha1", to + ".hashes[] observables[]", digest(40, 2, "SHA-1", to+".hashes[].value")},
		{from + ".sha256", to + ".hashes[] observables[]", digest(64, 3, "SHA-256", to+".hashes[].value")},
		{from + ".fileName", "observables[]", observable(to+".name", 7, "File Name", nil)},
	}
}

var ocsfProcess = slices.Concat([]row{
	{"evidence[process].processId", "evidences[].process.pid", integer},
	{"evidence[process].processCommandLine", "evidences[].process.cmd_line", text},
	{"evidence[process].processCreationDateTime", "evidences[].process.created_time", millis},
	{"evidence[process].imageFile.fileName", "evidences[].process.name", text},
}, ocsfFileOf("evidence[process].imageFile", "evidences[].process.file"), []row{
	{"evidence[process].parentProcessId", "evidences[].process.parent_process.pid", integer},
	{"evidence[process].parentProcessCreationDateTime", "evidences[].process.parent_process.created_time", millis},
	{"evidence[process].parentProcessImageFile.fileName", "evidences[].process.parent_process.name", text},
}, ocsfAccount("evidence[process]", "evidences[].process.user"))

var ocsfUser = slices.Concat(
	ocsfAccount("evidence[user]", "evidences[].user"),
	ocsfAccount("evidence[mailbox]", "evidences[].user"),
	[]row{
		{"evidence[mailbox].primaryAddress", "evidences[].user.name", text},
		{"evidence[mailbox].displayName", "evidences[].user.full_name", text},
		{"evidence[mailbox].primaryAddress", "evidences[].user.email_addr", mail},
		{"evidence[mailbox].primaryAddress", "observables[]", observable("evidences[].user.email_addr", 5, "Email Address", isMail)},
	})

func ocsfAccount(kind, to string) []row {
	const upn = ".userAccount.userPrincipalName"
	_, within, _ := strings.Cut(kind, "]")
	return []row{
		{kind + ".userAccount.accountName", to + ".name", text},
		{kind + upn, to + ".name", text},
		{kind + ".userAccount.userSid", to + ".uid", text},
		{kind + ".userAccount.azureAdUserId", to + ".uid_alt", text},
		{kind + ".userAccount.domainName", to + ".domain", text},
		{kind + ".userAccount.displayName", to + ".full_name", text},
		{kind + ".userAccount.accountName", "observables[]", observable(to+".name", 4, "User Name", nil)},
		{kind + upn, "observables[]", observable("evidences[].data"+within+upn, 4, "User Name", nil)},
	}
}

var ocsfNetwork = []row{
	{"evidence[ip]", "evidences[].src_endpoint.ip", ofRole("ipAddress", ip, "source", "attacker")},
	{"evidence[ip]", "evidences[].dst_endpoint.ip", ofRole("ipAddress", ip, "destination", "commandAndControl")},
	{"evidence[ip].ipAddress", "observables[]", observable("evidences[].data.ipAddress", 2, "IP Address", isIP)},
	{"evidence[url].url", "evidences[].url.url_string", text},
	{"evidence[url].url", "evidences[].url.scheme", urlScheme},
	{"evidence[url].url", "evidences[].url.hostname", urlHost},
	{"evidence[url].url", "observables[]", observable("evidences[].url.url_string", 6, "URL String", nil)},
}

var ocsfOthers = []row{
	{"evidence[registryKey].registryHive", "(evidences[].hive)", text},
	{"evidence[registryKey].registryKey", "(evidences[].key)", text},
	{"evidence[registryValue].registryHive", "(evidences[].hive)", text},
	{"evidence[registryValue].registryKey", "(evidences[].key)", text},
	{"evidence[registryValue].registryValueName", "evidences[].reg_value.name", text},
	{"evidence[registryValue].registryValue", "evidences[].reg_value.data", anyValue},
	{"evidence[registryValue].registryValueType", "evidences[].reg_value.type_id evidences[].reg_value.type", ocsfRegistryType},
	{"evidence[analyzedMessage].p2Sender.emailAddress", "evidences[].email.from", mail},
	{"evidence[analyzedMessage].p1Sender.emailAddress", "evidences[].email.smtp_from", mail},
	{"evidence[analyzedMessage].recipientEmailAddress", "evidences[].email.to[]", mail},
	{"evidence[analyzedMessage].subject", "evidences[].email.subject", text},
	{"evidence[analyzedMessage].internetMessageId", "evidences[].email.message_uid", text},
	{"evidence[analyzedMessage].networkMessageId", "evidences[].email.uid", text},
	{"evidence[analyzedMessage].senderIp", "evidences[].email.x_originating_ip[]", ip},
	{"evidence[analyzedMessage].senderIp", "observables[]", observable("evidences[].email.x_originating_ip", 2, "IP Address", isIP)},
	{"evidence[analyzedMessage].urls", "observables[]", observable("evidences[].data.urls", 6, "URL String", nil)},
	{"evidence[analyzedMessage].p2Sender.emailAddress", "observables[]", observable("evidences[].email.from", 5, "Email Address", isMail)},
	{"evidence[analyzedMessage].recipientEmailAddress", "observables[]", observable("evidences[].email.to", 5, "Email Address", isMail)},
}
