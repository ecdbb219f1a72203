package defendersim

import (
	"testing"
	"time"
)

func TestDurations(t *testing.T) {
	for text, d := range map[string]time.Duration{
		"PT10M": 10 * time.Minute, "P1D": 24 * time.Hour, "PT0S": 0,
		"P1Y2M3DT4H5M6.789S": (365+60+3)*24*time.Hour + 4*time.Hour + 5*time.Minute + 6789*time.Millisecond,
		"PT90M":              90 * time.Minute, "PT0.0000001S": 100,
	} {
		got, err := parseDuration(text)
		want(t, text, got, d)
		want(t, text, err, nil)
	}
}

func FuzzParseQuery(f *testing.F) {
	for _, s := range []string{
		"", "limit=20&sinceTimeUtc=2016-09-12T00:00:00.000", "ago=PT10M", "machinegroups=a&machinegroups=b",
		"ago=P1Y1M1DT1H1M1.5S", "untilTimeUtc=9999-12-31T23:59:59.9999999Z", "sinceTimeUtc=2024-02-30",
		"ago=PT9223372036854775807S", "%zz", "limit=-0",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		q, err := ParseQuery(raw, noon)
		if err != nil {
			return
		}
		if q.Limit < -1 {
			t.Errorf("limit %d", q.Limit)
		}
		if q.Ago < 0 || q.Ago > 0 && !q.Since.Equal(noon.Add(-q.Ago)) {
			t.Errorf("ago %v, since %v", q.Ago, q.Since)
		}
		// A window is exact to the 100 ns of the service: what was read is what was written.
		again, err := ParseQuery(window(q.Since, q.Until), noon)
		fourDigits := func(at time.Time) bool { return at.Year() >= 0 && at.Year() < 10000 }
		if err != nil && q.Ago == 0 && fourDigits(q.Since) && fourDigits(q.Until) {
			t.Errorf("not read again: %v", err)
		}
		if err == nil && q.Ago == 0 && (!again.Since.Equal(q.Since) || !again.Until.Equal(q.Until)) {
			t.Errorf("%v to %v became %v to %v", q.Since, q.Until, again.Since, again.Until)
		}
	})
}
