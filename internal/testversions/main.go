// Command testversions runs the end-to-end tests with one real Fluent Bit after the other and prints what passed with
// which.
//
//	testversions FLUENT_BIT...
//
// Each argument is a program. It exits with 1 when a test failed with any.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
)

// marks are what a test came to, by `go test -json`.
var marks = map[string]string{"pass": "passed", "fail": "FAILED", "skip": "skipped"}

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, `testversions: name programs: make test-versions FLUENT_BITS="/path/to/fluent-bit ..."`)
		os.Exit(2)
	}
	var versions []string
	results := map[string]map[string]string{} // test, version
	for _, program := range os.Args[1:] {
		v, err := version(program)
		if err != nil {
			fmt.Fprintln(os.Stderr, "testversions:", err)
			os.Exit(2)
		}
		versions = append(versions, v)
		fmt.Fprintf(os.Stderr, "with Fluent Bit %s\n", v)
		if err := run(program, v, results); err != nil {
			fmt.Fprintln(os.Stderr, "testversions:", err)
			os.Exit(2)
		}
	}
	if !matrix(os.Stdout, versions, results) {
		os.Exit(1)
	}
}

func version(program string) (string, error) {
	text, err := exec.Command(program, "--version").Output()
	m := regexp.MustCompile(`v(\d+\.\d+\.\d+)`).FindSubmatch(text)
	if err != nil || m == nil {
		return "", fmt.Errorf("%s --version: %v, %q", program, err, text)
	}
	return string(m[1]), nil
}

// run tests with one program. What failed is printed whole.
func run(program, version string, results map[string]map[string]string) error {
	cmd := exec.Command("go", "test", "-json", "-count=1", "-timeout", "30m", "-run", os.Getenv("RUN"),
		"./internal/e2e")
	cmd.Env = append(os.Environ(), "FLUENT_BIT="+program)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	ran := read(out, version, results)
	if err := cmd.Wait(); err != nil && !ran {
		return fmt.Errorf("go test: %w", err)
	}
	return nil
}

// read notes the outcome of each test that has one in this Fluent Bit, and tells whether there was any: those of the
// bundled host are the same with each.
func read(in io.Reader, version string, results map[string]map[string]string) (ran bool) {
	said := map[string]*strings.Builder{}
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e struct{ Action, Test, Output string }
		if json.Unmarshal(lines.Bytes(), &e) != nil || e.Test == "" {
			continue
		}
		if said[e.Test] == nil {
			said[e.Test] = &strings.Builder{}
		}
		said[e.Test].WriteString(e.Output)
		mark := marks[e.Action]
		if mark == "" || strings.HasSuffix(e.Test, "/host") {
			continue
		}
		name := strings.TrimSuffix(e.Test, "/fluent-bit")
		if results[name] == nil {
			results[name] = map[string]string{}
		}
		if results[name][version] == "" || mark == marks["fail"] { // the subtest comes before the test that holds it
			results[name][version] = mark
		}
		if ran = true; mark == marks["fail"] {
			fmt.Fprint(os.Stderr, said[e.Test])
		}
	}
	return ran
}

// matrix prints a row for each test and tells whether none failed.
func matrix(out io.Writer, versions []string, results map[string]map[string]string) (ok bool) {
	ok = true
	fmt.Fprintf(out, "| test | %s |\n|---|%s\n", strings.Join(versions, " | "), strings.Repeat("---|", len(versions)))
	for _, name := range slices.Sorted(maps.Keys(results)) {
		row := "| " + name + " |"
		for _, v := range versions {
			mark := results[name][v]
			ok = ok && mark != marks["fail"]
			row += " " + mark + " |"
		}
		fmt.Fprintln(out, row)
	}
	return ok
}
