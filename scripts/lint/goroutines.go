package main

import (
	"go/ast"
	"go/types"
	"slices"
	"strings"

	"golang.org/x/tools/go/analysis"
)

// bytesOnly are the packages, and the files of others, that start no goroutine: all of their work
// is done when they return.
var bytesOnly = []string{
	"culvert/certs", "culvert/protocol", "culvert/tunnel/mux/pace", "culvert/tunnel/mux/frame.go",
}

// starters are functions that start a goroutine, or run their argument in one later.
// context.AfterFunc is not included: when it runs depends on the caller's context.
var starters = []string{
	"(*sync.WaitGroup).Go", "time.AfterFunc",
	"(*golang.org/x/sync/errgroup.Group).Go", "(*golang.org/x/sync/errgroup.Group).TryGo",
}

// goroutines reports code that starts a goroutine in packages that must not.
var goroutines = &analysis.Analyzer{
	Name: "goroutines",
	Doc:  "report goroutines that are started in packages that only handle bytes",
	Run:  runGoroutines,
}

func runGoroutines(pass *analysis.Pass) (any, error) {
	for _, file := range pass.Files {
		name := pass.Fset.File(file.FileStart).Name()
		path := pass.Pkg.Path() + "/" + name[strings.LastIndexAny(name, `/\`)+1:]
		if isTest(pass, file) || !slices.Contains(bytesOnly, pass.Pkg.Path()) &&
			!slices.Contains(bytesOnly, path) {
			continue
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.GoStmt:
				pass.Reportf(n.Pos(), "%s must not start a goroutine", pass.Pkg.Name())
			case *ast.SelectorExpr:
				if f, ok := pass.TypesInfo.Uses[n.Sel].(*types.Func); ok &&
					slices.Contains(starters, f.FullName()) {
					pass.Reportf(n.Pos(), "%s must not start a goroutine, as %s does",
						pass.Pkg.Name(), f.FullName())
				}
			}
			return true
		})
	}
	return nil, nil
}
