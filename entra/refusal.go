package entra

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"golang.org/x/oauth2"

	"fluent-bit-defender/conf"
	"fluent-bit-defender/transport"
)

const (
	throttledWait = time.Minute     // for client credentials when a 429 names no time (facts)
	loopCode      = 50196           // loop detected
	loopWait      = 5 * time.Minute // a shorter one keeps the block alive
)

// refusal is the body of a refused token request, RFC 6749 plus Entra ID's own
// fields. All of it is text of others: nothing is shown that did not pass a pattern
// or the mask.
type refusal struct {
	Error         string `json:"error"`
	Description   string `json:"error_description"`
	Codes         []int  `json:"error_codes"`
	Timestamp     string `json:"timestamp"`
	TraceID       string `json:"trace_id"`
	CorrelationID string `json:"correlation_id"`
}

var (
	codeInText = regexp.MustCompile(`AADSTS(\d{4,9})`)
	codePrefix = regexp.MustCompile(`^AADSTS\d+:\s*`)
	errorName  = regexp.MustCompile(`^[a-z_]{1,40}$`)
	timestamp  = regexp.MustCompile(`^[0-9TZ :.+-]{10,40}$`)
	sentence   = regexp.MustCompile(`^(.*?[.!?])(\s|$)`)
)

// failure turns an error of x/oauth2 into one of ours. x/oauth2's own carries the whole answer
// in its text, so it is never wrapped.
func (w *tokenWire) failure(err error) error {
	var own *transport.Error
	var refused *oauth2.RetrieveError
	switch {
	case w.ctx.Err() != nil:
		return fmt.Errorf("%s: %w", grants.Name, w.ctx.Err())
	case errors.Is(err, transport.ErrClosed):
		return fmt.Errorf("%s: %w", grants.Name, transport.ErrClosed)
	case errors.As(err, &own):
		return own
	case errors.As(err, &refused):
		e := w.t.tokenError(grants, refused.Response, refused.Body)
		if e.Status == http.StatusTooManyRequests {
			w.t.net.Rest(w.host, e.RetryAfter)
		}
		return e
	}
	return &transport.Error{Kind: transport.KindTokenTransient, Status: http.StatusOK, Op: grants.Name,
		What:   "the answer holds no token",
		Remedy: "check " + grants.Keys + ", and proxy_url for a proxy with a login page"}
}

// tokenError is the error of a refused token request.
func (t *Tokens) tokenError(to transport.Target, resp *http.Response, body []byte) *transport.Error {
	var r refusal
	if json.Unmarshal(body, &r) != nil {
		// Entra ID's own fields may have other types elsewhere; those of the RFC count.
		var rfc struct {
			Error       string `json:"error"`
			Description string `json:"error_description"`
		}
		_ = json.Unmarshal(body, &rfc)
		r = refusal{Error: rfc.Error, Description: rfc.Description}
	}
	if !errorName.MatchString(r.Error) {
		r.Error = ""
	}
	code, known := r.code()
	status := resp.StatusCode
	e := &transport.Error{Status: status, RetryAfter: t.net.RetryAfter(resp.Header), Code: code, Op: to.Name,
		Credential: r.Error == "invalid_client"}

	if r.Error == "" && code == 0 && status >= 300 {
		e = t.net.StatusError(to, resp, t.net.Mask.Text(beginning(string(body)), 200))
		switch e.Kind {
		case transport.KindThrottled, transport.KindService:
			e.Kind = transport.KindTokenTransient
		case transport.KindConfig:
		default:
			e.Kind = transport.KindToken
			e.What = fmt.Sprintf("refused without a reason (%d)", status)
			e.Remedy = "check " + to.Keys + ", tenant_id and proxy_url"
		}
	} else {
		e.Said = r.quote(t.net.Mask)
		e.What, e.Remedy = r.words(t.needs, t.auth, to, code, known, status)
		e.Kind = transport.KindToken
		if known && diagnoses[code].transient || status == http.StatusTooManyRequests || status >= 500 ||
			r.Error == "temporarily_unavailable" || r.Error == "server_error" {
			e.Kind = transport.KindTokenTransient
		}
	}
	if status == http.StatusTooManyRequests && e.RetryAfter == 0 {
		e.RetryAfter = throttledWait
	}
	if code == loopCode {
		e.RetryAfter = max(e.RetryAfter, loopWait)
	}
	return e
}

