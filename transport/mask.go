package transport

import (
	"encoding/base64"
	"encoding/json"
	"html"
	"math"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"unicode"

	"fluent-bit-defender/conf"
)

const (
	maxHidden = 8 // secrets remembered: tokens and rotated secrets, a proxy's password; the newest count
	piece     = 8 // bytes of a secret in a row that give it away
)

// Mask keeps text that came from elsewhere free of secrets: those it was told of,
// whole or in pieces and in the usual encodings, and what looks like one. It is for
// the rare error path, not for speed.
type Mask struct {
	mu     sync.Mutex
	hidden []string // oldest first
}

// Hide remembers a secret.
func (m *Mask) Hide(secret string) {
	if secret == "" {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	// One that comes again is the newest: tokens must not push out a secret in use.
	m.hidden = slices.DeleteFunc(m.hidden, func(s string) bool { return s == secret })
	if len(m.hidden) == maxHidden {
		m.hidden = m.hidden[1:]
	}
	m.hidden = append(m.hidden, secret)
}

// Shapes of secrets nobody told us of: a proxy may echo another request than ours.
var (
	bearer = regexp.MustCompile(`(?i)\b(bearer|basic)\s+[^\s"',;]+`)
	eyJ    = regexp.MustCompile(`eyJ[\w-]{5,}(\.[\w-]*)*`)
	field  = regexp.MustCompile(`(?i)\b(client_secret|client_assertion|assertion|password|access_token|refresh_token|id_token)` +
		`(["']?\s*[=:]\s*["']?)[^\s"'&,}]+`)
	opaque = regexp.MustCompile(`[\w+~=-]{32,}`)
)

// Text returns s without secrets, as one printable line of at most max bytes.
func (m *Mask) Text(s string, max int) string {
	forms := m.forms()
	// Twice, because the clean-up joins what invisible characters kept apart, and changes what secrets can hold.
	s = without(Clean(without(s, forms), math.MaxInt), forms)
	s = bearer.ReplaceAllString(s, "$1 [masked]")
	s = field.ReplaceAllString(s, "$1$2[masked]")
	s = eyJ.ReplaceAllString(s, "[masked]")
	s = opaque.ReplaceAllStringFunc(s, func(run string) string {
		if conf.IsGUID(run) || !strings.ContainsAny(run, "0123456789") {
			return run
		}
		return "[masked]"
	})
	return Clean(s, max)
}

// forms lists the secrets in the encodings in which a service could give them back.
func (m *Mask) forms() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var forms []string
	for _, s := range m.hidden {
		quoted, _ := json.Marshal(s)
		forms = append(forms, s, url.QueryEscape(s), url.PathEscape(s), html.EscapeString(s),
			strings.Trim(string(quoted), `"`), base64.StdEncoding.EncodeToString([]byte(s)))
	}
	slices.Sort(forms)
	return slices.Compact(forms)
}

// without replaces what in s is at least piece bytes in a row of one of secrets.
func without(s string, secrets []string) string {
	secret := make([]bool, len(s))
	for _, form := range secrets {
		least := min(piece, len(form))
		for i := 0; i+least <= len(s); i++ {
			if strings.Contains(form, s[i:i+least]) {
				for j := range least {
					secret[i+j] = true
				}
			}
		}
	}
	var out strings.Builder
	for i := range len(s) {
		switch {
		case !secret[i]:
			out.WriteByte(s[i])
		case i == 0 || !secret[i-1]:
			out.WriteString("[masked]")
		}
	}
	return out.String()
}

// Clean returns s as one printable line of at most max bytes.
func Clean(s string, max int) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r) || unicode.IsControl(r):
			return ' '
		case r == '"':
			return '\''
		case r == unicode.ReplacementChar || !unicode.IsPrint(r):
			return -1
		}
		return r
	}, s)
	s = strings.Join(strings.Fields(s), " ")
	if len(s) <= max {
		return s
	}
	const more = "..."
	s = strings.ToValidUTF8(s[:max-len(more)], "")
	return strings.TrimSpace(s) + more
}
