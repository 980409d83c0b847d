package main

import (
	"bufio"
	"io"
	"path/filepath"
	"strings"
	"unicode/utf8"
)

// maxLine is the maximum number of characters in a line. A tab counts as one.
const maxLine = 100

// maxLineBytes bounds how much of a line is read.
const maxLineBytes = 1 << 20

type longLine struct {
	number, length int
}

// longLines returns the lines of a file that are too long. In Markdown, tables and code blocks may
// be as wide as they need. A line that is a single URL cannot be broken.
func longLines(path string, r io.Reader) ([]longLine, error) {
	markdown := filepath.Ext(path) == ".md"
	var long []longLine
	code := false
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxLineBytes)
	for number := 1; lines.Scan(); number++ {
		line := strings.TrimRight(lines.Text(), "\r")
		text := strings.TrimLeft(line, " \t")
		if markdown {
			if strings.HasPrefix(text, "```") {
				code = !code
			}
			if code || strings.HasPrefix(text, "|") {
				continue
			}
		}
		length := utf8.RuneCountInString(line)
		if length > maxLine && !isUnbreakable(text) {
			long = append(long, longLine{number, length})
		}
	}
	return long, lines.Err()
}

// isUnbreakable reports whether a line is only a URL, after the marks of a comment or a list.
func isUnbreakable(text string) bool {
	text = strings.TrimLeft(text, "/#*->[] \t")
	if i := strings.Index(text, "]: http"); i >= 0 { // a link's definition
		text = text[i+len("]: "):]
	}
	return strings.Contains(text, "://") && !strings.ContainsAny(text, " \t")
}
