package shape

import "slices"

// ecsSIEM maps an alert of the SIEM API to ECS.
var ecsSIEM = table{
	vendor:  ecsVendor,
	derived: ecsDerived,
	rows: slices.Concat(ecsHead, []row{
		{"Description", "message", text},
		{"AlertTitle", "rule.name message", text},
		{"AlertId", "event.id", text},
		{"AlertTime", "event.created", date},
		{"Source", "event.provider", text},
		{"Severity", "event.severity *", ecsSeverity},
		{"LinkToWDATP", "event.url", text},
		{"LinkToMTP", "event.url *", text},
		{"RemediationAction", "event.action", text},
		{"RemediationIsSuccess", "event.outcome", outcome},
		{"IoaDefinitionId", "rule.id", text},
		{"IoaDefinitiondId", "rule.id", text}, // so in Microsoft's example
		{"Category", "rule.category", text},
		{"Category", "threat.tactic.id[] threat.tactic.name[]", tactic},
		{"Category", "event.category[]", ecsCategory},
		{"ThreatCategory", "event.category[] *", ecsCategory},
		{"ThreatFamily", "threat.software.name", text},
		{"ThreatName", "threat.software.name *", text},
		{"Actor", "threat.group.name", text},
		{"", "observer.product", literal("Microsoft Defender for Endpoint")},
		{theTenant, "cloud.account.id", text},

		{"DeviceID", "host.id", text},
		{"ComputerDnsName", "host.name related.hosts[]", text},
		{"MachineName", "host.hostname host.name related.hosts[]", text},
		{"MachineDomain", "host.domain", text},
		{"InternalIPv4List", "host.ip[] related.ip[]", listed(ip)},
		{"InternalIPv6List", "host.ip[] related.ip[]", listed(ip)},

		{"UserName", "user.name related.user[]", text},
		{"UserDomain", "user.domain", text},
		{"LogOnUsers", "related.user[] *", listed(text)},

		{"CommandLine", "process.command_line", text},

		{"FileName", "file.name", text},
		{"FilePath", "file.directory", text},
		{"Sha1", "file.hash.sha1 related.hash[]", hash(40)},
		{"Sha256", "file.hash.sha256 related.hash[]", hash(64)},
		{"Md5", "file.hash.md5 related.hash[]", hash(32)},
		{"FileHash", "related.hash[]", anyHash},

		{"IpAddress", "destination.ip related.ip[]", ip},
		{"IPAddress", "destination.ip related.ip[]", ip},
		{"Url", "url.original", text},
		{"URL", "url.original", text},
		{"Url", "url.scheme", urlScheme},
		{"URL", "url.scheme", urlScheme},
		{"Url", "url.domain related.hosts[]", urlHost},
		{"URL", "url.domain related.hosts[]", urlHost},
	}),
}
