package record

import (
	"fmt"
	"strings"
)

// SyntaxError says that the answer is no JSON from some byte on. All whole rows before it were delivered.
type SyntaxError struct {
	Offset int64  // of the byte that cannot stand there, in the body
	Msg    string // what is wrong there
	// Signature is the same for the same bad text, wherever it stands: a hash of the row from its start up to and including the
	// bad byte, but of no more than its first Options.MaxAlert bytes; of the bad byte alone when it stands between two rows.
	Signature ID
}

func (e *SyntaxError) Error() string {
	return fmt.Sprintf("the answer is no valid JSON at byte %d: %s; at the third time the same, the invalid text is delivered raw", e.Offset, e.Msg)
}

// NotAlertsError says that the answer is something other than alerts: empty, HTML, an object without alert fields, text after the
// end of the list.
type NotAlertsError struct {
	What string // what came, with a short piece of it in printable ASCII
}

func (e *NotAlertsError) Error() string {
	return "the answer is no list of alerts: " + e.What + "; if it lasts, look for a proxy with a login page, and check url and proxy_url"
}

// TruncatedError says that the body ended without an error before its list or object did. All whole rows before it were delivered.
type TruncatedError struct {
	Offset int64 // the body's length
}

func (e *TruncatedError) Error() string {
	return fmt.Sprintf("the answer ends at byte %d before its list of alerts does; if it lasts, look for a proxy that cuts long answers, and lower max_window", e.Offset)
}

// snippetLen is the most that an error shows of an answer that is no list of alerts.
const snippetLen = 60

// snippet returns the beginning of text in quotes, fit for a log line: printable ASCII, other bytes as dots, white space as one blank.
func snippet(text []byte) string {
	var b strings.Builder
	blank := true // also takes away white space at the start
	for _, c := range text[:min(len(text), snippetLen)] {
		if c <= ' ' && c != 0 {
			if !blank {
				b.WriteByte(' ')
			}
			blank = true
			continue
		}
		blank = false
		if c < ' ' || c >= 0x7f || c == '"' {
			c = '.'
		}
		b.WriteByte(c)
	}
	return `"` + strings.TrimRight(b.String(), " ") + `"`
}

// quoteByte names a byte for a message.
func quoteByte(c byte) string {
	if c < ' ' || c >= 0x7f {
		return fmt.Sprintf("byte 0x%02x", c)
	}
	return fmt.Sprintf("%q", rune(c))
}
