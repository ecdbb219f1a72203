package flbconf

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// memoryFiles is a main file and those it may include, all in one directory.
type memoryFiles map[string]string

func (m memoryFiles) read(path string) ([]byte, any, error) {
	name := filepath.Base(path)
	text, there := m[name]
	if !there {
		return nil, nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	}
	return []byte(text), name, nil
}

func (m memoryFiles) glob(pattern string) (names []string, err error) {
	for _, name := range []string{"a", "b", "c"} {
		if ok, err := filepath.Match(filepath.Base(pattern), name); err != nil {
			return nil, err
		} else if ok && m[name] != "" {
			names = append(names, name)
		}
	}
	return names, nil
}

// Whatever stands in the files: reading ends, does not panic, is the same twice, and gives either a configuration
// whose every key has a place, or one line of error.
func FuzzLoad(f *testing.F) {
	for _, dir := range []string{"good", "refused"} {
		paths, err := filepath.Glob("testdata/" + dir + "/*")
		if err != nil {
			f.Fatal(err)
		}
		for _, path := range paths {
			if text, err := os.ReadFile(path); err == nil {
				f.Add(isYAML(path), string(text), "", "")
			}
		}
	}
	f.Add(false, "@INCLUDE a\n[INPUT]\n  name x\n", "@INCLUDE *\n", "@SET a=file://c\n")
	f.Add(true, "includes: [a, 'b*']\n", "includes: [c]\n", "pipeline: {inputs: [{name: '${a}}${'}]}\n")
	f.Fuzz(func(t *testing.T, inYAML bool, main, a, b string) {
		name := "main.conf"
		if inYAML {
			name = "main.yaml"
		}
		from := memoryFiles{name: main, "a": a, "b": b, "c": main}
		lookup := environment(map[string]string{"SET": "set"})
		c, err := load(name, from, lookup)
		again, err2 := load(name, from, lookup)
		if (err == nil) != (err2 == nil) || err != nil && err.Error() != err2.Error() {
			t.Fatalf("%v, then %v", err, err2)
		}
		if err != nil {
			var e *Error
			if !errors.As(err, &e) || e.File == "" || strings.Contains(err.Error(), "\n") {
				t.Fatalf("%T %q", err, err)
			}
			return
		}
		if dump(c) != dump(again) {
			t.Fatal("two readings differ")
		}
		for _, s := range c.Sections {
			for _, p := range s.Properties {
				if p.Line < 1 || p.File == "" || len(p.Values) != 1 && !p.List && !p.Map {
					t.Fatalf("%+v", p)
				}
				for _, v := range p.Values {
					if e := c.Expand(v); !strings.Contains(v, "${") && e.Text != v {
						t.Fatalf("%q became %q", v, e.Text)
					}
				}
			}
		}
	})
}
