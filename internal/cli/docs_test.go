package cli

import (
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"culvert/internal/cli/exit"
	"culvert/internal/cli/flags"
	"culvert/tunnel/mux"
)

// documentedFlag is a row of a table of flags.
type documentedFlag struct{ flag, standard, meaning string }

var (
	commandHeading = regexp.MustCompile(`^### (culvert [a-z ]*[a-z])`)
	flagRow        = regexp.MustCompile("^\\| `(-[^`]*)` \\| (.*?) \\| (.*) \\|$")
)

// readFlagTables returns the flags in docs/cli.md by command.
func readFlagTables(t *testing.T) map[string][]documentedFlag {
	t.Helper()
	text, err := os.ReadFile("../../docs/cli.md")
	if err != nil {
		t.Fatal(err)
	}
	tables := map[string][]documentedFlag{}
	command := ""
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
		if m := commandHeading.FindStringSubmatch(line); m != nil {
			command = m[1]
			tables[command] = nil
		}
		if m := flagRow.FindStringSubmatch(line); m != nil {
			tables[command] = append(tables[command], documentedFlag{m[1], strings.Trim(m[2], "`–"), m[3]})
		}
	}
	return tables
}

// spell returns a flag's name with its dashes.
func spell(name string) string {
	if len(name) == 1 {
		return "-" + name
	}
	return "--" + name
}

// document returns a flag as the tables have it: all its names with the placeholder of its value,
// its default, which is empty if the command works it out, and its meaning without quotes.
func document(f *flags.Flag) documentedFlag {
	placeholder := f.Placeholder()
	if placeholder != "" {
		placeholder = " " + placeholder
	}
	var names []string
	for _, name := range f.Names() {
		names = append(names, spell(name)+placeholder)
	}
	meaning := workedOut.ReplaceAllString(strings.ReplaceAll(f.Usage(), "`", ""), "")
	return documentedFlag{strings.Join(names, ", "), strings.Trim(f.Default(), `"`), meaning}
}

// workedOut is a default that a command works out: the tables have it in their second column.
var workedOut = regexp.MustCompile(` \(default: .*\)`)

// TestFlagTables compares docs/cli.md with the flags that there are, in their order.
func TestFlagTables(t *testing.T) {
	tables := readFlagTables(t)
	eachCommand(newApp("test", nil), func(name string, command *flags.Command) {
		table, ok := tables[name]
		if !ok {
			t.Errorf("docs/cli.md has no part on %s", name)
		}
		delete(tables, name)
		var want []string
		for i, f := range command.Flags() {
			d := document(f)
			want = append(want, d.flag)
			if i >= len(table) || table[i].flag != d.flag {
				continue
			}
			if d.standard != "" && table[i].standard != d.standard {
				t.Errorf("%s %s: the default is %q, not %q",
					name, d.flag, d.standard, table[i].standard)
			}
			if got := strings.ReplaceAll(table[i].meaning, "`", ""); got != d.meaning {
				t.Errorf("%s %s: the help has\n%s\nand docs/cli.md\n%s", name, d.flag, d.meaning, got)
			}
		}
		var got []string
		for _, row := range table {
			got = append(got, row.flag)
			if row.meaning == "" {
				t.Errorf("%s %s: no meaning", name, row.flag)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: docs/cli.md has the flags\n%s\nand there are\n%s",
				name, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	})
	for name := range maps.Keys(tables) {
		t.Errorf("docs/cli.md has a part on %s, which is not a command", name)
	}
}

// TestCodeTable compares the codes in docs/cli.md with those that there are, and their texts.
func TestCodeTable(t *testing.T) {
	text, err := os.ReadFile("../../docs/cli.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(text), "\n### Codes\n")
	table, _, _ = strings.Cut(table, "\n### ")
	rows := codeRow.FindAllString(table, -1)
	for number := range mux.Code(1000) {
		if number.String() == fmt.Sprintf("code %d", number) {
			continue // there is none
		}
		begins := fmt.Sprintf("| %d | %s | ", number, number)
		if len(rows) == 0 || !strings.HasPrefix(rows[0], begins) {
			t.Fatalf("docs/cli.md lacks the row %s…, or has it elsewhere", begins)
		}
		rows = rows[1:]
	}
	if len(rows) > 0 {
		t.Errorf("docs/cli.md has codes that don't exist: %s", rows)
	}
}

var codeRow = regexp.MustCompile(`(?m)^\| \d+ \| .* \| .+ \|$`)

// TestExitStatusTable compares the statuses in docs/cli.md with the constants.
func TestExitStatusTable(t *testing.T) {
	text, err := os.ReadFile("../../docs/cli.md")
	if err != nil {
		t.Fatal(err)
	}
	for status, meaning := range map[int]string{
		exit.OK:           "done, or stopped by a signal after a clean shutdown",
		exit.Failed:       "failed while running",
		exit.Usage:        "wrong usage",
		exit.Unreachable:  "the remote can't be reached",
		exit.WrongRemote:  "the remote isn't who it should be (key, certificate)",
		exit.NotAdmitted:  "the remote doesn't admit us",
		exit.CannotListen: "a local address can't be bound",
	} {
		if row := fmt.Sprintf("| %d | %s |\n", status, meaning); !strings.Contains(string(text), row) {
			t.Errorf("docs/cli.md lacks %s", row)
		}
	}
}
