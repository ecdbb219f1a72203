package entra

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	pkcs12 "software.sslmate.com/src/go-pkcs12"

	"fluent-bit-defender/conf"
	"fluent-bit-defender/internal/defendersim"
	"fluent-bit-defender/internal/simtest"
	"fluent-bit-defender/transport"
)

// lastAssertion is the assertion of the last request, with its header and claims.
func lastAssertion(w *simtest.World) (text string, header map[string]any, claims jwt.MapClaims) {
	w.Helper()
	forms := w.Wire.Sent()
	text = forms[len(forms)-1].Get("client_assertion")
	claims = jwt.MapClaims{}
	t, _, err := jwt.NewParser().ParseUnverified(text, claims)
	if err != nil {
		w.Fatal(err)
	}
	return text, t.Header, claims
}

func TestAssertionOfACertificate(t *testing.T) {
	simtest.Versions(t, conf.ClientCertificate, func(w *simtest.World) {
		c := clientOf(w)
		good(w, c, "a token")
		sum := sha256.Sum256(simtest.Certificate().Cert.Raw)
		_, header, claims := lastAssertion(w)
		for name, want := range map[string]any{
			"alg": "PS256", "typ": "JWT", "x5t#S256": base64.RawURLEncoding.EncodeToString(sum[:]),
		} {
			if header[name] != want {
				w.Errorf("header %s is %v, want %v", name, header[name], want)
			}
		}
		now := float64(w.Svc.Now().Unix())
		for name, want := range map[string]any{"iss": simtest.ClientID, "sub": simtest.ClientID, "nbf": now,
			"exp": now + 600} {
			if claims[name] != want {
				w.Errorf("claim %s is %v, want %v", name, claims[name], want)
			}
		}
		if aud, _ := claims.GetAudience(); len(aud) != 1 || aud[0] != w.Cfg.TokenURL {
			w.Errorf("aud is %v, want %s", aud, w.Cfg.TokenURL)
		}
		first := claims["jti"]
		if err := renewal(c); err != nil {
			w.Fatal(err)
		}
		if _, _, claims := lastAssertion(w); claims["jti"] == first || len(claims["jti"].(string)) < 16 {
			w.Errorf("jti %v after %v", claims["jti"], first)
		}
	})
}

// The service's clock and the local one are 24 years apart: the first assertion is refused, and its Date sets the next.
func TestAssertionsKeepTheServicesTime(t *testing.T) {
	simtest.Versions(t, conf.ClientCertificate, func(w *simtest.World) {
		c := clientOf(w)
		good(w, c, "in spite of a wrong local clock")
		if n := len(w.Wire.Sent()); n != 2 {
			w.Errorf("%d requests for the first token, want one by the local clock and one by the service's", n)
		}
		w.Svc.Queue(defendersim.KindToken, defendersim.Entra(700024))
		e := token(w, c)
		if e.Code != 700024 || e.Kind != transport.KindToken || len(w.Wire.Sent()) != 3 {
			w.Errorf("%v after %d requests: with the same clock there is nothing to try again", e, len(w.Wire.Sent()))
		}
	})
}

// A machine that slept has a clock that stood still. Two refusals agree on the time, and all is well.
func TestAssertionsAfterASleep(t *testing.T) {
	simtest.Versions(t, conf.ClientCertificate, func(w *simtest.World) {
		c := clientOf(w)
		good(w, c, "a token")
		w.Svc.Shift(2 * time.Hour)
		if e := bad(w, c, "the token has ended, and the assertion is of two hours ago"); e.Code != 700024 {
			w.Errorf("%v", e)
		}
		time.Sleep(time.Minute)
		good(w, c, "at the next attempt")
	})
}

func TestCertificatesRotateAtOnce(t *testing.T) {
	simtest.Versions(t, conf.ClientCertificate, func(w *simtest.World) {
		c := clientOf(w)
		good(w, c, "a token")
		w.Svc.SetCertificates(simtest.ClientID, simtest.NextCertificate().Cert)
		// The file changes between the refusal and the second attempt.
		w.Wire.Meanwhile(func(*http.Request, url.Values) (*http.Response, error) {
			w.Wire.Meanwhile(nil)
			w.Write("app.pem", string(simtest.NextCertificate().PEM()))
			return nil, nil
		})
		before := len(w.Wire.Sent())
		if err := renewal(c); err != nil {
			w.Fatal(err)
		}
		if n := len(w.Wire.Sent()) - before; n != 2 {
			w.Errorf("%d requests, want 2", n)
		}
		w.Write("app.pem", string(simtest.Certificate().PEM()))
		e := token(w, c)
		want := regexp.MustCompile(`^token request: AADSTS700027: the signature of the assertion cannot be verified ` +
			`\(the certificate with the thumbprint [0-9A-F]{40}, which ends at 2034-05-06 12:00 UTC\); ` +
			`upload the certificate in use to the application in Entra ID; the service says ".*"$`)
		if e.Kind != transport.KindToken || !want.MatchString(e.Error()) {
			w.Errorf("%v: %v", e.Kind, e)
		}
		w.Svc.SetCertificates(simtest.ClientID, simtest.Certificate().Cert)
		good(w, c, "after the upload, without a restart")
	})
}

