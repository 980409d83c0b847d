package main

import (
	"fmt"
	"strings"

	"culvert/internal/cli/flags"
)

// manual is what all pages have in common.
type manual struct {
	version, date string
	prose         *prose
}

// pages returns the pages of a program and its commands in Markdown, by the files' names.
func (m manual) pages(app *flags.App) (map[string]string, error) {
	pages := map[string]string{}
	var names []string
	for c := range app.Runnable() {
		s, ok := m.prose.commands[strings.Join(c.Path(), " ")]
		if !ok {
			return nil, fmt.Errorf("no prose on %s %s", app.Name, strings.Join(c.Path(), " "))
		}
		name := pageName(app, c)
		names = append(names, name)
		pages[name+".1"] = m.command(app, c, s.text.String())
	}
	pages[app.Name+".1"] = m.program(app, names)
	return pages, nil
}

// pageName returns the name of a command's page.
func pageName(app *flags.App, c *flags.Command) string {
	return app.Name + "-" + strings.Join(c.Path(), "-")
}

func (m manual) head(b *strings.Builder, name, usage, synopsis string) {
	fmt.Fprintf(b, "%% %q 1 %q %q %q\n\n", strings.ToUpper(name), m.date, "culvert "+m.version,
		"User Commands")
	fmt.Fprintf(b, "# NAME\n\n%s - %s\n\n# SYNOPSIS\n\n%s\n\n", name, escape(usage), synopsis)
}

// command returns a command's page.
func (m manual) command(app *flags.App, c *flags.Command, text string) string {
	b := &strings.Builder{}
	call := app.Name + " " + strings.Join(c.Path(), " ")
	synopsis := strings.TrimSpace("**" + call + "** " + escape(c.Synopsis()))
	m.head(b, pageName(app, c), c.Usage, synopsis)
	fmt.Fprintf(b, "# DESCRIPTION\n\n%s\n\n", text)
	if len(c.Flags()) > 0 {
		b.WriteString("# OPTIONS\n\n")
		m.options(b, c.Flags())
		b.WriteString("# ENVIRONMENT\n\nThe variable of an option is `CULVERT_` and the option's name " +
			"in capitals, with `_` for `-`: see **culvert**(1).\n\n")
	}
	b.WriteString("# EXIT STATUS\n\nSee **culvert**(1).\n\n# SEE ALSO\n\n**culvert**(1)\n")
	return b.String()
}

// options lists flags by their groups, in the order of the groups' first flags.
func (m manual) options(b *strings.Builder, all []*flags.Flag) {
	var groups []string
	members := map[string][]*flags.Flag{}
	for _, f := range all {
		if members[f.Group()] == nil {
			groups = append(groups, f.Group())
		}
		members[f.Group()] = append(members[f.Group()], f)
	}
	for _, group := range groups {
		if group != "" {
			fmt.Fprintf(b, "### %s\n\n", strings.ToUpper(group[:1])+group[1:])
		} else if len(groups) > 1 {
			b.WriteString("### Other\n\n")
		}
		for _, f := range members[group] {
			m.option(b, f)
		}
	}
}

func (m manual) option(b *strings.Builder, f *flags.Flag) {
	var names []string
	for _, name := range f.Names() {
		name = "**" + spell(name) + "**"
		if p := f.Placeholder(); p != "" {
			name += " *" + escape(p) + "*"
		}
		names = append(names, name)
	}
	usage := ""
	for i, part := range strings.Split(f.Usage(), "`") {
		if part = escape(part); i == 1 {
			part = "*" + part + "*"
		}
		usage += part
	}
	if d := f.Default(); d != "" {
		usage += " (default: " + escape(strings.Trim(d, `"`)) + ")"
	}
	fmt.Fprintf(b, "%s\n: %s\n\n", strings.Join(names, ", "), usage)
}

// spell returns a flag's name with its dashes.
func spell(name string) string {
	if len(name) == 1 {
		return "-" + name
	}
	return "--" + name
}

// program returns the program's page.
func (m manual) program(app *flags.App, pages []string) string {
	b := &strings.Builder{}
	m.head(b, app.Name, app.Usage, "**"+app.Name+"** COMMAND [FLAG]... [ARGUMENT]")
	fmt.Fprintf(b, "# DESCRIPTION\n\n%s\n\n# COMMANDS\n\n", m.prose.intro.String())
	for c := range app.Runnable() {
		fmt.Fprintf(b, "**%s**(1)\n: %s\n\n", pageName(app, c), escape(c.Usage))
	}
	for _, s := range m.prose.general {
		fmt.Fprintf(b, "# %s\n\n%s\n\n", strings.ToUpper(s.title), s.text.String())
	}
	b.WriteString("# SEE ALSO\n\n")
	for i, name := range pages {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(b, "**%s**(1)", name)
	}
	b.WriteString(", **ssh**(1)\n\nFiles that end in .md are in /usr/share/doc/culvert/docs, " +
		"or in the folder docs of an archive.\n")
	return b.String()
}

var markup = strings.NewReplacer(`\`, `\\`, "`", "\\`", "*", `\*`, "_", `\_`, "[", `\[`, "]", `\]`,
	"<", `\<`, ">", `\>`, "~", `\~`)

// escape returns plain text as Markdown.
func escape(text string) string { return markup.Replace(text) }
