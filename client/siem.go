package client

import (
	"maps"
	"net/url"
	"strconv"
	"strings"
	"time"

	"fluent-bit-defender/conf"
)

// siem writes requests of the SIEM API of Defender for Endpoint. Nothing else in this
// package knows the API: another one needs another address method, while tokens,
// transport, body and errors stay.
type siem struct {
	base      *url.URL   // the endpoint as configured, its own query included
	filters   url.Values // sent with every request
	audiences []string   // whose tokens the API takes
}

// siemAudiences are the resource of Microsoft's page, and that of applications which were not made through the portal.
var siemAudiences = []string{"https://graph.windows.net", "https://WDATPAlertExport.Seville.onmicrosoft.com"}

// newSIEM takes the filters of cfg. Parameters and their spelling are those of
// Microsoft's page on pulling alerts.
func newSIEM(base *url.URL, cfg *conf.Config) siem {
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
	return siem{base: base, filters: f, audiences: siemAudiences}
}

// address returns the address for q, and the form of it that may be logged: the
// configured address can carry a key in its own query, so that is left out there.
func (s siem) address(q Query) (full, shown string) {
	v := maps.Clone(s.filters)
	if !q.Since.IsZero() {
		v.Set("sinceTimeUtc", siemTime(q.Since))
	}
	if !q.Until.IsZero() {
		until := q.Until
		// Upwards: a row at the very bound must not fall out by our rounding.
		if finer := until.Nanosecond() % 100; finer != 0 {
			until = until.Add(time.Duration(100 - finer))
		}
		v.Set("untilTimeUtc", siemTime(until))
	}
	if q.Ago != "" {
		v.Set("ago", q.Ago)
	}
	if q.Limit > 0 {
		v.Set("limit", strconv.Itoa(q.Limit))
	}
	// %20 is a space to every server, + only to most; a real + is %2B here.
	query := strings.ReplaceAll(v.Encode(), "+", "%20")

	u := *s.base
	u.RawQuery, u.ForceQuery = query, false
	shown = u.String()
	if own := s.base.RawQuery; own != "" {
		u.RawQuery = own
		if query != "" {
			u.RawQuery += "&" + query
		}
	}
	return u.String(), shown
}

// siemTime writes t as the API itself writes times: UTC, 100 ns, rounded down.
func siemTime(t time.Time) string {
	return t.UTC().Format("2006-01-02T15:04:05.0000000Z")
}
