package main

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// moment is a point in time from the command line.
type moment struct {
	time.Time
	relative bool // counted back from now
}

var agoForm = regexp.MustCompile(`^([0-9]{1,9})([smhd])$`)

const momentHelp = "2006-01-02T15:04:05Z, 2006-01-02 (UTC), or 90m, 12h, 7d for so long ago"

// parseMoment reads an absolute time or a span back from now.
func parseMoment(flag, text string, now time.Time) (moment, error) {
	if m := agoForm.FindStringSubmatch(text); m != nil {
		n, _ := strconv.Atoi(m[1])
		unit := map[string]time.Duration{"s": time.Second, "m": time.Minute, "h": time.Hour, "d": 24 * time.Hour}[m[2]]
		if n > int(100*365*24*time.Hour/unit) {
			return moment{}, usagef("--%s %s is too long ago", flag, text)
		}
		return moment{now.Add(-time.Duration(n) * unit).UTC(), true}, nil
	}
	for _, form := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02"} {
		if t, err := time.Parse(form, text); err == nil {
			return moment{t.UTC(), false}, nil
		}
	}
	return moment{}, usagef("--%s %q is no time: %s", flag, clip(text), momentHelp)
}

// count writes a number with commas between thousands.
func count[T int | int64 | uint64](n T) string {
	digits := strconv.FormatInt(int64(n), 10)
	var b strings.Builder
	for i, c := range []byte(digits) {
		if i > 0 && (len(digits)-i)%3 == 0 && digits[i-1] != '-' {
			b.WriteByte(',')
		}
		b.WriteByte(c)
	}
	return b.String()
}

// plural writes a number of things.
func plural[T int | int64 | uint64](n T, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return count(n) + " " + thing + "s"
}

// size writes bytes for people, in powers of 1000 as the stanza's sizes are.
func size(n int64) string {
	switch {
	case n < 1000:
		return fmt.Sprintf("%d bytes", n)
	case n < 1000*1000:
		return fmt.Sprintf("%.1f kB", float64(n)/1e3)
	case n < 1000*1000*1000:
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	}
	return fmt.Sprintf("%.1f GB", float64(n)/1e9)
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// longTime writes days where there are several.
func longTime(d time.Duration) string {
	const day = 24 * time.Hour
	if d >= 2*day || d <= -2*day {
		return fmt.Sprintf("%d days %s", d/day, (d % day).Abs().Truncate(time.Minute))
	}
	return d.String()
}
