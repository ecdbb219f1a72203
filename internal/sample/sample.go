// Package sample makes the answer that speed is measured on, and measures things in turns: for the benchmarks of the
// packages record and shape and of the module bench.
package sample

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"strconv"
	"time"
)

// Alerts makes n rows shaped like the seed's example with the fields that came later, about 1.7 KB each: nulls,
// 64-digit hashes, escaped paths, some titles beyond ASCII. The body is what the service sends: one array, compact.
func Alerts(n int) []byte {
	titles := []string{
		"Suspicious PowerShell commandline", "Malware was detected", "Verdächtige Anmeldung an einem Gerät",
		"不審なプロセスの実行",
		"An uncommon file was created and added to a Run Key", "Соединение с подозрительным адресом", "Anomalous token",
		"Ransomware behavior detected",
	}
	severities := []string{"Informational", "Low", "Medium", "High"}
	start := time.Date(2024, 3, 1, 0, 0, 0, 0, time.UTC)
	var b bytes.Buffer
	b.WriteByte('[')
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		sum := sha256.Sum256([]byte(strconv.Itoa(i)))
		at := start.Add(time.Duration(i) * 1734567 * time.Microsecond)
		id := fmt.Sprintf("%d_-%d", 638447000000000000+int64(i)*17345, 1114309685+i)
		user := "null"
		if i%3 == 0 {
			user = fmt.Sprintf(`"user%d"`, i%977)
		}
		fmt.Fprintf(&b, `{"AlertTime":"%s","ComputerDnsName":"desktop-%06x.corp.contoso.example","AlertTitle":"%s","Category":"SuspiciousActivity",`+
			`"Severity":"%s","AlertId":"%s","Actor":null,"LinkToWDATP":"https://securitycenter.windows.com/alert/%s","IocName":null,"IocValue":null,`+
			`"CreatorIocName":null,"CreatorIocValue":null,"Sha1":"%x","FileName":"powershell.exe",`+
			`"FilePath":"C:\\Windows\\SysWOW64\\WindowsPowerShell\\v1.0","IpAddress":"10.%d.%d.%d","Url":null,"IoaDefinitionId":"7f1c3609-a3ff-40e2-995b-c01770161d68",`+
			`"UserName":%s,"AlertPart":%d,"FullId":"%s:%X","LastProcessedTimeUtc":"%s","ThreatCategory":null,"ThreatFamily":null,"ThreatName":null,`+
			`"RemediationAction":null,"RemediationIsSuccess":null,"Source":"Microsoft Defender ATP","Md5":null,"Sha256":"%x","WasExecutingWhileDetected":%t,`+
			`"FileHash":"%x","IocUniqueId":"%X","MachineDomain":"corp.contoso.example","MachineName":"desktop-%06x","InternalIPv4List":"10.0.%d.7;127.0.0.1",`+
			`"InternalIPv6List":"fe80::%x:47ff;::1","ReportID":%d,"LinkToMTP":null,"IncidentLinkToMTP":null,"UserDomain":null,"LogOnUsers":"CONTOSO\\user%d",`+
			`"MachineGroup":"UKMachines","DeviceCreatedMachineTags":"","CloudCreatedMachineTags":null,"CommandLine":"\"powershell.exe\" -NoP -Enc %x",`+
			`"DeviceID":"%x","Description":"A process ran a command line that is often used to hide what it does."}`,
			at.Format("2006-01-02T15:04:05.0000000Z"), i, titles[i%len(titles)], severities[i%4], id, id, sum[:20],
			i>>16&255, i>>8&255, i&255,
			user, i%2, id, sum, at.Add(4*time.Minute).Format("2006-01-02T15:04:05.0000000Z"), sum, i%5 == 0, sum[:20],
			sum, i,
			i&255, i&0xffff, 1000000+i, i%977, sum[:12], sum[:20])
	}
	b.WriteByte(']')
	return b.Bytes()
}
