package deploy

import (
	"bytes"
	"debug/elf"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
)

const dockerfile = "../Dockerfile"

// stages parses the Dockerfile as BuildKit does, with all of its lint rules; what one of them finds fails the test.
func stages(t *testing.T) (all []instructions.Stage, before []instructions.ArgCommand) {
	t.Helper()
	text, err := os.Open(dockerfile)
	if err != nil {
		t.Fatal(err)
	}
	defer text.Close()
	result, err := parser.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range result.Warnings {
		t.Errorf("%s: %s", dockerfile, w.Short)
	}
	lint := linter.New(&linter.Config{
		ExperimentalAll: true,
		Warn: func(rule, _, _, message string, at []parser.Range) {
			t.Errorf("%s: %s: %s %v", dockerfile, rule, message, at)
		},
	})
	all, before, err = instructions.Parse(result.AST, lint)
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 2 || all[0].Name != "build" {
		t.Fatalf("%d stages, the first is %q", len(all), all[0].Name)
	}
	return all, before
}

// A newer base than Debian 12 may bind the plugin to a glibc that Fluent Bit's images do not have; Alpine has none.
func TestImageIsBuiltOnAnOldGlibc(t *testing.T) {
	all, before := stages(t)
	if all[0].BaseName != "${GO_IMAGE}" || len(before) != 1 || len(before[0].Args) != 1 {
		t.Fatalf("the build stage is from %s", all[0].BaseName)
	}
	base := before[0].Args[0].ValueString()
	module, err := os.ReadFile("../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	_, version, _ := strings.Cut(string(module), "\ngo ")
	version, _, _ = strings.Cut(version, "\n")
	minor := strings.Join(strings.Split(version, ".")[:2], ".")
	if want := "golang:" + minor + "-bookworm"; base != want {
		t.Errorf("the build stage is from %s, want %s (go.mod: %s)", base, want, version)
	}
}

func TestImageHoldsFilesAndNoSystem(t *testing.T) {
	all, _ := stages(t)
	final := all[1]
	if final.BaseName != "scratch" {
		t.Errorf("it is made from %s", final.BaseName)
	}
	var copied []string
	user, entry := "", ""
	for _, command := range final.Commands {
		switch c := command.(type) {
		case *instructions.CopyCommand:
			if c.From != "build" {
				t.Errorf("%s comes from %q", c, c.From)
			}
			copied = append(copied, c.SourcePaths...)
		case *instructions.UserCommand:
			user = c.User
		case *instructions.EntrypointCommand:
			entry = strings.Join(c.CmdLine, " ")
			if c.PrependShell {
				t.Error("there is no shell to start with")
			}
		case *instructions.CmdCommand:
			if c.PrependShell {
				t.Error("there is no shell to start with")
			}
		default:
			t.Errorf("%s: nothing can run here", c.Name())
		}
	}
	want := []string{"/src/LICENSE", "/etc/ssl/certs/ca-certificates.crt", "/src/build/in_defender.so",
		"/src/build/in_defender_kubernetes.so", "/src/build/defenderctl", "/src/build/install-plugin"}
	if !slices.Equal(copied, want) {
		t.Errorf("it holds %v", copied)
	}
	if user != "65532:65532" || entry != "/install-plugin" {
		t.Errorf("user %s, entry point %s", user, entry)
	}
}

// The build stage, done here: the build context that .dockerignore leaves, then the stage's own commands in their
// order. What the image takes from there must be there, the tools without any library.
func TestBuildStageMakesWhatTheImageHolds(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds the plugin")
	}
	all, _ := stages(t)
	src := filepath.Join(t.TempDir(), "src")
	for _, command := range all[0].Commands {
		switch c := command.(type) {
		case *instructions.WorkdirCommand:
			if c.Path != "/src" {
				t.Fatalf("the sources go to %s", c.Path)
			}
		case *instructions.CopyCommand:
			if len(c.SourcePaths) == 1 && c.SourcePaths[0] == "." {
				copyContext(t, "..", src)
				continue
			}
			for _, name := range c.SourcePaths {
				copyFile(t, filepath.Join("..", name), filepath.Join(src, name))
			}
		case *instructions.RunCommand:
			if !c.PrependShell || len(c.CmdLine) != 1 {
				t.Fatalf("%s is no line for the shell", c)
			}
			cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", c.CmdLine[0])
			cmd.Dir = src
			cmd.Env = append(os.Environ(), "VERSION=v9.8.7")
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%s: %v\n%s", c.CmdLine[0], err, out)
			}
		case *instructions.ArgCommand:
		default:
			t.Fatalf("%s: this test does not know how to do it", c.Name())
		}
	}
	for _, name := range []string{"in_defender.so", "in_defender_kubernetes.so", "defenderctl", "install-plugin"} {
		f, err := elf.Open(filepath.Join(src, "build", name))
		if err != nil {
			t.Errorf("make build does not make it: %v", err)
			continue
		}
		libraries, err := f.ImportedLibraries()
		static := len(libraries) == 0 && f.Section(".interp") == nil
		if err != nil || static == strings.HasSuffix(name, ".so") {
			t.Errorf("%s needs %v, %v", name, libraries, err)
		}
		f.Close()
	}
	out, err := exec.CommandContext(t.Context(), filepath.Join(src, "build", "defenderctl"), "--version").Output()
	if err != nil || !bytes.Contains(out, []byte("v9.8.7")) {
		t.Errorf("the version from outside does not arrive: %s, %v", out, err)
	}
	target := t.TempDir()
	if out, err := exec.CommandContext(t.Context(), filepath.Join(src, "build", "install-plugin"),
		target).CombinedOutput(); err != nil {
		t.Errorf("%s, %v", out, err)
	}
}

// copyContext copies what .dockerignore leaves, by BuildKit's own rules.
func copyContext(t *testing.T, from, to string) {
	t.Helper()
	text, err := os.Open(filepath.Join(from, ".dockerignore"))
	if err != nil {
		t.Fatal(err)
	}
	defer text.Close()
	patterns, err := ignorefile.ReadAll(text)
	if err != nil {
		t.Fatal(err)
	}
	ignored, err := patternmatcher.New(patterns)
	if err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(from, path)
		if err != nil || d.IsDir() {
			if d.Name() == ".git" || d.Name() == "build" {
				return filepath.SkipDir // large, and checked below
			}
			return err
		}
		if skip, err := ignored.MatchesOrParentMatches(name); err != nil || skip {
			return err
		}
		copyFile(t, path, filepath.Join(to, name))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{".git/config", "build/in_defender.so", "deploy/go.mod", "fluent-bit.conf",
		"client/client_test.go"} {
		if skip, err := ignored.MatchesOrParentMatches(name); err != nil || !skip {
			t.Errorf("%s is in the build context", name)
		}
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	text, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, text, 0o644); err != nil {
		t.Fatal(err)
	}
}
