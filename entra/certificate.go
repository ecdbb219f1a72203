package entra

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/oauth2"

	"fluent-bit-defender/conf"
	"fluent-bit-defender/credential"
	"fluent-bit-defender/transport"
)

const (
	certWarning   = 30 * 24 * time.Hour
	certWarnEvery = 24 * time.Hour
)

// certified is the client credentials grant with a certificate: each request for a
// token carries an assertion of its own, signed with the certificate's key. The file
// is read at every request, so that a certificate that was rotated is found without
// a restart.
type certified struct {
	t        *Tokens
	file     string
	password conf.Secret
	request  tokenRequest

	tried  attempt
	warned attempt // the certificate last warned of, and when
}

// attempt is a certificate and the instant that was taken for the service's.
type attempt struct {
	digest [32]byte
	local  time.Time
	ahead  time.Duration // of that instant before the local clock
}

// clientCertificate builds the grant. The file is not touched before a token is needed.
func clientCertificate(t *Tokens, cfg *conf.Config, request tokenRequest) grant {
	g := &certified{t: t, file: cfg.ClientCertificateFile, password: cfg.ClientCertificatePassword, request: request}
	return g.token
}

func (g *certified) token(w *tokenWire, again bool) (*oauth2.Token, error) {
	const key = "client_certificate_file"
	const mend = "make a new certificate, upload it to the application in Entra ID, " +
		"and put it with its key into the file"
	name := credential.FileName(g.file)
	cert, err := credential.ReadCertificate(g.file, g.password.Reveal())
	if err != nil {
		return nil, credentialError(key, g.file, err,
			"put the certificate and its key into it, readable for Fluent Bit")
	}
	g.t.net.Mask.Hide(g.password.Reveal())
	g.t.count(func(s *Stats) { s.CertificateEnds = cert.Leaf.NotAfter })
	now, sure := g.now()
	// A wrong local clock must not condemn a good certificate: the service will say.
	switch {
	case sure && now.After(cert.Leaf.NotAfter):
		err := fmt.Errorf("%s: the certificate ended at %s", name, day(cert.Leaf.NotAfter))
		return nil, credentialError(key, g.file, err, mend)
	case sure && now.Before(cert.Leaf.NotBefore):
		err := fmt.Errorf("%s: the certificate is not valid before %s", name, day(cert.Leaf.NotBefore))
		return nil, credentialError(key, g.file, err, mend)
	}
	g.warn(cert, now)
	this := attempt{cert.Digest(), time.Now(), time.Until(now)}
	if again && this.digest == g.tried.digest && (this.ahead-g.tried.ahead).Abs() < time.Minute {
		return nil, nil
	}
	g.tried = this
	assertion, err := cert.Assertion(g.request.ClientID, g.request.TokenURL, now)
	if err != nil {
		return nil, credentialError(key, g.file, fmt.Errorf("%s: the key does not sign", name), mend)
	}
	g.t.net.Mask.Hide(assertion)
	tok, err := g.request.token(w, "client_assertion_type", assertionType, "client_assertion", assertion)
	if err == nil {
		return tok, nil
	}
	err = w.failure(err)
	if e, ok := errors.AsType[*transport.Error](err); ok && e.Credential {
		e.What += fmt.Sprintf(" (the certificate with the thumbprint %s, which ends at %s)",
			cert.Thumbprint(), day(cert.Leaf.NotAfter))
	}
	return nil, err
}

// now is the service's time, or, while that is not known, the local one, which is not sure.
func (g *certified) now() (now time.Time, sure bool) {
	local := time.Now()
	if now, ok := g.t.net.Clock.Now(local); ok {
		return now, true
	}
	return local, false
}

// warn tells once a day that the certificate is about to end.
func (g *certified) warn(cert *credential.Certificate, now time.Time) {
	left := cert.Leaf.NotAfter.Sub(now)
	if left > certWarning || g.warned.digest == cert.Digest() && time.Since(g.warned.local) < certWarnEvery {
		return
	}
	g.warned = attempt{digest: cert.Digest(), local: time.Now()}
	days := max(0, int(left/(24*time.Hour)))
	g.t.net.Log.Warn(fmt.Sprintf("client_certificate_file: %s: the certificate with the thumbprint %s ends at %s, "+
		"in %d days; upload a new one to the application in Entra ID and replace the file: no restart is needed",
		g.file, cert.Thumbprint(), day(cert.Leaf.NotAfter), days))
}

func day(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 MST") }
