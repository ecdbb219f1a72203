package defendersim

import (
	"crypto"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/url"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

const (
	account  = "system:serviceaccount:logging:fluent-bit"
	audience = "api://AzureADTokenExchange"
)

// Keys take long to make: one of each is enough.
var (
	cert = sync.OnceValue(func() *Certificate {
		return must(NewCertificate(noon.AddDate(0, -1, 0), noon.AddDate(0, 1, 0)))
	})
	other = sync.OnceValue(func() *Certificate {
		return must(NewCertificate(noon.AddDate(0, -1, 0), noon.AddDate(1, 0, 0)))
	})
	cluster = sync.OnceValue(func() *Cluster { return must(NewCluster("https://oidc.example/cluster/")) })
	foreign = sync.OnceValue(func() *Cluster { return must(NewCluster("https://oidc.example/foreign/")) })
)

// code is the AADSTS number of an answer; 0: it holds a token.
func (t *rig) code(a answer) int {
	t.Helper()
	var e entraBody
	var ok struct {
		AccessToken string `json:"access_token"`
	}
	if err := json.Unmarshal(a.body, &e); err != nil || json.Unmarshal(a.body, &ok) != nil {
		t.Fatalf("%v in %s", err, a.body)
	}
	if ok.AccessToken != "" {
		return 0
	}
	if len(e.Codes) != 1 {
		t.Fatalf("codes in %s", a.body)
	}
	return e.Codes[0]
}

func certificateClaims(endpoint string) jwt.MapClaims {
	return jwt.MapClaims{"aud": endpoint, "iss": DefaultClientID, "sub": DefaultClientID, "jti": "1",
		"nbf": noon.Unix(), "exp": noon.Add(10 * time.Minute).Unix()}
}

func sign(method jwt.SigningMethod, c *Certificate, header map[string]any, claims jwt.MapClaims) string {
	t := jwt.NewWithClaims(method, claims)
	maps.Copy(t.Header, header)
	return must(t.SignedString(crypto.Signer(c.Key)))
}

func s256(c *Certificate) map[string]any {
	sum := sha256.Sum256(c.Cert.Raw)
	return map[string]any{"x5t#S256": base64.RawURLEncoding.EncodeToString(sum[:])}
}

func sha1Header(c *Certificate) map[string]any {
	sum := sha1.Sum(c.Cert.Raw)
	return map[string]any{"x5t": base64.RawURLEncoding.EncodeToString(sum[:])}
}

// assert asks for a token with an assertion in place of the secret.
func (t *rig) assert(v2 bool, assertion string) answer {
	t.Helper()
	form := v1Form()
	at := t.v1
	if v2 {
		at = t.v2
		form.Del("resource")
		form.Set("scope", DefaultResource+"/.default")
	}
	form.Del("client_secret")
	form.Set("client_assertion_type", jwtBearer)
	form.Set("client_assertion", assertion)
	return t.post(at, form)
}

func TestCertificateAssertions(t *testing.T) {
	cert()
	other()
	bothWays(t, Config{}, func(t *rig) {
		t.svc.SetCertificates(DefaultClientID, cert().Cert)
		for i, c := range []struct {
			name   string
			want   int
			change func(claims jwt.MapClaims)
		}{
			{"good", 0, func(jwt.MapClaims) {}},
			{"the other version's endpoint", 0, func(c jwt.MapClaims) { c["aud"] = t.v2 }},
			{"an audience elsewhere", 700023, func(c jwt.MapClaims) {
				c["aud"] = "https://elsewhere.example/" + DefaultTenant + "/oauth2/token"
			}},
			{"another tenant's endpoint", 700023, func(c jwt.MapClaims) {
				c["aud"] = must(url.JoinPath(t.v1, "../../../x/oauth2/token"))
			}},
			{"the host alone", 700023, func(c jwt.MapClaims) { c["aud"] = must(url.JoinPath(t.v1, "../../..")) }},
			{"no audience", 700023, func(c jwt.MapClaims) { delete(c, "aud") }},
			{"another issuer", 700021, func(c jwt.MapClaims) { c["iss"] = "somebody" }},
			{"another subject", 700021, func(c jwt.MapClaims) { c["sub"] = "somebody" }},
			{"ended", 700024, func(c jwt.MapClaims) { c["exp"] = noon.Add(-clockSkew).Unix() }},
			{"ended, within the skew", 0, func(c jwt.MapClaims) {
				c["exp"] = noon.Add(-clockSkew + time.Second).Unix()
			}},
			{"not yet", 700024, func(c jwt.MapClaims) { c["nbf"] = noon.Add(clockSkew + time.Second).Unix() }},
			{"without end", 700024, func(c jwt.MapClaims) { delete(c, "exp") }},
			{"without id", 50027, func(c jwt.MapClaims) { delete(c, "jti") }},
		} {
			claims := certificateClaims(t.v1)
			claims["jti"] = c.name
			c.change(claims)
			a := t.assert(i%2 == 1, sign(jwt.SigningMethodPS256, cert(), s256(cert()), claims))
			want(t, c.name, t.code(a), c.want)
		}
		good := func(id string) jwt.MapClaims { c := certificateClaims(t.v1); c["jti"] = id; return c }
		ps, rs := jwt.SigningMethodPS256, jwt.SigningMethodRS256
		want(t, "RS256 with x5t", t.code(t.assert(false, sign(rs, cert(), sha1Header(cert()), good("a")))), 0)
		want(t, "PS256 with x5t", t.code(t.assert(false, sign(ps, cert(), sha1Header(cert()), good("b")))), 700027)
		want(t, "no thumbprint", t.code(t.assert(false, sign(ps, cert(), nil, good("c")))), 700027)
		want(t, "another certificate", t.code(t.assert(false, sign(ps, other(), s256(other()), good("d")))), 700027)
		want(t, "another key", t.code(t.assert(false, sign(ps, other(), s256(cert()), good("e")))), 700027)
		want(t, "no JWT", t.code(t.assert(false, "x.y.z")), 50027)
		once := sign(ps, cert(), s256(cert()), good("f"))
		want(t, "once", t.code(t.assert(false, once)), 0)
		want(t, "twice", t.code(t.assert(true, once)), 50012)

		form := v1Form()
		form.Del("client_secret")
		form.Set("client_assertion", once)
		want(t, "no type", t.code(t.post(t.v1, form)), 900144)
		form.Set("client_assertion_type", jwtBearer)
		form.Set("client_id", "nobody")
		want(t, "an unknown application", t.code(t.post(t.v1, form)), 700016)

		t.svc.SetCertificates(DefaultClientID, other().Cert)
		want(t, "rotated: the old one", t.code(t.assert(false, sign(ps, cert(), s256(cert()), good("g")))), 700027)
		want(t, "rotated: the new one", t.code(t.assert(false, sign(ps, other(), s256(other()), good("h")))), 0)
		t.svc.SetCertificates(DefaultClientID, cert().Cert)
		t.svc.Shift(32 * 24 * time.Hour)
		late := good("i")
		late["nbf"], late["exp"] = t.svc.Now().Unix(), t.svc.Now().Add(time.Minute).Unix()
		want(t, "an expired certificate", t.code(t.assert(false, sign(ps, cert(), s256(cert()), late))), 700027)
	})
}

func TestFederatedAssertions(t *testing.T) {
	cluster()
	foreign()
	bothWays(t, Config{}, func(t *rig) {
		t.svc.SetFederation(DefaultClientID, Federation{cluster(), account, audience})
		for _, c := range []struct {
			name              string
			from              *Cluster
			subject, audience string
			life              time.Duration
			want              int
		}{
			{"good", cluster(), account, audience, time.Hour, 0},
			{"another issuer", foreign(), account, audience, time.Hour, 700211},
			{"another subject", cluster(), account + "2", audience, time.Hour, 700213},
			{"another audience", cluster(), account, "https://kubernetes.default.svc", time.Hour, 700212},
			{"ended", cluster(), account, audience, -clockSkew, 700024},
			{"a forged issuer", &Cluster{cluster().url, foreign().key}, account, audience, time.Hour, 50013},
		} {
			token := must(c.from.Token(c.subject, c.audience, noon.Add(-time.Hour), noon.Add(c.life)))
			want(t, c.name, t.code(t.assert(false, token)), c.want)
			want(t, c.name+", again by v2", t.code(t.assert(true, token)), c.want)
		}
		t.svc.SetFederation(DefaultClientID)
		token := must(cluster().Token(account, audience, noon, noon.Add(time.Hour)))
		want(t, "no longer trusted", t.code(t.assert(false, token)), 700027)
	})
}

func TestTheCertificateFileHoldsBoth(t *testing.T) {
	text := cert().PEM()
	contains(t, "PEM", text, "BEGIN CERTIFICATE")
	contains(t, "PEM", text, "BEGIN PRIVATE KEY")
	one := cert()
	if !slices.Equal(one.Cert.Raw, must(x509.ParseCertificate(one.Cert.Raw)).Raw) ||
		!one.Key.PublicKey.Equal(one.Cert.PublicKey) {
		t.Error("the certificate is not the key's")
	}
}
