package defendersim

import (
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"maps"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

const (
	jwtBearer = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
	clockSkew = 5 * time.Minute // what Entra ID forgives
)

// assertionIDs remembers the jti of assertions until they end, so that none is taken twice.
type assertionIDs struct {
	mu   sync.Mutex
	seen map[string]time.Time
}

// fresh keeps an id; false: it came before.
func (a *assertionIDs) fresh(id string, now, ends time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.seen) >= most {
		maps.DeleteFunc(a.seen, func(_ string, ends time.Time) bool { return now.After(ends) })
	}
	if _, there := a.seen[id]; there {
		return false
	}
	if a.seen == nil {
		a.seen = make(map[string]time.Time)
	}
	a.seen[id] = ends
	return true
}

// checkAssertion checks the assertion that a client sends in place of a secret: its own, signed by a registered
// certificate, or one of a cluster that the application trusts. 0: it is good.
func (x *exchange) checkAssertion(id string, a application, form url.Values) int {
	if form.Get("client_assertion_type") != jwtBearer {
		return 900144
	}
	raw := form.Get("client_assertion")
	var claims jwt.RegisteredClaims
	token, _, err := jwt.NewParser().ParseUnverified(raw, &claims)
	if err != nil {
		return 50027
	}
	now := x.s.Now()
	if claims.ExpiresAt == nil || !now.Before(claims.ExpiresAt.Add(clockSkew)) ||
		claims.NotBefore != nil && now.Before(claims.NotBefore.Add(-clockSkew)) {
		return 700024
	}
	if claims.Issuer != id && len(a.trusts) > 0 {
		return checkFederated(raw, claims, a.trusts)
	}
	return x.checkCertified(raw, token, claims, id, a.certs, now)
}

// checkCertified checks an assertion of the client itself.
func (x *exchange) checkCertified(
	raw string, token *jwt.Token, claims jwt.RegisteredClaims, id string, certs []*x509.Certificate, now time.Time,
) int {
	i := slices.IndexFunc(certs, func(c *x509.Certificate) bool { return named(token, c) })
	if i < 0 || now.After(certs[i].NotAfter) || now.Before(certs[i].NotBefore) {
		return 700027
	}
	if !signed(raw, token.Method.Alg(), certs[i].PublicKey) {
		return 700027
	}
	switch {
	case claims.Issuer != id || claims.Subject != id:
		return 700021
	case len(claims.Audience) != 1 || !x.isTokenEndpoint(claims.Audience[0]):
		return 700023
	case claims.ID == "":
		return 50027
	case !x.s.assertions.fresh(id+" "+claims.ID, now, claims.ExpiresAt.Add(clockSkew)):
		return 50012
	}
	return 0
}

// named tells whether the header names the certificate: PS256 with the SHA-256 thumbprint, or RS256 with the older
// SHA-1 one.
func named(token *jwt.Token, c *x509.Certificate) bool {
	is := func(header string, sum []byte) bool {
		return token.Header[header] == base64.RawURLEncoding.EncodeToString(sum)
	}
	long, short := sha256.Sum256(c.Raw), sha1.Sum(c.Raw)
	return token.Method.Alg() == "PS256" && is("x5t#S256", long[:]) ||
		token.Method.Alg() == "RS256" && is("x5t", short[:])
}

// signed checks a signature, and nothing else.
func signed(raw, method string, key any) bool {
	_, err := jwt.NewParser(jwt.WithoutClaimsValidation(), jwt.WithValidMethods([]string{method})).
		Parse(raw, func(*jwt.Token) (any, error) { return key, nil })
	return err == nil
}

// isTokenEndpoint takes the tenant's token endpoints of either version at the host that was asked.
func (x *exchange) isTokenEndpoint(audience string) bool {
	u, err := url.Parse(audience)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || !strings.EqualFold(u.Host, x.r.Host) {
		return false
	}
	kind, tenant, _ := route(u.Path)
	return kind == KindToken && strings.EqualFold(tenant, x.s.cfg.Tenant)
}

// checkFederated checks an assertion of a cluster against what the application trusts. It may come any number of times.
func checkFederated(raw string, claims jwt.RegisteredClaims, trusts []Federation) int {
	code := 700211
	for _, t := range trusts {
		switch {
		case t.Cluster.url != claims.Issuer:
		case t.Subject != claims.Subject:
			code = 700213
		case !slices.Contains(claims.Audience, t.Audience):
			code = 700212
		case !signed(raw, "RS256", t.Cluster.key.Public()):
			code = 50013
		default:
			return 0
		}
	}
	return code
}
