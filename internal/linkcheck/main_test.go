package main

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestFlaggedModulesAreNamed(t *testing.T) {
	got := old(map[string]string{"golang.org/x/crypto": "v0.11.0", "github.com/ugorji/go/codec": "v1.1.7",
		"golang.org/x/oauth2": "v0.38.0"})
	want := []string{
		"github.com/ugorji/go/codec v1.1.7 is flagged by scanners: go get github.com/ugorji/go/codec@latest",
		"golang.org/x/crypto v0.11.0 is flagged by scanners: go get golang.org/x/crypto@latest",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}

func TestModulesThatLagAYearBehindAreNamed(t *testing.T) {
	day := func(n int) time.Time { return time.Date(2025, 1, n, 0, 0, 0, 0, time.UTC) }
	linked := map[string]string{"a": "v1.1.0", "b": "v1.1.0", "c": "v1.1.0", "d": "v1.1.0"}
	all := []module{
		{"a", "v1.1.0", day(1)}, {"a", "v1.2.0", day(400)}, // a year and more
		{"b", "v1.1.0", day(1)}, {"b", "v1.2.0", day(300)}, // less
		{"c", "v1.1.0", day(1)}, {"c", "v1.1.9", day(900)}, // no minor release
		{"d", "v1.1.0", day(1)}, {"d", "v1.1.0", day(1)}, // the newest
	}
	want := []string{"a v1.1.0 is 399 days older than v1.2.0: go get a@latest"}
	if got := lagging(linked, all); !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}

// This test's own program links a module; where no proxy answers that is said, and the list is looked through all the
// same.
func TestAProgramIsReadAsScannersReadIt(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	var asked []string
	faults, err := run([]string{self}, &out, func(names []string) ([]module, error) {
		asked = names
		return nil, errors.New("offline")
	})
	if err != nil || len(faults) > 0 {
		t.Errorf("%q, %v", faults, err)
	}
	if !slices.Contains(asked, "golang.org/x/mod@latest") || !strings.Contains(out.String(), "skipped") {
		t.Errorf("asked for %q, said %q", asked, out.String())
	}
	if _, err := run([]string{os.DevNull}, &out, nil); err == nil {
		t.Error("a file that is no program passed")
	}
}
