package shape

import (
	"slices"

	"fluent-bit-defender/record"
)

// The pieces of evidence of an alert of Microsoft Graph, in ECS.

var ecsDevice = []row{
	{"evidence[device]", "event.category[]", literal("host")},
	{"evidence[device].deviceDnsName", "host.name related.hosts[]", text},
	{"evidence[device].hostName", "host.hostname host.name related.hosts[]", text},
	{"evidence[device].dnsDomain", "host.domain", text},
	{"evidence[device].ntDomain", "host.domain", text},
	{"evidence[device].mdeDeviceId", "host.id", text},
	{"evidence[device].azureAdDeviceId", "host.id", text},
	{"evidence[device].osPlatform", "host.os.name", text},
	{"evidence[device].osPlatform", "host.os.type", osType},
	{"evidence[device].version", "host.os.version", text},
	{"evidence[device].ipInterfaces", "host.ip[] related.ip[]", ip},
	{"evidence[device].lastIpAddress", "host.ip[] related.ip[]", ip},
	{"evidence[device].lastExternalIpAddress", "related.ip[]", ip},
	{"evidence[device].riskScore", "host.risk.calculated_level", text},
	{"evidence[device].vmMetadata.vmId", "~cloud.instance.id", text},
	{"evidence[device].loggedOnUsers.accountName", "related.user[]", text},

	{"evidence[ioTDevice]", "event.category[]", literal("host")},
	{"evidence[ioTDevice].deviceName", "~host.name related.hosts[]", text},
	{"evidence[ioTDevice].deviceId", "~host.id", text},
	{"evidence[ioTDevice].operatingSystem", "~host.os.name", text},
	{"evidence[ioTDevice].ipAddress", "related.ip[]", withinIP},
}

var ecsFile = slices.Concat([]row{
	{"evidence[file]", "event.category[]", literal("file")},
	{"evidence[file].detectionStatus", "event.action", text},
	{"evidence[file].fileDetails.fileSize", "file.size", long},
	{"evidence[file].fileDetails.filePath", "file.directory", text},
	{"evidence[file].fileDetails.signer", "file.code_signature.subject_name", text},
}, ecsFileOf("evidence[file].fileDetails", "file"))

// ecsFileOf are the fields of a file that ECS has both in file.* and in process.*.
func ecsFileOf(from, to string) []row {
	return []row{
		{from + ".fileName", to + ".name", text},
		{from + ".sha1", to + ".hash.sha1 related.hash[]", hash(40)},
		{from + ".sha256", to + ".hash.sha256 related.hash[]", hash(64)},
		{from + ".md5", to + ".hash.md5 related.hash[]", hash(32)},
	}
}

var ecsProcess = slices.Concat([]row{
	{"evidence[process]", "event.category[]", literal("process")},
	{"evidence[process].detectionStatus", "event.action", text},
	{"evidence[process].processId", "process.pid", long},
	{"evidence[process].processCommandLine", "process.command_line", text},
	{"evidence[process].processCreationDateTime", "process.start", date},
	{"evidence[process].imageFile.filePath", "(process.directory)", text},
}, ecsFileOf("evidence[process].imageFile", "process"), []row{
	{"evidence[process].userAccount.accountName", "process.user.name", text},
	{"evidence[process].userAccount.userSid", "process.user.id", text},
	{"evidence[process].parentProcessId", "process.parent.pid", long},
	{"evidence[process].parentProcessCreationDateTime", "process.parent.start", date},
	{"evidence[process].parentProcessImageFile.filePath", "(process.parent.directory)", text},
}, ecsFileOf("evidence[process].parentProcessImageFile", "process.parent"))

var ecsUser = slices.Concat(
	[]row{{"evidence[user]", "event.category[]", literal("iam")}},
	ecsAccount("evidence[user]", ""), ecsAccount("evidence[process]", "~"), ecsAccount("evidence[mailbox]", "~"),
	[]row{
		{"evidence[securityGroup]", "event.category[]", literal("iam")},
		{"evidence[securityGroup].securityGroupId", "group.id", text},
		{"evidence[securityGroup].sid", "group.id", text},
		{"evidence[securityGroup].displayName", "group.name", text},
		{"evidence[cloudApplication].displayName", "cloud.service.name", text},
	})

// ecsAccount are the fields of a userAccount; weak is ~ where the piece is about something else.
func ecsAccount(kind, weak string) []row {
	return []row{
		{kind + ".userAccount.accountName", weak + "user.name related.user[]", text},
		{kind + ".userAccount.domainName", weak + "user.domain", text},
		{kind + ".userAccount.userSid", weak + "user.id", text},
		{kind + ".userAccount.azureAdUserId", weak + "user.id", text},
		{kind + ".userAccount.displayName", weak + "user.full_name", text},
		{kind + ".userAccount.userPrincipalName", weak + "user.name related.user[]", text},
	}
}

