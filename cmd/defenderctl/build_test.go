package main

import (
	"os/exec"
	"strings"
	"testing"
)

// The tool is one static binary: nothing of ours in it needs cgo, and nothing of the plugin's boundary is in it.
func TestNothingNeedsCgo(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", "-f", "{{.ImportPath}} {{len .CgoFiles}}", ".")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	ours := 0
	for line := range strings.Lines(string(out)) {
		path, n, _ := strings.Cut(strings.TrimSpace(line), " ")
		rest, found := strings.CutPrefix(path, "fluent-bit-defender/")
		if !found {
			continue
		}
		ours++
		if n != "0" || strings.HasPrefix(rest, "plugin") || strings.HasPrefix(rest, "internal") {
			t.Errorf("%s is in it, with %s files of cgo", path, n)
		}
	}
	if ours < 6 {
		t.Errorf("only %d packages of ours are in it", ours)
	}
}
