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
	eachCommand(newApp("test"), func(name string, command *flags.Command) {
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

// TestFindBlocks shows which blocks are played, and that commands can't hide in others.
func TestFindBlocks(t *testing.T) {
	text := "```text\n$ not run\n```\n## One\n```console\n$ a\nb\nlaptop$ c\n```\n## Two\n<!-- office$ d -->\n<!-- e -->\n"
	blocks, err := findBlocks(text)
	want := []block{{"$ a\nb\n$ machine=laptop; c\n", 5, 1}, {"$ machine=office; d\n", 11, 2}}
	if err != nil || !slices.Equal(blocks, want) {
		t.Errorf("got %+v, %v", blocks, err)
	}
	for _, bad := range []string{"```sh\nls\n```\n", "```bash\n$ ls\n```\n"} {
		if _, err := findBlocks(bad); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

// TestPlayerCompares shows that playing a document can fail.
func TestPlayerCompares(t *testing.T) {
	p := &player{bound: map[string]string{}}
	one, other, third := strings.Repeat("1", 43), strings.Repeat("2", 43), strings.Repeat("3", 43)
	for _, test := range []struct {
		got, want string
		equal     bool
	}{
		{"key " + one + "\n", "key " + other + "\n", true},
		{"key " + one + " took 1.5 ms\n", "key " + other + "  took    20.0 ms\n", false},
		{one + " 1.5 ms\n", other + "     20.0 ms\n", true},
		{third + "\n", other + "\n", false}, // other stands for one
		{"text\n", "text\n", true},
		{"text\nmore\n", "text\n", false},
		{"text\n", "text\n[exit 1]\n", false},
		{one + "\n", "a key\n", false},
		{"key=-" + one[1:] + "\n", "key=" + third + "\n", true},
		{"http://127.0.0.1:40000/\n", "http://127.0.0.1:50000/\n", true},
		{"http://127.0.0.1:40001/\n", "http://127.0.0.1:50000/\n", false},
		{"http://127.0.0.1:1081/\n", "http://127.0.0.1:1080/\n", false},
	} {
		if err := p.compare(test.got, test.want); (err == nil) != test.equal {
			t.Errorf("%q for %q: %v", test.got, test.want, err)
		}
	}
}
