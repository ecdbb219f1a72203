package defendersim

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// alert makes an alert with so many pieces of evidence of at least so many bytes each.
func (g *GraphGenerator) alert(at time.Time, pieces, least int) GraphAlert {
	at = g.tick(at)
	a := GraphAlert{
		ID:      fmt.Sprintf("da%d_%d", 636207535742330111+g.rnd.Int64N(1e16), int32(g.rnd.Uint32())),
		Updated: at, UpdatedText: stamp(at),
		Created:       at.Add(-time.Duration(g.rnd.Int64N(int64(5 * time.Minute)))).Truncate(100),
		Severity:      g.pick([]string{"informational", "low", "medium", "high"}),
		Status:        "new",
		ServiceSource: g.pick(services),
	}
	r := object{buf: g.buf[:0], ascii: g.rnd.IntN(4) == 0}
	incident := fmt.Sprint(g.rnd.IntN(1e6))
	seen := a.Created.Add(-time.Duration(g.rnd.Int64N(int64(4 * time.Hour)))).Truncate(100)
	r.str("@odata.type", "#microsoft.graph.security.alert")
	r.str("id", a.ID)
	r.str("providerAlertId", a.ID[2:])
	r.str("incidentId", incident)
	r.str("status", a.Status)
	r.str("severity", a.Severity)
	r.absent("classification", "determination")
	r.str("serviceSource", a.ServiceSource)
	detectors := []string{"microsoftDefenderForEndpoint", "antivirus", "customTi", "automatedInvestigation"}
	r.str("detectionSource", g.pick(detectors))
	r.str("productName", "Microsoft Defender for Endpoint")
	r.str("detectorId", g.guid())
	r.str("tenantId", DefaultTenant)
	r.str("title", g.pick(titles))
	r.str("description", "A command line that is \"encoded\"\u2028twice.\nSeen once.")
	r.str("recommendedActions", "1. Validate the alert.\r\n"+
		"2. Scope the incident: find related machines – and accounts.\t3. Contain.")
	r.str("category", g.pick(categories))
	r.absent("assignedTo")
	r.str("alertWebUrl", "https://security.microsoft.com/alerts/"+a.ID+"?tid="+DefaultTenant)
	r.raw("incidentWebUrl", `"https:\/\/security.microsoft.com\/incidents\/`+incident+`?tid=`+DefaultTenant+`"`)
	r.absent("actorDisplayName", "threatDisplayName", "threatFamilyName")
	r.raw("mitreTechniques", `["T1059.001","T1105"]`)
	r.str("createdDateTime", stamp(a.Created))
	r.str("lastUpdateDateTime", a.UpdatedText)
	r.absent("resolvedDateTime")
	r.str("firstActivityDateTime", stamp(seen))
	r.str("lastActivityDateTime", stamp(seen.Add(time.Minute)))
	r.raw("comments", "[]")
	r.raw("systemTags", "[]")
	r.absent("alertPolicyId", "additionalData", "customDetails")
	r.raw("categories", `["`+g.pick(categories)+`"]`)
	r.key("evidence")
	for i := range pieces {
		r.buf = append(r.buf, "[,"[min(i, 1)])
		r.buf = append(r.buf, g.evidence(i, stamp(a.Created), least, r.ascii)...)
	}
	if pieces == 0 {
		r.buf = append(r.buf, '[')
	}
	r.buf = append(r.buf, "]}"...)
	a.Text = slices.Clone(r.buf)
	g.buf = r.buf
	return a
}

// services are serviceSource of generated alerts: the last came later than the set that a reader gets unasked.
var services = []string{"microsoftDefenderForEndpoint", "microsoftDefenderForEndpoint", "microsoftDefenderForIdentity",
	"microsoft365Defender", "microsoftDefenderForOffice365", "microsoftDefenderForCloud"}

