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
	words := slices.Clone(args[at:])
	for len(words) > 0 {
		word := words[0]
		if word == "--" {
			rest = append(rest, words...)
			break
		}
		if len(word) < 2 || word[0] != '-' || command.set.isArgument(word) {
			rest, words = append(rest, word), words[1:]
			continue
		}
		if isHelp(word) {
			return nil, &helpWanted{command}
		}
		words = slices.Concat(letters(command.set.flags, word), words[1:])
		taken := 1
		takesNext, err := command.checkFlag(words[0], words[1:])
		if err != nil {
			return nil, err
		}
		if takesNext {
			taken++
		}
		front = append(front, command.set.mainName(words[0]))
		front, words = append(front, words[1:taken]...), words[taken:]
	}
	if at == 2 && len(front) > 0 && len(rest) > 0 && find(command.Commands, rest[0]) != nil {
		// The flags are those of the command's own command.
		return a.flagsFirst(slices.Concat(args[:at], rest[:1], front, rest[1:]))
	}
	if i := slices.Index(rest, "--"); i >= 0 && command.set.command == nil {
		rest = slices.Concat([]string{"--"}, rest[:i], rest[i+1:])
	}
	if len(rest) > 0 && command.set.isArgument(rest[0]) {
		front = append(front, "--") // or the library takes it for a flag
	}
	return slices.Concat(args[:at], front, rest), nil
}

// mainName returns a flag as it was given, but by its main name: the library takes no flag by two.
func (s *Set) mainName(arg string) string {
	word, value, hasValue := strings.Cut(arg, "=")
	name := strings.TrimLeft(word, "-")
	f := lookup(s.flags, name)
	if f == nil || f.names[0] == name {
		return arg
	}
	word = spellFlag(f.names[0])
	if hasValue {
		word += "=" + value
	}
	return word
}

// checkFlag refuses an argument that is no flag of the command, or has no value or a wrong one. It
// reports whether the value is the next of the arguments that follow.
func (c *Command) checkFlag(arg string, following []string) (takesNext bool, err error) {
	word, value, hasValue := strings.Cut(arg, "=")
	hint := helpHint(c.full, "flags")
	f := lookup(c.set.flags, strings.TrimLeft(word, "-"))
	switch {
	case f == nil:
		hint = didYouMean(nearestFlag(c.set.flags, word), hint)
		return false, exit.Usagef(hint, "unknown flag %s", word)
	case f.kind.isSwitch() && !hasValue:
		f.origin.typed = word
		if k, ok := f.kind.(*optionalDuration); ok && len(following) > 0 {
			if err := k.detached(word, following[0]); err != nil {
				return false, exit.Usagef("write "+word+"="+following[0], "%v", err)
			}
		}
		return false, nil
	case !hasValue && len(following) == 0:
		return false, exit.Usagef(hint, "%s needs a value", word)
	case !hasValue:
		value = following[0]
	}
	f.origin.typed = word
	if want := f.kind.check(value); want != "" {
		return false, f.wrongKind(value, want)
	}
	return !hasValue, nil
}

// isHelp reports whether an argument is a flag that asks for help, as every command has it.
func isHelp(arg string) bool {
	name, _, _ := strings.Cut(strings.TrimLeft(arg, "-"), "=")
	return arg[0] == '-' && (name == "help" || name == "h")
}

// checkOwnFlag refuses flags before the command, other than the program's own.
func (a *App) checkOwnFlag(arg string) error {
	switch strings.TrimLeft(arg, "-") {
	case "version", "v", "":
		return nil
	}
	if arg == "" || arg[0] != '-' {
		return nil // an unknown command, which the library's action reports
	}
	if isHelp(arg) {
		return &helpWanted{}
	}
	return exit.Usagef(helpHint(a.Name, "commands")+"; a command's flags follow it",
		"unknown flag %s", arg)
}
