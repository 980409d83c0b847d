// Package printable makes text that came from another machine fit to be shown: on a terminal, where
// control sequences can do more than print, and in a log, where a line break makes another entry.
package printable

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf16"
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

// JSONWriter passes on what is written to it, which is one line of JSON a call, with the characters
// that Line replaces as JSON's escapes. They occur only in strings. A line break at its end stays
// one.
type JSONWriter struct{ W io.Writer }

// Write implements io.Writer.
func (w JSONWriter) Write(p []byte) (int, error) {
	line, ended := bytes.CutSuffix(p, []byte{'\n'})
	if isPlain(string(line)) {
		return w.W.Write(p)
	}
	text := make([]byte, 0, len(p)+len(p)/4)
	for rest := line; len(rest) > 0; {
		r, size := utf8.DecodeRune(rest)
		if isPrintable(r, size) {
			text = append(text, rest[:size]...)
		} else {
			for _, unit := range utf16.AppendRune(nil, r) {
				text = fmt.Appendf(text, `\u%04x`, unit)
			}
		}
		rest = rest[size:]
	}
	if ended {
		text = append(text, '\n')
	}
	if _, err := w.W.Write(text); err != nil {
		return 0, err
	}
	return len(p), nil
}
