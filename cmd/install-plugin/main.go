// Command install-plugin copies in_defender.so, or in_defender_kubernetes.so, which lie beside it, into a directory;
// or it gives a directory to a user. It is what init containers run: Fluent Bit's official image has neither a shell
// nor cp or chown, and the image of this project has nothing but static binaries.
package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// plugin is the file that is copied, under the same name, where none is named.
const plugin = "in_defender.so"

var plugins = []string{plugin, "in_defender_kubernetes.so"}

const usage = "usage: install-plugin DIR [FILE]: copies FILE (" + plugin + ", or in_defender_kubernetes.so), " +
	"which lies beside install-plugin, into DIR; " +
	"or install-plugin --own UID:GID DIR: gives DIR to that user and group"

func main() {
	os.Exit(run(os.Args[1:], os.Executable, os.Stdout, os.Stderr))
}

// run is main with its surroundings: exit code 0 for done, 1 for a failure told in one line, 2 for wrong arguments.
func run(args []string, executable func() (string, error), out, errOut io.Writer) int {
	switch {
	case len(args) == 1 && (args[0] == "-h" || args[0] == "--help"):
		fmt.Fprintln(out, usage)
		return 0
	case len(args) == 3 && args[0] == "--own":
		return own(args[1], args[2], out, errOut)
	case len(args) < 1 || len(args) > 2 || args[0] == "" || args[0][0] == '-',
		len(args) == 2 && !slices.Contains(plugins, args[1]):
		fmt.Fprintln(errOut, usage)
		return 2
	}
	name := plugin
	if len(args) == 2 {
		name = args[1]
	}
	self, err := executable()
	if err != nil {
		fmt.Fprintf(errOut, "install-plugin: cannot tell where it lies itself: %v\n", err)
		return 1
	}
	target := filepath.Join(args[0], name)
	n, err := install(filepath.Join(filepath.Dir(self), name), target)
	if err != nil {
		fmt.Fprintf(errOut, "install-plugin: %v\n", err)
		return 1
	}
	fmt.Fprintf(out, "install-plugin: %s, %d bytes\n", target, n)
	return 0
}

// own gives a directory, not what is in it, to a user and group.
func own(who, dir string, out, errOut io.Writer) int {
	user, group, _ := strings.Cut(who, ":")
	uid, err1 := strconv.ParseUint(user, 10, 31)
	gid, err2 := strconv.ParseUint(group, 10, 31)
	if err1 != nil || err2 != nil {
		fmt.Fprintln(errOut, usage)
		return 2
	}
	if err := os.Chown(dir, int(uid), int(gid)); err != nil {
		fmt.Fprintf(errOut, "install-plugin: %v; it needs root and the capability CHOWN\n", err)
		return 1
	}
	fmt.Fprintf(out, "install-plugin: %s belongs to %d:%d\n", dir, uid, gid)
	return 0
}