// evidence is one piece, of each kind in turn.
func (g *GraphGenerator) evidence(i int, at string, least int, ascii bool) []byte {
	r := object{ascii: ascii}
	begin := func(kind, roles string) {
		r.str("@odata.type", "#microsoft.graph.security."+kind+"Evidence")
		r.str("createdDateTime", at)
		r.str("verdict", g.pick([]string{"unknown", "suspicious", "malicious", "noThreatsFound"}))
		r.str("remediationStatus", g.pick([]string{"none", "remediated", "prevented", "blocked", "notFound", "active"}))
		r.raw("roles", roles)
		r.raw("detailedRoles", "[]")
		r.raw("tags", "[]")
	}
	machine := "desktop-" + g.hex(7, false)
	user := `{"accountName":"j\u00f6rg","domainName":"CORP","userSid":"S-1-5-21-` + fmt.Sprint(g.rnd.IntN(1e9)) +
		`-1001","azureAdUserId":null,"userPrincipalName":"jörg@contoso.example","displayName":null}`
	file := func() string {
		f := object{ascii: ascii}
		f.str("sha1", g.hex(40, false))
		f.str("sha256", g.hex(64, false))
		f.str("fileName", g.pick(files))
		f.str("filePath", g.pick(paths))
		f.raw("fileSize", fmt.Sprint(g.rnd.IntN(1e6)))
		f.absent("filePublisher", "signer", "issuer", "md5")
		return string(f.buf) + "}"
	}
	switch i % 6 {
	case 0:
		begin("device", `["attacked"]`)
		r.str("deviceDnsName", machine+".corp.contoso.example")
		r.str("mdeDeviceId", g.hex(40, false))
		r.absent("azureAdDeviceId", "hostName", "ntDomain", "dnsDomain")
		r.str("firstSeenDateTime", "2020-09-12T07:28:32.4321753Z")
		r.str("osPlatform", "Windows10")
		r.raw("osBuild", "22424")
		r.str("version", "Other")
		r.str("healthStatus", "active")
		r.str("riskScore", "medium")
		r.raw("rbacGroupId", "75")
		r.str("rbacGroupName", g.pick([]string{"UKMachines", "FranceMachines", "Bürorechner"}))
		r.str("onboardingStatus", "onboarded")
		r.str("defenderAvStatus", sentinel)
		r.raw("ipInterfaces", fmt.Sprintf(`["10.0.%d.17","::1"]`, g.rnd.IntN(256)))
		r.absent("vmMetadata", "lastIpAddress", "lastExternalIpAddress")
		r.raw("resourceAccessEvents", "[]")
		r.raw("loggedOnUsers", `[{"accountName":"jörg","domainName":"CORP"}]`)
	case 1:
		begin("process", "[]")
		r.raw("processId", fmt.Sprint(g.rnd.IntN(1<<16)))
		r.raw("parentProcessId", fmt.Sprint(g.rnd.IntN(1<<16)))
		r.str("processCommandLine", `powershell.exe -enc "`+g.hex(24, true)+`" C:\temp\a.ps1`)
		r.str("processCreationDateTime", at)
		r.absent("parentProcessCreationDateTime")
		r.str("detectionStatus", "detected")
		r.str("mdeDeviceId", g.hex(40, false))
		r.raw("imageFile", file())
		r.raw("parentProcessImageFile", "null")
		r.raw("userAccount", user)
	case 2:
		begin("file", "[]")
		r.str("detectionStatus", "prevented")
		r.str("mdeDeviceId", g.hex(40, false))
		r.raw("fileDetails", file())
	case 3:
		begin("user", `["compromised"]`)
		r.raw("userAccount", user)
		r.absent("stream")
	case 4:
		begin("ip", `["commandAndControl"]`)
		r.str("ipAddress", fmt.Sprintf("203.0.113.%d", g.rnd.IntN(256)))
		r.absent("countryLetterCode", "location", "stream")
	default:
		begin("url", "[]")
		r.str("url", "http://пример.example/"+g.hex(8, false)+"?q=\"x\"")
	}
	if short := least - len(r.buf); short > 0 {
		r.str("remediationStatusDetails", strings.Repeat("pad ", short/4+1))
	} else {
		r.absent("remediationStatusDetails")
	}
	return append(r.buf, '}')
}
