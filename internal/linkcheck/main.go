// Command linkcheck fails where a program or shared object that we ship links a module that scanners would flag: one
// of our list, or one that lags behind its newest minor release by more than a year. It reads what `go version -m`
// shows, as scanners do.
//
//	linkcheck FILE...
package main

import (
	"bytes"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/semver"
)

// flagged are versions below which a module has known vulnerabilities, whether or not we use the part that has them:
// the database of vulnerabilities is not at hand where lint runs.
var flagged = map[string]string{
	"golang.org/x/crypto":          "v0.45.0",
	"golang.org/x/net":             "v0.45.0",
	"golang.org/x/oauth2":          "v0.27.0",
	"golang.org/x/text":            "v0.3.8",
	"github.com/golang-jwt/jwt/v5": "v5.2.2",
	"github.com/ugorji/go/codec":   "v1.2.0",
	"go.yaml.in/yaml/v3":           "v3.0.1",
	"gopkg.in/yaml.v3":             "v3.0.1",
}

const mostLag = 365 * 24 * time.Hour

// module is one release as `go list -m -json` tells of it.
type module struct {
	Path, Version string
	Time          time.Time
}

func main() {
	faults, err := run(os.Args[1:], os.Stdout, releases)
	if err != nil {
		fmt.Fprintln(os.Stderr, "linkcheck:", err)
		os.Exit(2)
	}
	for _, f := range faults {
		fmt.Fprintln(os.Stderr, "linkcheck:", f)
	}
	if len(faults) > 0 {
		os.Exit(1)
	}
}

// run returns what is wrong with the modules that the files link. releases asks for the releases named.
func run(files []string, out io.Writer, releases func(names []string) ([]module, error)) ([]string, error) {
	linked := map[string]string{} // version by path
	for _, file := range files {
		info, err := buildinfo.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("%s: %w; build it first", file, err)
		}
		for _, d := range info.Deps {
			if d.Replace != nil {
				d = d.Replace
			}
			linked[d.Path] = d.Version
		}
	}
	if len(linked) == 0 {
		return nil, errors.New("no file links any module: nothing is checked")
	}
	faults := old(linked)
	var names []string
	for path, version := range linked {
		names = append(names, path+"@"+version, path+"@latest")
	}
	slices.Sort(names)
	all, err := releases(names)
	if err != nil {
		fmt.Fprintf(out, "linkcheck: skipped: how far modules lag behind, for no module proxy answers (%v)\n", err)
		return faults, nil
	}
	return append(faults, lagging(linked, all)...), nil
}

// old names the modules that are on our list.
func old(linked map[string]string) (faults []string) {
	for path, version := range linked {
		if least := flagged[path]; least != "" && semver.Compare(version, least) < 0 {
			faults = append(faults, fmt.Sprintf("%s %s is flagged by scanners: go get %s@latest", path, version, path))
		}
	}
	slices.Sort(faults)
	return faults
}

// lagging names the modules whose newest release is of a later minor version and more than a year younger.
func lagging(linked map[string]string, all []module) (faults []string) {
	when := map[string]time.Time{}
	for _, m := range all {
		when[m.Path+"@"+m.Version] = m.Time
	}
	for _, newest := range all {
		version := linked[newest.Path]
		later := semver.Compare(semver.MajorMinor(newest.Version), semver.MajorMinor(version)) > 0
		if lag := newest.Time.Sub(when[newest.Path+"@"+version]); later && lag > mostLag {
			faults = append(faults, fmt.Sprintf("%s %s is %d days older than %s: go get %s@latest", newest.Path,
				version, int(lag.Hours()/24),
				newest.Version, newest.Path))
		}
	}
	slices.Sort(faults)
	return slices.Compact(faults)
}

// releases asks the module proxy.
func releases(names []string) ([]module, error) {
	cmd := exec.Command("go", append([]string{"list", "-mod=mod", "-m", "-json=Path,Version,Time"}, names...)...)
	var said bytes.Buffer
	cmd.Stderr = &said
	text, err := cmd.Output()
	if err != nil {
		line, _, _ := strings.Cut(said.String(), "\n")
		return nil, fmt.Errorf("%w: %s", err, line)
	}
	var all []module
	for d := json.NewDecoder(bytes.NewReader(text)); ; {
		var m module
		switch err := d.Decode(&m); {
		case errors.Is(err, io.EOF):
			return all, nil
		case err != nil:
			return nil, err
		}
		all = append(all, m)
	}
}
