package flags

import (
	"slices"
	"strings"

	"culvert/internal/cli/exit"
)

// flagsFirst moves the flags of a command before its other arguments, where the parser wants them,
// so that `culvert local URL -L …` works as people type it. It leaves what follows "--" alone.
// Flags that the command does not have and flags without their value are usage errors.
func (a *App) flagsFirst(args []string) ([]string, error) {
	if len(args) < 2 {
		return args, nil
	}
	command := find(a.Commands, args[1])
	if command == nil {
		return args, a.checkOwnFlag(args[1])
	}
	at := 2
	if len(args) > 2 {
		if sub := find(command.Commands, args[2]); sub != nil {
			at, command = 3, sub
		}
	}
	var front, rest []string
	for i := at; i < len(args); i++ {
		arg := args[i]
		if arg == "--" {
			rest = append(rest, args[i:]...)
			break
		}
		if len(arg) < 2 || arg[0] != '-' {
			rest = append(rest, arg)
			continue
		}
		front = append(front, arg)
		word, _, hasValue := strings.Cut(arg, "=")
		name := strings.TrimLeft(word, "-")
		if isHelp(name) {
			return append(slices.Clone(args[:at]), "--help"), nil
		}
		hint := helpHint(command.full, "flags")
		switch f := lookup(command.set.flags, name); {
		case f == nil:
			hint = didYouMean(nearestFlag(command.set.flags, word), hint)
			return nil, exit.Usagef(hint, "unknown flag %s", word)
		case f.kind.isSwitch() || hasValue:
		case i+1 == len(args):
			return nil, exit.Usagef(hint, "%s needs a value", word)
		default:
			i++
			front = append(front, args[i])
		}
	}
	return slices.Concat(args[:at], front, rest), nil
}

// isHelp reports whether a flag, which every command has, asks for help.
func isHelp(name string) bool { return name == "help" || name == "h" }

// checkOwnFlag refuses flags before the command, other than the program's own.
func (a *App) checkOwnFlag(arg string) error {
	name := strings.TrimLeft(arg, "-")
	if isHelp(name) || name == "version" || name == "v" || name == "" {
		return nil
	}
	if arg[0] != '-' {
		return nil // an unknown command, which the library's action reports
	}
	return exit.Usagef(helpHint(a.Name, "commands")+"; a command's flags follow it",
		"unknown flag %s", arg)
}
