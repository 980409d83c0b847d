package cli

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"culvert/internal/cli/flags"
)

// helpOf returns what a command prints for --help on a terminal of this width.
func helpOf(t *testing.T, width int, words ...string) string {
	t.Helper()
	app := newApp("test", nil)
	var printed strings.Builder
	app.Stdout = &printed
	app.Width = func() int { return width }
	args := slices.Concat([]string{"culvert"}, words, []string{"--help"})
	if err := app.Run(t.Context(), args); err != nil {
		t.Fatal(err)
	}
	return printed.String()
}

// TestHelp checks the help of every command: how it begins, that it has each flag once, that it
// keeps to the terminal's width, and that its two examples are right.
func TestHelp(t *testing.T) {
	app := newApp("test", nil)
	checkHelp(t, nil, app.Examples)
	for _, command := range app.Commands {
		checkHelp(t, command, command.Examples) // also those that only have commands
		for _, sub := range command.Commands {
			checkHelp(t, sub, sub.Examples)
		}
	}
	eachCommand(app, func(name string, command *flags.Command) {
		help := helpOf(t, 80, command.Path()...)
		if usage := strings.TrimSpace("usage: " + name + " " + command.Synopsis()); len(
			command.Commands) == 0 && !strings.Contains(help, "\n"+usage+"\n") {
			t.Errorf("%s: the help lacks %q", name, usage)
		}
		for _, f := range command.Flags() {
			entry := "\n   " + spell(f.Names()[0])
			n := 0
			for _, end := range []string{" ", ",", "\n"} {
				n += strings.Count(help, entry+end)
			}
			if n != 1 {
				t.Errorf("%s: --%s is listed %d times", name, f.Names()[0], n)
			}
			if !f.IsFromCommandLine() && !strings.Contains(help, "[$"+f.Variable()+"]") {
				t.Errorf("%s: no %s", name, f.Variable())
			}
			if f.Group() != "" && !slices.Contains(helpGroups, f.Group()) {
				t.Errorf("helpGroups has no %q", f.Group())
			}
		}
	})
	for _, name := range []string{"local", "remote", "run", "check"} {
		if help := helpOf(t, 80, name); strings.Count(help, "\n\nused most:\n") != 1 ||
			strings.Index(help, "\nexamples:\n") > strings.Index(help, "\nused most:\n") ||
			strings.Index(help, "\nused most:\n") > strings.Index(help, "\nidentity:\n") {
			t.Errorf("%s does not begin with what is used most:\n%s", name, help)
		}
	}
}

// checkHelp checks the lines of a command's help, or of the program's, and the examples.
func checkHelp(t *testing.T, command *flags.Command, examples []string) {
	t.Helper()
	var path []string
	if command != nil {
		path = command.Path()
	}
	for _, width := range []int{50, 80, 133} {
		longest := 0
		for line := range strings.Lines(helpOf(t, width, path...)) {
			line = strings.TrimRight(line, "\n")
			if strings.TrimRight(line, " ") != line {
				t.Errorf("%v: a line ends with a space: %q", path, line)
			}
			n := utf8.RuneCountInString(line)
			copied := strings.HasPrefix(line, "usage: ") || slices.ContainsFunc(examples,
				func(e string) bool { return strings.Contains(e, strings.TrimSpace(line)) })
			name := strings.HasPrefix(line, "   -") && !strings.Contains(line[3:], "  ")
			word := !strings.Contains(strings.TrimSpace(line), " ")
			if n > width && !copied && !name && !word {
				t.Errorf("%v at %d columns has a line of %d: %q", path, width, n, line)
			}
			if copied && width == 80 && n > width && !strings.HasPrefix(line, "usage: ") {
				t.Errorf("%v has an example of %d columns: %q", path, n, line)
			}
			if !copied {
				longest = max(longest, n)
			}
		}
		if command != nil && len(command.Flags()) > 3 && longest < width-20 {
			t.Errorf("%v at %d columns has no line above %d", path, width, longest)
		}
	}
	if len(examples) != 2 {
		t.Errorf("%v has %d examples, want 2", path, len(examples))
	}
	for _, example := range examples {
		if err := tryExample(t, example); err != nil {
			t.Errorf("%s: %v", example, err)
		}
	}
}

// tryExample runs a command line, with the host "work" defined, up to where the command begins.
func tryExample(t *testing.T, line string) error {
	t.Helper()
	file := filepath.Join(t.TempDir(), "config.toml")
	text := "[hosts.work]\nurl = 'wss://exit.example.org/'\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	app := newApp("test", nil)
	var printed strings.Builder
	app.Stdout, app.ConfigFiles = &printed, []string{file}
	ran := false
	eachCommand(app, func(_ string, command *flags.Command) {
		command.Run = func(context.Context) error {
			ran = true
			return nil
		}
	})
	err := app.Run(t.Context(), strings.Fields(strings.ReplaceAll(line, "\\\n", "")))
	if err == nil && !ran && printed.Len() == 0 {
		return fmt.Errorf("nothing ran")
	}
	return err
}
