package e2e

import (
	"go/ast"
	"go/parser"
	gotoken "go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// source is a Go file of the plugin.
type source struct {
	path string
	*ast.File
	set *gotoken.FileSet
}

func sources(t *testing.T, dirs ...string) (all []source) {
	t.Helper()
	for _, dir := range dirs {
		paths, err := filepath.Glob(filepath.Join("../..", dir, "*.go"))
		if err != nil || len(paths) == 0 {
			t.Fatalf("no sources in %s: %v", dir, err)
		}
		for _, path := range paths {
			if strings.HasSuffix(path, "_test.go") {
				continue
			}
			set := gotoken.NewFileSet()
			file, err := parser.ParseFile(set, path, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, source{path, file, set})
		}
	}
	return all
}

// verb is a verb of fmt.
var verb = regexp.MustCompile(`%[#+0-9.]*([a-zA-Z%])`)

// example writes what a text expression can come to; constant tells how much of it stands in the source.
func example(e ast.Expr) (text string, constant int) {
	switch e := e.(type) {
	case *ast.BasicLit:
		if s, err := strconv.Unquote(e.Value); err == nil && e.Kind == gotoken.STRING {
			return s, len(s)
		}
	case *ast.ParenExpr:
		return example(e.X)
	case *ast.BinaryExpr:
		a, n := example(e.X)
		b, m := example(e.Y)
		return a + b, n + m
	case *ast.CallExpr:
		if s, ok := e.Fun.(*ast.SelectorExpr); ok && (s.Sel.Name == "Sprintf" || s.Sel.Name == "Errorf" ||
			s.Sel.Name == "New") && len(e.Args) > 0 {
			format, n := example(e.Args[0])
			return verb.ReplaceAllStringFunc(format, func(v string) string {
				switch v[len(v)-1] {
				case 'd':
					return "7"
				case '%':
					return "%"
				}
				return "7s"
			}), n
		}
	}
	return "7s", 0
}

// Every line that the sources log at info, warn or error is documented in docs/operating.md.
func TestEveryLogLineIsDocumented(t *testing.T) {
	t.Parallel()
	page := readLogPage(t)
	const again = "; trying again in 7s, no alert is lost meanwhile"
	seen := 0
	check := func(src source, at ast.Node, level, line string) {
		seen++
		if len(page.find(level, line)) == 0 {
			t.Errorf("%s: %s %q is not on docs/operating.md", src.set.Position(at.Pos()), level, line)
		}
	}
	levels := map[string]string{"Info": "info", "Warn": "warn", "Error": "error"}
	for _, src := range sources(t, "pull", "client", "entra", "transport", "state", "plugin", "plugin/flb", "tenants") {
		ast.Inspect(src.File, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			fun, ok := call.Fun.(*ast.SelectorExpr)
			if !ok || len(call.Args) == 0 {
				return true
			}
			arg := func(i int) (string, bool) {
				if len(call.Args) <= i {
					return "", false
				}
				text, constant := example(call.Args[i])
				return text, constant > 3
			}
			name := fun.Sel.Name
			switch {
			case levels[name] != "" && isLog(fun.X):
				if line, ok := arg(0); ok {
					for i := 1; i+1 < len(call.Args); i += 2 { // attributes
						key, _ := example(call.Args[i])
						line += " " + key + "=7s"
					}
					check(src, call, levels[name], withSuffix(src, line))
				}
			case name == "failed" && len(call.Args) == 4:
				if line, ok := arg(3); ok && !strings.HasSuffix(line, again) {
					level := "warn"
					if at, ok := call.Args[1].(*ast.SelectorExpr); ok && at.Sel.Name == "LevelError" {
						level = "error"
					}
					check(src, call, level, line)
				}
			case name == "recovered":
				if line, ok := arg(1); ok {
					check(src, call, "info", line+" after 7 failures")
				}
			case name == "came":
				if line, ok := arg(2); ok {
					check(src, call, "warn", line+" (7 such rows so far)")
				}
			}
			return true
		})
	}
	for _, text := range warnings(t) {
		check(source{set: gotoken.NewFileSet()}, &ast.BadExpr{}, "warn", text)
	}
	if seen < 25 {
		t.Errorf("only %d lines were found in the sources", seen)
	}
}

// withSuffix completes what a streak and a rowsLog add to a text of theirs.
func withSuffix(src source, line string) string {
	switch filepath.Base(src.path) {
	case "report.go":
		line = strings.Replace(line, "7s after 7s", "alerts are pulled again after 7 failures", 1)
		line = strings.Replace(line, "7s (7s so far)", "a row holds bad UTF-8 or lone surrogates: they are repaired "+
			"as U+FFFD; nothing to do (7 such rows so far)", 1)
	}
	return line
}

// isLog tells whether an expression is a logger: log, e.log, w.net.Log.
func isLog(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name == "log"
	case *ast.SelectorExpr:
		return strings.EqualFold(e.Sel.Name, "log")
	}
	return false
}

