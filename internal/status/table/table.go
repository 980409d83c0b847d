// Package table shows the state of nodes to people, in columns that fit a terminal.
package table

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"culvert/internal/printable"

	"github.com/docker/go-units"
)

// column is a column of a table. Its cells are cut to its width.
type column struct {
	title string
	width int
	right bool // aligned
}

// grid writes a table with a line of titles. The column of width 0 takes what the others leave.
func grid(b *bytes.Buffer, width int, columns []column, rows [][]string) {
	free := max(width, leastWidth)
	for _, c := range columns {
		free -= c.width + len(gap)
	}
	titles := make([]string, len(columns))
	for i := range columns {
		titles[i] = columns[i].title
		if columns[i].width == 0 {
			columns[i].width = max(free+len(gap), utf8.RuneCountInString(titles[i]))
		}
	}
	for _, row := range append([][]string{titles}, rows...) {
		var line strings.Builder
		for i, c := range columns {
			if i > 0 {
				line.WriteString(gap)
			}
			line.WriteString(c.fit(row[i]))
		}
		writeLine(b, width, line.String())
	}
}

const gap = "  "

// fit pads or cuts a cell to the column's width.
func (c column) fit(cell string) string {
	cell = cut(printable.Line(cell), c.width)
	padding := strings.Repeat(" ", c.width-utf8.RuneCountInString(cell))
	if c.right {
		return padding + cell
	}
	return cell + padding
}

// cut cuts a text to so many characters.
func cut(text string, most int) string {
	if utf8.RuneCountInString(text) <= most {
		return text
	}
	runes := []rune(text)
	return string(runes[:most-1]) + "…"
}

// writeLine writes a line that fits the width.
func writeLine(b *bytes.Buffer, width int, text string) {
	b.WriteString(cut(strings.TrimRight(text, " "), width))
	b.WriteByte('\n')
}

// field writes a line with a name and a value, which is made printable.
func field(b *bytes.Buffer, width int, name, format string, args ...any) {
	value := printable.Line(fmt.Sprintf(format, args...))
	writeLine(b, width, fmt.Sprintf("%-9s %s", name, value))
}

// flush writes what was collected.
func flush(w io.Writer, b *bytes.Buffer) error {
	_, err := w.Write(b.Bytes())
	return err
}

// size shows a number of bytes.
func size[N uint64 | int64 | float64](bytes N) string {
	return units.HumanSizeWithPrecision(float64(bytes), 3)
}

// rate shows bytes a second.
func rate(perSecond float64) string {
	if perSecond < 1 {
		return "–"
	}
	return size(perSecond) + "/s"
}

// age shows for how long something has lasted.
func age(since, now time.Time) string { return span(now.Sub(since)) }

// span shows a duration by its two largest units.
func span(d time.Duration) string {
	d = max(d, 0)
	days := d / (24 * time.Hour)
	switch {
	case days > 0:
		return fmt.Sprintf("%dd%dh", days, int(d.Hours())%24)
	case d >= time.Hour:
		return fmt.Sprintf("%dh%dm", int(d.Hours()), int(d.Minutes())%60)
	case d >= time.Minute:
		return fmt.Sprintf("%dm%ds", int(d.Minutes()), int(d.Seconds())%60)
	}
	return fmt.Sprintf("%ds", int(d.Seconds()))
}
