package flbconf

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// yaml reads the file at an absolute path. The YAML module is a port of the library that Fluent Bit uses.
func (r *reader) yaml(path string) error {
	err := r.yamlFile(path)
	if _, inner := errors.AsType[*Error](err); inner || err == nil {
		return err
	}
	return &Error{File: r.shown(path), Message: reason(err).Error(), err: err}
}

func (r *reader) yamlFile(path string) error {
	text, err := r.open(path)
	if err != nil {
		return err
	}
	f := &yamlFile{r, path}
	for d := yaml.NewDecoder(bytes.NewReader(text)); ; {
		var doc yaml.Node
		switch err := d.Decode(&doc); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return r.inOtherFormat(text, f.syntax(err))
		}
		if err := f.document(&doc); err != nil {
			return r.inOtherFormat(text, err)
		}
	}
}

type yamlFile struct {
	r    *reader
	path string
}

func (f *yamlFile) fail(n *yaml.Node, format string, args ...any) error {
	return &Error{File: f.r.shown(f.path), Line: n.Line, Message: fmt.Sprintf(format, args...)}
}

var yamlLine = regexp.MustCompile(`^line (\d+): `)

// syntax takes the line out of an error of the YAML module.
func (f *yamlFile) syntax(err error) error {
	e := &Error{File: f.r.shown(f.path), err: err}
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	if at := yamlLine.FindStringSubmatch(text); at != nil {
		e.Line, _ = strconv.Atoi(at[1])
		text = text[len(at[0]):]
	}
	if strings.HasPrefix(text, "unknown anchor") { // the rest of it is a piece of a value
		text = "a value that begins with * must stand in quotes"
	}
	e.Message = "no valid YAML: " + text
	return e
}

// document reads the sections of one document.
func (f *yamlFile) document(doc *yaml.Node) error {
	if err := f.aliases(doc); err != nil {
		return err
	}
	if len(doc.Content) == 0 {
		return nil
	}
	top := doc.Content[0]
	if top.Kind != yaml.MappingNode {
		return f.fail(top, "the file holds no sections, such as pipeline")
	}
	return f.each(top, func(key, value *yaml.Node) error {
		switch lower(key.Value) {
		case "env":
			return f.env(value)
		case "includes":
			return f.includes(value)
		case "service":
			return f.service(key, value)
		case "pipeline":
			return f.pipeline(value)
		}
		return nil
	})
}

// aliases refuses what Fluent Bit does not know of YAML.
func (f *yamlFile) aliases(n *yaml.Node) error {
	if n.Kind == yaml.AliasNode {
		return f.fail(n, "a YAML alias, which Fluent Bit refuses: write the value itself")
	}
	for _, c := range n.Content {
		if err := f.aliases(c); err != nil {
			return err
		}
	}
	return nil
}

// each calls do for each pair of a map.
func (f *yamlFile) each(m *yaml.Node, do func(key, value *yaml.Node) error) error {
	for i := 0; i+1 < len(m.Content); i += 2 {
		key := m.Content[i]
		if key.Kind != yaml.ScalarNode {
			return f.fail(key, "a key that is no text")
		}
		if err := do(key, m.Content[i+1]); err != nil {
			return err
		}
	}
	return nil
}

func (f *yamlFile) env(n *yaml.Node) error {
	set := func(at *yaml.Node, name, value string) error {
		if err := f.r.set(name, value); err != nil {
			return f.fail(at, "env %s: %v", clip(name), err)
		}
		return nil
	}
	switch n.Kind {
	case yaml.MappingNode:
		return f.each(n, func(key, value *yaml.Node) error {
			if value.Kind != yaml.ScalarNode {
				return f.fail(value, "env %s is no text", clip(key.Value))
			}
			return set(key, key.Value, value.Value)
		})
	case yaml.SequenceNode:
		for _, item := range n.Content {
			name, value, err := f.envItem(item)
			if err != nil {
				return err
			}
			if name != "" {
				if err := set(item, name, value); err != nil {
					return err
				}
			}
		}
		return nil
	}
	return f.fail(n, "env must be a map, or a list of maps")
}

// envItem reads a variable of the long form: name, value or uri, refresh_interval; or NAME: value.
func (f *yamlFile) envItem(item *yaml.Node) (name, value string, err error) {
	if item.Kind != yaml.MappingNode {
		return "", "", f.fail(item, "an item of env must be a map")
	}
	uri := ""
	err = f.each(item, func(key, v *yaml.Node) error {
		if v.Kind != yaml.ScalarNode {
			return f.fail(v, "env %s is no text", clip(key.Value))
		}
		switch lower(key.Value) {
		case "name":
			name = v.Value
		case "value":
			value = v.Value
		case "uri":
			uri = v.Value
		case "refresh_interval":
		default:
			if name == "" {
				name, value = key.Value, v.Value
			}
		}
		return nil
	})
	if uri != "" {
		value = uri
	}
	return name, value, err
}