// code picks the code to go by: the first one that has a diagnosis, else the first.
func (r *refusal) code() (code int, known bool) {
	codes := r.Codes
	for _, m := range codeInText.FindAllStringSubmatch(r.Description, 4) {
		n, _ := strconv.Atoi(m[1])
		codes = append(codes, n)
	}
	for _, n := range codes {
		if _, known := diagnoses[n]; known {
			return n, true
		}
	}
	for _, n := range codes {
		if n > 0 {
			return n, false
		}
	}
	return 0, false
}

// words says what is wrong and where to mend it, for what an API needs and a credential.
func (r *refusal) words(
	needs *Needs, auth string, to transport.Target, code int, known bool, status int,
) (what, remedy string) {
	prefix := ""
	if code != 0 {
		prefix = fmt.Sprintf("AADSTS%d: ", code)
	}
	if known {
		remedy = diagnoses[code].remedy
		if own, ok := needs.Remedies[code]; ok {
			remedy = own
		}
		return prefix + diagnoses[code].what, remedy
	}
	login := auth == conf.AuthorizationCode
	why := cmp.Or(r.Error, "refused")
	switch {
	case status == http.StatusTooManyRequests:
		return prefix + "throttled (429)", "if it lasts, let fewer programs ask for tokens with this client_id"
	case status >= 500, why == "temporarily_unavailable", why == "server_error":
		return prefix + fmt.Sprintf("the token service is not available (%d)", status), entraHealth
	case login && (why == "invalid_grant" || why == "interaction_required" ||
		why == "login_required" || why == "consent_required"):
		return prefix + "the login is not accepted any more (" + why + ")", logInAgain
	case auth == conf.ManagedIdentity && why == "invalid_request":
		return prefix + "the machine has no such managed identity (invalid_request)",
			"assign the identity to the machine, and check managed_identity_client_id and resource"
	case why == "invalid_client":
		return prefix + "the application or its credential was refused (invalid_client)",
			"check client_id, and " + credentialIn(auth)
	case why == "unauthorized_client":
		return prefix + "the application may not ask for tokens this way (unauthorized_client)",
			"check client_id, tenant_id and auth"
	case why == "invalid_resource", why == "invalid_scope", why == "invalid_target":
		return prefix + "the resource was refused (" + why + ")", "check resource and tenant_id"
	case why == "invalid_request":
		return prefix + "the request was refused (invalid_request)", "check " + to.Keys + ", tenant_id and client_id"
	}
	return prefix + "no token was given (" + why + ")",
		"check " + to.Keys + ", tenant_id, client_id and the application in Entra ID"
}

// credentialIn names the keys that hold a credential.
func credentialIn(auth string) string {
	switch auth {
	case conf.ClientCertificate:
		return "that the certificate of client_certificate_file is uploaded to the application"
	case conf.WorkloadIdentity:
		return "the application's federated credential against the token in federated_token_file"
	case conf.AuthorizationCode:
		return "that the application is a native one (mobile and desktop applications, public client flows allowed)"
	}
	return "client_secret or client_secret_file"
}

// beginning is as much of a text as is looked at: the mask's work grows with it.
func beginning(text string) string { return text[:min(len(text), 4<<10)] }

// quote is what the service says: the first sentence of its description, and what its
// support asks for.
func (r *refusal) quote(m *transport.Mask) string {
	said := codePrefix.ReplaceAllString(m.Text(beginning(r.Description), 2000), "") // the first sentence is wanted
	if first := sentence.FindStringSubmatch(said); first != nil {
		said = first[1]
	}
	said = transport.Clean(said, 200)
	var ids []string
	if r.Error != "" {
		ids = append(ids, r.Error)
	}
	if conf.IsGUID(r.TraceID) {
		ids = append(ids, "trace "+r.TraceID)
	}
	if conf.IsGUID(r.CorrelationID) {
		ids = append(ids, "correlation "+r.CorrelationID)
	}
	if timestamp.MatchString(r.Timestamp) {
		ids = append(ids, "at "+r.Timestamp)
	}
	return cmp.Or(said, "nothing") + " (" + strings.Join(ids, ", ") + ")"
}
