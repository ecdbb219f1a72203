package shape

import (
	"fmt"
	"strings"
	"testing"
)

// evidenceKinds are all that Microsoft Graph's schema had in August 2026.
const evidenceKinds = `activeDirectoryDomain aiAgent amazonResource analyzedMessage azureResource blob blobContainer
	cloudApplication cloudLogonRequest cloudLogonSession container containerImage containerRegistry device dns file
	fileHash gitHubOrganization gitHubRepo gitHubUser googleCloudResource hostLogonSession ioTDevice ip
	kubernetesCluster
	kubernetesController kubernetesNamespace kubernetesPod kubernetesSecret kubernetesService kubernetesServiceAccount
	mailCluster mailbox mailboxConfiguration malware networkConnection nic oauthApplication process registryKey
	registryValue sasToken securityGroup servicePrincipal submissionMail teamsMessage url user`

// The sample has a piece of each kind, and the tables name no other.
func TestEachKindOfEvidence(t *testing.T) {
	var text strings.Builder
	for _, r := range kindRows(t) {
		text.Write(r)
	}
	documented := map[string]bool{"*": true}
	for _, kind := range strings.Fields(evidenceKinds) {
		documented[kind] = true
		if !strings.Contains(text.String(), `"#microsoft.graph.security.`+kind+`Evidence"`) {
			t.Errorf("testdata/evidence.json has no %s", kind)
		}
	}
	for _, s := range shapes {
		for _, r := range s.table.rows {
			_, kind, ok := strings.Cut(r.from, "evidence[")
			if kind, _, _ = strings.Cut(kind, "]"); ok && !documented[kind] {
				t.Errorf("%s: %s is of no such kind", s.format, r.from)
			}
		}
	}
}

