package client

import (
	"errors"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"fluent-bit-defender/conf"
	"fluent-bit-defender/entra"
	"fluent-bit-defender/transport"
)

// siem writes requests of the SIEM API of Defender for Endpoint.
type siem struct {
	base    *url.URL   // the endpoint as configured, its own query included
	filters url.Values // sent with every request
}

// siemAudiences are the resource of Microsoft's page, and that of applications which were not made through the portal.
var siemAudiences = []string{"https://graph.windows.net", "https://WDATPAlertExport.Seville.onmicrosoft.com"}

// siemWords are what the SIEM API means by its refusals.
var siemWords = map[int]words{
	http.StatusBadRequest: {remedy: "check machine_groups, device_created_machine_tags, cloud_created_machine_tags, " +
		"limit and ago"},
	http.StatusUnauthorized: {remedy: "check resource and tenant_id, that cloud and region are the tenant's, " +
		"and that client_id is the application made for SIEM integration"},
	http.StatusForbidden: {
		more: ": a domain is not managed by the tenant's administrator, the tenant is deleted, " +
			"or the application may not read alerts",
		remedy: "enable SIEM integration in Defender for this tenant, grant the application access, " +
			"and check tenant_id, cloud and region",
	},
}

// newSIEM takes the filters of cfg. Parameters and their spelling are those of
// Microsoft's page on pulling alerts.
func newSIEM(base *url.URL, cfg *conf.Config) *api {
	f := url.Values{}
	for _, group := range cfg.MachineGroups {
		f.Add("machinegroups", group)
	}
	if cfg.DeviceCreatedMachineTags != "" {
		f.Set("DeviceCreatedMachineTags", cfg.DeviceCreatedMachineTags)
	}
	if cfg.CloudCreatedMachineTags != "" {
		f.Set("CloudCreatedMachineTags", cfg.CloudCreatedMachineTags)
	}
	return &api{
		target: transport.Target{Name: alertsRequest, Keys: "url, cloud and region", API: true,
			Slow: "raise read_timeout or lower max_window"},
		address: siem{base: base, filters: f}.address,
		needs:   entra.Needs{Audiences: siemAudiences},
		words:   siemWords,
		said:    func(m *transport.Mask, body []byte) string { return m.Text(string(body), 200) },
	}
}

// address returns the address for q, and the form of it that may be logged: the
// configured address can carry a key in its own query, so that is left out there.
func (s siem) address(q Query) (full, shown string, err error) {
	if q.Page != "" {
		return "", "", errors.New("this API has no pages")
	}
	v := maps.Clone(s.filters)
	if !q.Since.IsZero() {
		v.Set("sinceTimeUtc", since(q.Since))
	}
	if !q.Until.IsZero() {
		v.Set("untilTimeUtc", until(q.Until))
	}
	if q.Ago != "" {
		v.Set("ago", q.Ago)
	}
	if q.Limit > 0 {
		v.Set("limit", strconv.Itoa(q.Limit))
	}
	full, shown = withQuery(s.base, strings.ReplaceAll(v.Encode(), "+", "%20"))
	return full, shown, nil
}
