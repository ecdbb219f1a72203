// Command shapeschema derives from the schemas of record shapes the short lists that the tests of package shape check records against:
//
//	go run ./internal/shapeschema ecs .../ecs/generated/ecs/ecs_flat.yml > shape/testdata/ecs_fields.txt
//
// The schema is a checkout of github.com/elastic/ecs at the tag of its newest release.
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
	if len(args) == 2 && args[0] == "ecs" {
		return ecs(args[1], out)
	}
	return fmt.Errorf("usage: shapeschema ecs FILE")
}
