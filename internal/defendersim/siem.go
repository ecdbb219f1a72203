package defendersim

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// serveAlerts answers a query of the SIEM API: token, then query, then rows.
func (x *exchange) serveAlerts() {
	if x.r.Method != http.MethodGet {
		x.w.Header().Set("Allow", "GET")
		x.message(http.StatusMethodNotAllowed, "The requested resource does not support http method '"+x.r.Method+"'.")
		return
	}
	if !x.authorized() {
		return
	}
	if x.modes.Forbidden {
		x.status(http.StatusForbidden)
		return
	}
	q := x.req.Query
	if err := x.req.badness; err != nil {
		x.message(http.StatusBadRequest, "The request is invalid: "+err.Error())
		return
	}
	if x.modes.RefuseFuture && q.UntilGiven && q.Until.After(x.req.At) {
		x.message(http.StatusBadRequest, "The request is invalid: untilTimeUtc is in the future")
		return
	}
	if x.fault == nil {
		if x.fault = x.s.spanFault(q, x.req.At); x.fault != nil && !x.early() {
			return
		}
	}
	// A late answer shows what was visible when the query came: rows that came since could make up for a reader's
	// mistake.
	rows, texts := x.s.answerRows(q, x.modes, x.req.At, x.rand)
	x.rows(rows, texts)
}

// authorized checks the bearer token as the API does, and answers 401 when it is not good.
func (x *exchange) authorized() bool {
	tok, code, why := x.bearer(x.s.cfg.Audiences)
	if why == "" && !tok.allowed {
		code, why = "invalid_token", "The token carries neither roles nor scopes"
	}
	if why == "" {
		return true
	}
	if code == "" {
		why = ""
	}
	x.challenge(code, why)
	x.message(http.StatusUnauthorized, "Authorization has been denied for this request.")
	return false
}

// bearer finds the token of the request. Why it is not good, if so, is not empty; code is, when there is no token at
// all.
func (x *exchange) bearer(audiences []string) (tok issued, code, why string) {
	fields := strings.Fields(x.r.Header.Get("Authorization"))
	if len(fields) != 2 || !strings.EqualFold(fields[0], "Bearer") {
		return issued{}, "", "Access token is empty"
	}
	tok, known := x.s.tokens.byAccess(fields[1])
	switch {
	case !known:
		why = "The signature is invalid"
	case !x.req.At.Before(tok.expires):
		why = "The access token expired"
	case !slices.Contains(audiences, tok.audience):
		why = "The audience is invalid"
	}
	return tok, "invalid_token", why
}

// challenge is the WWW-Authenticate of a 401: where tokens come from and, if one was sent, what is wrong with it.
func (x *exchange) challenge(code, why string) {
	v := fmt.Sprintf("Bearer authorization_uri=%q", LoginHost+"/"+x.s.cfg.Tenant)
	if code != "" {
		v += fmt.Sprintf(", error=%q, error_description=%q", code, why)
	}
	x.w.Header().Set("WWW-Authenticate", v)
}

// rows answers with the rows in the mode's form.
func (x *exchange) rows(rows []*Row, texts [][]byte) {
	head, tail := "[", "]"
	switch {
	case x.modes.Form == FormValue:
		head, tail = `{"value":[`, "]}"
	case x.modes.Form == FormSingle && len(rows) == 1:
		head, tail = "", ""
	}
	if x.fault != nil && x.fault.open && tail == "" {
		head = "[" // one bare object has no list to leave open
	}
	fates := make([]*Fate, len(rows))
	for i, r := range rows {
		fates[i] = &r.Fate
	}
	x.list(http.StatusOK, head, tail, texts, fates)
}

// list answers with texts between head and tail, and notes in the ledger how many of them were sent.
func (x *exchange) list(status int, head, tail string, texts [][]byte, fates []*Fate) {
	if x.fault != nil && x.fault.open {
		tail = ""
	}
	length := int64(len(head) + len(tail) + max(0, len(texts)-1))
	for _, t := range texts {
		length += int64(len(t))
	}
	out := x.open(status, "application/json; charset=utf-8", length)
	defer func() { // also when the wire breaks
		whole := x.entry.Whole && x.entry.Rows == len(fates)
		x.s.served(fates[:x.entry.Rows], x.req.At, whole)
	}()
	if _, err := out.Write([]byte(head)); err != nil {
		return
	}
	for i, t := range texts {
		if i > 0 {
			if _, err := out.Write([]byte(",")); err != nil {
				return
			}
		}
		if _, err := out.Write(t); err != nil {
			return
		}
		x.entry.Rows++
	}
	if _, err := out.Write([]byte(tail)); err != nil {
		return
	}
	out.finish()
}
