package main

import (
	"strings"
	"testing"
)

// The part of a test that runs in the real Fluent Bit counts, and a failure beats all.
func TestMatrix(t *testing.T) {
	results := map[string]map[string]string{}
	old := `{"Action":"pass","Test":"TestA/host"}
{"Action":"skip","Test":"TestA/fluent-bit"}
{"Action":"pass","Test":"TestA"}
{"Action":"fail","Test":"TestB"}
not JSON
`
	if !read(strings.NewReader(old), "2.2.3", results) || !read(strings.NewReader(`{"Action":"pass","Test":"TestB"}`),
		"5.1.1", results) {
		t.Error("nothing ran")
	}
	if read(strings.NewReader(`{"Action":"output","Output":"build failed"}`), "5.1.1", results) {
		t.Error("something ran")
	}
	var out strings.Builder
	if matrix(&out, []string{"2.2.3", "5.1.1"}, results) {
		t.Error("the failure is not seen")
	}
	want := `| test | 2.2.3 | 5.1.1 |
|---|---|---|
| TestA | skipped |  |
| TestB | FAILED | passed |
`
	if out.String() != want {
		t.Errorf("got\n%s", out.String())
	}
}
