package flags

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"
)

// defaultWidth is the width of the help in columns where no terminal has one.
const defaultWidth = 80

// Texts are indented by margin. The words that explain a flag or a command begin at most at column
// textColumn: longer names have a line of their own.
const (
	margin     = 3
	textColumn = 28
)

// helpWanted is the error of a command line that asks for help: of a command, or of the program if
// that is nil.
type helpWanted struct{ command *Command }

func (*helpWanted) Error() string { return "help is wanted" }

// helpFlag turns `culvert help COMMAND…` into what it is short for: `culvert COMMAND… --help`.
func helpFlag(args []string) []string {
	if len(args) < 2 || args[1] != "help" {
		return args
	}
	words := append([]string{args[0]}, args[2:]...)
	if len(args) > 2 {
		return append(words, "--help")
	}
	return words
}

// helpHint refers to the list of a command's flags, or of its commands.
func helpHint(command, listed string) string {
	return "`" + command + " --help` lists the " + listed
}

// printHelp prints the help of a command, or of the program if that is nil.
func (a *App) printHelp(c *Command) error {
	p := &helpPrinter{width: defaultWidth}
	if a.Width != nil {
		p.width = a.Width()
	}
	if c == nil {
		p.program(a)
	} else {
		p.command(a, c)
	}
	_, err := io.WriteString(a.Stdout, p.text.String())
	return err
}

// helpPrinter lays out a help.
type helpPrinter struct {
	width int
	text  strings.Builder
}

// entry is a name and what it means.
type entry struct{ name, meaning string }

var (
	helpEntry    = entry{"--help, -h", "show help"}
	versionEntry = entry{"--version, -v", "print the version"}
)

func (p *helpPrinter) program(a *App) {
	p.paragraph(a.Name + ": " + a.Usage)
	p.usage(a.Name + " COMMAND [FLAG]... [ARGUMENT]")
	p.examples(a.Examples)
	p.list("commands", append(commandEntries(a.Commands),
		entry{"help", "show this, or the help of a command: " + a.Name + " help COMMAND"}))
	p.list("flags", []entry{helpEntry, versionEntry})
}

func (p *helpPrinter) command(a *App, c *Command) {
	p.paragraph(c.full + ": " + c.Usage)
	call := strings.TrimSpace(c.full + " " + c.Synopsis())
	switch {
	case c.Run == nil:
		call = c.full + " COMMAND [FLAG]..."
	case len(c.Commands) > 0:
		call = c.full + " [COMMAND] [FLAG]..."
	}
	p.usage(call)
	p.examples(c.Examples)
	if len(c.Commands) > 0 {
		p.list("commands", commandEntries(c.Commands))
	}
	groups := c.set.grouped(a.Groups)
	for i, g := range groups {
		var entries []entry
		for _, f := range g.flags {
			entries = append(entries, f.entry())
		}
		if i == len(groups)-1 {
			entries = append(entries, helpEntry)
		}
		p.list(g.title, entries)
	}
}

func commandEntries(commands []*Command) []entry {
	var entries []entry
	for _, c := range commands {
		entries = append(entries, entry{c.Name, c.Usage})
	}
	return entries
}

// flagGroup is a part of the help.
type flagGroup struct {
	title string
	flags []*Flag
}

// grouped returns the flags by group, in the order of groups, followed by those that it doesn't
// have. The flags that are used most come first, in a group of their own, unless there is but one.
func (s *Set) grouped(order []string) []flagGroup {
	const ungrouped, common = "flags", "used most"
	titles := []string{common}
	byTitle := map[string][]*Flag{}
	for _, f := range s.flags {
		title := f.group
		if title == "" {
			title = ungrouped
		}
		if f.common && s.flags[0].group != "" {
			title = common
		}
		if !slices.Contains(titles, title) {
			titles = append(titles, title)
		}
		byTitle[title] = append(byTitle[title], f)
	}
	rank := func(title string) int {
		switch at := slices.Index(order, title); {
		case title == common:
			return -1
		case at >= 0:
			return at
		}
		return len(order)
	}
	slices.SortStableFunc(titles, func(a, b string) int { return rank(a) - rank(b) })
	slices.SortStableFunc(byTitle[common], func(a, b *Flag) int {
		return rank(a.group) - rank(b.group)
	})
	var groups []flagGroup
	for _, title := range titles {
		if len(byTitle[title]) > 0 {
			groups = append(groups, flagGroup{title, byTitle[title]})
		}
	}
	if groups == nil {
		groups = []flagGroup{{title: ungrouped}} // for --help
	}
	return groups
}

// entry returns the flag as the help lists it.
func (f *Flag) entry() entry {
	var names []string
	for _, name := range f.names {
		names = append(names, spellFlag(name))
	}
	e := entry{strings.Join(names, ", "), strings.ReplaceAll(f.usage, "`", "")}
	if placeholder := f.Placeholder(); placeholder != "" {
		e.name += " " + placeholder
	}
	if standard := strings.Trim(f.Default(), `"`); standard != "" {
		e.meaning += " (default: " + standard + ")"
	}
	if !f.cmdline {
		e.meaning += " [$" + f.Variable() + "]"
	}
	return e
}

func (p *helpPrinter) usage(call string) { fmt.Fprintf(&p.text, "\nusage: %s\n", call) }

// examples prints command lines as they are, so that they can be copied.
func (p *helpPrinter) examples(lines []string) {
	if len(lines) == 0 {
		return
	}
	p.text.WriteString("\nexamples:\n")
	for _, line := range lines {
		fmt.Fprintf(&p.text, "%*s%s\n", margin, "", line)
	}
}

// list prints entries under a title, with their meanings in a column.
func (p *helpPrinter) list(title string, entries []entry) {
	column := 0
	for _, e := range entries {
		if n := margin + utf8.RuneCountInString(e.name) + 2; n <= textColumn {
			column = max(column, n)
		}
	}
	if column == 0 {
		column = textColumn
	}
	fmt.Fprintf(&p.text, "\n%s:\n", title)
	for _, e := range entries {
		lead := strings.Repeat(" ", margin) + e.name
		if n := utf8.RuneCountInString(lead); n+2 <= column {
			lead += strings.Repeat(" ", column-n)
		} else {
			p.text.WriteString(lead + "\n")
			lead = strings.Repeat(" ", column)
		}
		p.wrap(lead, e.meaning, column)
	}
}

// paragraph prints a text on lines of the width.
func (p *helpPrinter) paragraph(text string) { p.wrap("", text, 0) }

// wrap prints lead, and a text after it on lines of the width, of which all but the first are
// indented. A word that is longer than a line is not broken.
func (p *helpPrinter) wrap(lead, text string, indent int) {
	line, length := lead, utf8.RuneCountInString(lead)
	begun := false
	for word := range strings.FieldsSeq(text) {
		n := utf8.RuneCountInString(word)
		switch {
		case !begun:
		case length+1+n > p.width:
			p.text.WriteString(line + "\n")
			line, length = strings.Repeat(" ", indent), indent
		default:
			line, length = line+" ", length+1
		}
		line, length, begun = line+word, length+n, true
	}
	p.text.WriteString(line + "\n")
}
