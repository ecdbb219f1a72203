package conf

import (
	"net/url"
	"strings"
)

// preset is one cloud of Microsoft's. Sources disagree on the hosts of the government clouds, so url, authority and
// resource override each part.
type preset struct {
	authority string
	alerts    string // {region} is the region's place
}

const (
	azure    = "https://login.microsoftonline.com"
	azureGov = "https://login.microsoftonline.us"

	siemResource = "https://graph.windows.net"

	// imds is the instance metadata service of Azure's machines, the same address everywhere.
	imds = "http://169.254.169.254/metadata/identity/oauth2/token"
)

var presets = map[string]preset{
	"public":   {azure, "https://wdatp-alertexporter-{region}.windows.com/api/alerts"},
	"gcc":      {azure, "https://wdatp-alertexporter-us.gcc.securitycenter.windows.us/api/alerts"},
	"gcc_high": {azureGov, "https://wdatp-alertexporter-us.securitycenter.windows.us/api/alerts"},
	"dod":      {azureGov, "https://wdatp-alertexporter-us.securitycenter.windows.us/api/alerts"},
}

// byRegion tells the cloud that has several regions from those that are one.
func (p preset) byRegion() bool { return strings.Contains(p.alerts, "{region}") }

func (p preset) url(region string) string { return strings.ReplaceAll(p.alerts, "{region}", region) }

// resolve fills in what the stanza left to the presets. The stanza has passed its checks.
func (c *Config) resolve() {
	p := presets[c.Cloud]
	if c.URL == "" {
		c.URL = p.url(c.Region)
	}
	if c.Authority == "" {
		c.Authority = p.authority
	}
	if c.Auth == ManagedIdentity {
		if c.TenantID == "" {
			c.TenantID = NoTenant
		}
		if c.ManagedIdentityEndpoint == "" {
			c.ManagedIdentityEndpoint = imds
		}
	} else if c.TokenURL == "" {
		// v1, because resource is a v1 parameter; a token_url that ends in /v2.0/token gets a scope instead.
		c.TokenURL = c.Authority + "/" + c.TenantID + "/oauth2/token"
	}
	if c.Resource == "" {
		c.Resource = siemResource
	}
}

// Place names where the alerts come from, as a part of the state key: cloud and region, such as "public/eu" or
// "gcc_high/us", or the host (and port) of a url of one's own, such as "127.0.0.1:8443".
func (c *Config) Place() string {
	p, known := presets[c.Cloud]
	if !known || c.URL != p.url(c.Region) {
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
