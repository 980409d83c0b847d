package main

import (
	"strings"
	"unicode/utf8"
)

// lineBytes is how long mandoc wants lines to be at most.
const lineBytes = 80

// wrap breaks the long lines of a page's text. Those of examples and of the terms in lists have to
// stay as they are.
func wrap(page string) string {
	var b strings.Builder
	example, term := false, false
	for line := range strings.Lines(page) {
		switch {
		case line == ".EX\n", line == ".EE\n":
			example = line == ".EX\n"
		case !example && !term && !strings.HasPrefix(line, "."):
			line = wrapLine(line)
		}
		term = line == ".TP\n"
		b.WriteString(line)
	}
	return b.String()
}

// wrapLine breaks a line between words. No part may begin like a request.
func wrapLine(line string) string {
	var b strings.Builder
	length := 0
	for i, word := range strings.Split(strings.TrimSuffix(line, "\n"), " ") {
		switch {
		case i == 0:
		case length+1+size(word) > lineBytes && word != "" && !strings.ContainsAny(word[:1], ".'"):
			b.WriteByte('\n')
			length = 0
		default:
			b.WriteByte(' ')
			length++
		}
		b.WriteString(word)
		length += size(word)
	}
	return b.String() + "\n"
}

// size returns how many bytes mandoc counts for a word: it has read \[u2026] for an ellipsis.
func size(word string) int {
	n := 0
	for _, r := range word {
		if r < utf8.RuneSelf {
			n++
		} else {
			n += len(`\[u2026]`)
		}
	}
	return n
}
