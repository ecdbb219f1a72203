package flbconf

import (
	"fmt"
	"os"
	"strings"
)

// maxName bounds a variable's name with its default, as Fluent Bit does.
const maxName = 4096

// Expansion is a value with its variables replaced.
type Expansion struct {
	Text  string
	Unset []string // variables without a value and without a default: they vanish
	// Garbled: a ${ without its }, or with one before it. Fluent Bit leaves the variable as it is, or drops text.
	Garbled bool
}

// Expand replaces ${NAME} and ${NAME:-default} as Fluent Bit does. A variable that is empty counts as unset.
func (c *Config) Expand(value string) Expansion {
	var out strings.Builder
	var e Expansion
	some := false
	end := -1 // of the last variable; what follows it is appended last
	for i := 0; i < len(value); i = end + 1 {
		start := strings.Index(value[i:], "${")
		if start < 0 {
			break
		}
		start += i
		stop := strings.IndexByte(value[i:], '}')
		if stop < 0 {
			end, e.Garbled = -1, true
			break
		}
		end = i + stop
		n := end - start - len("${")
		if n <= 0 || n >= maxName {
			e.Garbled = true
			break
		}
		some = true
		out.WriteString(value[i:start])
		c.variable(&out, &e, value[start+len("${"):end])
	}
	switch {
	case !some:
		e.Text = value
		return e
	case end >= 0:
		out.WriteString(value[end+1:])
	}
	e.Text = out.String()
	return e
}

// variable writes the value of what stands between the braces.
func (c *Config) variable(out *strings.Builder, e *Expansion, name string) {
	standIn, hasDefault := "", false
	if i := strings.IndexByte(name, ':'); i >= 0 && strings.HasPrefix(name[i:], ":-") {
		name, standIn, hasDefault = name[:i], name[i+2:], true
	}
	value := c.value(name)
	switch {
	case value != "":
		out.WriteString(value)
	case hasDefault:
		out.WriteString(standIn)
	default:
		e.Unset = append(e.Unset, name)
	}
}

// value is "" of what is not set. So it is of what the configuration sets to nothing: Fluent Bit makes a byte of
// chance of that.
func (c *Config) value(name string) string {
	if v, set := c.vars[name]; set {
		return v
	}
	v, set := c.lookup(name)
	if name == "HOSTNAME" && !set { // shells know it without exporting it
		v, _ = os.Hostname()
	}
	return v
}

// set gives a variable its value: the text itself, or of file://PATH what the file holds.
func (r *reader) set(name, value string) error {
	const scheme = "file://"
	if len(value) > len(scheme) && strings.HasPrefix(value, scheme) {
		path := value[len(scheme):]
		text, _, err := r.files.read(path)
		if err != nil {
			return fmt.Errorf("%s: %w", path, reason(err))
		}
		if n := len(text); n > 0 && (text[n-1] == '\n' || text[n-1] == '\r') {
			text = text[:n-1]
		}
		if len(text) == 0 {
			return fmt.Errorf("%s is empty", path)
		}
		value = string(text)
	}
	r.cfg.vars[name] = value
	return nil
}
