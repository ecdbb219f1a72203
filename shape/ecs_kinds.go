package shape

import (
	"bytes"
	"slices"

	"fluent-bit-defender/record"
)

// Kinds of evidence that come with the newer sources of alerts (Defender for Cloud, Identity and Office 365), in ECS.

var ecsContainers = slices.Concat([]row{
	{"evidence[container].containerId", "container.id", text},
	{"evidence[container].name", "container.name", text},
	{"evidence[container].isPrivileged", "container.security_context.privileged", boolean},
	{"evidence[container].image.imageId", "container.image.name", text},
	{"evidence[container].image.digestImage.imageId", "container.image.hash.all[]", imageDigest},
	{"evidence[containerImage].imageId", "~container.image.name", text},
	{"evidence[containerImage].digestImage.imageId", "~container.image.hash.all[]", imageDigest},
	{"evidence[kubernetesCluster]", "~orchestrator.type", literal("kubernetes")},
	{"evidence[kubernetesCluster].name", "~orchestrator.cluster.name", text},
	{"evidence[kubernetesCluster].version", "~orchestrator.cluster.version", text},
	{"evidence[kubernetesNamespace]", "~orchestrator.type", literal("kubernetes")},
	{"evidence[kubernetesNamespace].name", "~orchestrator.namespace", text},
	{"evidence[kubernetesNamespace].cluster.name", "~orchestrator.cluster.name", text},
	{"evidence[kubernetesPod].podIp", "orchestrator.resource.ip[] related.ip[]", withinIP},
	{"evidence[kubernetesService].clusterIP", "orchestrator.resource.ip[] related.ip[]", withinIP},
	{"evidence[kubernetesService].externalIPs.ipAddress", "orchestrator.resource.ip[] related.ip[]", ip},
}, ecsInKubernetes("Pod", "pod"), ecsInKubernetes("Controller", "controller"), ecsInKubernetes("Service", "service"),
	ecsInKubernetes("Secret", "secret"), ecsInKubernetes("ServiceAccount", "serviceaccount"))

// ecsInKubernetes are the fields of what has a namespace.
func ecsInKubernetes(kind, resource string) []row {
	kind = "evidence[kubernetes" + kind + "]"
	return []row{
		{kind, "orchestrator.type", literal("kubernetes")},
		{kind, "orchestrator.resource.type", literal(resource)},
		{kind + ".name", "orchestrator.resource.name", text},
		{kind + ".namespace.name", "orchestrator.namespace", text},
		{kind + ".namespace.cluster.name", "orchestrator.cluster.name", text},
	}
}

var ecsSessions = slices.Concat(
	[]row{
		{"evidence[hostLogonSession]", "event.category[]", literal("session")},
		{"evidence[hostLogonSession].host.deviceDnsName", "~host.name related.hosts[]", text},
		{"evidence[hostLogonSession].host.hostName", "~host.hostname ~host.name related.hosts[]", text},
		{"evidence[hostLogonSession].host.mdeDeviceId", "~host.id", text},
		{"evidence[cloudLogonSession]", "event.category[]", literal("session")},
		{"evidence[cloudLogonSession].userAgent", "user_agent.original", text},
		{"evidence[cloudLogonSession].deviceName", "related.hosts[]", text},
		{"evidence[gitHubUser].login", "~user.name related.user[]", text},
		{"evidence[gitHubUser].email", "~user.email related.user[]", text},
		{"evidence[aiAgent].agentId", "gen_ai.agent.id", text},
		{"evidence[aiAgent].agentName", "gen_ai.agent.name", text},
	},
	ecsAccount("evidence[hostLogonSession].account", "~"), ecsAccount("evidence[cloudLogonSession].account", "~"))

