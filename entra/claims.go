package entra

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"fluent-bit-defender/conf"
	"fluent-bit-defender/transport"
)

// Claims is what an access token says of itself. Nothing of it was verified: it is for
// telling an operator what is wrong, never for deciding whom to trust. Texts are cut and
// printable; a field that the token lacks is empty.
type Claims struct {
	Audience    string    // aud: what it is for
	Tenant      string    // tid
	Application string    // appid or azp: the client id
	User        string    // upn or preferred_username; empty for an application's own token
	Roles       []string  // what an application may do
	Scopes      []string  // scp: what it may do in a person's name
	Expires     time.Time // exp, in UTC
}

const maxClaims = 64 // roles or scopes kept

// claimsOf reads the payload of a JWT; false: the token is none.
func (t *Tokens) claimsOf(token string) (Claims, bool) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return Claims{}, false
	}
	payload, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(parts[1], "="))
	if err != nil {
		return Claims{}, false
	}
	var raw struct {
		Aud      jwt.ClaimStrings `json:"aud"` // a text or a list of them
		Tid      string           `json:"tid"`
		AppID    string           `json:"appid"`
		Azp      string           `json:"azp"`
		UPN      string           `json:"upn"`
		Username string           `json:"preferred_username"`
		Roles    jwt.ClaimStrings `json:"roles"`
		Scp      string           `json:"scp"`
		Exp      float64          `json:"exp"`
	}
	if json.Unmarshal(payload, &raw) != nil {
		return Claims{}, false
	}
	show := func(text string) string { return t.net.Mask.Text(text, 200) }
	claims := Claims{Tenant: show(raw.Tid),
		Application: show(cmp.Or(raw.AppID, raw.Azp)), User: show(cmp.Or(raw.UPN, raw.Username))}
	if len(raw.Aud) > 0 {
		claims.Audience = show(raw.Aud[0])
	}
	for _, role := range raw.Roles[:min(len(raw.Roles), maxClaims)] {
		claims.Roles = append(claims.Roles, show(role))
	}
	for scope := range strings.FieldsSeq(raw.Scp) {
		if len(claims.Scopes) < maxClaims {
			claims.Scopes = append(claims.Scopes, show(scope))
		}
	}
	if raw.Exp > 0 && raw.Exp < 1<<40 {
		claims.Expires = time.Unix(int64(raw.Exp), 0).UTC()
	}
	return claims, true
}

// Claims gets a token if none is held, and tells what it says of itself. False: the token is
// opaque, which is no fault. Errors are as of Get.
func (t *Tokens) Claims(ctx context.Context) (claims Claims, readable bool, err error) {
	tok, err := t.Get(ctx)
	if err != nil {
		return Claims{}, false, err
	}
	claims, readable = t.claimsOf(tok.Value)
	return claims, readable, nil
}

// Doubt is a claim that does not fit what the API needs.
type Doubt struct {
	Claim  string // aud, tid, exp or roles
	What   string // in words, going on after "the token"
	Remedy string
}

// Doubts compares claims with what the API needs and the stanza says. None: they fit as far as
// anyone but the API can tell.
func (t *Tokens) Doubts(claims Claims) []Doubt {
	var all []Doubt
	takes := func(audience string) bool {
		return slices.ContainsFunc(t.needs.Audiences, func(a string) bool {
			return strings.EqualFold(a, strings.TrimRight(audience, "/"))
		})
	}
	// v2 tokens of some resources name them by a GUID, which says nothing where it is not known.
	if !takes(claims.Audience) && (t.needs.Exact || !conf.IsGUID(claims.Audience)) {
		is, wanted := cmp.Or(claims.Audience, "nothing"), strings.Join(t.needs.Audiences, " or ")
		all = append(all, Doubt{"aud",
			"is for " + is + " (aud), while the API takes tokens for " + wanted, "check resource"})
	}
	if claims.Tenant != "" && conf.IsGUID(t.tenant) && !strings.EqualFold(claims.Tenant, t.tenant) {
		all = append(all, Doubt{"tid", "is of tenant " + claims.Tenant + " (tid) instead of " + t.tenant,
			"check tenant_id, and the tenant in token_url"})
	}
	if now, known := t.net.Clock.Now(time.Now()); known && !claims.Expires.IsZero() && !now.Before(claims.Expires) {
		ended, says := claims.Expires.Format(time.RFC3339), now.Format(time.RFC3339)
		all = append(all, Doubt{"exp", fmt.Sprintf("ended at %s (exp), and the service's clock says %s", ended, says),
			"look for a proxy or an endpoint that hands out old tokens"})
	}
	if len(claims.Roles)+len(claims.Scopes) == 0 {
		d := Doubt{"roles", "carries no permission (roles, scp)",
			"grant the application a permission on the API, with consent, in Entra ID"}
		if t.auth == conf.ManagedIdentity {
			d.Remedy = "give the identity an application role on the API, in Entra ID"
		}
		if t.needs.Grant != "" {
			d.Remedy = t.needs.Grant
		}
		all = append(all, d)
	} else if held := slices.Concat(claims.Roles, claims.Scopes); len(t.needs.Roles) > 0 &&
		!slices.ContainsFunc(held, t.permits) {
		carried := transport.Clean(strings.Join(held, ", "), 100)
		all = append(all, Doubt{"roles",
			"carries " + carried + " (roles, scp) and not " + t.needs.Roles[0], t.needs.Grant})
	}
	return all
}

// permits tells whether a role or scope lets a token's holder read alerts.
func (t *Tokens) permits(role string) bool {
	return slices.ContainsFunc(t.needs.Roles, func(r string) bool { return strings.EqualFold(r, role) })
}

// Explain adds to an API's refusal of a new token what is wrong with the token.
func (t *Tokens) Explain(e *transport.Error, token string) {
	claims, readable := t.claimsOf(token)
	if !readable {
		return
	}
	doubts := t.Doubts(claims)
	if len(doubts) == 0 {
		e.What += "; its aud, tid, exp and roles are as they should be"
		return
	}
	var whats, remedies []string
	for _, d := range doubts {
		whats, remedies = append(whats, d.What), append(remedies, d.Remedy)
	}
	e.What += ": the token " + strings.Join(whats, ", and ")
	e.Remedy = strings.Join(remedies, "; ")
}

// ExplainForbidden adds to an API's refusal of what a token may do that it should have been enough.
func (t *Tokens) ExplainForbidden(e *transport.Error, token string) {
	claims, _ := t.claimsOf(token)
	held := slices.Concat(claims.Roles, claims.Scopes)
	if i := slices.IndexFunc(held, t.permits); i >= 0 {
		e.What += ", though the token carries " + held[i]
		e.Remedy = "check tenant_id and cloud, and that the tenant has Defender"
		if t.auth == conf.AuthorizationCode {
			e.Remedy += "; the person needs a role that may read alerts, such as Security Reader"
		}
	}
}
