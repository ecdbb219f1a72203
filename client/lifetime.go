package client

import (
	"encoding/json"
	"math"
	"strconv"
	"strings"
	"time"
)

// secondsOf reads a number of seconds in whatever form it comes: 3599, 3599.0, "3599", "3599.0". What is none, or out of bounds,
// counts as not given.
func secondsOf(raw json.RawMessage) (int64, bool) {
	text := strings.TrimSpace(strings.Trim(strings.TrimSpace(string(raw)), `"`))
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsNaN(f) || math.Abs(f) >= 1<<33 {
		return 0, false
	}
	return int64(f), true
}

// plainLifetime rewrites the expires_in of an answer with a token to an integer, for x/oauth2 refuses a token whose lifetime it cannot read,
// and nobody needs that to use the token. Where expires_in cannot be read, expires_on counts, against the service's time at now; where
// neither can, none is left. What is no JSON object stays as it is.
func plainLifetime(body []byte, now time.Time) []byte {
	var fields map[string]json.RawMessage
	if json.Unmarshal(body, &fields) != nil || fields == nil {
		return body
	}
	in, ok := secondsOf(fields["expires_in"])
	if !ok {
		if on, known := secondsOf(fields["expires_on"]); known && on > 0 {
			in, ok = on-now.Unix(), true
		}
	}
	delete(fields, "expires_in")
	if ok {
		fields["expires_in"] = strconv.AppendInt(nil, in, 10)
	}
	plain, err := json.Marshal(fields)
	if err != nil {
		return body
	}
	return plain
}

// present is the service's time by a sighting, else the local clock's.
func (s sighting) present() time.Time {
	if s.date.IsZero() {
		return time.Now()
	}
	return s.at(time.Now())
}