// warnings are the texts that conf.Config.Warnings gives.
func warnings(t *testing.T) (all []string) {
	t.Helper()
	for _, src := range sources(t, "conf") {
		for _, d := range src.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || f.Name.Name != "Warnings" {
				continue
			}
			ast.Inspect(f, func(n ast.Node) bool {
				if call, ok := n.(*ast.CallExpr); ok {
					if fun, ok := call.Fun.(*ast.Ident); ok && fun.Name == "append" {
						text, _ := example(call.Args[1])
						all = append(all, text)
					}
				}
				return true
			})
		}
	}
	if len(all) == 0 {
		t.Fatal("conf.Config.Warnings was not found")
	}
	return all
}

// constants are the texts that a file gives names.
func constants(src source) map[string]string {
	all := map[string]string{}
	ast.Inspect(src.File, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok && len(spec.Values) == 1 {
			all[spec.Names[0].Name], _ = example(spec.Values[0])
		}
		return true
	})
	return all
}

// Every reason for which a request fails, or an answer breaks off, is documented.
func TestEveryFailureIsDocumented(t *testing.T) {
	t.Parallel()
	page := readLogPage(t)
	const again = "; trying again in 7s, no alert is lost meanwhile"
	seen := 0
	check := func(src source, at ast.Node, forms ...string) {
		seen++
		if !slices.ContainsFunc(forms, func(line string) bool {
			// A text in it may be empty, as that of a wait that nobody asked for.
			return len(page.find("", line+again)) > 0 ||
				len(page.find("", strings.Replace(line, "7s", "", 1)+again)) > 0
		}) {
			t.Errorf("%s: %q is not on docs/operating.md", src.set.Position(at.Pos()), forms[0])
		}
	}
	for _, src := range sources(t, "client", "entra", "transport") {
		if filepath.Base(src.path) == "login.go" { // of defenderctl alone
			continue
		}
		ast.Inspect(src.File, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.AssignStmt: // e.What = ...
				for i, left := range n.Lhs {
					s, ok := left.(*ast.SelectorExpr)
					if !ok || !strings.EqualFold(s.Sel.Name, "what") || n.Tok != gotoken.ASSIGN {
						continue
					}
					if what, constant := example(n.Rhs[min(i, len(n.Rhs)-1)]); constant > 3 {
						check(src, n, "alerts request: "+what+"; do it", "token request: "+what+"; do it")
					}
				}
			case *ast.KeyValueExpr: // Error{What: ...}
				if key, ok := n.Key.(*ast.Ident); ok && strings.EqualFold(key.Name, "what") &&
					filepath.Base(src.path) != "aadsts.go" {
					// its beginning is known at run time
					if what, constant := example(n.Value); constant > 3 &&
						!strings.HasPrefix(what, "7s, so it is not") {
						check(src, n, "alerts request: "+what+"; do it", "token request: "+what+"; do it")
					}
				}
			case *ast.CallExpr: // errors of a body
				if fun, ok := n.Fun.(*ast.SelectorExpr); ok && fun.Sel.Name == "broken" {
					what, _ := example(n.Args[0])
					remedy, constant := example(n.Args[1])
					if constant == 0 {
						remedy = constants(src)[n.Args[1].(*ast.Ident).Name]
					}
					check(src, n, "alerts request: "+what+"; "+remedy)
				}
			}
			return true
		})
	}
	for _, src := range sources(t, "record") {
		for _, d := range src.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || f.Name.Name != "Error" {
				continue
			}
			ast.Inspect(f, func(n ast.Node) bool {
				if ret, ok := n.(*ast.ReturnStmt); ok {
					what, _ := example(ret.Results[0])
					check(src, n, "alerts request: "+what)
				}
				return true
			})
		}
	}
	for _, src := range sources(t, "pull", "plan") {
		if base := filepath.Base(src.path); base != "rows.go" && base != "pages.go" {
			continue
		}
		ast.Inspect(src.File, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok {
				fun, ok := call.Fun.(*ast.SelectorExpr)
				switch {
				case ok && (fun.Sel.Name == "Errorf" || fun.Sel.Name == "New"):
					what, _ := example(call)
					check(src, n, what, "alerts request: "+what)
				case ok && fun.Sel.Name == "refuse" && len(call.Args) == 2:
					what, _ := example(call.Args[1])
					check(src, n, "alerts request: "+what)
				}
			}
			return true
		})
	}
	if seen < 40 {
		t.Errorf("only %d failures were found in the sources", seen)
	}
}

// docs/troubleshooting.md has each AADSTS code that the plugin knows, with what it says about it.
func TestEveryAADSTSCodeIsDocumented(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/troubleshooting.md")
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, src := range sources(t, "entra") {
		if filepath.Base(src.path) != "aadsts.go" {
			continue
		}
		ast.Inspect(src.File, func(n ast.Node) bool {
			entry, ok := n.(*ast.KeyValueExpr)
			if !ok {
				return true
			}
			code, ok := entry.Key.(*ast.BasicLit)
			if !ok || code.Kind != gotoken.INT {
				return true
			}
			for _, field := range entry.Value.(*ast.CompositeLit).Elts {
				f := field.(*ast.KeyValueExpr)
				if f.Key.(*ast.Ident).Name != "what" {
					continue
				}
				what, _ := example(f.Value)
				seen++
				if row := "| " + code.Value + " | " + what + " | "; !strings.Contains(string(text), row) {
					t.Errorf("docs/troubleshooting.md has no %q", row)
				}
			}
			return true
		})
	}
	if seen < 20 {
		t.Errorf("only %d codes were found in the sources", seen)
	}
}
