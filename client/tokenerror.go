package client

import (
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
	var own *Error
	var refused *oauth2.RetrieveError
	switch {
	case w.ctx.Err() != nil:
		return fmt.Errorf("%s: %w", grants.name, w.ctx.Err())
	case errors.Is(err, ErrClosed):
		return fmt.Errorf("%s: %w", grants.name, ErrClosed)
	case errors.As(err, &own):
		return own
	case errors.As(err, &refused):
		e := w.c.tokenError(grants, refused.Response, refused.Body)
		if e.Status == http.StatusTooManyRequests {
			w.c.rests.begin(w.host, w.c, e.RetryAfter)
		}
		return e
	}
	return &Error{Kind: KindTokenTransient, Status: http.StatusOK, op: grants.name,
		what:   "the answer holds no token",
		remedy: "check " + grants.keys + ", and proxy_url for a proxy with a login page"}
}

// tokenError is the error of a refused token request.
func (c *Client) tokenError(to target, resp *http.Response, body []byte) *Error {
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
	e := &Error{Status: status, RetryAfter: c.wait(resp.Header), Code: code, op: to.name,
		invalidClient: r.Error == "invalid_client"}

	if r.Error == "" && code == 0 && status >= 300 {
		e = c.statusError(to, resp, c.mask.text(beginning(string(body)), 200))
		switch e.Kind {
		case KindThrottled, KindService:
			e.Kind = KindTokenTransient
		case KindConfig:
		default:
			e.Kind = KindToken
			e.what = fmt.Sprintf("refused without a reason (%d)", status)
			e.remedy = "check " + to.keys + ", tenant_id and proxy_url"
		}
	} else {
		e.said = r.told(c.mask)
		e.what, e.remedy = r.words(c.api, c.auth, to, code, known, status)
		e.Kind = KindToken
		if known && diagnoses[code].transient || status == http.StatusTooManyRequests || status >= 500 ||
			r.Error == "temporarily_unavailable" || r.Error == "server_error" {
			e.Kind = KindTokenTransient
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

// words says what is wrong and where to mend it, for an API and a credential.
func (r *refusal) words(api *api, auth string, to target, code int, known bool, status int) (what, remedy string) {
	prefix := ""
	if code != 0 {
		prefix = fmt.Sprintf("AADSTS%d: ", code)
	}
	if known {
		remedy = diagnoses[code].remedy
		if own, ok := api.remedies[code]; ok {
			remedy = own
		}
		return prefix + diagnoses[code].what, remedy
	}
	login := auth == conf.AuthorizationCode
	why := r.Error
	if why == "" {
		why = "refused"
	}
	switch {
	case status == http.StatusTooManyRequests:
		return prefix + "throttled (429)", "if it lasts, let fewer programs ask for tokens with this client_id"
	case status >= 500, why == "temporarily_unavailable", why == "server_error":
		return prefix + fmt.Sprintf("the token service is not available (%d)", status), entraHealth
	case login && (why == "invalid_grant" || why == "interaction_required" || why == "login_required" || why == "consent_required"):
		return prefix + "the login is not accepted any more (" + why + ")", logInAgain
	case auth == conf.ManagedIdentity && why == "invalid_request":
		return prefix + "the machine has no such managed identity (invalid_request)",
			"assign the identity to the machine, and check managed_identity_client_id and resource"
	case why == "invalid_client":
		return prefix + "the application or its credential was refused (invalid_client)", "check client_id, and " + credentialIn(auth)
	case why == "unauthorized_client":
		return prefix + "the application may not ask for tokens this way (unauthorized_client)", "check client_id, tenant_id and auth"
	case why == "invalid_resource", why == "invalid_scope", why == "invalid_target":
		return prefix + "the resource was refused (" + why + ")", "check resource and tenant_id"
	case why == "invalid_request":
		return prefix + "the request was refused (invalid_request)", "check " + to.keys + ", tenant_id and client_id"
	}
	return prefix + "no token was given (" + why + ")", "check " + to.keys + ", tenant_id, client_id and the application in Entra ID"
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

// told quotes the service: the first sentence of its description, and what its
// support asks for.
func (r *refusal) told(m *mask) string {
	said := codePrefix.ReplaceAllString(m.text(beginning(r.Description), 2000), "") // the first sentence is wanted
	if first := sentence.FindStringSubmatch(said); first != nil {
		said = first[1]
	}
	said = clean(said, 200)
	var ids []string
	if r.Error != "" {
		ids = append(ids, r.Error)
	}
	if guid.MatchString(r.TraceID) {
		ids = append(ids, "trace "+r.TraceID)
	}
	if guid.MatchString(r.CorrelationID) {
		ids = append(ids, "correlation "+r.CorrelationID)
	}
	if timestamp.MatchString(r.Timestamp) {
		ids = append(ids, "at "+r.Timestamp)
	}
	if said == "" {
		said = "nothing"
	}
	return said + " (" + strings.Join(ids, ", ") + ")"
}