func TestAnEndedCertificateIsNamed(t *testing.T) {
	soon := simtest.NewCertificate(simtest.Start.AddDate(0, 0, -300), simtest.Start.AddDate(0, 0, 2))
	later := simtest.NewCertificate(simtest.Start.AddDate(0, 0, 40), simtest.Start.AddDate(10, 0, 0))
	simtest.Versions(t, conf.ClientCertificate, func(w *simtest.World) {
		w.Svc.SetCertificates(simtest.ClientID, soon.Cert, later.Cert)
		file := w.Write("app.pem", string(soon.PEM()))
		c := clientOf(w)
		good(w, c, "before its end")
		w.Svc.Shift(3 * 24 * time.Hour)
		time.Sleep(3 * 24 * time.Hour)
		e := bad(w, c, "after its end")
		const mend = "make a new certificate, upload it to the application in Entra ID, " +
			"and put it with its key into the file"
		want := "token request: client_certificate_file: " + file + ": " +
			"the certificate ended at 2024-05-08 12:00 UTC; " + mend
		if e.Kind != transport.KindToken || e.Error() != want {
			w.Errorf("%v\n got %v\nwant %s", e.Kind, e, want)
		}
		w.Write("app.pem", string(later.PEM()))
		want = "token request: client_certificate_file: " + file + ": " +
			"the certificate is not valid before 2024-06-15 12:00 UTC; " + mend
		if e := bad(w, c, "before its begin"); e.Error() != want {
			w.Errorf("\n got %v\nwant %s", e, want)
		}
	})
}

func TestAWarningADayBeforeTheEnd(t *testing.T) {
	soon := simtest.NewCertificate(simtest.Start.AddDate(0, 0, -300), simtest.Start.Add(32*24*time.Hour+30*time.Minute))
	simtest.Versions(t, conf.ClientCertificate, func(w *simtest.World) {
		w.Svc.SetCertificates(simtest.ClientID, soon.Cert, simtest.Certificate().Cert)
		w.Write("app.pem", string(soon.PEM()))
		c := clientOf(w)
		good(w, c, "the clock's sake")
		warnings := func() int { return strings.Count(w.Logged.String(), "level=WARN") }
		for day := range 5 {
			for range 24 {
				good(w, c, "an hour")
				time.Sleep(time.Hour)
			}
			if want := max(0, day-1); warnings() != want {
				w.Errorf("%d warnings %d days before the end, want %d", warnings(), 31-day, want)
			}
		}
		want := regexp.MustCompile(`level=WARN msg="client_certificate_file: \S*app.pem: ` +
			`the certificate with the thumbprint [0-9A-F]{40} ends at 2024-06-07 12:30 UTC, in 29 days; ` +
			`upload a new one to the application in Entra ID and replace the file: no restart is needed"`)
		if !want.MatchString(w.Logged.String()) {
			w.Errorf("log has no line like %s", want)
		}
		w.Write("app.pem", string(simtest.Certificate().PEM()))
		before := warnings()
		time.Sleep(48 * time.Hour)
		good(w, c, "a new certificate")
		if warnings() != before {
			w.Error("the new certificate is warned of")
		}
	})
}

func TestABrokenCertificateFileHeals(t *testing.T) {
	simtest.Versions(t, conf.ClientCertificate, func(w *simtest.World) {
		c := clientOf(w)
		good(w, c, "a token")
		file := w.Write("app.pem", "-----BEGIN CERTIFICATE-----\n")
		time.Sleep(56 * time.Minute)
		good(w, c, "the held token serves while the file is broken")
		time.Sleep(4 * time.Minute)
		e := bad(w, c, "no token any more")
		want := "token request: client_certificate_file: " + file + " holds no private key: " +
			"certificate and key belong into the one file; " +
			"put the certificate and its key into it, readable for Fluent Bit"
		if e.Kind != transport.KindToken || e.Error() != want {
			w.Errorf("%v\n got %v\nwant %s", e.Kind, e, want)
		}
		w.Write("app.pem", string(simtest.Certificate().PEM()))
		good(w, c, "mended")
	})
}

func TestPKCS12OverTheWire(t *testing.T) {
	der, err := pkcs12.Modern.Encode(simtest.Certificate().Key, simtest.Certificate().Cert, nil, "hunter2hunter2")
	if err != nil {
		t.Fatal(err)
	}
	simtest.Versions(t, conf.ClientCertificate, func(w *simtest.World) {
		w.Cfg.ClientCertificateFile, w.Cfg.ClientCertificatePassword = w.Write("app.pfx", string(der)), "hunter2hunter2"
		c := clientOf(w)
		if _, err := c.Get(context.Background()); err != nil {
			w.Fatal(err)
		}
		good(w, c, "a token")
	})
}
