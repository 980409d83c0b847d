package cli

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// flagsFirst moves the flags of a command before its other arguments, where the parser wants them, so that
// `culvert local URL -L …` works as people type it. What follows "--" stays as it is. Flags that the command does not
// have, and flags without their value, are usage errors.
func flagsFirst(app *cli.App, args []string) ([]string, error) {
	if len(args) < 2 {
		return args, nil
	}
	command := app.Command(args[1])
	if command == nil {
		return args, checkAppFlag(args[1])
	}
	at, name := 2, app.Name+" "+command.Name
	if len(args) > 2 {
		i := slices.IndexFunc(command.Subcommands, func(sub *cli.Command) bool { return sub.HasName(args[2]) })
		if i >= 0 {
			at, command = 3, command.Subcommands[i]
			name += " " + command.Name
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
		flag, _, hasValue := strings.Cut(arg, "=")
		known, takesValue := flagKind(command, strings.TrimLeft(flag, "-"))
		switch {
		case !known:
			return nil, usage(didYouMean(nearestFlag(command, flag), helpHint(name, "flags")), "unknown flag %s", flag)
		case slices.Contains(cli.HelpFlag.Names(), strings.TrimLeft(flag, "-")):
			return append(slices.Clone(args[:at]), "--help"), nil
		case !takesValue || hasValue:
		case i+1 == len(args):
			return nil, usage(helpHint(name, "flags"), "%s needs a value", flag)
		default:
			i++
			front = append(front, args[i])
		}
	}
	return slices.Concat(args[:at], front, rest), nil
}

// checkAppFlag refuses a flag before the command: there are none but these.
func checkAppFlag(arg string) error {
	switch strings.TrimLeft(arg, "-") {
	case "help", "h", "version", "v", "":
		return nil
	}
	if arg[0] != '-' {
		return nil // an unknown command, which the app's action reports
	}
	return usage(helpHint("culvert", "commands")+"; a command's flags stand after it", "unknown flag %s", arg)
}

// flagKind says whether a command has a flag, and whether that takes a value.
func flagKind(command *cli.Command, name string) (known, takesValue bool) {
	if slices.Contains(cli.HelpFlag.Names(), name) {
		return true, false
	}
	for _, f := range command.Flags {
		if slices.Contains(f.Names(), name) {
			_, isBool := f.(*cli.BoolFlag)
			return true, !isBool
		}
	}
	return false, false
}

// oneArgument returns the command's only argument.
func oneArgument(c *cli.Context, name string) (string, error) {
	switch c.NArg() {
	case 1:
		return c.Args().First(), nil
	case 0:
		return "", usage(usageHint(c), "%s is missing", name)
	}
	return "", usage(usageHint(c), "unexpected argument %q", c.Args().Get(1))
}

func noArguments(c *cli.Context) error {
	if c.NArg() > 0 {
		return usage(usageHint(c), "unexpected argument %q", c.Args().First())
	}
	return nil
}

// requireFlags refuses a command line without one of the flags. The parser could do it, but prints its help first.
func requireFlags(c *cli.Context, flags ...string) error {
	for _, flag := range flags {
		if c.String(flag) == "" {
			return usage(usageHint(c), "--%s is missing", flag)
		}
	}
	return nil
}

// usageHint shows how a command is called.
func usageHint(c *cli.Context) string {
	return "usage: " + strings.TrimSpace(c.Command.HelpName+" "+c.Command.ArgsUsage)
}

// helpHint tells where a command's flags, or its commands, are listed.
func helpHint(command, what string) string {
	return "`" + command + " --help` lists the " + what
}
