package report

import (
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"culvert/scripts/bench/peer"
	"culvert/scripts/bench/result"
)

// worth is the relative difference below which two medians are considered equal: they vary more
// from run to run.
const worth = 0.02

// plotFolder is the folder of the plots, next to benchmarks.md.
const plotFolder = "benchmarks"

// maxLine is the maximum number of characters in a line of prose.
const maxLine = 100

// writeMarkdown writes the whole report.
func writeMarkdown(w io.Writer, r *result.Results) {
	var text strings.Builder
	writeSections(&text, r)
	for line := range strings.Lines(text.String()) {
		io.WriteString(w, fill(line))
	}
}

// fill breaks a line of prose between words. Table rows, headings and images stay on one line, as
// Markdown requires.
func fill(line string) string {
	if strings.HasPrefix(line, "|") || strings.HasPrefix(line, "#") || strings.HasPrefix(line, "!") {
		return line
	}
	indent := ""
	if strings.HasPrefix(line, "- ") {
		indent = "  "
	}
	var filled strings.Builder
	length := 0
	for i, word := range strings.Fields(line) {
		n := utf8.RuneCountInString(word)
		switch {
		case i == 0:
		case length+1+n > maxLine:
			filled.WriteString("\n" + indent)
			length = len(indent)
		default:
			filled.WriteByte(' ')
			length++
		}
		filled.WriteString(word)
		length += n
	}
	return filled.String() + "\n"
}

func writeSections(w io.Writer, r *result.Results) {
	fmt.Fprintf(w, "## Comparison with other tunnels\n\n")
	writeRuns(w, r)
	writeBars(w, r)
	for _, t := range tables {
		if known(t, r) {
			writeTable(w, t, r)
		}
	}
}

// writeRuns describes the runs, below the machine and the programs that they share.
func writeRuns(w io.Writer, r *result.Results) {
	runs := r.Runs()
	for i, run := range runs {
		if at := on(run); i == 0 || at != on(runs[i-1]) {
			if i > 0 {
				fmt.Fprintln(w)
			}
			fmt.Fprintf(w, "%s:\n\n", at)
		}
		fmt.Fprintf(w, "- %s, commit %s: `%s`\n", run.Date.Format("2006-01-02 15:04 UTC"), run.Commit,
			run.Command)
	}
	fmt.Fprint(w,
		"\nThe load generator, both ends and, where there is one, the link share the machine. "+
			"The peers took turns. Figures are medians of the rounds, with the minimum and the maximum in "+
			"parentheses. MB and GB are powers of ten, KB are 1,024 bytes. OpenSSH is `ssh -D`; "+
			"Xray runs over WebSocket with mux; all have their defaults.\n\n")
}

// on names the machine and the programs of a run.
func on(run result.Run) string {
	m := run.Machine
	parts := []string{fmt.Sprintf("%s, %d cores; %s; %s", m.CPU, m.Cores, m.Kernel, m.Go)}
	for _, name := range slices.Sorted(maps.Keys(run.Programs)) {
		parts = append(parts, name+" "+run.Programs[name])
	}
	return strings.Join(parts, ", ")
}

// control names the congestion control of a table, if it is known.
func control(t table, r *result.Results) string {
	if t.control != "" {
		return " Congestion control: " + t.control + "."
	}
	var systems []string
	for _, c := range t.columns {
		if found := r.Cases[c.name]; found != nil && found.Machine.Congestion != "" &&
			!slices.Contains(systems, found.Machine.Congestion) {
			systems = append(systems, found.Machine.Congestion)
		}
	}
	if len(systems) == 0 {
		return ""
	}
	return " Congestion control: " + strings.Join(systems, " or ") + ", the system's; culvert asks " +
		"for BBR, and on loopback for none that paces."
}

// writeBars lists the goals and whether they are reached.
func writeBars(w io.Writer, r *result.Results) {
	fmt.Fprint(w,
		"### Goals\n\n| figure | bar | beyond | measured | |\n|---|---|---|---|---|\n")
	for _, b := range result.Bars {
		sign, beyond := "≥", "–"
		switch {
		case b.AtMost:
			sign = "≤"
		case b.Within:
			sign = "±"
		}
		if b.Beyond != 0 {
			beyond = withUnit(number(b.Beyond, -1), b.Unit)
		}
		v := b.Verdict(r)
		fmt.Fprintf(w, "| %s | %s %s | %s | %s | %s |\n", b.Figure, sign,
			withUnit(number(b.Value, -1), b.Unit), beyond, measured(b, v), verdict(v))
	}
	fmt.Fprintln(w)
}

func measured(b result.Bar, v result.Verdict) string {
	if !v.Known {
		return "–"
	}
	digits := 2
	switch {
	case b.Precise:
		return number(v.Measured.Median, 3) + " ± " + number(v.Measured.Error, 3)
	case b.Value >= 1000:
		digits = 0
	case b.Unit != "":
		digits = 1
	}
	return withUnit(spread(v.Measured, digits), b.Unit)
}

