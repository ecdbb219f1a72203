package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/textproto"
	"net/url"
	"strings"
	"syscall"
)

// errNoAnswer ends a request whose head does not come.
var errNoAnswer = errors.New("no answer in time")

// tunnel turns a proxy's refusal to CONNECT into an Error; the transport itself
// would keep its status text only.
func tunnel(_ context.Context, _ *url.URL, req *http.Request, resp *http.Response) error {
	if resp.StatusCode == http.StatusOK {
		return nil
	}
	e := &Error{Kind: KindConfig, Status: resp.StatusCode, remedy: "check proxy_url and the proxy's rules"}
	switch {
	case resp.StatusCode == http.StatusProxyAuthRequired:
		e.what = "the proxy wants a user name and password (407)"
		e.remedy = "put them into the address in the variable HTTPS_PROXY, and leave proxy_url out"
	case resp.StatusCode >= 500:
		e.Kind = KindNetwork
		e.what = fmt.Sprintf("the proxy cannot reach %s (%d)", clean(req.Host, 100), resp.StatusCode)
	default:
		e.what = fmt.Sprintf("the proxy refuses a connection to %s (%d)", clean(req.Host, 100), resp.StatusCode)
	}
	return e
}

// networkError is the error of a request without an answer. connected says whether
// its connection stood.
func (c *Client) networkError(to target, u *url.URL, err error, connected bool) *Error {
	var own *Error
	if errors.As(err, &own) {
		own.op = to.name
		return own
	}
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	host := clean(u.Host, 100)
	e := &Error{Kind: KindNetwork, op: to.name, err: err}
	var (
		dns      *net.DNSError
		op       *net.OpError
		timeout  net.Error
		unknown  x509.UnknownAuthorityError
		name     x509.HostnameError
		invalid  x509.CertificateInvalidError
		verify   *tls.CertificateVerificationError
		plain    tls.RecordHeaderError
		protocol textproto.ProtocolError
		viaProxy = errors.As(err, &op) && (op.Op == "proxyconnect" || op.Op == "socks connect")
	)
	if viaProxy {
		host = "the proxy"
	}
	switch {
	case errors.Is(err, errProxyVariable):
		e.Kind, e.what, e.remedy = KindConfig, errProxyVariable.Error(), "mend it, or set proxy_url"
	case errors.As(err, &dns) && !dns.IsTimeout:
		e.what = fmt.Sprintf("cannot find the address of %s", clean(dns.Name, 100))
		e.remedy = "check " + to.keys + " and this machine's DNS; where only a proxy reaches the internet, set proxy_url"
		if viaProxy {
			e.remedy = "check proxy_url and this machine's DNS"
		}
	case errors.As(err, &unknown):
		e.Kind = KindConfig
		e.what = fmt.Sprintf("the certificate of %s is signed by an authority this machine does not know", host)
		e.remedy = "if a proxy opens TLS here, name its certificate in ca_file; else check " + to.keys
	case errors.As(err, &name):
		e.Kind = KindConfig
		e.what = fmt.Sprintf("the certificate of %s is for another name", host)
		e.remedy = "check " + to.keys + ", and for a proxy or DNS that leads elsewhere"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		e.Kind = KindConfig
		e.what = fmt.Sprintf("the certificate of %s is expired or not valid yet", host)
		e.remedy = "check this machine's clock; if it is right, whoever runs that host must renew it"
	case errors.As(err, &verify):
		e.Kind = KindConfig
		e.what = fmt.Sprintf("the certificate of %s is not valid: %s", host, c.mask.text(verify.Err.Error(), 150))
		e.remedy = "check ca_file, and for a proxy that opens TLS"
	case errors.As(err, &plain):
		e.Kind = KindConfig
		e.what = fmt.Sprintf("%s does not speak TLS", host)
		e.remedy = "check " + to.keys + " and the scheme of proxy_url"
	case !connected && strings.Contains(err.Error(), "tls: "): // the alert's own type is not exported
		_, why, _ := strings.Cut(err.Error(), "tls: ")
		e.Kind = KindConfig
		e.what = fmt.Sprintf("the TLS handshake with %s failed: %s", host, clean(why, 100))
		e.remedy = "it must speak TLS 1.2 or newer; check " + to.keys + ", and for a proxy that opens TLS"
	case errors.Is(err, errNoAnswer), errors.As(err, &timeout) && timeout.Timeout():
		if connected {
			e.what = fmt.Sprintf("no answer from %s within %v (read_timeout)", host, c.read)
			e.remedy = "if it lasts, " + to.slow
			break
		}
		e.what = fmt.Sprintf("no connection to %s within %v (connect_timeout)", host, c.connect)
		e.remedy = "check the firewall and " + to.keys + "; where only a proxy reaches the internet, set proxy_url"
		if viaProxy {
			e.remedy = "check proxy_url and the firewall"
		}
	case errors.Is(err, syscall.ECONNREFUSED):
		e.what = fmt.Sprintf("%s refused the connection", host)
		e.remedy = "check " + to.keys + " and the firewall; where only a proxy reaches the internet, set proxy_url"
		if viaProxy {
			e.remedy = "check proxy_url"
		}
	case strings.Contains(err.Error(), "server response headers exceeded"):
		e.Kind = KindService
		e.what = fmt.Sprintf("the head of the answer from %s is larger than %d KiB", host, maxHeaderBytes>>10)
		e.remedy = "check " + to.keys + " and proxy_url"
	case errors.As(err, &protocol), strings.Contains(err.Error(), "malformed HTTP"):
		e.what = fmt.Sprintf("the answer from %s is not HTTP", host)
		e.remedy = "check " + to.keys + " and proxy_url"
		e.err = nil // its text quotes the answer
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		e.what = fmt.Sprintf("%s closed the connection before it answered", host)
		e.remedy = "if it lasts, look for a firewall or proxy that cuts connections"
	default:
		e.err = nil // may quote anything
		e.what = fmt.Sprintf("no answer from %s: %s", host, c.mask.text(err.Error(), 200))
		e.remedy = "if it lasts, check the network, " + to.keys + " and proxy_url"
	}
	if to.direct != "" && e.Kind == KindNetwork {
		e.remedy = to.direct
	}
	return e
}
