package deploy

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
)

const page = "../docs/deployment.md"

func readPage(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// block returns the first code block of a language, or the first that begins with a text, without its indentation.
func block(t *testing.T, language, begin string) string {
	t.Helper()
	for _, m := range regexp.MustCompile("(?ms)^( *)```([a-z]*)\n(.*?)^ *```$").FindAllStringSubmatch(readPage(t), -1) {
		text := regexp.MustCompile("(?m)^"+m[1]).ReplaceAllString(m[3], "")
		if m[2] == language && strings.HasPrefix(text, begin) {
			return text
		}
	}
	t.Fatalf("%s has no block %q that begins with %q", page, language, begin)
	return ""
}

func TestPageNamesFilesThatExist(t *testing.T) {
	text := readPage(t)
	found := regexp.MustCompile(`\]\(([^)#]+)\)`).FindAllStringSubmatch(text, -1)
	if len(found) < 8 {
		t.Fatalf("only %d links", len(found))
	}
	for _, m := range found {
		if _, err := os.Stat("../docs/" + m[1]); err != nil {
			t.Error(err)
		}
	}
	for _, m := range regexp.MustCompile(`deploy/[a-z/.-]+[a-z]`).FindAllString(text, -1) {
		if _, err := os.Stat("../" + m); err != nil {
			t.Error(err)
		}
	}
	for _, name := range regexp.MustCompile("`(Defender[A-Za-z]+)`").FindAllStringSubmatch(text, -1) {
		if _, found := rules(t)[name[1]]; !found {
			t.Errorf("there is no rule %s", name[1])
		}
	}
}

// What the page installs is where the unit looks for it.
func TestPageInstallsWhatTheUnitNeeds(t *testing.T) {
	text := block(t, "", "install ")
	u := unitOptions(t)
	var commands []string
	for _, key := range []string{"ExecStartPre", "ExecStart", "LoadCredential"} {
		commands = append(commands, u["Service/"+key]...)
	}
	paths := regexp.MustCompile(`/[a-z/._-]+`).FindAllString(strings.ReplaceAll(strings.Join(commands, " "),
		"client_secret:", ""), -1)
	if len(paths) < 5 {
		t.Fatalf("the unit needs only %v", paths)
	}
	for _, path := range paths {
		if !strings.Contains(text, path) && !strings.HasPrefix(path, "/opt/fluent-bit/") { // the package's
			t.Errorf("nothing installs %s", path)
		}
	}
}

// What the container is started with is what the cluster's configuration and pod have.
func TestPageRunsTheContainerAsThePod(t *testing.T) {
	text := block(t, "", "docker run ")
	pod := build(t, "deployment").template().Spec.Containers[0]
	for _, m := range pod.VolumeMounts {
		if !strings.Contains(text, ":"+m.MountPath+`"`) && !strings.Contains(text, ":"+m.MountPath+`:ro"`) {
			t.Errorf("nothing is mounted at %s", m.MountPath)
		}
	}
	if want := pod.Image + " " + strings.Join(pod.Args, " ") + "\n"; !strings.HasSuffix(text, want) {
		t.Errorf("it does not end in %q", want)
	}
}

func TestPageShowsValidExamples(t *testing.T) {
	result, err := parser.Parse(strings.NewReader(block(t, "dockerfile", "FROM")))
	if err != nil {
		t.Fatal(err)
	}
	stages, _, err := instructions.Parse(result.AST, nil)
	if err != nil || len(stages) != 2 {
		t.Errorf("%d stages, %v", len(stages), err)
	}

	var set appsv1.DaemonSet
	strict(t, []byte(block(t, "yaml", "spec")), &set)
	rolling := set.Spec.UpdateStrategy.RollingUpdate
	if rolling == nil || rolling.MaxSurge.IntValue() != 0 || rolling.MaxUnavailable.IntValue() != 1 {
		t.Errorf("two pods may run at a time: %+v", rolling)
	}
	if set.Spec.Template.Spec.NodeSelector[corev1.LabelHostname] == "" {
		t.Error("it fits more than one node")
	}

	path := t.TempDir() + "/fluent-bit.conf"
	write(t, path, "[SERVICE]\n    flush 1\n[INPUT]\n    name defender\n    tag defender.alerts\n"+
		block(t, "", "[OUTPUT]"))
	if _, _, outputs := read(t, path); len(outputs) != 1 || outputs[0]["name"] != "forward" ||
		outputs[0]["retry_limit"] != "no_limits" {
		t.Errorf("outputs: %v", outputs)
	}
}

// Every module that is required directly has its line in docs/architecture.md, and no line is of a module that nobody
// requires.
func TestEveryModuleHasItsLine(t *testing.T) {
	text, err := os.ReadFile("../docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(text), "\n## Dependencies\n")
	lines := map[string]bool{} // by module: somebody requires it
	for _, cell := range regexp.MustCompile(`(?m)^\| ([a-z][^|]+/[^|]+) \|`).FindAllStringSubmatch(table, -1) {
		for module := range strings.SplitSeq(cell[1], ", ") {
			lines[module] = false
		}
	}
	for _, file := range []string{"../go.mod", "go.mod", "../bench/go.mod"} {
		mod, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`(?m)^\t(\S+/\S+) v\S+$`).FindAllStringSubmatch(string(mod), -1) {
			if _, found := lines[m[1]]; !found {
				t.Errorf("%s of %s has no line", m[1], file)
			}
			lines[m[1]] = true
		}
	}
	for module, required := range lines {
		if !required {
			t.Errorf("nobody requires %s", module)
		}
	}
}