func verdict(v result.Verdict) string {
	switch {
	case !v.Known:
		return "not measured"
	case v.ReachedBeyond:
		return "reached, and beyond"
	case v.Reached:
		return "reached"
	}
	return "**missed**"
}

func withUnit(text, unit string) string {
	if unit == "" {
		return text
	}
	return text + " " + unit
}

// known reports whether the results have any case of a table.
func known(t table, r *result.Results) bool {
	return slices.ContainsFunc(t.columns, func(c column) bool { return r.Cases[c.name] != nil })
}

func writeTable(w io.Writer, t table, r *result.Results) {
	fmt.Fprintf(w, "### %s\n\n%s%s\n\n|", t.title, t.about, control(t, r))
	for _, c := range t.columns {
		fmt.Fprint(w, " | ", c.head)
	}
	fmt.Fprint(w, " |\n|---", strings.Repeat("|---", len(t.columns)), "|\n")
	for _, name := range t.peers {
		fmt.Fprint(w, "| ", peer.Label(name))
		for _, c := range t.columns {
			fmt.Fprint(w, " | ", cell(c, name, r))
		}
		fmt.Fprintln(w, " |")
	}
	fmt.Fprintln(w)
	writeFailures(w, t, r)
	if len(t.peers) == 1 { // nobody to compare with
		return
	}
	compares := slices.ContainsFunc(t.columns, func(c column) bool { return !c.plain })
	if lost := losses(t, r); compares && len(lost) == 0 {
		fmt.Fprint(w, "Culvert leads or is level in every column.\n\n")
	} else if compares {
		fmt.Fprintf(w, "Culvert is behind: %s.\n\n", strings.Join(lost, "; "))
	}
	for _, p := range t.plots {
		if plottable(t, p, r) {
			fmt.Fprintf(w, "![%s](%s/%s)\n\n", p.title, plotFolder, p.file)
		}
	}
}

// cell returns a peer's figure in a column.
func cell(c column, name string, r *result.Results) string {
	values := r.Values(c.name, name, c.value)
	if len(values) > 0 {
		return spread(result.Summarize(values), c.digit)
	}
	if r.Failure(c.name, name) != "" {
		return "failed"
	}
	return "–"
}

// writeFailures lists what failed, with the reason.
func writeFailures(w io.Writer, t table, r *result.Results) {
	var told []string
	for _, c := range t.columns {
		for _, name := range t.peers {
			failed, all := r.Failures(c.name, name)
			if failed == 0 || slices.Contains(told, c.name+name) {
				continue
			}
			told = append(told, c.name+name)
			fmt.Fprintf(w, "- %s, `%s`: %d of %d failed: %s\n", peer.Label(name), c.name, failed, all,
				firstLine(r.FirstFailure(c.name, name)))
		}
	}
	if len(told) > 0 {
		fmt.Fprintln(w)
	}
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return strings.ReplaceAll(line, "|", "/")
}

// losses lists the columns in which another peer is better than culvert.
func losses(t table, r *result.Results) []string {
	var lost []string
	for _, c := range t.columns {
		mine := result.Median(r.Values(c.name, peer.Culvert, c.value))
		if c.plain {
			continue
		}
		if math.IsNaN(mine) {
			if r.Failure(c.name, peer.Culvert) != "" {
				lost = append(lost, c.head+": failed")
			}
			continue
		}
		best, by := mine, ""
		for _, name := range t.peers {
			if peer.Ours(name) || name == peer.None && !t.direct {
				continue
			}
			theirs := result.Median(r.Values(c.name, name, c.value))
			if c.less && theirs < best*(1-worth) || !c.less && theirs > best*(1+worth) {
				best, by = theirs, name
			}
		}
		if by != "" {
			lost = append(lost, fmt.Sprintf("%s: %s, %s has %s", c.head, number(mine, c.digit),
				peer.Label(by), number(best, c.digit)))
		}
	}
	return lost
}

// spread formats a summary's median, with the range if there is more than one value.
func spread(s result.Summary, digits int) string {
	if s.Count < 2 {
		return number(s.Median, digits)
	}
	return fmt.Sprintf("%s (%s–%s)", number(s.Median, digits), number(s.Least, digits),
		number(s.Most, digits))
}

// number formats a figure with the given digits after the point (-1: as many as it needs), and with
// commas between thousands.
func number(v float64, digits int) string {
	text := strconv.FormatFloat(v, 'f', digits, 64)
	whole, fraction, _ := strings.Cut(text, ".")
	sign := ""
	if rest, negative := strings.CutPrefix(whole, "-"); negative {
		sign, whole = "-", rest
	}
	for i := len(whole) - 3; i > 0; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	if fraction != "" {
		whole += "." + fraction
	}
	return sign + whole
}
