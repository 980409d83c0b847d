// Package printable makes text that came from another machine fit to be shown: on a terminal, where
// control sequences can do more than print, and in a log, where a line break makes another entry.
package printable

import (
	"bytes"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Line returns a text as one line. Characters that strconv.IsPrint does not report are replaced by
// their escapes in Go: control characters, line breaks, formats such as those that change the
// direction of what follows, and what is not UTF-8. All other text stays as it is.
func Line(text string) string {
	if isPlain(text) {
		return text
	}
	var b strings.Builder
	for len(text) > 0 {
		r, size := utf8.DecodeRuneInString(text)
		if isPrintable(r, size) {
			b.WriteString(text[:size])
		} else {
			quoted := strconv.Quote(text[:size])
			b.WriteString(quoted[1 : len(quoted)-1])
		}
		text = text[size:]
	}
	return b.String()
}

func isPlain(text string) bool {
	for len(text) > 0 {
		r, size := utf8.DecodeRuneInString(text)
		if !isPrintable(r, size) {
			return false
		}
		text = text[size:]
	}
	return true
}

func isPrintable(r rune, size int) bool {
	return strconv.IsPrint(r) && (r != utf8.RuneError || size > 1)
}

// Lines returns a text of several lines, each as Line does.
func Lines(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lines[i] = Line(line)
	}
	return strings.Join(lines, "\n")
}

// Writer passes on what is written to it, one line a call, as Line does. A line break at its end
// stays one.
type Writer struct{ W io.Writer }

// Write implements io.Writer.
func (w Writer) Write(p []byte) (int, error) {
	line, ended := bytes.CutSuffix(p, []byte{'\n'})
	text := Line(string(line))
	if ended {
		text += "\n"
	}
	if _, err := io.WriteString(w.W, text); err != nil {
		return 0, err
	}
	return len(p), nil
}
