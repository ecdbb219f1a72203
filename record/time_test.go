package record

import (
	"bytes"
	"regexp"
	"strings"
	"testing"
	"time"
)

func TestParseTime(t *testing.T) {
	cases := []struct{ name, text, want string }{
		{"seven digits", "2017-01-23T07:32:54.1861171Z", "2017-01-23T07:32:54.1861171Z"},
		{"five digits", "2017-01-23T07:32:54.18611Z", "2017-01-23T07:32:54.18611Z"},
		{"nine digits", "2017-01-23T07:32:54.186117123Z", "2017-01-23T07:32:54.186117123Z"},
		{"more digits than nanoseconds", "2017-01-23T07:32:54.1861171239999999Z", "2017-01-23T07:32:54.186117123Z"},
		{"no fraction", "2017-01-23T07:32:54Z", "2017-01-23T07:32:54Z"},
		{"no zone is UTC", "2017-01-23T07:32:54.5", "2017-01-23T07:32:54.5Z"},
		{"blank and lower case", "2017-01-23 07:32:54z", "2017-01-23T07:32:54Z"},
		{"comma", "2017-01-23T07:32:54,5Z", "2017-01-23T07:32:54.5Z"},
		{"offset", "2017-01-23T07:32:54+02:00", "2017-01-23T05:32:54Z"},
		{"offset to the west", "2017-01-23T23:32:54.1-05:30", "2017-01-24T05:02:54.1Z"},
		{"offset without a colon", "2017-01-23T07:32:54+0200", "2017-01-23T05:32:54Z"},
		{"offset of hours", "2017-01-23T07:32:54+02", "2017-01-23T05:32:54Z"},
		{"leap day", "2024-02-29T00:00:00Z", "2024-02-29T00:00:00Z"},
		{"leap second", "2016-12-31T23:59:60Z", "2017-01-01T00:00:00Z"},
		{"first", "1970-01-01T00:00:00Z", "1970-01-01T00:00:00Z"},
		{"first by its offset", "1969-12-31T23:30:00-01:00", "1970-01-01T00:30:00Z"},
		{"last", "2106-02-07T06:28:13.999999999Z", "2106-02-07T06:28:13.999999999Z"},
	}
	for _, c := range cases {
		sec, nsec, ok := parseTime([]byte(c.text))
		if at := time.Unix(sec, int64(nsec)).UTC().Format(time.RFC3339Nano); !ok || at != c.want {
			t.Errorf("%s: %s, %t", c.name, at, ok)
		}
	}
	for _, text := range []string{
		"", "2017", "2017-01-23", "2017-01-23T07:32", "2017-1-23T07:32:54Z", "2017-01-23X07:32:54Z",
		"2017/01/23T07:32:54Z",
		"2017-00-23T07:32:54Z", "2017-13-23T07:32:54Z", "2017-01-00T07:32:54Z", "2017-01-32T07:32:54Z",
		"2023-02-29T00:00:00Z",
		"2100-02-29T00:00:00Z", "2017-04-31T00:00:00Z", "2017-01-23T24:00:00Z", "2017-01-23T07:60:54Z",
		"2017-01-23T07:32:61Z",
		"2017-01-23T07:32:54.Z", "2017-01-23T07:32:54ZZ", "2017-01-23T07:32:54 ", "2017-01-23T07:32:54+2",
		"2017-01-23T07:32:54+24:00",
		"2017-01-23T07:32:54+02:60", "2017-01-23T07:32:54+02-00", "2017-01-23T07:32:54+020", "2017-01-23T0a:32:54Z",
		"0001-01-01T00:00:00", "1969-12-31T23:59:59Z", "1970-01-01T00:30:00+01:00", "2106-02-07T06:28:14Z",
		"2107-01-01T00:00:00Z", "9999-12-31T23:59:59Z",
	} {
		if sec, nsec, ok := parseTime([]byte(text)); ok {
			t.Errorf("%q passes as %d.%09d", text, sec, nsec)
		}
	}
}

func TestEveryDay(t *testing.T) {
	for day := time.Unix(0, 0).UTC(); day.Year() < 2106; day = day.AddDate(0, 0, 1) {
		if sec, _, ok := parseTime([]byte(day.Format("2006-01-02T15:04:05"))); !ok || sec != day.Unix() {
			t.Fatalf("%v: %d, %t", day, sec, ok)
		}
	}
}

// readTime reads a time by the standard library where that reads it, and else by parseTime, which FuzzTime compares
// with it.
func readTime(s string, unreadable time.Time) time.Time {
	sec, nsec, ok := parseTime([]byte(s))
	if at, ok := standardTime(s); ok {
		if inside := at.Unix() >= 0 && at.Unix() <= maxSeconds; inside {
			return at
		}
		return unreadable
	}
	if !ok {
		return unreadable
	}
	return time.Unix(sec, int64(nsec))
}

var rfc3339 = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d([.,]\d+)?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)$`)

// standardTime is time.Parse without what that lets pass beyond RFC 3339, such as an hour of one digit.
func standardTime(text string) (at time.Time, ok bool) {
	at, err := time.Parse(time.RFC3339Nano, text)
	return at, err == nil && rfc3339.MatchString(text)
}

// TestEachByteOfATime sets each byte of a time to each of the 256.
func TestEachByteOfATime(t *testing.T) {
	for _, text := range []string{"2017-01-23T07:32:54.1861171Z", "2017-01-23T07:32:54.18+02:00"} {
		for i := range text {
			for c := range 256 {
				checkTime(t, text[:i]+string([]byte{byte(c)})+text[i+1:])
			}
		}
	}
}

func FuzzTime(f *testing.F) { f.Fuzz(checkTime) }

// checkTime compares parseTime with the standard library.
func checkTime(t *testing.T, text string) {
	sec, nsec, ok := parseTime([]byte(text))
	if ok && (sec < 0 || sec > maxSeconds || nsec > 999_999_999) {
		t.Fatalf("%q is out of range: %d, %d", text, sec, nsec)
	}
	if at, readable := standardTime(text); readable {
		inside := at.Unix() >= 0 && at.Unix() <= maxSeconds
		if ok != inside || ok && !time.Unix(sec, int64(nsec)).Equal(at) {
			t.Fatalf("%q: %d.%09d, %t; the standard library reads %v", text, sec, nsec, ok, at)
		}
		return
	}
	if !ok {
		return
	}
	// what we read beyond RFC 3339 must be RFC 3339 once it is written its way
	strict := []byte(strings.ToUpper(strings.Replace(text, ",", ".", 1)))
	strict[10] = 'T'
	if string(strict[17:19]) == "60" {
		copy(strict[17:], "59")
		sec--
	}
	zone := strict[19:]
	if i := bytes.IndexAny(zone, "+-"); i >= 0 {
		zone = append(bytes.Clone(zone[:i+3]), append([]byte(":"), append(bytes.Trim(zone[i+3:], ":"),
			"00"...)[:2]...)...)
	} else if !bytes.HasSuffix(zone, []byte("Z")) {
		zone = append(bytes.Clone(zone), 'Z')
	}
	at, err := time.Parse(time.RFC3339Nano, string(strict[:19])+string(zone))
	if err != nil || !time.Unix(sec, int64(nsec)).Equal(at) {
		t.Fatalf("%q: %d.%09d; written as %s%s: %v, %v", text, sec, nsec, strict[:19], zone, at, err)
	}
}
