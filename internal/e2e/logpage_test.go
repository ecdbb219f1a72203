package e2e

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// logForm is a documented log line: a row of a table of docs/operating.md.
type logForm struct {
	level  string
	text   string // as documented
	tested bool   // marked with ✓
	*regexp.Regexp
}

// logPage is docs/operating.md.
type logPage struct {
	text  string
	forms []logForm
}

var (
	// logRow is a row: level, perhaps ✓, the form as code. A backtick in it is written twice.
	logRow = regexp.MustCompile("^\\| (info|warn|error)( ✓)? \\| `((?:[^`]|``)+)` \\| .*\\|$")
	anyRow = regexp.MustCompile(`^\| (info|warn|error|debug)`)
	// logTail is the sentence that says what "; ..." stands for.
	logTail = regexp.MustCompile("(?s)`; \\.\\.\\.` at the end for\n\n`([^`]+)`\n")
	// logHole is what a form leaves open, the brackets of what may be missing, or text.
	logHole = regexp.MustCompile(`\{[^}]*\}|[\[\]]|[^{}\[\]]+`)
)

func readLogPage(t *testing.T) *logPage {
	t.Helper()
	text, err := os.ReadFile("../../docs/operating.md")
	if err != nil {
		t.Fatal(err)
	}
	p := &logPage{text: string(text)}
	tail := logTail.FindStringSubmatch(p.text)
	if tail == nil {
		t.Fatal("docs/operating.md does not say what `; ...` stands for")
	}
	for line := range strings.Lines(p.text) {
		row := logRow.FindStringSubmatch(strings.TrimSpace(line))
		if row == nil {
			if anyRow.MatchString(line) {
				t.Errorf("a row that is no form: %s", line)
			}
			continue
		}
		f := logForm{level: row[1], tested: row[2] != "", text: strings.ReplaceAll(row[3], "``", "`")}
		whole := f.text
		if head, ok := strings.CutSuffix(whole, "; ..."); ok {
			whole = head + tail[1]
		}
		f.Regexp = formed(whole)
		p.forms = append(p.forms, f)
	}
	if len(p.forms) < 50 {
		t.Fatalf("only %d forms on docs/operating.md", len(p.forms))
	}
	return p
}

// formed makes a pattern of a form.
func formed(form string) *regexp.Regexp {
	var b strings.Builder
	for _, part := range logHole.FindAllString(form, -1) {
		switch {
		case part == "[":
			b.WriteString("(?:")
		case part == "]":
			b.WriteString(")?")
		case part == "{n}":
			b.WriteString(`\d+`)
		case part == "{key}":
			b.WriteString(`[\w.-]+`)
		case part == "{request}":
			b.WriteString(`(?:alerts|token)`)
		case part[0] == '{':
			b.WriteString(`.+?`)
		default:
			b.WriteString(regexp.QuoteMeta(part))
		}
	}
	return regexp.MustCompile("^" + b.String() + "$")
}

// find lists the forms that a line has; level "" is any.
func (p *logPage) find(level, line string) (found []logForm) {
	for _, f := range p.forms {
		if (level == "" || f.level == level) && f.MatchString(line) {
			found = append(found, f)
		}
	}
	return found
}

// The forms tell lines apart: what is not on the page is not taken for something that is.
func TestLogFormsAreStrict(t *testing.T) {
	t.Parallel()
	p := readLogPage(t)
	for _, f := range p.forms {
		line := regexp.MustCompile(`\[[^\]]*\]`).ReplaceAllString(strings.TrimSuffix(f.text, "; ..."), "")
		if strings.HasSuffix(f.text, "; ...") {
			line += "; trying again in 1s, no alert is lost meanwhile"
		}
		line = strings.ReplaceAll(line, "{n}", "7")
		line = strings.ReplaceAll(line, "{request}", "alerts")
		line = regexp.MustCompile(`\{[^}]*\}`).ReplaceAllString(line, "x")
		if !f.MatchString(line) {
			t.Errorf("%q is not of its own form %q", line, f.text)
		}
	}
	for _, line := range []string{
		"alerts request: something nobody wrote down; look at it; trying again in 1s, no alert is lost meanwhile",
		"token request: something nobody wrote down; look at it; trying again in 1s, no alert is lost meanwhile",
		"something nobody wrote down", "something: nobody wrote it down", "the state file is fine",
	} {
		if found := p.find("", line); len(found) > 0 {
			t.Errorf("%q is taken for %q", line, found[0].text)
		}
	}
}
