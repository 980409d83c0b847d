package cli

import (
	"go/ast"
	"go/parser"
	gotoken "go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	codeSpan   = regexp.MustCompile("`([^`]+)`")
	sourceFile = regexp.MustCompile(`^[a-z0-9_/]+\.go$`)
)

// TestArchitecture checks that docs/architecture.md names only files that exist, and in its tables
// only functions that these files define.
func TestArchitecture(t *testing.T) {
	text, err := os.ReadFile("../../docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	files, functions := 0, 0
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(line, "|")
		for _, span := range codeSpan.FindAllStringSubmatch(line, -1) {
			if !sourceFile.MatchString(span[1]) || !strings.Contains(span[1], "/") {
				continue
			}
			files++
			if _, err := os.Stat(filepath.Join("../..", span[1])); err != nil {
				t.Errorf("%s does not exist", span[1])
			}
		}
		if len(cells) != 5 {
			continue
		}
		file := strings.Trim(cells[1], " `")
		if !sourceFile.MatchString(file) {
			continue
		}
		defined := definedFunctions(t, filepath.Join("../..", file))
		for _, span := range codeSpan.FindAllStringSubmatch(cells[2], -1) {
			functions++
			if !defined[span[1]] {
				t.Errorf("%s does not define %s", file, span[1])
			}
		}
	}
	if files < 20 || functions < 20 {
		t.Errorf("found only %d files and %d functions: the tables are not what the test expects",
			files, functions)
	}
}

// definedFunctions returns the functions of a file, methods as Type.Method.
func definedFunctions(t *testing.T, path string) map[string]bool {
	t.Helper()
	parsed, err := parser.ParseFile(gotoken.NewFileSet(), path, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	defined := map[string]bool{}
	for _, decl := range parsed.Decls {
		f, ok := decl.(*ast.FuncDecl)
		if !ok {
			continue
		}
		name := f.Name.Name
		if f.Recv != nil {
			receiver := f.Recv.List[0].Type
			if star, ok := receiver.(*ast.StarExpr); ok {
				receiver = star.X
			}
			name = receiver.(*ast.Ident).Name + "." + name
		}
		defined[name] = true
	}
	return defined
}
