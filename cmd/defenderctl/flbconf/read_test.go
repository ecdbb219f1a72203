package flbconf

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"fluent-bit-defender/internal/flbhost"
	"fluent-bit-defender/internal/golden"
)

// environment looks variables up in a map.
func environment(vars map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		v, set := vars[name]
		return v, set
	}
}

// dump shows all that was read.
func dump(c *Config) string {
	var b strings.Builder
	fmt.Fprintf(&b, "files %s\n", strings.Join(c.Files, " "))
	for _, s := range c.Sections {
		fmt.Fprintf(&b, "%s %s:%d\n", s.Kind, s.File, s.Line)
		for _, p := range s.Properties {
			fmt.Fprintf(&b, "  %d %s", p.Line, p.Key)
			if p.Written != p.Key {
				fmt.Fprintf(&b, " (%s)", p.Written)
			}
			for _, v := range p.Values {
				e := c.Expand(v)
				fmt.Fprintf(&b, " %q", e.Text)
				if len(e.Unset) > 0 {
					fmt.Fprintf(&b, " unset %q", e.Unset)
				}
			}
			for what, is := range map[string]bool{"list": p.List, "map": p.Map, "null": p.Null} {
				if is {
					fmt.Fprintf(&b, " [%s]", what)
				}
			}
			b.WriteByte('\n')
		}
	}
	return b.String()
}

func TestWholeConfigurations(t *testing.T) {
	for _, name := range []string{"main.conf", "main.yaml"} {
		t.Run(name, func(t *testing.T) {
			t.Chdir("testdata/good")
			c, err := Load(name, environment(map[string]string{"EMPTY": ""}))
			if err != nil {
				t.Fatal(err)
			}
			golden.Check(t, name+".golden", dump(c))
		})
	}
}

func TestAYAMLFileElsewhereIncludesBesideItself(t *testing.T) {
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"testdata/inc/main.yaml", filepath.Join(here, "testdata/inc/main.yaml")} {
		c, err := Load(path, environment(nil))
		if err != nil {
			t.Fatal(err)
		}
		if want := []string{path, filepath.Join(filepath.Dir(path), "sub/a.yaml")}; !cmp.Equal(c.Files, want) {
			t.Errorf("files %q, want %q", c.Files, want)
		}
	}
}

// refused returns the files that Fluent Bit does not start with, and the errors they must give.
func refused(t *testing.T) map[string]string {
	t.Helper()
	files := map[string]string{}
	for _, pattern := range []string{"*.conf", "*.yaml"} {
		names, err := filepath.Glob(filepath.Join("testdata/refused", pattern))
		if err != nil || len(names) == 0 {
			t.Fatalf("no %s: %v", pattern, err)
		}
		for _, name := range names {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			for line := range strings.Lines(string(text)) {
				if want, found := strings.CutPrefix(line, "# want: "); found {
					files[filepath.Base(name)] = strings.TrimSpace(want)
				}
			}
		}
	}
	return files
}

func TestRefusedToTheLetter(t *testing.T) {
	files := refused(t)
	t.Chdir("testdata/refused")
	for name, want := range files {
		c, err := Load(name, environment(nil))
		if c != nil || err == nil {
			t.Errorf("%s was read", name)
			continue
		}
		if diff := cmp.Diff(want, err.Error()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestFilesThatAreNotThere(t *testing.T) {
	for _, name := range []string{"nowhere.conf", "nowhere.yaml", "nowhere"} {
		_, err := Load(name, os.LookupEnv)
		var e *Error
		if !errors.As(err, &e) || !errors.Is(err, os.ErrNotExist) {
			t.Fatalf("%s: %v", name, err)
		}
		if want := name + ": no such file or directory"; err.Error() != want {
			t.Errorf("%q, want %q", err, want)
		}
	}
}

// A real Fluent Bit, where there is one, refuses and takes the same files.
func TestRealFluentBitAgrees(t *testing.T) {
	program, found := flbhost.FluentBit()
	if !found {
		t.Skip("SKIPPED: no Fluent Bit in FLUENT_BIT or on PATH")
	}
	files := refused(t)
	files["../good/plain.conf"], files["../good/plain.yaml"] = "", ""
	t.Chdir("testdata/refused")
	for name, want := range files {
		out, err := exec.CommandContext(t.Context(), program, "-c", name, "--dry-run").CombinedOutput()
		if _, ours := Load(name, os.LookupEnv); (ours != nil) != (want != "") || (err != nil) != (want != "") {
			t.Errorf("%s: Fluent Bit says %v, this package %v; wanted %q\n%s", name, err, ours, want, out)
		}
	}
}
