package client

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"regexp"
	"strconv"
	"strings"

	"fluent-bit-defender/conf"
	"fluent-bit-defender/entra"
	"fluent-bit-defender/transport"
)

const (
	graphPage = 1000 // rows: the most that $top brings
	// graphID names Microsoft Graph in tokens of v2.
	graphID   = "00000003-0000-0000-c000-000000000000"
	graphRole = "SecurityAlert.Read.All"
	// alertsPath is where the path of alerts ends, whatever a gateway makes of its beginning.
	alertsPath = "alerts_v2"
)

// graph writes requests of security/alerts_v2 of Microsoft Graph.
type graph struct {
	base   *url.URL
	filter string // as configured; empty: none
}

// newGraph takes the filter of cfg. Parameters are those of Microsoft's page on listing alerts_v2.
func newGraph(base *url.URL, cfg *conf.Config) *api {
	grant := "grant the application the application permission " + graphRole + " of Microsoft Graph, with admin consent"
	switch cfg.Auth {
	case conf.ManagedIdentity:
		grant = "give the identity the application role " + graphRole + " of Microsoft Graph"
	case conf.AuthorizationCode:
		grant = "grant the application the delegated permission " + graphRole + " of Microsoft Graph, " +
			"with admin consent, and the person a role that may read alerts, such as Security Reader; " +
			"then log in again with `defenderctl login`"
	}
	return &api{
		target: transport.Target{Name: alertsRequest, Keys: "url and cloud", API: true,
			Slow: "raise read_timeout or lower limit and max_window"},
		address: graph{base: base, filter: cfg.Filter}.address,
		header:  http.Header{"Prefer": {"include-unknown-enum-members"}},
		needs: entra.Needs{
			Audiences: []string{conf.GraphOf(cfg.Cloud), graphID},
			Exact:     true,
			Roles:     []string{graphRole, "SecurityAlert.ReadWrite.All"},
			Grant:     grant,
			Remedies:  map[int]string{500011: "check resource and tenant_id, and " + grant},
		},
		words: map[int]words{
			http.StatusBadRequest:   {remedy: "check filter and limit"},
			http.StatusUnauthorized: {remedy: "check resource and tenant_id, and that cloud is the tenant's"},
			http.StatusForbidden:    {remedy: grant + "; check tenant_id and cloud"},
		},
		said:    graphSaid,
		paced:   base.Host,
		partial: true,
	}
}

func (g graph) address(q Query) (full, shown string, err error) {
	if q.Page != "" {
		return g.page(q.Page)
	}
	var all []string // of these hold
	if g.filter != "" {
		all = append(all, "("+g.filter+")")
	}
	if !q.Since.IsZero() {
		all = append(all, "lastUpdateDateTime ge "+since(q.Since))
	}
	if !q.Until.IsZero() {
		all = append(all, "lastUpdateDateTime le "+until(q.Until))
	}
	top := q.Limit
	if top <= 0 || top > graphPage {
		top = graphPage
	}
	query := "$top=" + strconv.Itoa(top)
	if len(all) > 0 {
		// $ stays as it is: every client sends it so.
		query = "$filter=" + strings.ReplaceAll(url.QueryEscape(strings.Join(all, " and ")), "+", "%20") + "&" + query
	}
	full, shown = withQuery(g.base, query)
	return full, shown, nil
}

// page takes a link to a next page. Only its query is used, all of it, because it is the service's own: it is asked
// where every request goes, for a gateway may stand between us and the host that the link names, and the token goes
// nowhere else.
func (g graph) page(link string) (full, shown string, err error) {
	u, err := g.base.Parse(link)
	switch {
	case err != nil: // its text quotes the link
		return "", "", errors.New("the service's link to the next page is no address: " +
			"more alerts are there, and cannot be asked for")
	case u.RawQuery == "":
		return "", "", errors.New("the service's link to the next page has no query: " +
			"more alerts are there, and cannot be asked for")
	case !strings.EqualFold(path.Base(u.Path), path.Base(g.base.Path)) &&
		!strings.EqualFold(path.Base(u.Path), alertsPath):
		return "", "", errors.New("the service's link to the next page is not one of alerts: " +
			"more are there, and cannot be asked for")
	}
	next, safe := *g.base, *g.base
	next.RawQuery, next.ForceQuery = asciiQuery(u.RawQuery), false
	safe.RawQuery, safe.ForceQuery = shownQuery(next.RawQuery), false
	return next.String(), safe.String(), nil
}

// asciiQuery escapes what no request line can carry.
func asciiQuery(query string) string {
	var b strings.Builder
	for i := range len(query) {
		if c := query[i]; c <= ' ' || c >= 0x7f || c == '#' {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// shownQuery cuts the values of what is not ours to know, such as $skiptoken.
func shownQuery(query string) string {
	const most = 6 // bytes, less than what gives a secret away: see mask
	parts := strings.Split(query, "&")
	for i, part := range parts {
		name, value, _ := strings.Cut(part, "=")
		switch plain, _ := url.QueryUnescape(name); plain {
		case "$filter", "$top", "$skip", "$count", "$orderby":
		default:
			if len(value) > most {
				parts[i] = name + "=" + value[:most] + "..."
			}
		}
	}
	return strings.Join(parts, "&")
}

var graphCode = regexp.MustCompile(`^[\w.-]{1,64}$`)

// graphSaid quotes the error in the body of a refusal, without secrets. The code can be UnknownError and the message
// empty: the request's id is then all that Microsoft's support can go by.
func graphSaid(m *transport.Mask, body []byte) string {
	var answer struct {
		Error struct {
			Code    string `json:"code"`
			Message string `json:"message"`
			Inner   struct {
				Request string `json:"request-id"`
			} `json:"innerError"`
		} `json:"error"`
	}
	if json.Unmarshal(body, &answer) != nil || answer.Error.Code == "" && answer.Error.Message == "" {
		return m.Text(string(body), 200)
	}
	e := answer.Error
	said := cmp.Or(m.Text(e.Message, 200), "nothing")
	var ids []string
	if graphCode.MatchString(e.Code) {
		ids = append(ids, m.Text(e.Code, 64))
	}
	if conf.IsGUID(e.Inner.Request) {
		ids = append(ids, "request-id "+e.Inner.Request)
	}
	if len(ids) > 0 {
		said += " (" + strings.Join(ids, ", ") + ")"
	}
	return said
}
