package credential

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	pkcs12 "software.sslmate.com/src/go-pkcs12"

	"fluent-bit-defender/internal/defendersim"
)

func block(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func pkcs8(key any) []byte {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		panic(err)
	}
	return der
}

func TestCertificateFiles(t *testing.T) {
	one, two := certificateOf(t), certificateOf(t)
	dir := t.TempDir()
	cert, key := block("CERTIFICATE", one.Cert.Raw), block("PRIVATE KEY", pkcs8(one.Key))
	chain := block("CERTIFICATE", two.Cert.Raw)
	pfx := func(e *pkcs12.Encoder, key any, leaf *x509.Certificate, password string, more ...*x509.Certificate) string {
		der, err := e.Encode(key, leaf, more, password)
		if err != nil {
			t.Fatal(err)
		}
		return string(der)
	}
	good := func(name, text, password string) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := ReadCertificate(path, password)
		if err != nil || !c.Leaf.Equal(one.Cert) || !c.key.Equal(one.Key) {
			t.Errorf("%s: %v", name, err)
		}
	}
	good("PKCS#8", cert+key, "")
	good("PKCS#1", cert+block("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(one.Key)), "")
	good("key first, texts between", "subject=x\n"+key+"issuer=y\n"+cert, "")
	good("a chain before and after", chain+key+cert+chain, "")
	good("PKCS#12, modern", pfx(pkcs12.Modern, one.Key, one.Cert, "hunter2hunter2"), "hunter2hunter2")
	good("PKCS#12, legacy", pfx(pkcs12.LegacyDES, one.Key, one.Cert, "hunter2hunter2"), "hunter2hunter2")
	good("PKCS#12, older still", pfx(pkcs12.LegacyRC2, one.Key, one.Cert, "hunter2hunter2"), "hunter2hunter2")
	good("PKCS#12, without a password", pfx(pkcs12.Passwordless, one.Key, one.Cert, ""), "")
	good("PKCS#12, the chain first", pfx(pkcs12.Modern, one.Key, two.Cert, "p", one.Cert), "p")

	ec, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ecDER, _ := x509.MarshalECPrivateKey(ec)
	_, ed, _ := ed25519.GenerateKey(rand.Reader)
	short, _ := rsa.GenerateKey(rand.Reader, 1024)
	shortTemplate := &x509.Certificate{SerialNumber: one.Cert.SerialNumber}
	shortDER, err := x509.CreateCertificate(rand.Reader, shortTemplate, shortTemplate, short.Public(), short)
	if err != nil {
		t.Fatal(err)
	}
	bad := func(name, text, password, want string) {
		t.Helper()
		path := filepath.Join(dir, "bad")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := ReadCertificate(path, password)
		if err == nil || err.Error() != path+" "+want {
			t.Errorf("%s:\n got %v\nwant %s %s", name, err, path, want)
		}
	}
	bad("nothing", " \n", "", "is empty")
	bad("the certificate alone", cert, "", "holds no private key: certificate and key belong into the one file")
	bad("the key alone", key, "", "holds no certificate: certificate and key belong into the one file")
	bad("another's key", chain+key, "", "holds a certificate and a key that do not belong together")
	bad("two keys", cert+key+key, "", "holds more than one private key")
	const notEC = "holds a key of type EC; Entra ID takes RSA keys only"
	bad("an EC key", cert+block("EC PRIVATE KEY", ecDER), "", notEC)
	bad("an EC key in PKCS#8", cert+block("PRIVATE KEY", pkcs8(ec)), "", notEC)
	bad("an Ed25519 key", cert+block("PRIVATE KEY", pkcs8(ed)), "",
		"holds a key of type Ed25519; Entra ID takes RSA keys only")
	bad("an EC key in PKCS#12", pfx(pkcs12.Modern, ec, one.Cert, "p"), "p", notEC)
	bad("a short key", block("CERTIFICATE", shortDER)+block("PRIVATE KEY", pkcs8(short)), "",
		"holds an RSA key of 1024 bits; Entra ID wants 2048 or more")
	const passphrase = "holds a key under a passphrase: " +
		"take that away, or give a PKCS#12 file with client_certificate_password"
	bad("an encrypted key", cert+block("ENCRYPTED PRIVATE KEY", []byte("x")), "", passphrase)
	bad("an encrypted key of old", cert+"-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n"+
		"DEK-Info: DES-EDE3-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n", "", passphrase)
	bad("a broken certificate", block("CERTIFICATE", []byte("x"))+key, "", "holds a certificate that cannot be read")
	bad("a broken key", cert+block("PRIVATE KEY", []byte("x")), "", "holds a private key that cannot be read")
	bad("half a file", (cert + key)[:len(cert)+200], "",
		"holds no private key: certificate and key belong into the one file")
	bad("a password for PEM", cert+key, "hunter2hunter2", "is PEM, which takes no password: "+
		"leave client_certificate_password out, or give a PKCS#12 file")
	sealed := pfx(pkcs12.Modern, one.Key, one.Cert, "hunter2hunter2")
	bad("another password", sealed, "opensesame", "does not open with client_certificate_password")
	bad("no password", sealed, "", "is PKCS#12 under a password: give it by client_certificate_password")
	const neither = "is neither PEM nor a PKCS#12 file with one key that can be read"
	bad("cut PKCS#12", sealed[:len(sealed)/2], "hunter2hunter2", neither)
	bad("a secret", "opensesame", "", neither)
	bad("too much", strings.Repeat("a", maxCertificate+1), "", "is larger than 256 KiB")
}

func FuzzCertificate(f *testing.F) {
	one := certificateOf(f)
	f.Add(one.PEM(), "")
	der, err := pkcs12.Legacy.Encode(one.Key, one.Cert, nil, "p")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(der, "p")
	f.Add([]byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"), "hunter2hunter2")
	f.Fuzz(func(t *testing.T, text []byte, password string) {
		if len(text) > 4096 {
			t.Skip()
		}
		c, err := parseCertificate(text, password)
		if (c == nil) == (err == nil) {
			t.Fatalf("%v beside %v", c, err)
		}
		if err == nil {
			return
		}
		said := err.Error()
		shown := len(password) >= 6 && strings.Contains(said, password) &&
			!strings.Contains("client_certificate_password PKCS#12", password)
		if len(said) > 200 || strings.ContainsAny(said, "\r\n\x00") || shown {
			t.Errorf("%q", err)
		}
	})
}

// certificateOf makes a certificate that is valid now.
func certificateOf(t testing.TB) *defendersim.Certificate {
	t.Helper()
	c, err := defendersim.NewCertificate(time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	return c
}
