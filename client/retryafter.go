package client

import (
	"net/http"
	"strings"
	"time"
)

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
func (c *Client) wait(h http.Header) time.Duration {
	now, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		var ok bool
		if now, ok = c.clock.now(time.Now()); !ok {
			now = time.Now()
		}
	}
	return retryAfter(h.Get("Retry-After"), now)
}
