package flbconf

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
)

// spaces are what Fluent Bit trims from keys and values.
const spaces = " \t\n\v\f\r"

// classic reads the main file of the classic format.
func (r *reader) classic(path string) error {
	// Relative includes start at the main file's own directory, symbolic links resolved.
	if real, err := filepath.EvalSymlinks(path); err == nil {
		if whole, err := filepath.Abs(real); err == nil {
			r.root = filepath.Dir(whole)
		}
	}
	if err := r.classicFile(path); err != nil {
		if _, inner := errors.AsType[*Error](err); inner {
			return err
		}
		return &Error{File: path, Message: reason(err).Error(), err: err}
	}
	return nil
}

// classicFile reads one file. Of an include, a relative path is looked for in the working directory first.
func (r *reader) classicFile(path string) error {
	text, err := r.open(path)
	if errors.Is(err, fs.ErrNotExist) && !filepath.IsAbs(path) {
		path = filepath.Join(r.root, path)
		text, err = r.open(path)
	}
	if err != nil {
		return err
	}
	f := &classicFile{r: r, path: path, section: -1}
	for line := range bytes.Lines(text) {
		f.line++
		if err := f.take(string(bytes.TrimSuffix(bytes.TrimSuffix(line, []byte{'\n'}), []byte{'\r'}))); err != nil {
			return r.inOtherFormat(text, err)
		}
	}
	return nil
}

// classicFile is a file that is being read line by line.
type classicFile struct {
	r       *reader
	path    string
	line    int
	section int    // index of the section that is open; -1: none
	group   bool   // a group of that section is open: its keys are no keys of the section
	empty   bool   // the group has no key yet
	indent  string // that of the file's first indented line: all others must have the same
}

// fail names the line and quotes nothing of it: a secret may stand where a key should.
func (f *classicFile) fail(format string, args ...any) error {
	return &Error{File: f.r.shown(f.path), Line: f.line, Message: fmt.Sprintf(format, args...)}
}

const includeWord = "@INCLUDE "

// take reads one line without its end.
func (f *classicFile) take(line string) error {
	switch {
	case line == "" || line[0] == '#':
		return nil
	case strings.Contains(line, "\x00"):
		return f.fail("a byte 0 in the line")
	case len(line) > len(includeWord) && strings.EqualFold(line[:len(includeWord)], includeWord):
		at := Error{File: f.r.shown(f.path), Line: f.line}
		return f.r.include(at, line[len(includeWord):], f.r.root, f.r.classicFile)
	case line[0] == '@' && len(line) > 3:
		return f.command(line[1:])
	case line[0] == '[':
		end := strings.IndexByte(line, ']')
		if end < 0 {
			return f.fail("the section's name has no ] behind it")
		}
		section := Section{Kind: kindOf(line[1:end]), File: f.r.shown(f.path), Line: f.line}
		f.r.cfg.Sections = append(f.r.cfg.Sections, section)
		f.section, f.group = len(f.r.cfg.Sections)-1, false
		return nil
	}
	if f.indent == "" {
		if !blank(line[0]) {
			return f.fail("a key must be indented by spaces: " +
				"Fluent Bit takes the first letter of this one for its indentation")
		}
		f.indent = line[:len(line)-len(strings.TrimLeft(line, " \t"))]
		if f.indent == line {
			return nil
		}
	}
	return f.property(line)
}

// command reads a line that starts with @: only SET does anything, wherever it stands.
func (f *classicFile) command(line string) error {
	name, rest, found := strings.Cut(line, " ")
	if !found {
		return f.fail("a command without a value")
	}
	key, value, found := strings.Cut(strings.Trim(rest, spaces), "=")
	if strings.EqualFold(strings.Trim(name, spaces), "SET") && found {
		_ = f.r.set(key, value) // Fluent Bit logs an error and goes on without the variable
	}
	return nil
}

// property reads an indented line.
func (f *classicFile) property(line string) error {
	level, nested, err := f.level(line)
	if err != nil {
		return err
	}
	if !nested {
		f.group = false
	}
	line = line[level:]
	if line == "" || line[0] == '#' {
		return nil
	}
	word, value, found := strings.Cut(line, " ")
	switch {
	case !found:
		return f.fail("a key without a value: a space (not a tab) must stand between the two")
	case line[0] == '[':
		return f.beginGroup(line)
	}
	key, value := strings.Trim(word, spaces), strings.Trim(value, spaces)
	switch {
	case value == "":
		return f.fail("a key without a value")
	case f.section < 0:
		return f.fail("a key in no section of this file")
	case f.group:
		f.empty = false
		return nil
	}
	s := &f.r.cfg.Sections[f.section]
	s.Properties = append(s.Properties, Property{
		Key: lower(key), Written: key, Values: []string{value}, File: f.r.shown(f.path), Line: f.line,
	})
	return nil
}

func (f *classicFile) beginGroup(line string) error {
	switch end := strings.IndexByte(line, ']'); {
	case end < 0:
		return f.fail("the group's name has no ] behind it")
	case f.section < 0:
		return f.fail("a group in no section of this file")
	case f.group && f.empty:
		return f.fail("the group before this one has no key")
	}
	f.group, f.empty = true, true
	return nil
}

// level holds a line against the indentation of the file: the same, or twice as much, which is a group's.
func (f *classicFile) level(line string) (level int, nested bool, err error) {
	rest, same := strings.CutPrefix(line, f.indent)
	if !same {
		return 0, false, f.fail("another indentation than that of the file's first indented line, " +
			"which Fluent Bit refuses; that holds for comments and for lines of spaces too")
	}
	extra := len(rest) - len(strings.TrimLeft(rest, " \t"))
	switch extra {
	case 0:
		return len(f.indent), false, nil
	case len(f.indent):
		return 2 * extra, true, nil
	}
	return 0, false, f.fail("indented deeper than the file's first indented line, which Fluent Bit refuses")
}

// kindOf compares as Fluent Bit does, which takes the beginning of a name for the whole.
func kindOf(name string) Kind {
	for _, k := range []struct {
		name string
		kind Kind
	}{
		{"service", Service}, {"parser", Other}, {"multiline_parser", Other}, {"stream_processor", Other},
		{"plugins", Other}, {"upstream_servers", Other}, {"customs", Other},
		{"inputs", Input}, {"filters", Filter}, {"outputs", Output},
	} {
		if name != "" && len(name) <= len(k.name) && strings.EqualFold(name, k.name[:len(name)]) {
			return k.kind
		}
	}
	return Other
}

func blank(c byte) bool { return c == ' ' || c == '\t' }

// lower is C's tolower: ASCII alone.
func lower(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}
