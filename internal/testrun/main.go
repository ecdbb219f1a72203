// Command testrun runs `go test -json` with the arguments it is given and prints what a person wants to read: a line a
// package, the whole output of what failed, and every skipped test with its reason.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// event is one line of `go test -json` (see `go doc test2json`).
type event struct {
	Action  string
	Package string
	Test    string
	Output  string
	Elapsed float64
}

type test struct{ pkg, name string }

func main() {
	args := os.Args[1:]
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	cmd := exec.Command("go", append([]string{"test", "-json"}, args...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "testrun:", err)
		os.Exit(1)
	}
	output := map[test][]string{}
	var passed, failed int
	var skipped []string
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var ev event
		if json.Unmarshal(lines.Bytes(), &ev) != nil {
			fmt.Println(lines.Text()) // a build failure speaks plain text
			continue
		}
		key := test{ev.Package, ev.Test}
		switch ev.Action {
		case "output", "build-output":
			output[key] = append(output[key], ev.Output)
			continue
		case "pass":
			if ev.Test != "" {
				passed++
			} else {
				fmt.Printf("ok  \t%s\t%.1fs\n", ev.Package, ev.Elapsed)
			}
		case "skip":
			if ev.Test != "" {
				skipped = append(skipped, fmt.Sprintf("%s %s: %s", ev.Package, ev.Test, reason(output[key])))
			}
		case "fail":
			if ev.Test != "" {
				failed++
			}
			fmt.Printf("FAIL\t%s %s\n%s", ev.Package, ev.Test, strings.Join(output[key], ""))
		case "build-fail":
			failed++
			fmt.Printf("FAIL\t%s\n%s", ev.Package, strings.Join(output[key], ""))
		default:
			continue
		}
		if ev.Test != "" {
			delete(output, key)
		}
	}
	err = cmd.Wait()
	slices.Sort(skipped)
	for _, s := range skipped {
		fmt.Println("skipped", s)
	}
	fmt.Printf("%d passed, %d failed, %d skipped\n", passed, failed, len(skipped))
	if err != nil || failed > 0 || passed == 0 {
		os.Exit(1)
	}
}

// reason is what a skipped test said, without the runner's own lines.
func reason(output []string) string {
	var said []string
	for _, line := range output {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "===") &&
			!strings.HasPrefix(line, "---") {
			said = append(said, line)
		}
	}
	return strings.Join(said, " ")
}
