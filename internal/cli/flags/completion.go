package flags

import (
	"context"
	"embed"
	"fmt"
	"os"
	"slices"
	"strings"
)

// completeWord is the first argument that the completion scripts give culvert. The words of the
// command line follow, the last of them being the one to complete. The library's own completion is
// not used: it offers a flag's name where its value belongs, and no flags after a command's other
// arguments.
const completeWord = "__complete"

//go:embed completion
var completionScripts embed.FS

// Completion returns the command that prints completion scripts.
func Completion() *Command {
	shells := []string{"bash", "zsh", "fish", "powershell"}
	var script []byte
	return &Command{
		Name:  "completion",
		Usage: "print a script that completes culvert's command lines",
		Examples: []string{
			"culvert completion bash",
			"culvert completion fish",
		},
		Define: func(s *Set) {
			s.Argument("the shell's name", func(shell string) (err error) {
				if !slices.Contains(shells, shell) {
					return fmt.Errorf("no completion for %q", shell)
				}
				script, err = completionScripts.ReadFile("completion/culvert." + shell)
				return err
			}).Values(shells...)
		},
		Run: func(context.Context) error {
			_, err := os.Stdout.Write(script)
			return err
		},
	}
}

// printCandidates prints what the last word may become: on each line a word, a tab and the word's
// meaning. It prints nothing where the shell's completion of file names serves best.
func (a *App) printCandidates(words []string) {
	if len(words) == 0 {
		return
	}
	for _, c := range a.candidates(words[:len(words)-1], words[len(words)-1]) {
		fmt.Fprintf(a.Stdout, "%s\t%s\n", c.word, c.meaning)
	}
}

type candidate struct{ word, meaning string }

// candidates returns what the word after others may become.
func (a *App) candidates(before []string, word string) []candidate {
	if len(before) == 0 {
		return beginning(append(commandCandidates(a.Commands),
			candidate{"help", "show help"},
			candidate{"--help", "show help"},
			candidate{"--version", "print the version"}), word)
	}
	if before[0] == "help" && len(before) == 1 {
		return beginning(commandCandidates(a.Commands), word)
	}
	command := find(a.Commands, before[0])
	if command == nil {
		return nil
	}
	rest := before[1:]
	if len(rest) == 0 && len(command.Commands) > 0 {
		flags := flagCandidates(command.set.flags, word)
		return beginning(append(commandCandidates(command.Commands), flags...), word)
	}
	if len(rest) > 0 {
		if sub := find(command.Commands, rest[0]); sub != nil {
			command, rest = sub, rest[1:]
		}
	}
	if slices.Contains(rest, "--") {
		return nil
	}
	return command.set.candidates(a, rest, word)
}

// candidates returns what the word after a command of a and others may become.
func (s *Set) candidates(a *App, before []string, word string) []candidate {
	if len(before) > 0 {
		if f := valueFlag(s.flags, before[len(before)-1]); f != nil {
			return beginning(described(f.values), word)
		}
	}
	if name, value, ok := strings.Cut(word, "="); ok {
		var all []candidate
		if f := valueFlag(s.flags, name); f != nil {
			for _, c := range beginning(described(f.values), value) {
				all = append(all, candidate{name + "=" + c.word, c.meaning})
			}
		}
		return all
	}
	if len(s.arguments) > 0 && !strings.HasPrefix(word, "-") {
		first := s.arguments[0]
		if len(before) == 0 && first.values != nil {
			return beginning(described(first.values), word)
		}
		if first.host || first.candidates != nil {
			if s.argued(before) && (!first.repeated || s.hostTyped(a, first, before)) {
				return nil
			}
			return beginning(described(s.argumentWords(a, first, before)), word)
		}
	}
	return beginning(flagCandidates(s.flags, word), word)
}

// argumentWords returns what an argument after words may be: the names of hosts, if it is the
// first, and the candidates of the argument itself.
func (s *Set) argumentWords(a *App, argument *Argument, before []string) []string {
	var list []string
	value := func(flag string) string { return s.typedValue(before, flag) }
	if argument.host && !s.argued(before) {
		for _, host := range a.hostsFor(value(configName)) {
			list = append(list, host.Name+"\t"+strings.Join(host.Locations(), " "))
		}
	}
	if argument.candidates != nil {
		list = append(list, argument.candidates(value)...)
	}
	return slices.DeleteFunc(list, func(text string) bool {
		word, _, _ := strings.Cut(text, "\t")
		return slices.Contains(before, word)
	})
}

// hostTyped reports whether the name of a host is among words.
func (s *Set) hostTyped(a *App, argument *Argument, words []string) bool {
	return argument.host && slices.ContainsFunc(a.hostsFor(s.typedValue(words, configName)),
		func(h Host) bool { return slices.Contains(words, h.Name) })
}

// typedValue returns the value of a flag among words, or else that of its variable.
func (s *Set) typedValue(words []string, name string) string {
	f := lookup(s.flags, name)
	if f == nil {
		return ""
	}
	text := os.Getenv(f.Variable())
	for i, word := range words {
		flag, value, attached := strings.Cut(word, "=")
		switch {
		case !strings.HasPrefix(word, "-") || !f.hasName(strings.TrimLeft(flag, "-")):
		case attached:
			text = value
		case i+1 < len(words):
			text = words[i+1]
		}
	}
	return text
}

// argued reports whether there is an argument among words, besides flags and their values.
func (s *Set) argued(words []string) bool {
	for i, word := range words {
		if !strings.HasPrefix(word, "-") && (i == 0 || valueFlag(s.flags, words[i-1]) == nil) {
			return true
		}
	}
	return false
}

// valueFlag returns the flag that a word names, if its value belongs after the word.
func valueFlag(flags []*Flag, word string) *Flag {
	if !strings.HasPrefix(word, "-") || strings.Contains(word, "=") {
		return nil
	}
	f := lookup(flags, strings.TrimLeft(word, "-"))
	if f == nil || f.kind.isSwitch() {
		return nil
	}
	return f
}

// described splits words from their meanings, which follow a tab.
func described(words []string) []candidate {
	var list []candidate
	for _, text := range words {
		word, meaning, _ := strings.Cut(text, "\t")
		list = append(list, candidate{word, meaning})
	}
	return list
}

func commandCandidates(commands []*Command) []candidate {
	var list []candidate
	for _, c := range commands {
		list = append(list, candidate{c.Name, c.Usage})
	}
	return list
}

// flagCandidates are a command's flags, if the word begins as they do.
func flagCandidates(flags []*Flag, word string) []candidate {
	if !strings.HasPrefix(word, "-") {
		return nil
	}
	list := []candidate{{"--help", "show help"}}
	for _, f := range flags {
		for _, name := range f.names {
			list = append(list, candidate{spellFlag(name), strings.ReplaceAll(f.usage, "`", "")})
		}
	}
	return list
}

// beginning keeps the candidates that begin with a prefix.
func beginning(list []candidate, prefix string) []candidate {
	return slices.DeleteFunc(list, func(c candidate) bool {
		return !strings.HasPrefix(c.word, prefix)
	})
}
