package cli

import (
	"go/ast"
	"go/parser"
	gotoken "go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
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

// TestArchitectureMap checks that the map of docs/architecture.md has each package, with all that
// it imports of this module, on any platform, and nothing else.
func TestArchitectureMap(t *testing.T) {
	text, err := os.ReadFile("../../docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string][]string{}
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(line, "|")
		if folder := strings.Trim(cells[min(1, len(cells)-1)], " `"); len(cells) == 5 &&
			(strings.HasSuffix(folder, "/") || folder == "main.go") {
			var allowed []string
			for _, span := range codeSpan.FindAllStringSubmatch(cells[3], -1) {
				allowed = append(allowed, span[1])
			}
			slices.Sort(allowed)
			rows[strings.TrimSuffix(folder, "/")] = allowed
		}
	}
	rows["."] = rows["main.go"]
	delete(rows, "main.go")
	delete(rows, "scripts") // anything
	for folder, imports := range moduleImports(t, "../..") {
		allowed, ok := rows[folder]
		delete(rows, folder)
		switch {
		case !ok:
			t.Errorf("%s is not in the map", folder)
		case folder == "internal/cli": // everything below
		case !slices.Equal(allowed, imports):
			t.Errorf("%s imports\n%q, and the map allows\n%q", folder, imports, allowed)
		}
	}
	for folder := range rows {
		t.Errorf("the map has %s, which is no package", folder)
	}
}

// moduleImports returns, for each package of the module at root outside of scripts, which packages
// of the module it imports on any platform, apart from its tests.
func moduleImports(t *testing.T, root string) map[string][]string {
	t.Helper()
	imports := map[string][]string{}
	err := fs.WalkDir(os.DirFS(root), ".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (path == "scripts" || path == "build" || d.Name() == "testdata" ||
			path != "." && d.Name()[0] == '.'):
			return fs.SkipDir
		case !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go"):
			return nil
		}
		file, err := parser.ParseFile(gotoken.NewFileSet(), filepath.Join(root, path), nil,
			parser.ImportsOnly)
		if err != nil {
			return err
		}
		folder := filepath.ToSlash(filepath.Dir(path))
		all := imports[folder]
		for _, spec := range file.Imports {
			if pkg, ok := strings.CutPrefix(strings.Trim(spec.Path.Value, `"`), "culvert/"); ok {
				all = append(all, pkg)
			}
		}
		slices.Sort(all)
		imports[folder] = slices.Compact(all)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return imports
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
