package defendersim

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"
	"unicode/utf8"
)

// Values of generated rows. What they hold besides plain text is what readers get wrong: scripts, quotes, escapes.
var (
	titles = []string{
		"Suspicious PowerShell commandline", "A process was injected with potentially malicious code",
		"Anomalous token use", "Ungewöhnliche Anmeldung über eine Fernverbindung",
		"Détection d’un outil à « double usage »", "疑わしいスクリプトの実行",
		"Подозрительный запуск \"cmd.exe\"",
		"Ransomware behaviour 🛡 stopped", "محاولة تسجيل دخول مشبوهة",
	}
	categories = []string{"SuspiciousActivity", "Malware", "CredentialAccess", "LateralMovement", "Exfiltration"}
	severities = []string{"Informational", "Low", "Medium", "High"}
	files      = []string{"powershell.exe", "rundll32.exe", "büro.docm", "wscript.exe", "update\tnow.exe"}
	paths      = []string{
		`C:\Windows\SysWOW64\WindowsPowerShell\v1.0`, `C:\Users\jörg\AppData\Local\Temp`,
		`\\fileserver\share$\tools`, "/opt/срочно",
	}
	sources = []string{"Microsoft Defender ATP", "EDR", "WindowsDefenderAv", "CustomTI"}
)

// object writes one JSON object.
type object struct {
	buf    []byte
	ascii  bool // write \u escapes for all that is not ASCII, as some of Microsoft's writers do
	blank  bool // write "" for an absent text, as later years do, instead of null
	opened bool
}

func (r *object) key(name string) {
	if r.opened {
		r.buf = append(r.buf, ',')
	} else {
		r.buf, r.opened = append(r.buf, '{'), true
	}
	r.buf = append(append(append(r.buf, '"'), name...), '"', ':')
}

func (r *object) raw(name, value string) { r.key(name); r.buf = append(r.buf, value...) }
func (r *object) str(name, value string) { r.key(name); r.quote(value) }

func (r *object) absent(names ...string) {
	for _, n := range names {
		if r.blank {
			r.raw(n, `""`)
		} else {
			r.raw(n, "null")
		}
	}
}

func (r *object) quote(value string) {
	r.buf = append(r.buf, '"')
	for _, c := range value {
		switch {
		case c == '"' || c == '\\':
			r.buf = append(r.buf, '\\', byte(c))
		case c == '\t':
			r.buf = append(r.buf, '\\', 't')
		case c < 0x20 || r.ascii && c >= 0x7f && c < 0x10000:
			r.buf = fmt.Appendf(r.buf, "\\u%04x", c)
		case r.ascii && c >= 0x10000:
			high, low := utf16.EncodeRune(c)
			r.buf = fmt.Appendf(r.buf, "\\u%04X\\u%04X", high, low)
		default:
			r.buf = utf8.AppendRune(r.buf, c)
		}
	}
	r.buf = append(r.buf, '"')
}

// render writes a.Text with the keys of the style, in the order of Microsoft's examples.
func (g *Generator) render(a *Alert, unique string) {
	wide := g.mix.Style == WideStyle || g.mix.Style == MixedStyle && g.rnd.IntN(2) == 0
	r := object{buf: g.buf[:0], blank: wide && g.rnd.IntN(2) == 0, ascii: g.rnd.IntN(4) == 0}
	machine := "desktop-" + g.hex(7, false)
	sha1 := g.hex(40, false)
	title := g.pick(titles)
	raised := a.LastProcessed.Add(-2*time.Minute - time.Duration(g.rnd.Int64N(int64(4*time.Hour)))).Truncate(100)

	r.str("AlertTime", stamp(raised))
	r.str("ComputerDnsName", machine)
	titleAt := len(r.buf)
	r.str("AlertTitle", title)
	r.str("Category", g.pick(categories))
	r.str("Severity", g.pick(severities))
	r.str("AlertId", a.AlertID)
	r.absent("Actor")
	r.str("LinkToWDATP", "https://securitycenter.windows.com/alert/"+a.AlertID)
	r.absent("IocName", "IocValue", "CreatorIocName", "CreatorIocValue")
	r.str("Sha1", sha1)
	r.str("FileName", g.pick(files))
	r.str("FilePath", g.pick(paths))
	if wide {
		r.str("IPAddress", fmt.Sprintf("203.0.113.%d", g.rnd.IntN(256)))
		r.absent("URL")
		r.str("IoaDefinitionId", g.guid())
	} else {
		r.absent("IpAddress", "Url")
		r.str("IoaDefinitiondId", g.guid()) // misspelt, as in the seed
	}
	r.absent("UserName")
	r.raw("AlertPart", strconv.Itoa(a.Part))
	r.str("FullId", a.FullID)
	r.str("LastProcessedTimeUtc", a.Processed)
	r.absent("ThreatCategory", "ThreatFamily", "ThreatName", "RemediationAction")
	r.raw("RemediationIsSuccess", "null")
	r.str("Source", g.pick(sources))
	if wide {
		r.absent("Md5")
		if sum := g.hex(64, false); g.rnd.IntN(2) == 0 {
			r.str("Sha256", sum)
		} else {
			r.absent("Sha256")
		}
		r.raw("WasExecutingWhileDetected", strconv.FormatBool(g.rnd.IntN(2) == 0))
		g.renderWide(&r, a, machine, sha1)
		r.absent("FileHash")
	} else {
		r.raw("Md5", "null")
		r.raw("Sha256", "null")
		r.raw("WasExecutingWhileDetected", "null")
		r.str("FileHash", sha1)
	}
	r.str("IocUniqueId", unique)
	r.buf = append(r.buf, '}')
	if short := g.mix.Size - len(r.buf); short > 0 {
		at := titleAt + len(`,"AlertTitle":"`)
		r.buf = slices.Insert(r.buf, at, []byte(strings.Repeat("pad ", short/4+1)[:short])...)
	}
	a.Text = slices.Clone(r.buf)
	g.buf = r.buf
}

// renderWide writes the keys that later years added, arrays within arrays among them.
func (g *Generator) renderWide(r *object, a *Alert, machine, device string) {
	r.absent("UserDomain")
	users := fmt.Sprintf(`[{"Name":"user%d","Roles":["local",null]},{"Name":"svc","Roles":[]}]`, g.rnd.IntN(100))
	r.raw("LogOnUsers", users)
	r.str("MachineDomain", "corp.example.com")
	r.str("MachineName", machine)
	r.raw("InternalIPv4List", fmt.Sprintf(`["10.%d.0.17","192.0.2.%d"]`, g.rnd.IntN(256), g.rnd.IntN(256)))
	r.raw("InternalIPv6List", "[]")
	r.str("DeviceID", device)
	r.str("MachineGroup", a.MachineGroup)
	r.str("Description", "A command line that is \"encoded\"\u2028twice.\nSeen once.")
	r.str("DeviceCreatedMachineTags", strings.Join(a.DeviceTags, ","))
	r.str("CloudCreatedMachineTags", strings.Join(a.CloudTags, ","))
	r.str("CommandLine", `powershell.exe -enc "`+g.hex(16, true)+`" C:\temp\a.ps1`)
	incident := g.rnd.IntN(1e6)
	r.absent("IncidentLinkToWDATP")
	r.raw("ReportID", strconv.FormatUint(g.rnd.Uint64N(1<<63), 10))
	r.absent("LinkToMTP")
	r.raw("IncidentLinkToMTP", `"https:\/\/security.microsoft.com\/incident\/`+strconv.Itoa(incident)+`"`)
	r.absent("ExternalId")
}

func (g *Generator) guid() string {
	h := g.hex(32, false)
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}