var ecsFindings = []row{
	{"evidence[fileHash]", "event.category[]", literal("file")},
	{"evidence[fileHash].value", "related.hash[]", anyHash},
	{"evidence[fileHash]", "~file.hash.sha1", hashBy("sha1", 40)},
	{"evidence[fileHash]", "~file.hash.sha256", hashBy("sha256", 64)},
	{"evidence[fileHash]", "~file.hash.md5", hashBy("md5", 32)},
	{"evidence[blob]", "event.category[]", literal("file")},
	{"evidence[blob].name", "~file.name", text},
	{"evidence[blob].fileHashes.value", "related.hash[]", anyHash},
	{"evidence[blob].url", "~url.original", text},
	{"evidence[blob].url", "~url.scheme", urlScheme},
	{"evidence[blob].url", "~url.domain related.hosts[]", urlHost},
	{"evidence[malware]", "event.category[]", literal("malware")},
	{"evidence[malware].name", "threat.software.name", text},
	{"evidence[malware].files.fileDetails.sha1", "related.hash[]", anyHash},
	{"evidence[malware].files.fileDetails.sha256", "related.hash[]", anyHash},
	{"evidence[malware].files.fileDetails.md5", "related.hash[]", anyHash},

	{"evidence[networkConnection]", "event.category[]", literal("network")},
	{"evidence[networkConnection].sourceAddress.ipAddress", "source.ip related.ip[]", ip},
	{"evidence[networkConnection].sourceAddress.countryLetterCode", "source.geo.country_iso_code", text},
	{"evidence[networkConnection].sourcePort", "source.port", port},
	{"evidence[networkConnection].destinationAddress.ipAddress", "destination.ip related.ip[]", ip},
	{"evidence[networkConnection].destinationAddress.countryLetterCode", "destination.geo.country_iso_code", text},
	{"evidence[networkConnection].destinationPort", "destination.port", port},
	{"evidence[networkConnection].protocol", "network.transport", text},
	{"evidence[dns]", "event.category[]", literal("network")},
	{"evidence[dns].domainName", "dns.question.name related.hosts[]", text},
	{"evidence[dns].ipAddresses.ipAddress", "dns.resolved_ip[] related.ip[]", ip},
	{"evidence[dns].hostIpAddress", "related.ip[]", withinIP},
	{"evidence[nic].ipAddress", "related.ip[]", withinIP},

	{"evidence[submissionMail]", "event.category[]", literal("email")},
	{"evidence[submissionMail].networkMessageId", "~email.local_id", text},
	{"evidence[submissionMail].subject", "~email.subject", text},
	{"evidence[submissionMail].recipient", "~email.to.address[] related.user[]", text},
	{"evidence[submissionMail].sender", "~email.from.address[]", text},
	{"evidence[submissionMail].senderIp", "~source.ip related.ip[]", ip},
	{"evidence[submissionMail].submitter", "related.user[]", text},
	{"evidence[mailboxConfiguration]", "event.category[]", literal("email")},
	{"evidence[mailboxConfiguration].mailboxPrimaryAddress", "~user.email related.user[]", text},
	{"evidence[mailboxConfiguration].upn", "related.user[]", text},
	{"evidence[teamsMessage].senderFromAddress", "related.user[]", text},
	{"evidence[teamsMessage].recipients", "related.user[]", text},
	{"evidence[teamsMessage].senderIP", "related.ip[]", ip},
	{"evidence[teamsMessage].urls.url", "related.hosts[]", urlHost},
}

// hashBy takes the value of a piece that names its algorithm: sha256ac, of Authenticode, has the form of sha256.
func hashBy(algorithm string, digits int) conv {
	return conv{doc: "its value, where its algorithm is " + algorithm, fn: func(e *encoder, r *rule, v []byte) bool {
		if kindOf(v) != record.Object {
			return false
		}
		by, of := fieldOf(v, "algorithm"), fieldOf(v, "value")
		return by != nil && of != nil && string(textIn(by)) == algorithm && isHex(textIn(of), digits) && e.put(r, of)
	}}
}

// imageDigest takes the digest that an image's id is or ends with.
var imageDigest = conv{doc: "its digest", fn: func(e *encoder, r *rule, v []byte) bool {
	const algorithm, digits = "sha256:", 64
	s := textIn(v)
	from := max(0, len(s)-len(algorithm)-digits)
	digest, ok := bytes.CutPrefix(s[from:], []byte(algorithm))
	return ok && (from == 0 || s[from-1] == '@') && isHex(digest, digits) && e.put(r, e.textOf(s[from:]))
}}
