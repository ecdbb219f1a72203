package conf

import (
	"errors"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

// address is what an URL key asks of its value.
type address struct {
	plain bool // http to any host, not to loopback addresses only
	proxy bool // a proxy: socks5 as well, and no path
	whole bool // a path must follow the host
}

var (
	errNotAddress  = errors.New("not an address")
	errScheme      = errors.New("of a scheme that is not allowed")
	errPlain       = errors.New("plain http to a host that is no loopback address")
	errCredentials = errors.New("with a user or password, which would end up in logs")
	errPlaceholder = errors.New("with a placeholder that was not filled in")
	errQuery       = errors.New("with a query or a fragment")
	errNoHost      = errors.New("without a valid host")
	errPort        = errors.New("with a port that is none")
	errNoPath      = errors.New("without a path")
	errPath        = errors.New("with a path")

	hostName = regexp.MustCompile(`^[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?$`)
)

// parse checks an address and returns it with scheme and host in lower case and without the scheme's own port, so that
// one place has one spelling (a part of the state key).
func (a address) parse(text string) (string, error) {
	if err := printable(text, maxURL); err != nil {
		return "", err
	}
	switch {
	case strings.ContainsAny(text, "{}<>"):
		return "", errPlaceholder
	case strings.ContainsAny(text, "?#"):
		return "", errQuery
	}
	u, err := url.Parse(text)
	if err != nil || u.Opaque != "" || u.Scheme == "" {
		// A password may hold what no address may; say what matters more.
		if strings.Contains(text, "@") {
			return "", errCredentials
		}
		return "", errNotAddress
	}
	switch {
	case u.User != nil:
		return "", errCredentials
	case u.Scheme == "https", u.Scheme == "socks5" && a.proxy:
	case u.Scheme != "http":
		return "", errScheme
	case !a.plain && !loopback(u.Hostname()):
		return "", errPlain
	}
	if err := checkHost(u); err != nil {
		return "", err
	}
	path := strings.Trim(u.Path, "/")
	switch {
	case a.whole && path == "":
		return "", errNoPath
	case a.proxy && path != "":
		return "", errPath
	}
	u.Host = strings.ToLower(u.Host)
	if p := u.Port(); p == "443" && u.Scheme == "https" || p == "80" && u.Scheme == "http" {
		u.Host = strings.TrimSuffix(u.Host, ":"+p)
	}
	if !a.whole {
		return strings.TrimRight(u.String(), "/"), nil
	}
	return u.String(), nil
}

// checkHost takes names, IPv4 and IPv6 addresses. Names beyond ASCII must come in their xn-- form, which is what the
// certificate and the logs show.
func checkHost(u *url.URL) error {
	host := strings.ToLower(u.Hostname())
	ip, err := netip.ParseAddr(host)
	switch {
	case err == nil && ip.Zone() == "":
	case !hostName.MatchString(host), len(host) > 253, strings.Contains(host, ".."):
		return errNoHost
	}
	if strings.HasSuffix(u.Host, ":") {
		return errPort
	}
	if p := u.Port(); p != "" {
		if n, err := strconv.ParseUint(p, 10, 16); err != nil || n == 0 {
			return errPort
		}
	}
	return nil
}

// loopback is what never leaves the machine: plain http is no leak there.
func loopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}
