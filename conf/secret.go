package conf

import (
	"fmt"
	"io"
	"log/slog"
)

const redacted = "[redacted]"

// Secret is text that no log line, error or dump may show: printing or marshalling it gives "[redacted]". Out of its
// reach are %p and %w of a string, which fmt answers without asking the type (both are mistakes), and unexported
// fields, whose methods fmt cannot call: keep a Secret in exported fields or behind a pointer.
type Secret string

// Reveal returns the text itself, for the request that needs it and nothing else.
func (s Secret) Reveal() string { return string(s) }

func (Secret) String() string { return redacted }

// Format covers all verbs, those that String does not reach among them.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }
func (Secret) LogValue() slog.Value         { return slog.StringValue(redacted) }
