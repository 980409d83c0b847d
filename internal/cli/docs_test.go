package cli

import (
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
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

// spell writes a flag as the tables do: all its names, with the placeholder of its value, and its default, which is empty
// when the command works it out.
func spell(f cli.Flag) (flag, standard string) {
	documented := f.(cli.DocGenerationFlag)
	placeholder := ""
	if documented.TakesValue() {
		placeholder = " " + strings.Split(documented.GetUsage(), "`")[1]
		standard = strings.Trim(documented.GetDefaultText(), `"`)
	}
	var names []string
	for _, name := range f.Names() {
		dashes := "--"
		if len(name) == 1 {
			dashes = "-"
		}
		names = append(names, dashes+name+placeholder)
	}
	return strings.Join(names, ", "), standard
}

// TestFlagTables compares docs/cli.md with the flags that there are, in their order.
func TestFlagTables(t *testing.T) {
	tables := readFlagTables(t)
	eachCommand(newApp("test"), func(name string, command *cli.Command) {
		table, ok := tables[name]
		if !ok {
			t.Errorf("docs/cli.md has no part on %s", name)
		}
		delete(tables, name)
		var want []string
		for i, f := range command.Flags {
			flag, standard := spell(f)
			want = append(want, flag)
			if i < len(table) && table[i].flag == flag && standard != "" && table[i].standard != standard {
				t.Errorf("%s %s: the default is %q, not %q", name, flag, standard, table[i].standard)
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
			t.Errorf("%s: docs/cli.md has the flags\n%s\nand there are\n%s", name, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	})
	for name := range maps.Keys(tables) {
		t.Errorf("docs/cli.md has a part on %s, which is no command", name)
	}
}

// TestExitStatusTable compares the statuses in docs/cli.md with the constants.
func TestExitStatusTable(t *testing.T) {
	text, err := os.ReadFile("../../docs/cli.md")
	if err != nil {
		t.Fatal(err)
	}
	for status, meaning := range map[int]string{
		exitOK: "done, or stopped by a signal after a clean shutdown", exitFailed: "failed while running", exitUsage: "wrong usage",
		exitUnreachable: "the remote can't be reached", exitIdentity: "the remote isn't who it should be (key, certificate)",
		exitNotAdmitted: "the remote doesn't admit us", exitCannotListen: "a local address can't be bound",
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
