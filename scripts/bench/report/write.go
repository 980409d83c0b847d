package report

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"culvert/scripts/bench/result"
)

// The markers in benchmarks.md; the text between them is replaced.
const (
	beginMarker = "<!-- bench: begin; what follows is written by make bench -->"
	endMarker   = "<!-- bench: end -->"
)

// Write writes the tables into benchmarks.md of a folder, which is created if it does not exist,
// and the plots into a folder next to it.
func Write(folder string, r *result.Results) error {
	if err := os.MkdirAll(filepath.Join(folder, plotFolder), 0o755); err != nil {
		return err
	}
	path := filepath.Join(folder, "benchmarks.md")
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	var section bytes.Buffer
	writeMarkdown(&section, r)
	text, err = replaceSection(text, section.Bytes())
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if err := os.WriteFile(path, text, 0o644); err != nil {
		return err
	}
	return drawAll(filepath.Join(folder, plotFolder), r)
}

// replaceSection replaces the text between the markers. If there are none, it appends the section
// with markers.
func replaceSection(text, section []byte) ([]byte, error) {
	section = bytes.TrimSpace(section)
	before, rest, found := bytes.Cut(text, []byte(beginMarker))
	var after []byte
	if found {
		if _, after, found = bytes.Cut(rest, []byte(endMarker)); !found {
			return nil, errors.New("the benchmark's end marker is missing")
		}
	} else if before = bytes.TrimRight(text, "\n"); len(before) > 0 {
		before = append(before, "\n\n"...)
	}
	if after = bytes.TrimLeft(after, "\n"); len(after) > 0 {
		after = append([]byte("\n"), after...)
	}
	return fmt.Appendf(nil, "%s%s\n\n%s\n\n%s\n%s", before, beginMarker, section, endMarker,
		after), nil
}

// Summary prints which bars are reached.
func Summary(w io.Writer, r *result.Results) {
	for _, b := range result.Bars {
		v := b.Verdict(r)
		if !v.Known {
			continue
		}
		sign := ">="
		switch {
		case b.AtMost:
			sign = "<="
		case b.Within:
			sign = "+-"
		}
		fmt.Fprintf(w, "%-12s %s: %s, bar %s %s\n", summaryWord(v), b.Figure, measured(b, v), sign,
			withUnit(number(b.Value, -1), b.Unit))
	}
}

func summaryWord(v result.Verdict) string {
	switch {
	case v.ReachedBeyond:
		return "beyond"
	case v.Reached:
		return "reached"
	}
	return "MISSED"
}
