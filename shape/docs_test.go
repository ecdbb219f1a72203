package shape

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"text/template"
)

const pagePath = "../docs/shapes.md"

func TestShapesPageIsUpToDate(t *testing.T) {
	const page = "shapes.md.tmpl"
	tmpl, err := template.New(page).Funcs(template.FuncMap{"table": docTable}).ParseFiles("testdata/" + page)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := tmpl.Execute(&out, map[string]string{"ECS": ecsVersion, "OCSF": ocsfVersion}); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(pagePath, out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(pagePath)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, out.Bytes()) {
		t.Errorf("%s is stale; run: go generate ./shape", pagePath)
	}
}

// docTable writes a table of package shape as one for people.
func docTable(format, api string) (string, error) {
	s := shapeOf(format, api)
	if s == nil {
		return "", fmt.Errorf("no table %s %s", format, api)
	}
	var out strings.Builder
	out.WriteString("| of the alert | to | how |\n|---|---|---|\n")
	for _, r := range s.table.rows {
		from := "`" + r.from + "`"
		if r.from == "" {
			from = "in each record"
		}
		how := []string{r.as.doc}
		var to []string
		for _, name := range strings.Fields(r.to) {
			weak := strings.HasPrefix(name, "~")
			name = strings.TrimPrefix(name, "~")
			object, key, _ := strings.Cut(name, ".")
			if format == CEF {
				name = key
				if object == "header" {
					name = "header: " + key
				}
				if label := cefLabel(api, key); label != "" {
					how = append(how, "labelled "+label)
				}
			}
			switch {
			case name == "*":
				how = append(how, "stays under its own name too")
			case weak:
				how = append(how, "where nothing else fills "+object)
				fallthrough
			default:
				to = append(to, "`"+strings.Trim(name, "()")+"`")
			}
		}
		how = slices.DeleteFunc(how, func(s string) bool { return s == "" })
		fmt.Fprintf(&out, "| %s | %s | %s |\n", from, strings.Join(to, ", "),
			strings.ReplaceAll(strings.Join(how, "; "), "|", `\|`))
	}
	for _, d := range s.table.derived {
		fmt.Fprintf(&out, "| | `%s` | %s |\n", d.to, d.doc)
	}
	return out.String(), nil
}
