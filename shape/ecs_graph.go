package shape

import "slices"

// ecsGraph maps an alert of Microsoft Graph to ECS. All of the evidence stays under the vendor's name too, for only
// there one sees what of it belongs together; beside that the first piece of each kind fills the fields of its kind,
// and all go to the lists of related.*.
var ecsGraph = table{
	vendor: ecsVendor,
	derived: slices.Concat(ecsDerived, []derived{
		{"process.executable", []string{"(process.directory)", "process.name"}, joinPath, "folder and name, joined"},
		{"process.parent.executable", []string{"(process.parent.directory)", "process.parent.name"}, joinPath, "folder and name, joined"},
		{"registry.path", []string{"registry.hive", "registry.key"}, registryPath, "hive and key, joined"},
	}),
	rows: slices.Concat(ecsHead, []row{
		{"description", "message", text},
		{"title", "rule.name message", text},
		{"id", "event.id", text},
		{"createdDateTime", "event.created", date},
		{"firstActivityDateTime", "event.start", date},
		{"lastActivityDateTime", "event.end", date},
		{"serviceSource", "event.provider", text},
		{"severity", "event.severity *", ecsSeverity},
		{"alertWebUrl", "event.url", text},
		{"detectorId", "rule.id", text},
		{"detectionSource", "rule.ruleset", text},
		{"category", "rule.category", text},
		{"category", "threat.tactic.id[] threat.tactic.name[]", tactic},
		{"category", "event.category[]", ecsCategory},
		{"categories", "threat.tactic.id[] threat.tactic.name[] *", tactic},
		{"determination", "event.category[] *", words("`malware` for malware, `email` for phishing, `threat` for apt",
			map[string]string{"malware": "malware", "phishing": "email", "apt": "threat"})},
		{"determination", "event.type[]", words("`indicator` for apt", map[string]string{"apt": "indicator"})},
		{"mitreTechniques", "threat.technique.id[]", technique},
		{"mitreTechniques", "threat.technique.subtechnique.id[]", subtechnique},
		{"threatFamilyName", "threat.software.name", text},
		{"threatDisplayName", "threat.software.name *", text},
		{"actorDisplayName", "threat.group.name", text},
		{"productName", "observer.product", text},
		{"tenantId", "cloud.account.id", text},
		{theTenant, "cloud.account.id", text},
		{"evidence", "*", anyValue},
	}, ecsDevice, ecsFile, ecsProcess, ecsUser, ecsNetwork, ecsRegistry, ecsMail,
		ecsContainers, ecsSessions, ecsFindings),
}