func TestPiecesOfEvidence(t *testing.T) {
	f := func(pieces string, want ...string) { // one, or several with + between them
		t.Helper()
		var all []string
		for piece := range strings.SplitSeq(pieces, " + ") {
			kind, fields, _ := strings.Cut(piece, " ")
			all = append(all, fmt.Sprintf(`{"@odata.type":"#microsoft.graph.security.%sEvidence",%s}`, kind, fields))
		}
		row := fmt.Sprintf(`{"id":"a","lastUpdateDateTime":"2024-01-01T00:00:00Z","evidence":[%s]}`,
			strings.Join(all, ","))
		for i, format := range []string{ECS, OCSF, CEF} {
			r := readAll(t, optionsOf(t, format, graph, false), list([]byte(row)))[0]
			for _, w := range strings.Split(want[i], " && ") {
				if !strings.Contains(string(r.text), w) {
					t.Errorf("%s of %s: want %s in %s", format, pieces, w, r.text)
				}
			}
		}
	}
	f(`device "deviceDnsName":"d","osPlatform":"CentOS","osBuild":19045,"riskScore":"none","vmMetadata":{"vmId":"v"}`,
		`"os":{"name":"CentOS","type":"linux"} && "instance":{"id":"v"}`,
		`"risk_level_id":0,"risk_level":"Info" && "type_id":200,"type":"Linux" && "build":"19045" && "instance_uid":"v"`,
		`dvchost=d`)
	f(`file "verdict":"malicious","fileDetails":{"fileName":"x"}`, `"name":"x"`,
		`"verdict_id":2,"verdict":"True Positive"`, `fname=x`)
	f(`user "userAccount":{"accountName":null,"userPrincipalName":"u@x.example"}`, `"user":{"name":"u@x.example"}`,
		`"user":{"name":"u@x.example"} && "type":"User Name","value":"u@x.example"`, `suser=u@x.example`)
	f(`user "userAccount":{"userPrincipalName":"u@x.example","accountName":"u"}`,
		`"user":{"name":"u"} && "user":["u@x.example","u"]`, `"user":{"name":"u"}`, `suser=u`)
	f(`mailbox "primaryAddress":"m@x.example","displayName":"M"`, `"user":{"full_name":"M","email":"m@x.example"}`,
		`"user":{"name":"m@x.example","full_name":"M","email_addr":"m@x.example"}`, `duser=m@x.example`)
	f(`analyzedMessage "antiSpamDirection":"inbound","deliveryAction":"blocked","urls":["https://h.example/p"],`+
		`"recipientEmailAddress":"m@x.example"`,
		`"action":"blocked" && "direction":"inbound" && "hosts":["h.example"]`, `"value":"https://h.example/p"`,
		`act=blocked duser=m@x.example`)
	f(`registryValue "registryHive":"HKEY_USERS","registryKey":"k","registryValueName":"n","registryValue":"v",`+
		`"registryValueType":"ExpandString"`, `"type":"REG_EXPAND_SZ" && "value":"n"`,
		`"reg_value":{"name":"n","data":"v","type_id":4,"type":"REG_EXPAND_SZ","path":"HKEY_USERS\\k"}`, ``)
	f(`registryValue "registryHive":"HKEY_USERS","registryKey":"k","registryValueName":"","registryValue":"v"`,
		`"strings":["v"]`, `"reg_key":{"path":"HKEY_USERS\\k"}}]`, ``)
	f(`oauthApplication "appId":"a","displayName":"App","objectId":null`, `"evidence":[{`,
		`"resources":[{"uid":"a","name":"App","type":"oauthApplication"}]`, ``)
	f(`networkConnection "sourceAddress":{"ipAddress":"192.0.2.8"},"sourcePort":49801,`+
		`"destinationAddress":{"ipAddress":"203.0.113.20","countryLetterCode":"NL"},"destinationPort":443,"protocol":"tcp"`,
		`"source":{"ip":"192.0.2.8","port":49801} && "destination":{"ip":"203.0.113.20",`+
			` && "transport":"tcp" && "ip":["192.0.2.8","203.0.113.20"]`,
		`"src_endpoint":{"ip":"192.0.2.8","port":49801},"dst_endpoint":{"ip":"203.0.113.20","port":443}`,
		`src=192.0.2.8 spt=49801 dst=203.0.113.20 dpt=443 proto=tcp`)
	f(`networkConnection "sourceAddress":{"ipAddress":"2001:db8::8"},"sourcePort":70000`,
		`"source":{"ip":"2001:db8::8"}`,
		`"src_endpoint":{"ip":"2001:db8::8"}`, `c6a2=2001:db8::8`)
	f(`dns "domainName":"c2.example","ipAddresses":[{"ipAddress":"203.0.113.20"},{"ipAddress":"203.0.113.21"}]`,
		`"question":{"name":"c2.example"},"resolved_ip":["203.0.113.20","203.0.113.21"] && "hosts":["c2.example"]`,
		`"query":{"hostname":"c2.example"} && "value":"203.0.113.21"`, ``)
	f(`fileHash "algorithm":"md5","value":"d41d8cd98f00b204e9800998ecf8427e"`,
		`"file":{"hash":{"md5":"d41d8cd98f00b204e9800998ecf8427e"}}`, `"type":"Hash"`,
		``)
	digest := strings.Repeat("0123456789abcdef", 4)
	f(`fileHash "algorithm":"sha256","value":"`+digest+`"`, `"file":{"hash":{"sha256":"`+digest+`"}}`, `"type":"Hash"`,
		``)
	f(`fileHash "algorithm":"sha256ac","value":"`+digest+`"`, `"related":{"hash":["`+digest+`"]}`, `"type":"Hash"`, ``)
	f(`malware "name":"Mirai","files":[{"fileDetails":{"sha1":"da39a3ee5e6b4b0d3255bfef95601890afd80709"}}]`,
		`"software":{"name":"Mirai"} && "malware" && "hash":["da39a3ee5e6b4b0d3255bfef95601890afd80709"]`,
		`"malware":[{"name":"Mirai"`, `cs1=Mirai`)
	f(`hostLogonSession "account":{"userAccount":{"accountName":"u"}},"host":{"deviceDnsName":"h","mdeDeviceId":"i"}`,
		`"host":{"name":"h","id":"i"} && "user":{"name":"u"} && "session"`,
		`"device":{"type_id":0,"type":"Unknown","uid":"i","hostname":"h"} && "user":{"name":"u"}`,
		`suser=u`)
	f(`cloudLogonSession "account":{"userAccount":{"userPrincipalName":"u@x.example"}},"userAgent":"Mozilla/5.0"`,
		`"user_agent":{"original":"Mozilla/5.0"} && "user":{"name":"u@x.example"}`, `"user":{"name":"u@x.example"}`,
		`suser=u@x.example`)
	f(`submissionMail "sender":"e@y.example","recipient":"m@x.example","subject":"s","senderIp":"198.51.100.8"`,
		`"email":{"subject":"s","to":{"address":["m@x.example"]},"from":{"address":["e@y.example"]}}`,
		`"email":{"from":"e@y.example","to":["m@x.example"],"subject":"s","x_originating_ip":["198.51.100.8"]}`,
		`duser=m@x.example`)
	f(`kubernetesPod "name":"p","namespace":{"name":"n","cluster":{"name":"c"}},"podIp":{"ipAddress":"10.0.0.1"}`,
		`"orchestrator":{"type":"kubernetes","cluster":{"name":"c"},"namespace":"n",`+
			`"resource":{"ip":["10.0.0.1"],"type":"pod","name":"p"}}`,
		`"resources":[{"name":"p","type":"kubernetesPod"}]`, ``)
	f(`container "containerId":"c","image":{"imageId":"i","digestImage":{"imageId":"r/i@sha256:`+digest+`"}},`+
		`"isPrivileged":false`,
		`"container":{"id":"c","security_context":{"privileged":false},`+
			`"image":{"name":"i","hash":{"all":["sha256:`+digest+`"]}}}`,
		`"container":{"uid":"c","image":{"uid":"i"}}`, ``)
	f(`aiAgent "agentId":"7","agentName":"Desk"`, `"gen_ai":{"agent":{"id":"7","name":"Desk"}}`,
		`"resources":[{"uid":"7","name":"Desk","type":"aiAgent"}]`, ``)
	f(`teamsMessage "senderFromAddress":"e@y.example","recipients":["m@x.example"],"senderIP":"198.51.100.9",`+
		`"urls":[{"url":"https://h.example/p"}]`, `"user":["e@y.example","m@x.example"] && "hosts":["h.example"]`,
		`"value":"e@y.example" && "value":"https://h.example/p"`, ``)

	// Several: none takes a place from another that is not its own.
	const process = `process "processId":7,"imageFile":{"fileName":"f.exe","filePath":"/t"}`
	f(`analyzedMessage "deliveryAction":"delivered" + `+process, `"action":"delivered"`, `"name":"f.exe"`,
		`fname=f.exe && filePath=/t && act=delivered`)
	f(`fileHash "algorithm":"sha256","value":"`+digest+`" + `+process, `"sha256"`, `"name":"f.exe"`, `fname=f.exe`)
	f(`ip "ipAddress":"198.51.100.9","roles":["attacker"] + networkConnection "sourceAddress":{"ipAddress":"10.0.0.4"},`+
		`"destinationAddress":{"ipAddress":"203.0.113.20"}`,
		`"source":{"ip":"10.0.0.4"} && "destination":{"ip":"203.0.113.20"} && "198.51.100.9"`,
		`"src_endpoint":{"ip":"198.51.100.9"} && "src_endpoint":{"ip":"10.0.0.4"}`, `src=10.0.0.4 dst=203.0.113.20`)
	f(`ip "ipAddress":"198.51.100.9","roles":["attacker"]`, `"source":{"ip":"198.51.100.9"}`,
		`"src_endpoint":{"ip":"198.51.100.9"}`, `src=198.51.100.9`)
}
