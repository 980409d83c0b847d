package cli

import (
	"embed"
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// completeWord is the first argument by which the completion scripts call culvert. The words of the command line follow,
// the last of them being the one to complete. The library's own completion is not used: it offers a flag's name where its
// value belongs, and no flags after a command's other arguments.
const completeWord = "__complete"

//go:embed completion
var completionScripts embed.FS

func completionCommand() *cli.Command {
	return &cli.Command{
		Name:      "completion",
		Usage:     "print a script that completes culvert's command lines",
		ArgsUsage: strings.Join(shells(), "|"),
		Action: func(c *cli.Context) error {
			name, err := oneArgument(c, "the shell's name")
			if err != nil {
				return err
			}
			if !slices.Contains(shells(), name) {
				return usage(didYouMean(nearest(name, shells()), usageHint(c)), "no completion for %q", name)
			}
			script, err := completionScripts.ReadFile("completion/culvert." + name)
			if err != nil {
				return err
			}
			_, err = c.App.Writer.Write(script)
			return err
		},
	}
}

// shells are those that completion knows.
func shells() []string { return []string{"bash", "zsh", "fish"} }

// printCandidates prints what the last word may become, a line each: the word, a tab and what it means. It prints nothing
// where the shell's completion of files serves best.
func printCandidates(app *cli.App, words []string) {
	if len(words) == 0 {
		return
	}
	for _, c := range candidates(app, words[:len(words)-1], words[len(words)-1]) {
		fmt.Fprintf(app.Writer, "%s\t%s\n", c.word, c.meaning)
	}
}

type candidate struct{ word, meaning string }

// candidates returns what the word after others may become.
func candidates(app *cli.App, before []string, word string) []candidate {
	if len(before) == 0 {
		return beginning(append(commandCandidates(app.Commands),
			candidate{"help", "show help"}, candidate{"--help", "show help"}, candidate{"--version", "print the version"}), word)
	}
	if before[0] == "help" && len(before) == 1 {
		return beginning(commandCandidates(app.Commands), word)
	}
	command := app.Command(before[0])
	if command == nil {
		return nil
	}
	rest := before[1:]
	if len(rest) == 0 && len(command.Subcommands) > 0 {
		return beginning(append(commandCandidates(command.Subcommands), flagCandidates(command, word)...), word)
	}
	if len(rest) > 0 {
		if sub := command.Command(rest[0]); sub != nil {
			command, rest = sub, rest[1:]
		}
	}
	if slices.Contains(rest, "--") {
		return nil
	}
	if len(rest) > 0 {
		if f := valueFlag(command, rest[len(rest)-1]); f != nil {
			return beginning(valueCandidates(f), word)
		}
	}
	if name, value, ok := strings.Cut(word, "="); ok {
		var all []candidate
		if f := valueFlag(command, name); f != nil {
			for _, c := range beginning(valueCandidates(f), value) {
				all = append(all, candidate{name + "=" + c.word, c.meaning})
			}
		}
		return all
	}
	if command.Name == "completion" && len(rest) == 0 {
		return beginning(words(shells()), word)
	}
	return beginning(flagCandidates(command, word), word)
}

// valueFlag returns the flag that a word names, when a value of it belongs after the word.
func valueFlag(command *cli.Command, word string) cli.Flag {
	if !strings.HasPrefix(word, "-") || strings.Contains(word, "=") {
		return nil
	}
	name := strings.TrimLeft(word, "-")
	for _, f := range command.Flags {
		if _, isBool := f.(*cli.BoolFlag); !isBool && slices.Contains(f.Names(), name) {
			return f
		}
	}
	return nil
}

// valueCandidates are the values of a flag that has few.
func valueCandidates(f cli.Flag) []candidate {
	switch f.Names()[0] {
	case "log-level":
		return words([]string{"debug", "info", "warn", "error", "disabled"})
	case "fast-open":
		return words(fastOpenModes())
	case "socks":
		return []candidate{{defaultSocks, "the default"}, {"none", "no SOCKS port"}}
	}
	return nil
}

func words(all []string) []candidate {
	var list []candidate
	for _, word := range all {
		list = append(list, candidate{word: word})
	}
	return list
}

func commandCandidates(commands []*cli.Command) []candidate {
	var list []candidate
	for _, command := range commands {
		list = append(list, candidate{command.Name, command.Usage})
	}
	return list
}

// flagCandidates are a command's flags, once the word begins as they do.
func flagCandidates(command *cli.Command, word string) []candidate {
	if !strings.HasPrefix(word, "-") {
		return nil
	}
	list := []candidate{{"--help", "show help"}}
	for _, f := range command.Flags {
		meaning := ""
		if documented, ok := f.(cli.DocGenerationFlag); ok {
			meaning = strings.ReplaceAll(documented.GetUsage(), "`", "")
		}
		for _, name := range f.Names() {
			list = append(list, candidate{spellFlag(name), meaning})
		}
	}
	return list
}

func beginning(list []candidate, with string) []candidate {
	return slices.DeleteFunc(list, func(c candidate) bool { return !strings.HasPrefix(c.word, with) })
}
