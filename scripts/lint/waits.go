package main

import (
	"go/ast"
	"go/token"
	"go/types"
	"slices"
	"strings"

	"golang.org/x/tools/go/analysis"
	"golang.org/x/tools/go/ast/edge"
	"golang.org/x/tools/go/ast/inspector"
)

// waits reports what makes a test slow or flaky: waiting for time to pass instead of an event.
// Within a testing/synctest bubble that is exact and takes no time. A call counts as within a
// bubble if it is in a function that is passed to synctest.Test, or in one that is only used
// there. Where the analyzer cannot see that, as with a method of an interface, a comment on the
// line must mention synctest. The channel of a timer or ticker may be received from in a select,
// and as the post statement of a loop, which polls then. Where a test measures something over a
// time, a comment on the line must mention that it measures.
var waits = &analysis.Analyzer{
	Name: "waits",
	Doc: "report time.Sleep, time.Tick, and a bare <-time.After or receive from a timer or ticker " +
		"in tests, outside of synctest bubbles",
	Run: runWaits,
}

func runWaits(pass *analysis.Pass) (any, error) {
	var tests []*ast.File
	for _, file := range pass.Files {
		if isTest(pass, file) {
			tests = append(tests, file)
		}
	}
	b := findBubbles(pass)
	in := inspector.New(tests)
	for c := range in.Root().Preorder((*ast.CallExpr)(nil), (*ast.SelectorExpr)(nil)) {
		at, wait := c.Node().Pos(), waitOf(pass, c)
		if wait == "" || b.contains(at) || mentions(pass, at, "synctest") {
			continue
		}
		if _, timed := c.Node().(*ast.SelectorExpr); timed && mentions(pass, at, "measures") {
			continue
		}
		pass.Reportf(at, "a test must not wait by %s: wait for an event, poll with a deadline, or "+
			"use testing/synctest", wait)
	}
	return nil, nil
}

// waitOf returns in words how a call, or a field that is received from, waits for time to pass; ""
// if it doesn't.
func waitOf(pass *analysis.Pass, c inspector.Cursor) string {
	switch n := c.Node().(type) {
	case *ast.CallExpr:
		switch name := timeFunction(pass, n); {
		case name == "Sleep", name == "Tick":
			return "time." + name
		case name == "After" && isBareReceive(c):
			return "a bare <-time.After"
		}
	case *ast.SelectorExpr:
		if isTimerChannel(pass, n) && isBareReceive(c, edge.ForStmt_Post) {
			return "a bare receive from a timer or ticker"
		}
	}
	return ""
}

func isTest(pass *analysis.Pass, file *ast.File) bool {
	return strings.HasSuffix(pass.Fset.File(file.FileStart).Name(), "_test.go")
}

// timeFunction returns the name of the function of package time that is called, or "".
func timeFunction(pass *analysis.Pass, call *ast.CallExpr) string {
	return functionOf(pass, call, "time")
}

// functionOf returns the name of the function that is called if it is one of a package.
func functionOf(pass *analysis.Pass, call *ast.CallExpr, path string) string {
	selector, ok := ast.Unparen(call.Fun).(*ast.SelectorExpr)
	if !ok {
		return ""
	}
	f, ok := pass.TypesInfo.Uses[selector.Sel].(*types.Func)
	if !ok || f.Pkg() == nil || f.Pkg().Path() != path || f.Signature().Recv() != nil {
		return ""
	}
	return f.Name()
}

// isTimerChannel reports whether field is C of a time.Timer or time.Ticker.
func isTimerChannel(pass *analysis.Pass, field *ast.SelectorExpr) bool {
	v, ok := pass.TypesInfo.Uses[field.Sel].(*types.Var)
	return ok && v.IsField() && v.Pkg() != nil && v.Pkg().Path() == "time" && v.Name() == "C"
}

