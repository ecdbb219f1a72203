package transport

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/textproto"
	"syscall"
	"testing"
	"time"

	"fluent-bit-defender/internal/simtest"
)

func TestErrorsOfTheNetwork(t *testing.T) {
	opErr := func(op string, err error) error {
		return &net.OpError{Op: op, Net: "tcp", Addr: &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 443}, Err: err}
	}
	f := func(name string, in error, kind Kind, want string) {
		t.Helper()
		c := connect(t, simtest.Settings(), &simtest.Service{Alerts: func(*http.Request) (*http.Response,
			error) {
			return nil, in
		}})
		_, err := fetch(c)
		e := failure(t, err)
		if e.Kind != kind || e.Status != 0 || e.Error() != want {
			t.Errorf("%s: %v\n got %s\nwant %s", name, e.Kind, e, want)
		}
	}
	const proxy = "; where only a proxy reaches the internet, set proxy_url"
	f("unknown name", opErr("dial", &net.DNSError{Err: "no such host", Name: "alerts.test", IsNotFound: true}),
		KindNetwork,
		"alerts request: cannot find the address of alerts.test; check url, cloud and region and this machine's DNS"+
			proxy)
	f("unknown proxy", opErr("proxyconnect", &net.DNSError{Err: "no such host", Name: "proxy.test"}), KindNetwork,
		"alerts request: cannot find the address of proxy.test; check proxy_url and this machine's DNS")
	f("refused", opErr("dial", syscall.ECONNREFUSED), KindNetwork,
		"alerts request: alerts.test refused the connection; check url, cloud and region and the firewall"+proxy)
	f("refused by the proxy", opErr("proxyconnect", opErr("dial", syscall.ECONNREFUSED)), KindNetwork,
		"alerts request: the proxy refused the connection; check proxy_url")
	f("reset", opErr("read", syscall.ECONNRESET), KindNetwork,
		"alerts request: alerts.test closed the connection before it answered; if it lasts, look for a firewall or "+
			"proxy that cuts connections")
	f("closed", io.EOF, KindNetwork,
		"alerts request: alerts.test closed the connection before it answered; if it lasts, look for a firewall or "+
			"proxy that cuts connections")
	f("unknown authority", &tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}, KindConfig,
		"alerts request: the certificate of alerts.test is signed by an authority this machine does not know; "+
			"if a proxy opens TLS here, name its certificate in ca_file; else check url, cloud and region")
	f("another name", &tls.CertificateVerificationError{Err: x509.HostnameError{Certificate: &x509.Certificate{},
		Host: "alerts.test"}}, KindConfig,
		"alerts request: the certificate of alerts.test is for another name; check url, cloud and region, and for a "+
			"proxy or DNS that leads elsewhere")
	f("expired", &tls.CertificateVerificationError{Err: x509.CertificateInvalidError{Reason: x509.Expired}}, KindConfig,
		"alerts request: the certificate of alerts.test is expired or not valid yet; "+
			"check this machine's clock; if it is right, whoever runs that host must renew it")
	ofAClient := x509.CertificateInvalidError{Reason: x509.IncompatibleUsage}
	f("no server certificate", &tls.CertificateVerificationError{Err: ofAClient}, KindConfig,
		"alerts request: the certificate of alerts.test is not valid: x509: certificate specifies an incompatible "+
			"key usage; "+
			"check ca_file, and for a proxy that opens TLS")
	f("no TLS", tls.RecordHeaderError{Msg: "first record does not look like a TLS handshake"}, KindConfig,
		"alerts request: alerts.test does not speak TLS; check url, cloud and region and the scheme of proxy_url")
	f("timeout", opErr("read", context.DeadlineExceeded), KindNetwork,
		"alerts request: no answer from alerts.test within 1m0s (read_timeout); if it lasts, raise read_timeout or "+
			"lower max_window")
	f("not HTTP", textproto.ProtocolError("malformed MIME header line: "+simtest.Secret), KindNetwork,
		"alerts request: the answer from alerts.test is not HTTP; check url, cloud and region and proxy_url")
	f("bad proxy variable", errProxyVariable, KindConfig,
		"alerts request: the proxy variable of the environment (HTTPS_PROXY or HTTP_PROXY) is not an address; mend "+
			"it, or set proxy_url")
	f("anything else", errors.New("boom with "+simtest.Secret), KindNetwork,
		"alerts request: no answer from alerts.test: boom with [masked]; if it lasts, check the network, url, cloud "+
			"and region and proxy_url")

	t.Run("unwraps to the cause", func(t *testing.T) {
		c := connect(t, simtest.Settings(), &simtest.Service{Alerts: func(*http.Request) (*http.Response, error) {
			return nil, opErr("read", syscall.ECONNRESET)
		}})
		if _, err := fetch(c); !errors.Is(err, syscall.ECONNRESET) {
			t.Fatalf("%v does not", err)
		}
	})
}

func TestKindsHaveNames(t *testing.T) {
	seen := map[string]bool{}
	for k := KindNetwork; k <= KindConfig; k++ {
		if s := k.String(); s == "unknown" || seen[s] {
			t.Errorf("kind %d is called %q", k, s)
		} else {
			seen[s] = true
		}
	}
	if Kind(0).String() != "unknown" || Kind(99).String() != "unknown" {
		t.Error("other kinds have names")
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC)
	f := func(value string, want time.Duration) {
		t.Helper()
		if got := retryAfter(value, now); got != want {
			t.Errorf("%q: %v, want %v", value, got, want)
		}
	}
	f("", 0)
	f("0", 0)
	f("30", 30*time.Second)
	f(" 30 ", 30*time.Second)
	f("0030", 30*time.Second)
	f("3600", time.Hour)
	f("3601", time.Hour)
	f("99999999999999999999999999999999999", time.Hour)
	f("-1", 0)
	f("1.5", 0)
	f("1e3", 0)
	f("soon", 0)
	f("Thu, 02 Jan 2020 03:05:05 GMT", time.Minute)
	f("Thursday, 02-Jan-20 03:05:05 GMT", time.Minute)
	f("Thu Jan  2 03:05:05 2020", time.Minute)
	f("Thu, 02 Jan 2020 03:04:05 GMT", 0)
	f("Thu, 02 Jan 2020 03:00:00 GMT", 0)
	f("Fri, 31 Dec 9999 23:59:59 GMT", time.Hour)
	f("Mon, 01 Jan 0001 00:00:00 GMT", 0)
	f("2020-01-02T03:05:05Z", 0)
}

func FuzzRetryAfter(f *testing.F) {
	for _, seed := range []string{"", "30", "-1", "99999999999999999999", "Thu, 02 Jan 2020 03:05:05 GMT",
		"Fri, 31 Dec 9999 23:59:59 GMT", "1.5", "٣"} {
		f.Add(seed, int64(1577934245))
	}
	f.Fuzz(func(t *testing.T, value string, now int64) {
		d := retryAfter(value, time.Unix(now, 0))
		if d < 0 || d > time.Hour {
			t.Fatalf("%q gives %v", value, d)
		}
		if d%time.Second != 0 {
			t.Fatalf("%q gives %v: neither form is finer than a second", value, d)
		}
	})
}
