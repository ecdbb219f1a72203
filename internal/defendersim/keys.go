package defendersim

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// Certificate is what an application proves itself with: a certificate of its own making, and the key.
type Certificate struct {
	Cert *x509.Certificate
	Key  *rsa.PrivateKey
}

// NewCertificate makes a certificate that is good from one instant to another, of the service's clock.
func NewCertificate(from, to time.Time) (*Certificate, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, fmt.Errorf("key of a certificate: %w", err)
	}
	serial, _ := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "defender application"},
		NotBefore: from, NotAfter: to,
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	cert, err := x509.ParseCertificate(raw)
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	return &Certificate{cert, key}, nil
}

// PEM is the certificate and its key (PKCS#8), as a file of an application holds them.
func (c *Certificate) PEM() []byte {
	key, err := x509.MarshalPKCS8PrivateKey(c.Key)
	if err != nil {
		panic(fmt.Sprintf("defendersim: %v", err))
	}
	return append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Cert.Raw}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})...)
}

// Cluster is a Kubernetes cluster as an issuer of tokens for its service accounts.
type Cluster struct {
	url string
	key *rsa.PrivateKey
}

// NewCluster makes a cluster with its issuer's URL. Where Entra ID would fetch the keys from there, the simulated one
// asks the Cluster of a Federation.
func NewCluster(url string) (*Cluster, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, fmt.Errorf("key of a cluster: %w", err)
	}
	return ClusterOf(url, key), nil
}

// ClusterOf is the cluster whose key is this one.
func ClusterOf(url string, key *rsa.PrivateKey) *Cluster { return &Cluster{url, key} }

// Token makes a token of a service account (system:serviceaccount:NAMESPACE:NAME) for an audience.
func (c *Cluster) Token(subject, audience string, from, to time.Time) (string, error) {
	t := jwt.NewWithClaims(jwt.SigningMethodRS256, jwt.RegisteredClaims{
		Issuer: c.url, Subject: subject, Audience: jwt.ClaimStrings{audience},
		IssuedAt: jwt.NewNumericDate(from), NotBefore: jwt.NewNumericDate(from), ExpiresAt: jwt.NewNumericDate(to),
	})
	t.Header["kid"] = "cluster"
	return t.SignedString(c.key)
}
