// Command install-plugin copies in_defender.so, which lies beside it, into a directory. It is what an init container runs: Fluent Bit's
// official image has neither a shell nor cp, and the image of this project has nothing but static binaries.
package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// plugin is the file that is copied, under the same name.
const plugin = "in_defender.so"

const usage = "usage: install-plugin DIR: copies " + plugin + ", which lies beside install-plugin, into DIR"

func main() {
	os.Exit(run(os.Args[1:], os.Executable, os.Stdout, os.Stderr))
}

// run is main with its surroundings: exit code 0 for done, 1 for a failure told in one line, 2 for wrong arguments.
func run(args []string, executable func() (string, error), out, errOut io.Writer) int {
	switch {
	case len(args) == 1 && (args[0] == "-h" || args[0] == "--help"):
		fmt.Fprintln(out, usage)
		return 0
	case len(args) != 1 || args[0] == "" || args[0][0] == '-':
		fmt.Fprintln(errOut, usage)
		return 2
	}
	self, err := executable()
	if err != nil {
		fmt.Fprintf(errOut, "install-plugin: cannot tell where it lies itself: %v\n", err)
		return 1
	}
	target := filepath.Join(args[0], plugin)
	n, err := install(filepath.Join(filepath.Dir(self), plugin), target)
	if err != nil {
		fmt.Fprintf(errOut, "install-plugin: %v\n", err)
		return 1
	}
	fmt.Fprintf(out, "install-plugin: %s, %d bytes\n", target, n)
	return 0
}
