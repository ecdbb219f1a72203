package transport

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Kind says what a caller can do about an Error.
type Kind int

// Kinds of errors.
const (
	KindNetwork        Kind = iota + 1 // no answer, or none that is HTTP: ask again
	KindThrottled                      // 429: ask again after RetryAfter
	KindService                        // 5xx and other answers nobody asked for: ask again
	KindUnauthorized                   // 401, with a new token too
	KindForbidden                      // 403: an operator must act
	KindToken                          // no token until an operator acts
	KindTokenTransient                 // no token just now
	KindRefused                        // 400 and other 4xx: this query is refused
	KindConfig                         // address, proxy or trust is wrong: an operator must act
)

func (k Kind) String() string {
	names := [...]string{"unknown", "network", "throttled", "service", "unauthorized", "forbidden",
		"token", "token transient", "refused", "config"}
	if k < 0 || int(k) >= len(names) {
		k = 0
	}
	return names[k]
}

// Error is a request that failed. Its text is one lower-case line: what happened and
// what the operator can do. Nothing in it or below it holds a secret.
type Error struct {
	Kind       Kind
	Status     int           // of the answer; 0: none came
	RetryAfter time.Duration // what the service asked for, 0 to 1 h; 0: nothing
	Code       int           // AADSTS number of a refused token; 0: none

	Op, What   string // what failed, and how
	Remedy     string // what the operator can do
	Said       string // by the service, without secrets
	Credential bool   // the credential itself was refused
	Gone       bool   // the API seems not to exist: its name has no address, nobody listens there, or 403, 404 or 410
	Err        error  // of the network, where there is one; it quotes nothing
}

func (e *Error) Error() string {
	s := e.Op + ": " + e.What
	if e.Remedy != "" {
		s += "; " + e.Remedy
	}
	if e.Said != "" {
		s += `; the service says "` + e.Said + `"`
	}
	return s
}

// Unwrap returns the error of the network, where there is one.
func (e *Error) Unwrap() error { return e.Err }

// StatusError is the error of an answer that is not 200. said is what its body says.
func (n *Network) StatusError(to Target, resp *http.Response, said string) *Error {
	e := &Error{Status: resp.StatusCode, RetryAfter: n.RetryAfter(resp.Header), Op: to.Name, Said: said}
	status := resp.StatusCode
	switch {
	case status >= 300 && status < 400:
		e.Kind = KindConfig
		e.What = fmt.Sprintf("redirected to %s (%d), which is refused so that no credential goes to another host",
			n.location(resp), status)
		e.Remedy = "check " + to.Keys + ", and set the final address if it is the right one"
	case status == http.StatusBadRequest:
		e.Kind = KindRefused
		e.What = "the service refused the query (400)"
	case status == http.StatusUnauthorized:
		e.Kind = KindUnauthorized
		e.What = "the service refused the token (401), and a new one too"
	case status == http.StatusForbidden:
		e.Kind = KindForbidden
		e.What = "access is forbidden (403)"
	case status == http.StatusNotFound, status == http.StatusGone, status == http.StatusMethodNotAllowed,
		status == http.StatusMisdirectedRequest:
		e.Kind = KindConfig
		u := resp.Request.URL // without its query, which may hold a key
		e.What = fmt.Sprintf("nothing answers at %s (%d)", Clean(u.Scheme+"://"+u.Host+u.EscapedPath(), 200), status)
		e.Remedy = "check " + to.Keys
	case status == http.StatusProxyAuthRequired:
		e.Kind = KindConfig
		e.What = "the proxy wants a user name and password (407)"
		e.Remedy = "put them into the address in the variable HTTPS_PROXY, and leave proxy_url out"
	case status == http.StatusTooManyRequests:
		e.Kind = KindThrottled
		e.What = "throttled (429)" + asked(e.RetryAfter)
		e.Remedy = "raise poll_interval, or let fewer stanzas and nodes poll this tenant"
	case status == http.StatusRequestTimeout, status == http.StatusTooEarly:
		e.Kind = KindService
		e.What = fmt.Sprintf("the service gave the request up (%d)", status)
		e.Remedy = "if it lasts, look for a slow proxy"
	case status == http.StatusInternalServerError:
		e.Kind = KindService
		e.What = "error in the service (500)"
		e.Remedy = "if it lasts, look at the service's health"
	case status >= 500:
		e.Kind = KindService
		e.What = fmt.Sprintf("the service is not available (%d)%s", status, asked(e.RetryAfter))
		e.Remedy = "if it lasts, look at the service's health"
	case status >= 400:
		e.Kind = KindRefused
		e.What = fmt.Sprintf("the service refused the request (%d)", status)
		e.Remedy = "check " + to.Keys + " and the filters"
	default:
		e.Kind = KindService
		e.What = fmt.Sprintf("the service answered with status %d instead of 200", status)
		e.Remedy = "if it lasts, check " + to.Keys + " and proxy_url"
	}
	return e
}

func asked(d time.Duration) string {
	if d <= 0 {
		return ""
	}
	return fmt.Sprintf(", it asks to wait %v", d)
}

// location is the host a redirect points to; the rest of it may hold anything.
func (n *Network) location(resp *http.Response) string {
	u, err := url.Parse(resp.Header.Get("Location"))
	if err != nil || (u.Host == "" && u.Path == "") {
		return "nowhere"
	}
	if u.Host == "" {
		return "another path"
	}
	return n.Mask.Text(u.Host, 100)
}

// longestRetryAfter bounds what a service can make us wait: an hour of silence is
// as long as an operator should wait for a repaired service to be asked again.
const longestRetryAfter = time.Hour

// retryAfter reads a Retry-After value in either form of RFC 9110: seconds, or a
// date, which is taken relative to now, the service's time. What is negative, past
// or unreadable gives zero; what is longer than an hour gives an hour.
func retryAfter(value string, now time.Time) time.Duration {
	value = strings.TrimSpace(value)
	seconds, err := strconv.ParseUint(value, 10, 64)
	if err == nil || errors.Is(err, strconv.ErrRange) { // out of range is the largest
		return time.Duration(min(seconds, uint64(longestRetryAfter/time.Second))) * time.Second
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	return min(max(at.Sub(now), 0), longestRetryAfter)
}

// RetryAfter is the Retry-After of an answer. Both times of a date form come from one
// clock when the answer has a Date; else the clock's estimate, else the local time.
func (n *Network) RetryAfter(h http.Header) time.Duration {
	now, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		var ok bool
		if now, ok = n.Clock.Now(time.Now()); !ok {
			now = time.Now()
		}
	}
	return retryAfter(h.Get("Retry-After"), now)
}
