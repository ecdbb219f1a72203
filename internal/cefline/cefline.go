// Package cefline takes a line of CEF, the Common Event Format of ArcSight, apart. Tests read with it what package
// shape wrote, of which it knows nothing.
package cefline

import (
	"fmt"
	"regexp"
	"strings"
)

// Event is what a line says.
type Event struct {
	Header    []string // version, vendor, product, version, signature id, name, severity
	Extension map[string]string
}

var key = regexp.MustCompile(`(?:^| )([A-Za-z0-9_.]+)=`)

// Parse goes by the rules of the format: seven parts up to bars that no backslash stands before, then keys up to =,
// their values up to the blank before the next key. A key that stands there twice is an error.
func Parse(line string) (e Event, err error) {
	rest, found := strings.CutPrefix(line, "CEF:")
	if !found {
		return e, fmt.Errorf("it begins with %.10q", line)
	}
	for len(e.Header) < 7 {
		var part strings.Builder
		i := 0
		for ; i < len(rest) && rest[i] != '|'; i++ {
			if rest[i] == '\\' {
				if i++; i == len(rest) || rest[i] != '\\' && rest[i] != '|' {
					return e, fmt.Errorf("a lone backslash in the header")
				}
			}
			part.WriteByte(rest[i])
		}
		if i == len(rest) {
			return e, fmt.Errorf("a header of %d parts", len(e.Header))
		}
		e.Header, rest = append(e.Header, part.String()), rest[i+1:]
	}
	e.Extension = map[string]string{}
	at := key.FindAllStringSubmatchIndex(rest, -1)
	if len(at) == 0 && rest != "" || len(at) > 0 && at[0][0] != 0 {
		return e, fmt.Errorf("text before the first key: %q", rest)
	}
	for i, m := range at {
		end := len(rest)
		if i+1 < len(at) {
			end = at[i+1][0]
		}
		key, raw := rest[m[2]:m[3]], rest[m[1]:end]
		value, err := unescape(raw)
		if err != nil {
			return e, fmt.Errorf("%s: %w", key, err)
		}
		if _, twice := e.Extension[key]; twice {
			return e, fmt.Errorf("%s stands there twice", key)
		}
		e.Extension[key] = value
	}
	return e, nil
}

func unescape(raw string) (string, error) {
	var out strings.Builder
	for i := 0; i < len(raw); i++ {
		switch {
		case raw[i] == '=':
			return "", fmt.Errorf("an = that is not escaped in %q", raw)
		case raw[i] != '\\':
			out.WriteByte(raw[i])
		default:
			i++
			if i == len(raw) {
				return "", fmt.Errorf("a backslash at the end of %q", raw)
			}
			to, known := map[byte]string{'\\': `\`, '=': "=", 'n': "\n", 'r': "\r"}[raw[i]]
			if !known {
				return "", fmt.Errorf("\\%c in %q", raw[i], raw)
			}
			out.WriteString(to)
		}
	}
	return out.String(), nil
}
