package flbconf

import (
	"errors"
	"regexp"
	"strings"
)

var (
	yamlBegin = regexp.MustCompile(`^(---|(?i:service|pipeline|env|includes|parsers|multiline_parsers|plugins|` +
		`upstream_servers|customs)\s*:(\s|$))`)
	classicBegin = regexp.MustCompile(`^(\[[A-Za-z_]+\]\s*$|@(?i:INCLUDE|SET)\s)`)
)

// inOtherFormat adds to the error of a file that it looks like one of the other format: Fluent Bit goes by the main
// file's name alone.
func (r *reader) inOtherFormat(text []byte, err error) error {
	e, ok := errors.AsType[*Error](err)
	if !ok {
		return err
	}
	first := firstLine(string(text))
	switch {
	case !isYAML(r.given) && yamlBegin.MatchString(first):
		e.Message += "; the file looks like YAML, " +
			"which Fluent Bit reads only where the main file's name ends in .yaml or .yml"
	case isYAML(r.given) && classicBegin.MatchString(first):
		e.Message += "; the file looks like the classic format, " +
			"which Fluent Bit reads only where the main file's name does not end in .yaml or .yml"
	}
	return err
}

// firstLine is the first line that is neither empty nor a comment.
func firstLine(text string) string {
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, spaces)
		if trimmed := strings.TrimLeft(line, spaces); trimmed != "" && trimmed[0] != '#' {
			return line
		}
	}
	return ""
}
