package main

import (
	"fmt"
	"regexp"
	"strings"
)

// prose is what docs/cli.md has for the pages, in Markdown that a page can hold.
type prose struct {
	intro    strings.Builder
	general  []*section
	commands map[string]*section // by the command's words, such as "cert ca"
}

// section is the part on a command, or on something that all commands have in common.
type section struct {
	title string
	text  strings.Builder
}

var (
	commandTitle = regexp.MustCompile(`^culvert ([a-z ]*[a-z])`)
	link         = regexp.MustCompile(`\[([^]]+)\]\(([^)]*)\)`)
	comment      = regexp.MustCompile(`^<!--.*-->$`)
	flagsHeader  = regexp.MustCompile(`^\| flag \|`)
	rule         = regexp.MustCompile(`^\|[-|]+\|$`)
)

// splitProse splits the document at its headings. Tables of flags are left out, since the pages
// have the commands' own; other tables become lists.
func splitProse(document string) (*prose, error) {
	p := &prose{commands: map[string]*section{}}
	text, inCommands, inFence, table := &p.intro, false, false, tableState{}
	for line := range strings.Lines(document) {
		line = strings.TrimSuffix(line, "\n")
		if strings.HasPrefix(line, "```") {
			inFence = !inFence
			line = "```"
		}
		level := len(line) - len(strings.TrimLeft(line, "#"))
		if level > 0 && !inFence {
			title := strings.TrimSpace(line[level:])
			s, err := p.section(level, title, &inCommands)
			if err != nil {
				return nil, err
			}
			if s != nil {
				text = &s.text
			} else if level > 2 {
				text.WriteString("### " + title + "\n")
			}
			continue
		}
		switch {
		case inFence:
		case comment.MatchString(line):
			continue
		case strings.HasPrefix(line, "|"):
			line = table.row(line)
		default:
			table = tableState{}
			line = link.ReplaceAllStringFunc(line, plainLink)
		}
		text.WriteString(line + "\n")
	}
	return p, nil
}

// section returns the section that a heading begins, nil if it begins none.
func (p *prose) section(level int, title string, inCommands *bool) (*section, error) {
	s := &section{title: title}
	switch {
	case level == 2:
		*inCommands = title == "Commands"
		if !*inCommands {
			p.general = append(p.general, s)
		}
		return s, nil
	case level == 3 && *inCommands:
		m := commandTitle.FindStringSubmatch(title)
		if m == nil {
			return nil, fmt.Errorf("the heading %q names no command", title)
		}
		p.commands[m[1]] = s
		return s, nil
	}
	return nil, nil
}

// plainLink keeps a link's text, and where it leads: the address of a page, or the file name of
// another document, which the page's readers have in a folder of their own.
func plainLink(text string) string {
	m := link.FindStringSubmatch(text)
	target := m[2]
	if !strings.HasPrefix(target, "https://") {
		target, _, _ = strings.Cut(target, "#")
	}
	if target == "" || strings.Contains(m[1], target) {
		return m[1]
	}
	return m[1] + " (" + target + ")"
}

// tableState is how far a table has been read.
type tableState struct {
	heads           []string
	inBody, ofFlags bool
}

// longestTerm is how long a term in a list of definitions can be: it has to be on one line.
const longestTerm = 60

// row returns what a row of a table becomes: an entry of a list of definitions, in which the first
// column is defined by the others, each after its head if there are several. A sentence is an item
// of its own.
func (s *tableState) row(line string) string {
	switch {
	case flagsHeader.MatchString(line):
		s.ofFlags = true
	case rule.MatchString(line):
		s.inBody = true
	case s.ofFlags:
	case !s.inBody:
		s.heads = splitRow(line)
	default:
		cells := splitRow(line)
		term, meanings := cells[0], cells[1:]
		if len(meanings) > 1 {
			for i := range min(len(meanings), len(s.heads)-1) {
				meanings[i] = s.heads[i+1] + " " + meanings[i]
			}
		}
		meaning := strings.Join(meanings, "; ")
		if len(term) > longestTerm {
			return "- " + term + ": " + meaning + "\n"
		}
		return term + "\n: " + meaning + "\n"
	}
	return ""
}

// splitRow returns the cells of a row, with links as a page has them.
func splitRow(line string) []string {
	const bar = "\x00"
	line = strings.ReplaceAll(strings.Trim(line, "| "), `\|`, bar)
	cells := strings.Split(line, " | ")
	for i := range cells {
		cells[i] = link.ReplaceAllStringFunc(strings.ReplaceAll(cells[i], bar, "|"), plainLink)
	}
	return cells
}
