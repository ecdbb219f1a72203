package defendersim

import (
	"bytes"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// graphPage answers with one page of what the query finds now.
func (x *exchange) graphPage() {
	versions, total := x.s.findGraph(x.req.Graph, &x.modes, x.req)
	last := x.req.Graph.Offset+len(versions) >= total
	share := x.modes.Graph.Partial
	if x.fault != nil && x.fault.partial > 0 {
		share = x.fault.partial
	}
	status := http.StatusOK
	if share > 0 {
		status = http.StatusPartialContent
		services := []string{"Windows Defender ATP", "Azure Advanced Threat Protection", "MCAS"}
		x.w.Header().Set("Warning", fmt.Sprintf(`199 - "Microsoft/%s/504/%d"`,
			services[x.rand().IntN(3)], 1000+x.rand().IntN(9000)))
		versions = slices.DeleteFunc(versions, func(*GraphVersion) bool { return x.rand().Float64() < share })
	}
	all := strings.Contains(strings.ToLower(x.r.Header.Get("Prefer")), "include-unknown-enum-members")
	if all {
		x.w.Header().Set("Preference-Applied", "include-unknown-enum-members")
	}
	texts, fates := x.s.graphTexts(versions, x.req, all)

	head := `{"@odata.context":"` + GraphHost + `/v1.0/$metadata#security/alerts_v2",`
	if x.req.Graph.Count {
		head += `"@odata.count":` + strconv.Itoa(total) + ","
	}
	next := ""
	if !last || x.modes.Graph.LastLink && x.req.Graph.Offset < total {
		next = `"@odata.nextLink":"` + x.nextLink() + `"`
	}
	tail := "]}"
	switch {
	case next == "":
	case x.modes.Graph.LateLink:
		tail = "]," + next + "}"
	default:
		head += next + ","
	}
	x.list(status, head+`"value":[`, tail, texts, fates)
}

// nextLink leads to the page after this one.
func (x *exchange) nextLink() string {
	q, m := x.req.Graph, x.modes.Graph
	base := m.LinkHost
	if base == "" {
		scheme := "http"
		if x.r.TLS != nil || x.r.URL.Scheme == "https" { // the in-memory wire keeps the whole address
			scheme = "https"
		}
		base = scheme + "://" + x.r.Host
	}
	offset := q.Offset + q.Top
	if m.LoopLinks {
		offset = q.Offset
	}
	return base + graphPath + "?$skiptoken=" + q.token(offset, x.req.At, x.s.issuer.key)
}

// findGraph is the page's versions, and how many there are on all pages.
func (s *Service) findGraph(q GraphQuery, m *Modes, req Request) (page []*GraphVersion, total int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	rows := s.graph.choose(q, m, req.At)
	from := min(q.Offset, len(rows))
	return rows[from:min(from+q.Top, len(rows))], len(rows)
}

// graphTexts are the versions as an answer carries them: members of enums that came later than a reader's version of
// the API stand there only for one that asks for them.
func (s *Service) graphTexts(versions []*GraphVersion, req Request, members bool) (texts [][]byte, fates []*Fate) {
	s.mu.Lock()
	defer s.mu.Unlock()
	known := enums["serviceSource"]
	for _, v := range versions {
		text := v.text(v.Text, req.At)
		newer := slices.Index(known, v.ServiceSource) > slices.Index(known, sentinel)
		if newer && !members {
			was, now := quoted("serviceSource", v.ServiceSource), quoted("serviceSource", sentinel)
			text = bytes.Replace(text, []byte(was), []byte(now), 1)
		}
		texts, fates = append(texts, text), append(fates, &v.Fate)
	}
	return texts, fates
}

// graphAuthorized checks the bearer token as Graph does, and answers 401 or 403 when it is not good.
func (x *exchange) graphAuthorized() bool {
	tok, _, why := x.bearer(x.s.cfg.GraphAudiences)
	if why != "" {
		x.graphChallenge()
		x.graphError(http.StatusUnauthorized, "InvalidAuthenticationToken", why+".")
		return false
	}
	if !slices.Contains(tok.grants, GraphPermission) && !slices.Contains(tok.grants, "SecurityAlert.ReadWrite.All") {
		x.graphError(http.StatusForbidden, "Forbidden", "Missing application roles. "+
			"API required roles: "+GraphPermission+",SecurityAlert.ReadWrite.All, "+
			"application roles: "+strings.Join(tok.grants, ",")+".")
		return false
	}
	return true
}

func (x *exchange) graphChallenge() {
	x.w.Header().Set("WWW-Authenticate", fmt.Sprintf("Bearer realm=\"\", authorization_uri=%q, client_id=%q",
		LoginHost+"/common/oauth2/authorize", GraphAppID))
}

// graphStatus answers with an error as a fault wants it.
func (x *exchange) graphStatus(status int) {
	switch status {
	case http.StatusBadRequest:
		x.graphError(status, "BadRequest", "Invalid request.")
	case http.StatusUnauthorized:
		x.graphChallenge()
		x.graphError(status, "InvalidAuthenticationToken", "Access token has expired or is not yet valid.")
	case http.StatusForbidden:
		x.graphError(status, "Forbidden", "The account does not have access to this report or data.")
	case http.StatusTooManyRequests:
		x.graphError(status, "TooManyRequests",
			"Too many requests. Please retry after the time in the Retry-After header.")
	case http.StatusFound, http.StatusMovedPermanently, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		x.status(status)
	default: // of a gateway, mostly without a word
		x.graphError(status, "UnknownError", "")
	}
}

// graphError answers with an error in Graph's form.
func (x *exchange) graphError(status int, code, message string) {
	type inner struct {
		Date            string `json:"date"`
		RequestID       string `json:"request-id"`
		ClientRequestID string `json:"client-request-id"`
	}
	type body struct {
		Code    string `json:"code"`
		Message string `json:"message"`
		Inner   inner  `json:"innerError"`
	}
	id := x.uuid()
	client := x.r.Header.Get("client-request-id")
	if client == "" {
		client = id
	}
	x.w.Header().Set("request-id", id)
	x.json(status, struct {
		Error body `json:"error"`
	}{body{code, message, inner{x.s.Now().UTC().Format("2006-01-02T15:04:05"), id, client}}})
}
