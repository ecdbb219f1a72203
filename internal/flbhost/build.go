package flbhost

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
)

//go:embed csrc/*.c csrc/*.h
var sources embed.FS

// build compiles the host with $CC (cc when unset) and returns the path of the program. It is kept in the user's
// cache folder under a name made of its sources and of what it lacks, so only the first call compiles. Safe for
// concurrent use, also by several processes.
func build(without Without) (string, error) {
	names, err := fs.Glob(sources, "csrc/*")
	if err != nil {
		return "", err
	}
	sort.Strings(names)
	sum := sha256.New()
	fmt.Fprintf(sum, "without %s by %s\n", without, os.Getenv("CC"))
	for _, name := range names {
		text, err := sources.ReadFile(name)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(sum, "%s %d\n", name, len(text))
		sum.Write(text)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "fluent-bit-defender", "flbhost-"+hex.EncodeToString(sum.Sum(nil))[:16])
	program := filepath.Join(dir, "host")
	if _, err := os.Stat(program); err == nil {
		return program, nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	work, err := os.MkdirTemp(dir, "build")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(work)
	args := []string{"-std=gnu11", "-O1", "-g", "-Wall", "-Wextra", "-pthread", "-rdynamic", "-o", "host"}
	if without != "" {
		args = append(args, "-DWITHOUT_"+string(without))
	}
	for _, name := range names {
		text, err := sources.ReadFile(name)
		if err != nil {
			return "", err
		}
		base := filepath.Base(name)
		if err := os.WriteFile(filepath.Join(work, base), text, 0o600); err != nil {
			return "", err
		}
		if filepath.Ext(base) == ".c" {
			args = append(args, base)
		}
	}
	if err := compile(work, append(args, "-ldl")); err != nil {
		return "", err
	}
	// The rename is atomic: of two builders the last wins, and both programs are the same.
	return program, os.Rename(filepath.Join(work, "host"), program)
}

func compile(dir string, args []string) error {
	cc := os.Getenv("CC")
	if cc == "" {
		cc = "cc"
	}
	return run(dir, cc, args...)
}

// BuildC compiles one C file to a shared object: for the probe of the tests.
func BuildC(source, out string) error {
	flags := []string{"-Wall", "-Wextra", "-O1", "-g", "-shared", "-fPIC"}
	return compile("", append(flags, "-o", out, source, "-ldl", "-lpthread"))
}

// BuildGo builds a Go package (a folder or an import path) to a shared object.
func BuildGo(pkg, out string, flags ...string) error {
	args := append([]string{"build", "-buildmode=c-shared", "-o", out}, flags...)
	return run("", "go", append(args, pkg)...)
}

func run(dir, name string, args ...string) error {
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if errors.Is(err, exec.ErrNotFound) {
		return fmt.Errorf("%s is not on PATH: a C compiler is needed: %w", name, err)
	}
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", name, err, bytes.TrimSpace(out))
	}
	return nil
}
