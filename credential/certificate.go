package credential

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
	pkcs12 "software.sslmate.com/src/go-pkcs12"
)

const (
	maxCertificate = 256 << 10        // bytes of a file; a certificate with key and chain has about ten thousand
	minKeyBits     = 2048             // Entra ID takes no shorter RSA keys
	assertionLife  = 10 * time.Minute // Microsoft recommends 5 to 10
)

// Certificate is what client_certificate_file holds: a certificate and its key.
type Certificate struct {
	Leaf *x509.Certificate
	key  *rsa.PrivateKey
}

// ReadCertificate reads a PEM or PKCS#12 file. A PKCS#12 file may have a password.
func ReadCertificate(path, password string) (*Certificate, error) {
	text, err := ReadFile(path, path, maxCertificate)
	if err != nil {
		return nil, err
	}
	c, err := parseCertificate(text, password)
	if err != nil {
		return nil, fmt.Errorf("%s %w", FileName(path), err)
	}
	return c, nil
}

// parseCertificate reads a file's text. Its errors go on after the file's name.
func parseCertificate(text []byte, password string) (*Certificate, error) {
	var key any
	var certs []*x509.Certificate
	var err error
	switch {
	case len(bytes.TrimSpace(text)) == 0:
		return nil, errors.New("is empty")
	case !bytes.Contains(text, []byte("-----BEGIN ")):
		key, certs, err = parsePKCS12(text, password)
	case password != "":
		return nil, errors.New("is PEM, which takes no password: " +
			"leave client_certificate_password out, or give a PKCS#12 file")
	default:
		key, certs, err = parsePEM(text)
	}
	if err != nil {
		return nil, err
	}
	private, ok := key.(*rsa.PrivateKey)
	switch {
	case !ok:
		return nil, fmt.Errorf("holds a key of type %s; Entra ID takes RSA keys only", keyType(key))
	case private.N.BitLen() < minKeyBits:
		return nil, fmt.Errorf("holds an RSA key of %d bits; Entra ID wants %d or more", private.N.BitLen(), minKeyBits)
	}
	// The chain may stand in the same file, in any order.
	for _, c := range certs {
		if private.PublicKey.Equal(c.PublicKey) {
			return &Certificate{Leaf: c, key: private}, nil
		}
	}
	return nil, errors.New("holds a certificate and a key that do not belong together")
}

// parsePEM takes one private key and any number of certificates.
func parsePEM(text []byte) (key any, certs []*x509.Certificate, err error) {
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		switch {
		case block.Type == "CERTIFICATE":
			c, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return nil, nil, errors.New("holds a certificate that cannot be read")
			}
			certs = append(certs, c)
		case block.Type == "ENCRYPTED PRIVATE KEY", strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED"):
			return nil, nil, errors.New("holds a key under a passphrase: " +
				"take that away, or give a PKCS#12 file with client_certificate_password")
		case strings.HasSuffix(block.Type, "PRIVATE KEY"):
			if key != nil {
				return nil, nil, errors.New("holds more than one private key")
			}
			if key, err = parseKey(block); err != nil {
				return nil, nil, err
			}
		}
	}
	switch {
	case key == nil:
		return nil, nil, errors.New("holds no private key: certificate and key belong into the one file")
	case len(certs) == 0:
		return nil, nil, errors.New("holds no certificate: certificate and key belong into the one file")
	}
	return key, certs, nil
}

func parseKey(block *pem.Block) (key any, err error) {
	switch block.Type {
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	default:
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	}
	if err != nil {
		return nil, errors.New("holds a private key that cannot be read")
	}
	return key, nil
}

// parsePKCS12 takes a file with one key. The library's errors are left out: they tell bytes of what may be anything.
func parsePKCS12(text []byte, password string) (any, []*x509.Certificate, error) {
	key, leaf, chain, err := pkcs12.DecodeChain(text, password)
	switch {
	case errors.Is(err, pkcs12.ErrIncorrectPassword) && password == "":
		return nil, nil, errors.New("is PKCS#12 under a password: give it by client_certificate_password")
	case errors.Is(err, pkcs12.ErrIncorrectPassword):
		return nil, nil, errors.New("does not open with client_certificate_password")
	case errors.As(err, new(pkcs12.NotImplementedError)):
		return nil, nil, errors.New("is PKCS#12 with an encryption that is not known here: export it anew, with AES")
	case err != nil:
		return nil, nil, errors.New("is neither PEM nor a PKCS#12 file with one key that can be read")
	}
	return key, append(chain, leaf), nil
}

func keyType(key any) string {
	switch key.(type) {
	case *ecdsa.PrivateKey:
		return "EC"
	case ed25519.PrivateKey:
		return "Ed25519"
	}
	return "another kind"
}

// Thumbprint is the certificate's name in Entra ID's portal.
func (c *Certificate) Thumbprint() string { return fmt.Sprintf("%X", sha1.Sum(c.Leaf.Raw)) }

// Digest is the certificate's name in an assertion.
func (c *Certificate) Digest() [sha256.Size]byte { return sha256.Sum256(c.Leaf.Raw) }

// Assertion says, signed, that the bearer is the application, to the token endpoint
// alone and for ten minutes from now.
func (c *Certificate) Assertion(clientID, audience string, now time.Time) (string, error) {
	t := jwt.NewWithClaims(jwt.SigningMethodPS256, jwt.RegisteredClaims{
		Issuer: clientID, Subject: clientID, Audience: jwt.ClaimStrings{audience}, ID: rand.Text(),
		NotBefore: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(now.Add(assertionLife)),
	})
	digest := c.Digest()
	t.Header["x5t#S256"] = base64.RawURLEncoding.EncodeToString(digest[:])
	return t.SignedString(c.key)
}
