package flags

import (
	"context"
	"errors"
	"io"
	"iter"
	"os"
	"strings"

	"culvert/internal/cli/exit"

	"github.com/urfave/cli/v2"
)

// App is a program with commands.
type App struct {
	Name, Usage, Version string
	Commands             []*Command
	Examples             []string   // of command lines, for the help
	Groups               []string   // of flags, in the order of the help
	ConfigFiles          []string   // the first that exists is read, unless --config names one
	Stdout               io.Writer  // for help, the version and completions
	Width                func() int // returns that of the help in columns; nil for 80
}

// Command is a command of an App. It has a function to run, or commands of its own, or both.
type Command struct {
	Name, Usage string
	Define      func(s *Set) // may be nil
	Run         func(ctx context.Context) error
	Commands    []*Command
	Examples    []string // of command lines, for the help
	Hosts       bool     // [hosts.NAME] in the configuration file may have the command's flags

	path []string // the command's words after the program's name
	full string   // the program's name and path
	set  *Set
}

// NewApp returns the program. Each command's Define is called, and so sets the defaults.
func NewApp(name, usage, version string, commands ...*Command) *App {
	a := &App{Name: name, Usage: usage, Version: version, Commands: commands, Stdout: os.Stdout}
	for _, c := range commands {
		c.prepare(name, nil)
	}
	return a
}

func (c *Command) prepare(program string, parents []string) {
	c.path = append(parents[:len(parents):len(parents)], c.Name)
	c.full = program + " " + strings.Join(c.path, " ")
	c.set = &Set{}
	if c.Define != nil {
		c.Define(c.set)
	}
	if len(c.set.flags) > 0 {
		c.set.defineConfig(new(string))
	}
	for _, sub := range c.Commands {
		sub.prepare(program, c.path)
	}
}

// Flags returns the command's flags in the order of their definition, --config last.
func (c *Command) Flags() []*Flag { return c.set.flags }

// Path returns the words that call the command, without the program's name.
func (c *Command) Path() []string { return c.path }

// Synopsis returns what follows the command's words in its usage line.
func (c *Command) Synopsis() string {
	given := ""
	if len(c.set.flags) > 0 {
		given = "[FLAG]..."
	}
	return c.set.argumentsUsage(given)
}

// Runnable returns the commands that do something, in the order of the help.
func (a *App) Runnable() iter.Seq[*Command] {
	return func(yield func(*Command) bool) { eachRunnable(a.Commands, yield) }
}

func eachRunnable(commands []*Command, yield func(*Command) bool) (goOn bool) {
	for _, c := range commands {
		if c.Run != nil && !yield(c) || !eachRunnable(c.Commands, yield) {
			return false
		}
	}
	return true
}

// find returns the command that is called name, or nil.
func find(commands []*Command, name string) *Command {
	for _, c := range commands {
		if c.Name == name {
			return c
		}
	}
	return nil
}

// usageHint shows how the command is called.
func (c *Command) usageHint() string {
	return strings.TrimSpace("usage: " + c.full + " " + c.set.argumentsUsage(""))
}

// Run runs the command line args, args[0] being the program's name.
func (a *App) Run(ctx context.Context, args []string) error {
	if len(args) > 1 && args[1] == completeWord {
		a.printCandidates(args[2:])
		return nil
	}
	args, err := a.flagsFirst(helpFlag(args))
	if err == nil {
		err = a.library().RunContext(ctx, args)
	}
	if help, ok := errors.AsType[*helpWanted](err); ok {
		return a.printHelp(help.command)
	}
	return err
}

// library returns the program as the library has it, which parses the command line.
func (a *App) library() *cli.App {
	app := &cli.App{
		Name:      a.Name,
		HelpName:  a.Name,
		Usage:     a.Usage,
		Version:   a.Version,
		Writer:    a.Stdout,
		ErrWriter: os.Stderr,

		HideHelp:                  true, // printHelp prints it
		HideHelpCommand:           true,
		DisableSliceFlagSeparator: true,
		OnUsageError:              a.usageError(nil),
		ExitErrHandler:            func(*cli.Context, error) {}, // Run returns the error
		Action: func(c *cli.Context) error {
			if word := c.Args().First(); word != "" {
				return unknownCommand(a.Name, word, a.Commands)
			}
			return &helpWanted{}
		},
	}
	for _, c := range a.Commands {
		app.Commands = append(app.Commands, a.command(c))
	}
	return app
}

// command returns a command as the library has it.
func (a *App) command(c *Command) *cli.Command {
	command := &cli.Command{
		Name:            c.Name,
		HideHelp:        true,
		HideHelpCommand: true,
		OnUsageError:    a.usageError(c),
	}
	for _, f := range c.set.flags {
		command.Flags = append(command.Flags, f.library)
	}
	for _, sub := range c.Commands {
		command.Subcommands = append(command.Subcommands, a.command(sub))
	}
	command.Action = func(parsed *cli.Context) error {
		word := parsed.Args().First()
		switch {
		case word != "" && len(c.Commands) > 0:
			return unknownCommand(c.full, word, c.Commands)
		case c.Run == nil:
			return &helpWanted{c}
		}
		source := &Source{
			commands: a.Commands, path: c.path, defaults: a.ConfigFiles,
			given: map[string]any{}, origins: map[string]origin{},
		}
		for _, f := range c.set.flags {
			if f.origin.typed == "" && !f.cmdline { // what the library understands may be something else
				if bad := f.checkVariable(); bad != nil {
					return bad
				}
			}
			if name := f.names[0]; parsed.IsSet(name) {
				source.given[name] = plainValue(parsed.Value(name))
				source.origins[name] = origin{typed: f.origin.typed, variable: f.origin.typed == ""}
			}
		}
		if err := source.decodeFirst(c, parsed.Args().Slice()); err != nil {
			return explain(err, c.set.flags)
		}
		return explain(c.Run(parsed.Context), c.set.flags)
	}
	return command
}

// plainValue turns a value of the library's into one for a flag's variable.
func plainValue(value any) any {
	if list, ok := value.(cli.StringSlice); ok {
		return list.Value()
	}
	return value
}

// usageError turns what the library finds wrong with a variable's value into an error of ours.
// Wrong flags have been found by flagsFirst. The command is nil for the program itself.
func (a *App) usageError(c *Command) cli.OnUsageErrorFunc {
	return func(_ *cli.Context, err error, _ bool) error {
		if _, complete := errors.AsType[*exit.Failure](err); complete {
			return err
		}
		if c == nil {
			return exit.Usagef(helpHint(a.Name, "commands"), "%v", err)
		}
		for _, f := range c.set.flags {
			if bad := f.checkVariable(); bad != nil {
				return bad
			}
		}
		return exit.Usagef(helpHint(c.full, "flags"), "%v", err)
	}
}
