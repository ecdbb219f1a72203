package conf

import (
	"cmp"
	"net/url"
	"strings"
)

// preset is one cloud of Microsoft's. Sources disagree on the hosts of the government clouds, so url, authority and
// resource override each part.
type preset struct {
	authority string
	alerts    string // the SIEM API; {region} is the region's place
	graph     string // Microsoft Graph, which is the resource of its tokens too
}

const (
	azure    = "https://login.microsoftonline.com"
	azureGov = "https://login.microsoftonline.us"

	siemResource = "https://graph.windows.net"

	graphCom    = "https://graph.microsoft.com"
	graphUS     = "https://graph.microsoft.us"
	graphDoD    = "https://dod-graph.microsoft.us"
	graphAlerts = "/v1.0/security/alerts_v2"

	// tenantIDKey is the name that records of the SIEM API, which do not tell their tenant, get for it.
	tenantIDKey = "TenantId"

	// IMDS is the instance metadata service of Azure's machines, the same address everywhere.
	IMDS = "http://169.254.169.254/metadata/identity/oauth2/token"
)

var presets = map[string]preset{
	"public":   {azure, "https://wdatp-alertexporter-{region}.windows.com/api/alerts", graphCom},
	"gcc":      {azure, "https://wdatp-alertexporter-us.gcc.securitycenter.windows.us/api/alerts", graphCom},
	"gcc_high": {azureGov, "https://wdatp-alertexporter-us.securitycenter.windows.us/api/alerts", graphUS},
	"dod":      {azureGov, "https://wdatp-alertexporter-us.securitycenter.windows.us/api/alerts", graphDoD},
}

// byRegion tells the cloud that has several regions from those that are one.
func (p preset) byRegion() bool { return strings.Contains(p.alerts, "{region}") }

func (p preset) url(api, region string) string {
	if api == Graph {
		return p.graph + graphAlerts
	}
	return strings.ReplaceAll(p.alerts, "{region}", region)
}

// GraphOf is the address of Microsoft Graph in a cloud, which is also what its tokens are for; in one that is not
// known, as in public.
func GraphOf(cloud string) string {
	if p, known := presets[cloud]; known {
		return p.graph
	}
	return graphCom
}

// resolve fills in what the stanza left to the presets. The stanza has passed its checks.
func (c *Config) resolve() {
	p := presets[c.Cloud]
	c.URL = cmp.Or(c.URL, p.url(c.API, c.Region))
	c.Authority = cmp.Or(c.Authority, p.authority)
	if c.Auth == ManagedIdentity {
		c.TenantID = cmp.Or(c.TenantID, NoTenant)
		c.ManagedIdentityEndpoint = cmp.Or(c.ManagedIdentityEndpoint, IMDS)
	}
	// v1 for the SIEM API, because resource is a v1 parameter; a token_url that ends in /v2.0/token gets a scope
	// instead.
	v1, v2 := c.Authority+"/"+c.TenantID+"/oauth2/token", c.Authority+"/"+c.TenantID+"/oauth2/v2.0/token"
	switch {
	case c.Auth == ManagedIdentity || c.TokenURL != "":
	case c.API == Graph:
		c.TokenURL = v2
	default:
		c.TokenURL = v1
	}
	// the other formats have a place for it
	if c.TenantIDKey == "" && c.TenantsFile != "" && c.API == SIEM && c.Format == Native {
		c.TenantIDKey = tenantIDKey
	}
	switch {
	case c.Resource != "":
	case c.API == Graph:
		c.Resource = p.graph
	default:
		c.Resource = siemResource
	}
	if c.API == SIEM && c.SuccessorAPI == Graph {
		c.Successor = c.succeeded(p)
		if c.TokenURL == v1 {
			c.Successor.TokenURL = v2
		}
	}
	if c.API == SIEM {
		c.Filter, c.Updates = "", ""
	}
}

// graphTimes are the fields of Graph for those of the SIEM API that a record's time can come from.
var graphTimes = map[string]string{"LastProcessedTimeUtc": "lastUpdateDateTime",
	"LastEventTime": "lastActivityDateTime"}

// succeeded is c, a source of the SIEM API, as one of Microsoft Graph.
func (c *Config) succeeded(p preset) *Config {
	g := *c
	g.API, g.URL, g.Region, g.Resource = Graph, cmp.Or(c.SuccessorURL, p.url(Graph, "")), "", p.graph
	g.MachineGroups, g.DeviceCreatedMachineTags, g.CloudCreatedMachineTags = nil, "", ""
	g.Limit, g.Ago, g.AgoText = min(c.Limit, graphPage), 0, ""
	g.TimeKey = cmp.Or(graphTimes[c.TimeKey], keyNamed("time_key").OfGraph)
	return &g
}

// Place names where the alerts come from, as a part of the state key: cloud and region, such as "public/eu" or
// "gcc_high/us", or the host (and port) of a url of one's own and of Microsoft Graph, such as "127.0.0.1:8443".
func (c *Config) Place() string {
	p, known := presets[c.Cloud]
	if !known || c.API == Graph || c.URL != p.url(c.API, c.Region) {
		if u, err := url.Parse(c.URL); err == nil && u.Host != "" {
			return u.Host
		}
		return c.URL
	}
	if c.Region == "" {
		return c.Cloud + "/us" // the slash keeps it apart from any host
	}
	return c.Cloud + "/" + c.Region
}