var ecsNetwork = []row{
	{"evidence[ip]", "event.category[]", literal("network")},
	{"evidence[ip].ipAddress", "related.ip[]", ip},
	{"evidence[ip]", "~source.ip", ofRole("ipAddress", ip, "source", "attacker")},
	{"evidence[ip]", "~source.geo.country_iso_code", ofRole("countryLetterCode", text, "source", "attacker")},
	{"evidence[ip]", "~destination.ip", ofRole("ipAddress", ip, "destination", "commandAndControl")},
	{"evidence[ip]", "~destination.geo.country_iso_code", ofRole("countryLetterCode", text, "destination", "commandAndControl")},
	{"evidence[url]", "event.category[]", literal("web")},
	{"evidence[url].url", "url.original", text},
	{"evidence[url].url", "url.scheme", urlScheme},
	{"evidence[url].url", "url.domain related.hosts[]", urlHost},
}

var ecsRegistry = slices.Concat(
	[]row{
		{"evidence[registryKey]", "event.category[]", literal("registry")},
		{"evidence[registryKey]", "event.type[]", literal("access")},
		{"evidence[registryValue]", "event.category[]", literal("registry")},
		{"evidence[registryValue]", "event.type[]", literal("access")},
	},
	ecsKey("evidence[registryKey]"), ecsKey("evidence[registryValue]"),
	[]row{
		{"evidence[registryValue].registryValueName", "registry.value", text},
		{"evidence[registryValue].registryValue", "registry.data.strings[]", text},
		{"evidence[registryValue].registryValueType", "registry.data.type", registryType},
	})

func ecsKey(kind string) []row {
	return []row{
		{kind + ".registryHive", "registry.hive", hive},
		{kind + ".registryKey", "registry.key", text},
	}
}

var ecsMail = []row{
	{"evidence[analyzedMessage]", "event.category[]", literal("email")},
	{"evidence[analyzedMessage].internetMessageId", "email.message_id", text},
	{"evidence[analyzedMessage].networkMessageId", "email.local_id", text},
	{"evidence[analyzedMessage].subject", "email.subject", text},
	{"evidence[analyzedMessage].receivedDateTime", "email.delivery_timestamp", date},
	{"evidence[analyzedMessage].recipientEmailAddress", "email.to.address[] related.user[]", text},
	{"evidence[analyzedMessage].p1Sender.emailAddress", "email.sender.address", text},
	{"evidence[analyzedMessage].p2Sender.emailAddress", "email.from.address[]", text},
	{"evidence[analyzedMessage].senderIp", "~source.ip related.ip[]", ip},
	{"evidence[analyzedMessage].antiSpamDirection", "email.direction", text},
	{"evidence[analyzedMessage].deliveryAction", "event.action", text},
	{"evidence[analyzedMessage].urls", "related.hosts[]", urlHost},
	{"evidence[mailCluster]", "event.category[]", literal("email")},
	{"evidence[mailbox]", "event.category[]", literal("email")},
	{"evidence[mailbox].primaryAddress", "~user.email related.user[]", text},
	{"evidence[mailbox].displayName", "~user.full_name", text},
	{"evidence[mailbox].upn", "related.user[]", text},
}

// ofRole takes a field of a piece of evidence that has one of the roles.
func ofRole(name string, as conv, roles ...string) conv {
	doc := "its " + name + ", where its role is "
	for i, r := range roles {
		doc += []string{"", " or "}[min(i, 1)] + r
	}
	return conv{doc: doc, fn: func(e *encoder, r *rule, v []byte) bool {
		if kindOf(v) != record.Object || !hasRole(fieldOf(v, "roles"), roles) {
			return false
		}
		of := fieldOf(v, name)
		return of != nil && !isEmpty(of) && as.fn(e, r, of)
	}}
}

func hasRole(v []byte, roles []string) bool {
	if v == nil || kindOf(v) != record.Array {
		return false
	}
	c := record.NewCursor(v)
	for n := c.Open(); n > 0; n-- {
		s := textIn(c.Skip())
		for _, r := range roles {
			if r == string(s) {
				return true
			}
		}
	}
	return false
}

// withinIP takes the address of a piece of evidence that stands within another.
var withinIP = conv{doc: "its address", fn: func(e *encoder, r *rule, v []byte) bool {
	if kindOf(v) != record.Object {
		return ip.fn(e, r, v)
	}
	of := fieldOf(v, "ipAddress")
	return of != nil && ip.fn(e, r, of)
}}

// fieldOf returns a field's value of an object, nil where it has none.
func fieldOf(v []byte, name string) []byte {
	c := record.NewCursor(v)
	for n := c.Open(); n > 0; n-- {
		if string(c.Text()) == name {
			return c.Skip()
		}
		c.Skip()
	}
	return nil
}
