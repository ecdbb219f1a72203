// Package flbconf reads a configuration of Fluent Bit, in either of its formats, by Fluent Bit's own rules: what it
// would read is read, with file and line, and what it would refuse is refused. It knows nothing of any plugin.
//
// The rules are those of Fluent Bit 5.1.1 (src/config_format, src/flb_env.c, src/flb_meta.c). Where they ask for the
// directory Fluent Bit was started in, a YAML file is read as if its path had been given whole.
package flbconf

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// Bounds that Fluent Bit has, or that no configuration of sense meets.
const (
	maxFiles = 1000
	maxFile  = 32 << 20 // bytes
)

// Config is a configuration with all that it includes. It is not changed after Load.
type Config struct {
	Files    []string  // in the order in which they were opened, the main one first
	Sections []Section // in their order in the files

	vars   map[string]string // by @SET or an env section; they come before those of the environment
	lookup func(name string) (string, bool)
}

// Section is one section of the classic format, or one item of a list of plugins in YAML. Of YAML's other sections
// only service is kept.
type Section struct {
	Kind       Kind
	File       string
	Line       int
	Properties []Property // in their order
}

// Kind is the type of a section.
type Kind string

// The kinds that this package tells apart.
const (
	Service Kind = "service"
	Input   Kind = "input"
	Filter  Kind = "filter"
	Output  Kind = "output"
	Other   Kind = "other"
)

// Property is a key with its value.
type Property struct {
	Key     string   // as Fluent Bit keeps it: in lower case, of YAML in snake_case if it was written in camelCase
	Written string   // as it stands in the file
	Values  []string // as they stand in the file, variables included; one, but for a list
	List    bool     // a YAML list
	Map     bool     // a YAML map, which has no Values
	Null    bool     // YAML's null, which is the text "null" (or "~") to Fluent Bit
	File    string
	Line    int
}

// Is tells whether Fluent Bit takes the property for the key: upper and lower case are one to it.
func (p Property) Is(key string) bool { return strings.EqualFold(p.Key, key) }

// Get returns the first property of that key.
func (s Section) Get(key string) (Property, bool) {
	for _, p := range s.Properties {
		if p.Is(key) {
			return p, true
		}
	}
	return Property{}, false
}

// Error is what Fluent Bit would not start with.
type Error struct {
	File    string
	Line    int // 0: the file as a whole
	Message string
	err     error
}

func (e *Error) Error() string {
	if e.Line == 0 {
		return e.File + ": " + e.Message
	}
	return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Message)
}

// Unwrap returns the error of the file system, where there is one.
func (e *Error) Unwrap() error { return e.err }

// Load reads the file at path and what it includes: YAML if its name ends in .yaml or .yml, else the classic format.
// lookup finds variables of the environment. Errors are *Error.
func Load(path string, lookup func(name string) (string, bool)) (*Config, error) {
	return load(path, diskFiles{}, lookup)
}

// files is where a configuration is read from; tests have one without a disk.
type files interface {
	// read returns a file's text, and an id that is the same for the same file under another name.
	read(path string) (text []byte, id any, err error)
	glob(pattern string) ([]string, error) // in order
}

func load(path string, from files, lookup func(string) (string, bool)) (*Config, error) {
	r := &reader{files: from, cfg: &Config{vars: map[string]string{}, lookup: lookup}, read: map[any]bool{}}
	whole, err := filepath.Abs(path)
	if err != nil {
		return nil, &Error{File: path, Message: err.Error(), err: err}
	}
	r.given, r.root = path, filepath.Dir(whole)
	if isYAML(path) {
		err = r.yaml(whole)
	} else {
		err = r.classic(path)
	}
	if err != nil {
		return nil, err
	}
	return r.cfg, nil
}

func isYAML(path string) bool {
	ext := strings.ToLower(filepath.Ext(path))
	return ext == ".yaml" || ext == ".yml"
}

// shown writes a path the way the main one was given.
func (r *reader) shown(path string) string {
	path = filepath.Clean(path)
	if rest, below := strings.CutPrefix(path, r.root+"/"); below && !filepath.IsAbs(r.given) {
		return filepath.Join(filepath.Dir(r.given), rest)
	}
	return path
}

// reader is a configuration on its way into a Config.
type reader struct {
	files
	cfg     *Config
	read    map[any]bool // the files opened so far
	given   string       // the main file as the caller has it
	root    string       // its directory
	service bool         // YAML: a service section was read
}

// open reads one file, each only once.
func (r *reader) open(path string) ([]byte, error) {
	text, id, err := r.files.read(path)
	switch {
	case err != nil:
		return nil, err
	case r.read[id]:
		return nil, errors.New("it was read already, and Fluent Bit reads no file twice")
	case len(r.read) >= maxFiles:
		return nil, fmt.Errorf("more than %d files", maxFiles)
	}
	r.read[id] = true
	r.cfg.Files = append(r.cfg.Files, r.shown(path))
	if bytes.HasPrefix(text, []byte("\xEF\xBB\xBF")) && !isYAML(r.given) {
		return nil, errors.New("it begins with a byte order mark, which Fluent Bit takes for text: " +
			"save it as UTF-8 without one")
	}
	return text, nil
}

// include reads what an include names: one file, or with a * those that match.
func (r *reader) include(at Error, name, dir string, read func(path string) error) error {
	refuse := func(err error) error {
		if _, inner := errors.AsType[*Error](err); inner {
			return err
		}
		at.Message, at.err = fmt.Sprintf("cannot include %s: %v", name, reason(err)), err
		return &at
	}
	if !strings.Contains(name, "*") {
		if err := read(name); err != nil {
			return refuse(err)
		}
		return nil
	}
	pattern := name
	if !filepath.IsAbs(pattern) {
		pattern = dir + "/" + pattern
	}
	names, err := r.glob(pattern)
	if err == nil && len(names) == 0 {
		err = errors.New("no file has such a name, and Fluent Bit does not start then")
	}
	for _, match := range names {
		if err == nil {
			err = read(match)
		}
	}
	if err != nil {
		return refuse(err)
	}
	return nil
}

// reason takes the path out of an error of the file system: it stands beside it already.
func reason(err error) error {
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		return p.Err
	}
	return err
}

// diskFiles are those of this machine.
type diskFiles struct{}

// fileID names a file whatever the path that leads to it.
type fileID struct{ dev, inode uint64 }

func (diskFiles) read(path string) ([]byte, any, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	switch {
	case err != nil:
		return nil, nil, err
	case len(text) > maxFile:
		return nil, nil, fmt.Errorf("larger than %d MiB", maxFile>>20)
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return text, fileID{st.Dev, st.Ino}, nil
	}
	return text, path, nil
}

// glob is that of C: * and ? do not match a leading dot, and [!a] is what Go writes [^a].
func (diskFiles) glob(pattern string) ([]string, error) {
	names, err := filepath.Glob(strings.ReplaceAll(pattern, "[!", "[^"))
	if err != nil {
		return nil, fmt.Errorf("%s is no pattern: %w", pattern, err)
	}
	want := strings.Split(filepath.Clean(pattern), "/")
	var visible []string
	for _, name := range names {
		hidden := false
		for i, part := range strings.Split(filepath.Clean(name), "/") {
			hidden = hidden || strings.HasPrefix(part, ".") && i < len(want) && !strings.HasPrefix(want[i], ".")
		}
		if !hidden {
			visible = append(visible, name)
		}
	}
	return visible, nil
}
