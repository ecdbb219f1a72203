package main

import (
	"net/url"
	"strings"

	"fluent-bit-defender/conf"
	"fluent-bit-defender/record"
)

// schema names the fields of the alerts that a stanza pulls.
func schema(cfg *conf.Config) record.Schema {
	if cfg.API == conf.Graph {
		return record.Graph
	}
	return record.SIEM
}

// hint is what is wrong with a key that the plugin takes.
type hint struct{ key, message string }

// otherAPI finds the values of one API in a stanza of the other. The plugin takes them, as any host may stand in for
// the usual ones, but what answers there, or takes the token, is hardly what the stanza asks for.
func otherAPI(cfg *conf.Config) (found []hint) {
	u, err := url.Parse(cfg.URL)
	if err != nil {
		return nil // conf has checked it
	}
	path := strings.ToLower(strings.TrimRight(u.Path, "/"))
	resource := strings.ToLower(strings.TrimRight(cfg.Resource, "/"))
	graph := cfg.API == conf.Graph
	switch {
	case !graph && strings.HasSuffix(path, "/security/alerts_v2"):
		found = append(found, hint{"url", "is of Microsoft Graph, and this stanza has api siem; add api graph"})
	case graph && (strings.HasSuffix(path, "/api/alerts") || strings.HasSuffix(path, "/api/alert")):
		found = append(found, hint{"url",
			"is of the SIEM API, and this stanza has api graph; leave it out: cloud is enough"})
	case graph && strings.HasSuffix(path, "/security/alerts"):
		found = append(found, hint{"url", "is of the legacy alerts of Microsoft Graph, which are gone; " +
			"leave it out, or let it end in /security/alerts_v2"})
	}
	switch resource {
	case "https://graph.microsoft.com", "https://graph.microsoft.us", "https://dod-graph.microsoft.us":
		if !graph {
			found = append(found, hint{"resource",
				"is Microsoft Graph, and this stanza has api siem; leave it out, or add api graph"})
		}
	case "https://graph.windows.net", "https://wdatpalertexport.seville.onmicrosoft.com":
		if graph {
			found = append(found, hint{"resource",
				"is of the SIEM API, and this stanza has api graph; leave it out: cloud is enough"})
		}
	}
	return found
}
