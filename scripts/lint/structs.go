package main

import (
	"go/ast"
	"strings"

	"golang.org/x/tools/go/analysis"
)

// maxFields is the maximum number of fields in a struct.
const maxFields = 20

// structs reports a type with more fields than a reader can keep in mind. One that has a good
// reason, such as the options of a command, gives it in its comment, with the word "fields".
var structs = &analysis.Analyzer{
	Name: "structs",
	Doc:  "report structs with more than 20 fields whose comment doesn't give the reason",
	Run:  runStructs,
}

func runStructs(pass *analysis.Pass) (any, error) {
	for _, file := range pass.Files {
		if isTest(pass, file) {
			continue
		}
		ast.Inspect(file, func(n ast.Node) bool {
			declaration, ok := n.(*ast.GenDecl)
			if !ok {
				return true
			}
			for _, spec := range declaration.Specs {
				if spec, ok := spec.(*ast.TypeSpec); ok {
					checkType(pass, declaration, spec)
				}
			}
			return true
		})
	}
	return nil, nil
}

func checkType(pass *analysis.Pass, declaration *ast.GenDecl, spec *ast.TypeSpec) {
	if strings.Contains(declaration.Doc.Text()+spec.Doc.Text(), "fields") {
		return
	}
	ast.Inspect(spec.Type, func(n ast.Node) bool {
		s, ok := n.(*ast.StructType)
		if !ok {
			return true
		}
		// NumFields counts names, and an embedded type as one.
		if n := s.Fields.NumFields(); n > maxFields {
			pass.Reportf(s.Pos(), "a struct of type %s has %d fields, at most %d are allowed: "+
				"group them, or give the reason for so many fields in the comment",
				spec.Name.Name, n, maxFields)
		}
		return true
	})
}