func (f *yamlFile) includes(n *yaml.Node) error {
	if n.Kind != yaml.SequenceNode {
		return f.fail(n, "includes must be a list")
	}
	dir := filepath.Dir(f.path)
	for _, item := range n.Content {
		if item.Kind != yaml.ScalarNode {
			return f.fail(item, "an item of includes must be the path of a file")
		}
		read := func(path string) error {
			if !filepath.IsAbs(path) {
				path = dir + "/" + path
			}
			return f.r.yamlFile(path)
		}
		if err := f.r.include(Error{File: f.r.shown(f.path), Line: item.Line}, item.Value, dir, read); err != nil {
			return err
		}
	}
	return nil
}

func (f *yamlFile) service(key, n *yaml.Node) error {
	if f.r.service {
		return f.fail(key, "a second service section, which Fluent Bit refuses")
	}
	f.r.service = true
	if n.Kind != yaml.MappingNode {
		return f.fail(n, "service must be a map")
	}
	s := Section{Kind: Service, File: f.r.shown(f.path), Line: key.Line}
	err := f.each(n, func(key, value *yaml.Node) error {
		switch value.Kind {
		case yaml.ScalarNode:
			s.Properties = append(s.Properties, f.text(key, value))
		case yaml.SequenceNode:
			return f.fail(value, "service: %s is a list, which Fluent Bit refuses", clip(key.Value))
		}
		return nil
	})
	f.r.cfg.Sections = append(f.r.cfg.Sections, s)
	return err
}

func (f *yamlFile) pipeline(n *yaml.Node) error {
	if n.Kind != yaml.MappingNode {
		return f.fail(n, "pipeline must be a map of inputs, filters and outputs")
	}
	return f.each(n, func(key, value *yaml.Node) error {
		kinds := map[string]Kind{"inputs": Input, "filters": Filter, "outputs": Output}
		kind, known := kinds[lower(key.Value)]
		switch {
		case !known:
			return f.fail(key, "pipeline has inputs, filters and outputs, and Fluent Bit refuses anything else: %s",
				clip(key.Value))
		case value.Kind != yaml.SequenceNode:
			return f.fail(value, "%s must be a list", clip(key.Value))
		}
		for _, item := range value.Content {
			if item.Kind != yaml.MappingNode {
				return f.fail(item, "an item of %s must be a map of keys and values", clip(key.Value))
			}
			s := Section{Kind: kind, File: f.r.shown(f.path), Line: item.Line}
			if err := f.plugin(&s, item); err != nil {
				return err
			}
			f.r.cfg.Sections = append(f.r.cfg.Sections, s)
		}
		return nil
	})
}

// plugin reads the keys of one input, filter or output. What Fluent Bit takes as a structure (processors, routes,
// telemetry) is no property.
func (f *yamlFile) plugin(s *Section, n *yaml.Node) error {
	return f.each(n, func(key, value *yaml.Node) error {
		p := f.text(key, value)
		switch key.Value {
		case "processors", "routes":
			return nil
		case "telemetry":
			if value.Kind == yaml.MappingNode && s.Kind == Input {
				return nil
			}
		}
		switch value.Kind {
		case yaml.ScalarNode:
			if value.Value != "" && p.Values[0] == "" {
				return f.fail(key, "%s has a value of white space only", clip(key.Value))
			}
		case yaml.SequenceNode:
			p.List, p.Values = true, nil
			for _, item := range value.Content {
				if item.Kind != yaml.ScalarNode {
					return f.fail(item, "%s has an item that is no text", clip(key.Value))
				}
				p.Values = append(p.Values, item.Value)
			}
		default:
			p.Map, p.Values = true, nil
		}
		s.Properties = append(s.Properties, p)
		return nil
	})
}

func (f *yamlFile) text(key, value *yaml.Node) Property {
	written := strings.Trim(key.Value, spaces)
	return Property{
		Key: strings.Trim(snake(key.Value), spaces), Written: written,
		Values: []string{strings.Trim(value.Value, spaces)},
		Null:   value.Kind == yaml.ScalarNode && value.Tag == "!!null" && value.Value != "",
		File:   f.r.shown(f.path), Line: key.Line,
	}
}

// snake turns camelCase into snake_case as Fluent Bit does: letter by letter, and only of keys that begin with a
// small letter and have no underscore. Others it leaves as they are, or in lower case.
func snake(key string) string {
	switch {
	case key == "" || key[0] < 'a' || key[0] > 'z':
		return key
	case strings.Contains(key, "_"):
		return lower(key)
	}
	var out strings.Builder
	for i := range len(key) {
		c := key[i]
		if c >= 'A' && c <= 'Z' {
			if i > 0 {
				out.WriteByte('_')
			}
			c += 'a' - 'A'
		}
		out.WriteByte(c)
	}
	return out.String()
}

// clip keeps an error short and in one line.
func clip(key string) string {
	if q := strconv.Quote(key); len(q) != len(key)+2 || len(key) > 40 {
		return "a key"
	}
	return key
}
