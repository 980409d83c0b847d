// Command lint checks rules of this project that no standard linter checks. It is a tool for go
// vet, which runs it on each package:
//
//	go vet -vettool=build/tools/lint ./...
//
// and checks the length of lines in files of every kind by itself:
//
//	lint lines FILE...
//
// Its analyzers:
//
//	waits       a test waits for an event, or on the fake clock of a testing/synctest bubble
//	structs     a struct has at most 20 fields, unless its comment gives the reason
//	goroutines  packages that only handle bytes start no goroutines
package main

import (
	"fmt"
	"os"

	"golang.org/x/tools/go/analysis/unitchecker"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "lines" {
		os.Exit(checkLines(os.Args[2:]))
	}
	unitchecker.Main(waits, structs, goroutines)
}

// checkLines prints the lines that are too long, and returns the exit status.
func checkLines(paths []string) int {
	status := 0
	for _, path := range paths {
		file, err := os.Open(path)
		if err != nil {
			fmt.Fprintln(os.Stderr, "lint:", err)
			return 2
		}
		long, err := longLines(path, file)
		file.Close()
		if err != nil {
			fmt.Fprintf(os.Stderr, "lint: %s: %v\n", path, err)
			return 2
		}
		for _, line := range long {
			fmt.Printf("%s:%d: the line has %d characters, at most %d are allowed\n",
				path, line.number, line.length, maxLine)
			status = 1
		}
	}
	return status
}
