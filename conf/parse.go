package conf

import (
	"errors"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// The texts complete the sentence `poll_interval: "5x" is ...`.
var (
	errTooLarge     = errors.New("too large")
	errNotInteger   = errors.New("not a whole number")
	errNotDuration  = errors.New("not a duration")
	errNotSize      = errors.New("not a size")
	errNotBoolean   = errors.New("neither on nor off")
	errNotSpan      = errors.New("not an ISO 8601 duration of whole numbers")
	errNoFixedSpan  = errors.New("in years or months, which have no fixed length")
	errEmptyItem    = errors.New("a list with an empty item")
	errTooLong      = errors.New("too long")
	errUnprintable  = errors.New("not free of control or invisible characters")
	errEdgeSpace    = errors.New("not free of white space at its ends")
	errNotFile      = errors.New("a directory, not a file")
	errHomeNotKnown = errors.New("below ~, which only a shell expands")
)

type unit struct {
	letter string
	size   int64
}

var (
	durationUnits = []unit{{"", int64(time.Second)}, {"s", int64(time.Second)}, {"m", int64(time.Minute)},
		{"h", int64(time.Hour)},
		{"d", 24 * int64(time.Hour)}}
	// Powers of 1000, as Fluent Bit has them for mem_buf_limit.
	sizeUnits = []unit{{"", 1}, {"k", 1000}, {"kb", 1000}, {"m", 1000 * 1000}, {"mb", 1000 * 1000},
		{"g", 1000 * 1000 * 1000}, {"gb", 1000 * 1000 * 1000}}

	measured = regexp.MustCompile(`^([0-9]+)([a-z]*)$`)
	isoSpan  = regexp.MustCompile(`^P(?:([0-9]+)W|([0-9]+Y)?([0-9]+M)?(?:([0-9]+)D)?` +
		`(T(?:([0-9]+)H)?(?:([0-9]+)M)?(?:([0-9]+)S)?)?)$`)
)

// parseInteger reads a whole number without a sign.
func parseInteger(text string) (int64, error) { return measure(text, []unit{{"", 1}}, errNotInteger) }

// parseDuration reads 90s, 5m, 2h, 7d or a bare number of seconds, and returns nanoseconds.
func parseDuration(text string) (int64, error) { return measure(text, durationUnits, errNotDuration) }

// parseSize reads 512k, 1M, 1MB or a bare number of bytes, and returns bytes.
func parseSize(text string) (int64, error) { return measure(text, sizeUnits, errNotSize) }

// measure reads a number of units; wrong is the error of a text that is none.
func measure(text string, units []unit, wrong error) (int64, error) {
	if m := measured.FindStringSubmatch(strings.ToLower(text)); m != nil {
		for _, u := range units {
			if m[2] == u.letter {
				return scaled(m[1], u.size)
			}
		}
	}
	return 0, wrong
}

// parseSpan reads an ISO 8601 duration of weeks, or of days, hours, minutes and seconds, and returns nanoseconds.
func parseSpan(text string) (int64, error) {
	m := isoSpan.FindStringSubmatch(text)
	if m == nil || text == "P" || m[5] == "T" {
		return 0, errNotSpan
	}
	if m[2] != "" || m[3] != "" {
		return 0, errNoFixedSpan
	}
	var sum int64
	for _, part := range []struct {
		digits string
		size   time.Duration
	}{{m[1], 7 * 24 * time.Hour}, {m[4], 24 * time.Hour}, {m[6], time.Hour}, {m[7], time.Minute}, {m[8], time.Second}} {
		if part.digits == "" {
			continue
		}
		n, err := scaled(part.digits, int64(part.size))
		if err != nil || n > math.MaxInt64-sum {
			return 0, errTooLarge
		}
		sum += n
	}
	return sum, nil
}

// withoutWeeks rewrites weeks as days: ISO 8601 has weeks, XML Schema, which the service may go by, has not.
func withoutWeeks(text string) string {
	weeks, found := strings.CutSuffix(text, "W")
	if !found {
		return text
	}
	n, err := strconv.ParseInt(strings.TrimPrefix(weeks, "P"), 10, 32)
	if err != nil {
		return text
	}
	return "P" + count(7*n) + "D"
}

// scaled multiplies, or says that the product does not fit.
func scaled(digits string, size int64) (int64, error) {
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n > math.MaxInt64/size {
		return 0, errTooLarge
	}
	return n * size, nil
}

func count(n int64) string { return strconv.FormatInt(n, 10) }

// parseBool takes the words that Fluent Bit takes.
func parseBool(text string) (bool, error) {
	switch strings.ToLower(text) {
	case "on", "true", "yes":
		return true, nil
	case "off", "false", "no":
		return false, nil
	}
	return false, errNotBoolean
}

// parseList splits at commas and trims the items. An empty item is refused, as it may stand for a variable that was not
// set, and dropping it would widen or narrow the filter in silence. Repeated items are kept once.
func parseList(text string) ([]string, error) {
	if err := printable(text, maxList); err != nil {
		return nil, err
	}
	var items []string
	seen := map[string]bool{}
	for item := range strings.SplitSeq(text, ",") {
		item = strings.TrimSpace(item)
		if item == "" {
			return nil, errEmptyItem
		}
		if !seen[item] {
			seen[item] = true
			items = append(items, item)
		}
	}
	return items, nil
}

// Most bytes of a value. A list becomes part of a request's address, hence its bound; a path has Linux's.
const (
	maxText   = 256
	maxSecret = 1024
	maxList   = 4096
	maxPath   = 4095
	maxName   = 255 // of a file in its directory
	maxURL    = 2048
)

// printable refuses what cannot be seen in a terminal, such as the zero-width characters that come with pasted text.
// The joiners stay: Persian and Indic names need them.
func printable(text string, most int) error {
	if len(text) > most {
		return errTooLong
	}
	for _, r := range text {
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) && r != '\u200c' && r != '\u200d' {
			return errUnprintable
		}
	}
	return nil
}

// parseSecret takes a secret as it stands: it is never trimmed, so white space at its ends is refused rather than kept.
func parseSecret(text string) (Secret, error) {
	if text != strings.TrimSpace(text) {
		return "", errEdgeSpace
	}
	return Secret(text), printable(text, maxSecret)
}

// PathShown tells whether messages may show what stands under a key for the file of a credential. It may be the
// credential itself, pasted: only an absolute path is none for certain, if no name in it is longer than a
// filesystem's can be.
func PathShown(text string) bool {
	return strings.HasPrefix(text, "/") && !slices.ContainsFunc(strings.Split(text, "/"),
		func(name string) bool { return len(name) > maxName })
}

// parsePath takes the path of a file. Only what can be seen from the text is refused.
func parsePath(text string) (string, error) {
	switch {
	case strings.HasSuffix(text, "/"), text == ".", text == "..", strings.HasSuffix(text, "/."),
		strings.HasSuffix(text, "/.."):
		return "", errNotFile
	case strings.HasPrefix(text, "~"):
		return "", errHomeNotKnown
	}
	return text, printable(text, maxPath)
}
