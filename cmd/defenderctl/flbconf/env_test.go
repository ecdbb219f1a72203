package flbconf

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"fluent-bit-defender/internal/flbhost"
)

var expansions = []struct {
	value   string
	text    string
	unset   []string
	garbled bool
}{
	{"", "", nil, false},
	{"plain", "plain", nil, false},
	{"${SET}", "set", nil, false},
	{"a${SET}b", "asetb", nil, false},
	{"${SET}${SET}", "setset", nil, false},
	{"a${UNSET}b", "ab", []string{"UNSET"}, false},
	{"a${EMPTY}b", "ab", []string{"EMPTY"}, false},
	{"${UNSET}", "", []string{"UNSET"}, false},
	{"${UNSET:-word}", "word", nil, false},
	{"${SET:-word}", "set", nil, false},
	{"${UNSET:-}", "", nil, false},
	{"${UNSET:+x}", "", []string{"UNSET:+x"}, false},
	{"${OURS}", "by @SET", nil, false},
	{"${NOTHING}", "", []string{"NOTHING"}, false},
	{"${NOTHING:-word}", "word", nil, false},
	{"$SET $ {SET} }", "$SET $ {SET} }", nil, false},
	{"${", "${", nil, true},
	{"a${SET", "a${SET", nil, true},
	{"${}", "${}", nil, true},
	{"a}b${SET}", "a}b${SET}", nil, true},
	{"${SET} a${SET", "set", nil, true},
	{"${SET} a}b${SET}c", "setb${SET}c", nil, true},
	{"${SET}a}b", "seta}b", nil, false},
	{"x${${SET}}y", "x}y", []string{"${SET"}, false},
}

func TestExpand(t *testing.T) {
	c := &Config{vars: map[string]string{"OURS": "by @SET", "NOTHING": ""},
		lookup: environment(map[string]string{"SET": "set", "EMPTY": "", "OURS": "of the environment"})}
	for _, e := range expansions {
		if diff := cmp.Diff(Expansion{e.text, e.unset, e.garbled}, c.Expand(e.value)); diff != "" {
			t.Errorf("%q (-want +got):\n%s", e.value, diff)
		}
	}
}

func TestHostnameIsAlwaysSet(t *testing.T) {
	host, err := os.Hostname()
	if err != nil {
		t.Skip("SKIPPED: this machine has no name")
	}
	c := &Config{lookup: environment(nil)}
	if e := c.Expand("${HOSTNAME}"); e.Text != host || e.Unset != nil {
		t.Errorf("%+v, want %q", e, host)
	}
}

// The table holds for a real Fluent Bit too, where there is one.
func TestRealFluentBitExpandsTheSame(t *testing.T) {
	program, found := flbhost.FluentBit()
	if !found {
		t.Skip("SKIPPED: no Fluent Bit in FLUENT_BIT or on PATH")
	}
	var config strings.Builder
	config.WriteString("@SET OURS=by @SET\n[SERVICE]\n    flush 0.2\n    grace 1\n")
	want := map[int]string{}
	for i, e := range expansions {
		if e.value == "" || strings.Contains(e.value, "NOTHING") {
			continue // the classic format has no empty value, and of @SET NAME= Fluent Bit makes a byte of chance
		}
		fmt.Fprintf(&config, "[INPUT]\n    name dummy\n    samples 1\n"+
			"    dummy {\"i\":%d,\"v\":\"in\"}\n    tag <%s>\n", i, e.value)
		want[i] = "<" + e.text + ">"
	}
	// What stands behind a variable that is never closed is lost, the '>' too.
	for i, e := range expansions {
		if e.garbled && strings.HasPrefix(e.value, "${SET} a${") {
			want[i] = "<set"
		}
	}
	config.WriteString("[OUTPUT]\n    name stdout\n    match *\n")
	path := filepath.Join(t.TempDir(), "fluent-bit.conf")
	if err := os.WriteFile(path, []byte(config.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, "-q", "-c", path)
	cmd.Env = []string{"SET=set", "EMPTY=", "OURS=of the environment", "PATH=" + os.Getenv("PATH")}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	got := map[int]string{}
	for in := bufio.NewScanner(out); len(got) < len(want) && in.Scan(); { // [0] TAG: [[time, {}], {"i"=>1, "v"=>"in"}]
		_, rest, _ := strings.Cut(in.Text(), "] ")
		tag, record, found := strings.Cut(rest, ": [[")
		_, number, found2 := strings.Cut(record, `"i"=>`)
		number, _, _ = strings.Cut(number, ",")
		if i, err := strconv.Atoi(number); found && found2 && err == nil {
			got[i] = tag
		}
	}
	cancel()
	_ = cmd.Wait() // killed
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-table +Fluent Bit):\n%s", diff)
	}
}
