package client

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
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

	op, what, remedy, said string
	invalidClient          bool // the credential itself was refused
	gone                   bool // see Gone
	err                    error
}

func (e *Error) Error() string {
	s := e.op + ": " + e.what
	if e.remedy != "" {
		s += "; " + e.remedy
	}
	if e.said != "" {
		s += `; the service says "` + e.said + `"`
	}
	return s
}

// Gone tells whether alerts were refused as if their API did not exist: its name has no address, nobody listens
// there, or 403, 404 or 410.
func (e *Error) Gone() bool { return e.gone && e.op == alertsRequest }

// Unwrap returns the error of the network, where there is one.
func (e *Error) Unwrap() error { return e.err }

// statusError is the error of an answer that is not 200. said is what its body says.
func (n *network) statusError(to target, resp *http.Response, said string) *Error {
	e := &Error{Status: resp.StatusCode, RetryAfter: n.wait(resp.Header), op: to.name, said: said}
	status := resp.StatusCode
	switch {
	case status >= 300 && status < 400:
		e.Kind = KindConfig
		e.what = fmt.Sprintf("redirected to %s (%d), which is refused so that no credential goes to another host", n.location(resp), status)
		e.remedy = "check " + to.keys + ", and set the final address if it is the right one"
	case status == http.StatusBadRequest:
		e.Kind = KindRefused
		e.what = "the service refused the query (400)"
	case status == http.StatusUnauthorized:
		e.Kind = KindUnauthorized
		e.what = "the service refused the token (401), and a new one too"
	case status == http.StatusForbidden:
		e.Kind = KindForbidden
		e.what = "access is forbidden (403)"
	case status == http.StatusNotFound, status == http.StatusGone, status == http.StatusMethodNotAllowed, status == http.StatusMisdirectedRequest:
		e.Kind = KindConfig
		e.what = fmt.Sprintf("nothing answers at %s (%d)", place(resp.Request), status)
		e.remedy = "check " + to.keys
	case status == http.StatusProxyAuthRequired:
		e.Kind = KindConfig
		e.what = "the proxy wants a user name and password (407)"
		e.remedy = "put them into the address in the variable HTTPS_PROXY, and leave proxy_url out"
	case status == http.StatusTooManyRequests:
		e.Kind = KindThrottled
		e.what = "throttled (429)" + asked(e.RetryAfter)
		e.remedy = "raise poll_interval, or let fewer stanzas and nodes poll this tenant"
	case status == http.StatusRequestTimeout, status == http.StatusTooEarly:
		e.Kind = KindService
		e.what = fmt.Sprintf("the service gave the request up (%d)", status)
		e.remedy = "if it lasts, look for a slow proxy"
	case status == http.StatusInternalServerError:
		e.Kind = KindService
		e.what = "error in the service (500)"
		e.remedy = "if it lasts, look at the service's health"
	case status >= 500:
		e.Kind = KindService
		e.what = fmt.Sprintf("the service is not available (%d)%s", status, asked(e.RetryAfter))
		e.remedy = "if it lasts, look at the service's health"
	case status >= 400:
		e.Kind = KindRefused
		e.what = fmt.Sprintf("the service refused the request (%d)", status)
		e.remedy = "check " + to.keys + " and the filters"
	default:
		e.Kind = KindService
		e.what = fmt.Sprintf("the service answered with status %d instead of 200", status)
		e.remedy = "if it lasts, check " + to.keys + " and proxy_url"
	}
	return e
}

func asked(d time.Duration) string {
	if d <= 0 {
		return ""
	}
	return fmt.Sprintf(", it asks to wait %v", d)
}

// place is a request's address without its query.
func place(req *http.Request) string {
	if req == nil || req.URL == nil {
		return "the configured address"
	}
	return clean(req.URL.Scheme+"://"+req.URL.Host+req.URL.EscapedPath(), 200)
}

// location is the host a redirect points to; the rest of it may hold anything.
func (n *network) location(resp *http.Response) string {
	u, err := url.Parse(resp.Header.Get("Location"))
	if err != nil || (u.Host == "" && u.Path == "") {
		return "nowhere"
	}
	if u.Host == "" {
		return "another path"
	}
	return n.mask.text(u.Host, 100)
}

// refused is the error of an answer that refuses a request for alerts, in the words of the API. page: its address was
// a link that the service gave.
func (c *Client) refused(page bool, resp *http.Response, body *body) *Error {
	e := c.statusError(c.api.target, resp, c.snippet(resp, body))
	switch e.Status {
	case http.StatusForbidden, http.StatusNotFound, http.StatusGone:
		e.gone = !page
	}
	if w, own := c.api.words[e.Status]; own {
		e.what += w.more
		e.remedy = w.remedy
	}
	// A link that the service gave and does not take says nothing about the stanza.
	if page && (e.Status == http.StatusBadRequest || e.Status == http.StatusNotFound || e.Status == http.StatusGone) {
		e.Kind = KindRefused
		e.what = fmt.Sprintf("the service refused its own link to the next page (%d)", e.Status)
		e.remedy = "if it lasts, lower max_window, so that there are fewer pages"
	}
	return e
}

// snippet reads what the body of a refused request says: a short printable piece,
// without secrets. It takes at most 4 KiB and a few seconds.
func (c *Client) snippet(resp *http.Response, b *body) string {
	b.limit = min(b.limit, 5*time.Second)
	b.within(b.limit)
	plain, err := decoded(resp.Header, b)
	if err != nil {
		return ""
	}
	// One byte past the bound brings a body of that length to its end.
	text, _ := io.ReadAll(io.LimitReader(plain, 4<<10+1))
	said := c.api.said(c.mask, text)
	if said == "" {
		said = c.mask.text(resp.Header.Get("WWW-Authenticate"), 200)
	}
	return said
}

// longestRetryAfter bounds what a service can make us wait: an hour of silence is
// as long as an operator should wait for a repaired service to be asked again.
const longestRetryAfter = time.Hour

// retryAfter reads a Retry-After value in either form of RFC 9110: seconds, or a
// date, which is taken relative to now, the service's time. What is negative, past
// or unreadable gives zero; what is longer than an hour gives an hour.
func retryAfter(value string, now time.Time) time.Duration {
	value = strings.TrimSpace(value)
	if value == "" {
		return 0
	}
	if strings.Trim(value, "0123456789") == "" {
		var seconds time.Duration
		for _, digit := range value {
			seconds = seconds*10 + time.Duration(digit-'0')
			if seconds > longestRetryAfter/time.Second {
				return longestRetryAfter
			}
		}
		return seconds * time.Second
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	return min(max(at.Sub(now), 0), longestRetryAfter)
}

// wait is the Retry-After of an answer. Both times of a date form come from one
// clock when the answer has a Date; else the clock's estimate, else the local time.
func (n *network) wait(h http.Header) time.Duration {
	now, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		var ok bool
		if now, ok = n.clock.now(time.Now()); !ok {
			now = time.Now()
		}
	}
	return retryAfter(h.Get("Retry-After"), now)
}