// isBareReceive reports whether a channel is received from outside of a select, other than as a
// statement of the allowed kind.
func isBareReceive(channel inspector.Cursor, allowed ...edge.Kind) bool {
	receive := channel.Parent()
	for isParen(receive) {
		receive = receive.Parent()
	}
	if unary, ok := receive.Node().(*ast.UnaryExpr); !ok || unary.Op != token.ARROW {
		return false
	}
	kind, _ := receive.Parent().ParentEdge()
	return kind != edge.CommClause_Comm && !slices.Contains(allowed, kind)
}

func isParen(c inspector.Cursor) bool {
	_, ok := c.Node().(*ast.ParenExpr)
	return ok
}

// mentions reports whether a comment on the line of pos has a word.
func mentions(pass *analysis.Pass, pos token.Pos, word string) bool {
	at := pass.Fset.Position(pos)
	for _, file := range pass.Files {
		if pos < file.FileStart || pos >= file.FileEnd {
			continue
		}
		for _, group := range file.Comments {
			for _, comment := range group.List {
				if pass.Fset.Position(comment.Pos()).Line == at.Line &&
					strings.Contains(comment.Text, word) {
					return true
				}
			}
		}
	}
	return false
}

// span is a range of the sources.
type span struct{ from, to token.Pos }

// bubbles are the ranges of a package's sources that only run within synctest bubbles.
type bubbles struct{ spans []span }

func (b *bubbles) contains(pos token.Pos) bool {
	return slices.ContainsFunc(b.spans, func(s span) bool { return s.from <= pos && pos < s.to })
}

// findBubbles starts with what is passed to synctest.Test. Then it adds each function and variable
// of a function that is used in bubbles and nowhere else, until there is none left.
func findBubbles(pass *analysis.Pass) *bubbles {
	b := &bubbles{}
	bodies := make(map[types.Object]span)      // of what is declared
	uses := make(map[types.Object][]token.Pos) // of what is declared
	for _, file := range pass.Files {
		ast.Inspect(file, func(n ast.Node) bool {
			b.collect(pass, n, bodies)
			return true
		})
	}
	for id, object := range pass.TypesInfo.Uses {
		if f, ok := object.(*types.Func); ok {
			object = f.Origin()
		}
		if _, ok := bodies[object]; ok {
			uses[object] = append(uses[object], id.Pos())
		}
	}
	for found := true; found; {
		found = false
		for object, body := range bodies {
			outside := func(pos token.Pos) bool {
				recursion := body.from <= pos && pos < body.to
				return !recursion && !b.contains(pos)
			}
			used := uses[object]
			if len(used) > 0 && !slices.ContainsFunc(used, outside) {
				b.spans = append(b.spans, body)
				delete(bodies, object)
				found = true
			}
		}
	}
	return b
}

// collect adds what n passes to synctest.Test to the bubbles, and what it declares to bodies. Only
// what tests declare counts: other code also runs outside of tests.
func (b *bubbles) collect(pass *analysis.Pass, n ast.Node, bodies map[types.Object]span) {
	switch n := n.(type) {
	case *ast.CallExpr:
		if functionOf(pass, n, "testing/synctest") == "Test" {
			b.spans = append(b.spans, span{n.Args[len(n.Args)-1].Pos(), n.End()})
		}
	case *ast.FuncDecl:
		if n.Body != nil && strings.HasSuffix(pass.Fset.Position(n.Pos()).Filename, "_test.go") {
			bodies[pass.TypesInfo.Defs[n.Name]] = span{n.Pos(), n.End()}
		}
	case *ast.AssignStmt:
		for i, right := range n.Rhs {
			literal, ok := right.(*ast.FuncLit)
			if !ok || n.Tok != token.DEFINE || len(n.Lhs) != len(n.Rhs) {
				continue
			}
			if id, ok := n.Lhs[i].(*ast.Ident); ok && pass.TypesInfo.Defs[id] != nil {
				bodies[pass.TypesInfo.Defs[id]] = span{literal.Pos(), literal.End()}
			}
		}
	}
}
