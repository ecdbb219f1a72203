// Command shapeschema derives from the schemas of record shapes the short lists that the tests of package shape check
// records against:
//
//	go run ./internal/shapeschema ecs .../ecs/generated/ecs/ecs_flat.yml > shape/testdata/ecs_fields.txt
//	go run ./internal/shapeschema ocsf .../ocsf-schema > shape/testdata/ocsf_objects.txt
//
// The schemas are checkouts of github.com/elastic/ecs and github.com/ocsf/ocsf-schema at the tag of their newest
// release.
package main

import (
	"fmt"
	"io"
	"os"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "shapeschema:", err)
		os.Exit(1)
	}
}

func run(args []string, out io.Writer) error {
	switch {
	case len(args) == 2 && args[0] == "ecs":
		return ecs(args[1], out)
	case len(args) == 2 && args[0] == "ocsf":
		return ocsf(args[1], out)
	}
	return fmt.Errorf("usage: shapeschema ecs FILE, or shapeschema ocsf DIRECTORY")
}
