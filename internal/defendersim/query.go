package defendersim

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// DefaultSpan is what a query without bounds asks for.
const DefaultSpan = 2 * time.Hour

// Filter is what a query asks for beside time. Empty parts ask for everything. Values are compared exactly.
type Filter struct {
	MachineGroups []string // any of them
	DeviceTag     string   // DeviceCreatedMachineTags
	CloudTag      string   // CloudCreatedMachineTags
}

// Query is a query of the SIEM API with its defaults filled in.
type Query struct {
	Since, Until time.Time     // the window, also of an ago query
	Ago          time.Duration // 0: not given
	Limit        int           // -1: none
	Filter       Filter
	UntilGiven   bool
}

// ParseQuery reads a raw query as the service does at the time now. Names are case-insensitive, unknown names are
// ignored, only machinegroups may be repeated. Refused, as nothing documents them: a single parameter given twice,
// ago beside a bound, more than 7 fractional digits.
func ParseQuery(raw string, now time.Time) (Query, error) {
	q := Query{Until: now, Limit: -1}
	values, err := url.ParseQuery(raw)
	if err != nil {
		return Query{}, fmt.Errorf("query: %w", err)
	}
	given := make(map[string]string)
	for name, vs := range values {
		name = strings.ToLower(name)
		switch name {
		case "machinegroups":
			q.Filter.MachineGroups = append(q.Filter.MachineGroups, vs...)
		case "sincetimeutc", "untiltimeutc", "ago", "limit", "devicecreatedmachinetags", "cloudcreatedmachinetags":
			if _, twice := given[name]; twice || len(vs) > 1 {
				return Query{}, fmt.Errorf("%s: given more than once", name)
			}
			given[name] = vs[0]
		}
	}
	q.Filter.DeviceTag = given["devicecreatedmachinetags"]
	q.Filter.CloudTag = given["cloudcreatedmachinetags"]
	if v, ok := given["limit"]; ok {
		if q.Limit, err = strconv.Atoi(v); err != nil || q.Limit < 0 || q.Limit > 1<<31-1 {
			return Query{}, fmt.Errorf("limit: %q is no count", v)
		}
	}
	since, sinceGiven := given["sincetimeutc"]
	until, untilGiven := given["untiltimeutc"]
	ago, agoGiven := given["ago"]
	if agoGiven {
		if sinceGiven || untilGiven {
			return Query{}, errors.New("ago: not beside sinceTimeUtc or untilTimeUtc")
		}
		if q.Ago, err = parseDuration(ago); err != nil {
			return Query{}, fmt.Errorf("ago: %w", err)
		}
		q.Since = now.Add(-q.Ago)
		return q, nil
	}
	q.Since = now.Add(-DefaultSpan)
	if sinceGiven {
		if q.Since, err = parseTime(since); err != nil {
			return Query{}, fmt.Errorf("sinceTimeUtc: %w", err)
		}
	}
	if untilGiven {
		q.UntilGiven = true
		if q.Until, err = parseTime(until); err != nil {
			return Query{}, fmt.Errorf("untilTimeUtc: %w", err)
		}
	}
	return q, nil
}

var timeLayouts = []string{
	"2006-01-02T15:04:05Z07:00", "2006-01-02T15:04:05", "2006-01-02T15:04Z07:00", "2006-01-02T15:04", "2006-01-02",
}

// parseTime reads an ISO 8601 time; without a zone it is UTC, as in the seed's example.
func parseTime(v string) (time.Time, error) {
	if _, frac, ok := strings.Cut(v, "."); ok {
		digits := len(frac) - len(strings.TrimLeft(frac, "0123456789"))
		if digits == 0 || digits > 7 {
			return time.Time{}, fmt.Errorf("%q has %d fractional digits, 1 to 7 are known", v, digits)
		}
	}
	if !strings.Contains(v, ",") { // time.Parse takes a comma for a point
		for _, l := range timeLayouts {
			if t, err := time.Parse(l, v); err == nil {
				return t.UTC(), nil
			}
		}
	}
	return time.Time{}, fmt.Errorf("%q is no time", v)
}

// parseDuration reads an ISO 8601 duration by the rules of .NET's XmlConvert: years of 365 and months of 30 days, a
// fraction for seconds only, no weeks.
func parseDuration(v string) (time.Duration, error) {
	bad := fmt.Errorf("%q is no ISO 8601 duration", v)
	rest, ok := strings.CutPrefix(v, "P")
	if !ok || rest == "" {
		return 0, bad
	}
	const day = 24 * time.Hour
	var sum time.Duration
	take := func(part string, units string, size map[byte]time.Duration) error {
		for part != "" {
			i := strings.IndexAny(part, "YMDHS")
			if i < 1 {
				return bad
			}
			at := strings.IndexByte(units, part[i])
			if at < 0 {
				return bad
			}
			number, fraction, hasFraction := strings.Cut(part[:i], ".")
			if hasFraction && (part[i] != 'S' || fraction == "" || strings.Trim(fraction, "0123456789") != "") {
				return bad
			}
			n, err := strconv.ParseUint(number, 10, 31)
			if err != nil || strings.HasPrefix(number, "+") {
				return bad
			}
			if n > uint64((1<<62)/size[part[i]]) {
				return fmt.Errorf("%q is too long", v)
			}
			sum += time.Duration(n) * size[part[i]]
			if hasFraction {
				f, _ := strconv.ParseFloat("0."+fraction, 64)
				sum += time.Duration(f * float64(time.Second))
			}
			if sum < 0 || sum > 100*365*day {
				return fmt.Errorf("%q is too long", v)
			}
			part, units = part[i+1:], units[at+1:]
		}
		return nil
	}
	dates, times, hasT := strings.Cut(rest, "T")
	if hasT && times == "" {
		return 0, bad
	}
	if err := take(dates, "YMD", map[byte]time.Duration{'Y': 365 * day, 'M': 30 * day, 'D': day}); err != nil {
		return 0, err
	}
	clock := map[byte]time.Duration{'H': time.Hour, 'M': time.Minute, 'S': time.Second}
	if err := take(times, "HMS", clock); err != nil {
		return 0, err
	}
	return sum, nil
}
