package conf

import (
	"fmt"
	"strconv"
	"strings"
)

// Fault is one thing that is wrong with a stanza.
type Fault struct {
	Key     string // as the stanza has it: a key of the table, or a wrong spelling of one
	Message string // one line: the value (never a secret's), what is wrong with it, and what is allowed
}

func (f Fault) Error() string { return f.Key + ": " + f.Message }

// Faults is all that is wrong with a stanza, in the order of Keys.
type Faults []Fault

// Error has one line for each fault.
func (fs Faults) Error() string {
	lines := make([]string, len(fs))
	for i, f := range fs {
		lines[i] = f.Error()
	}
	return strings.Join(lines, "\n")
}

const (
	hidden    = "the value (not shown)"
	shownMost = 80 // bytes of a value that a message quotes
	secretMin = 4  // shorter "secrets" are typing errors, and would blank half of every message
)

// quote writes a value of key k for a message. What is or might be a secret is left out: the value of a secret key
// (also where it was pasted under another key as well), a malformed client id, because the secret is what gets pasted
// there, what stands in place of a credential's file and is no path for certain, and what an address carries before
// its @ or after its ?.
func quote(k *Key, text string, secrets []string) string {
	if k != nil && (k.Secret || k.shy && (k.set(&Config{}, text) != nil || k.Type == File && !PathShown(text))) {
		return hidden
	}
	for _, s := range secrets {
		if strings.Contains(text, s) {
			return hidden
		}
	}
	if k != nil && k.Type == URL || strings.Contains(text, "://") {
		text = bareAddress(text)
	}
	if len(text) > shownMost {
		return fmt.Sprintf("%s... (%d bytes)", strconv.Quote(strings.ToValidUTF8(text[:shownMost/2], "")), len(text))
	}
	return strconv.Quote(text)
}

// bareAddress blanks user and password, query and fragment. It works on text because what it gets may be no valid URL.
func bareAddress(text string) string {
	if at := strings.LastIndexByte(text, '@'); at >= 0 {
		start := 0
		if i := strings.Index(text[:at], "://"); i >= 0 {
			start = i + len("://")
		}
		text = text[:start] + redacted + text[at:]
	}
	if i := strings.IndexAny(text, "?#"); i >= 0 && i+1 < len(text) {
		text = text[:i+1] + redacted
	}
	return text
}

// either joins the choices of a key as a sentence has them: "us, eu or uk".
func either(values []string) string {
	if n := len(values); n > 1 {
		return strings.Join(values[:n-1], ", ") + " or " + values[n-1]
	}
	return strings.Join(values, "")
}
