package cli

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"

	"github.com/rs/zerolog"
	"github.com/urfave/cli/v2"
)

// Main runs the command line args, args[0] being the program's name, and returns the exit status.
func Main(ctx context.Context, args []string, version string) int {
	app := newApp(version)
	args, err := flagsFirst(app, args)
	if err == nil {
		err = app.RunContext(ctx, args)
	}
	if err == nil {
		return exitOK
	}
	return report(os.Stderr, err)
}

func newApp(version string) *cli.App {
	app := &cli.App{
		Name:      "culvert",
		Usage:     "carry a browser, single ports and scripts through one secured WebSocket",
		Version:   version,
		Writer:    os.Stdout,
		ErrWriter: os.Stderr,
		Commands: []*cli.Command{
			remoteCommand(),
			localCommand(),
			checkCommand(),
			keygenCommand(),
			certCommand(),
			demoCommand(),
		},
		HideHelpCommand:           true,
		DisableSliceFlagSeparator: true,
		OnUsageError:              usageError,
		ExitErrHandler:            func(*cli.Context, error) {}, // Main reports
		Action: func(c *cli.Context) error {
			if c.NArg() > 0 {
				return usage("`culvert --help` lists the commands", "unknown command %q", c.Args().First())
			}
			return cli.ShowAppHelp(c)
		},
	}
	for _, command := range app.Commands {
		command.OnUsageError = usageError
		for _, sub := range command.Subcommands {
			sub.OnUsageError = usageError
		}
	}
	return app
}

// usageError makes what the flag parser says a failure of ours.
func usageError(c *cli.Context, err error, _ bool) error {
	hint := "`culvert --help` lists the commands"
	if c.Command != nil && c.Command.Name != "" {
		hint = "`culvert " + c.Command.Name + " --help` lists the flags"
	}
	var failure *Failure
	if errors.As(err, &failure) {
		return err
	}
	return usage(hint, "%s", strings.TrimPrefix(err.Error(), "flag "))
}

// flagsFirst moves the flags of a command before its other arguments, where the parser wants them, so that
// `culvert local URL -L …` works as people type it. What follows "--" stays as it is.
func flagsFirst(app *cli.App, args []string) ([]string, error) {
	if len(args) < 2 {
		return args, nil
	}
	at, flags := 2, app.Command(args[1])
	if flags == nil {
		return args, nil
	}
	if len(args) > 2 {
		for _, sub := range flags.Subcommands {
			if sub.HasName(args[2]) {
				at, flags = 3, sub
				break
			}
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
		name, _, hasValue := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		if !hasValue && takesValue(flags, name) && i+1 < len(args) {
			i++
			front = append(front, args[i])
		}
	}
	return append(append(append([]string{}, args[:at]...), front...), rest...), nil
}

func takesValue(command *cli.Command, name string) bool {
	for _, f := range command.Flags {
		for _, n := range f.Names() {
			if n == name {
				_, isBool := f.(*cli.BoolFlag)
				return !isBool
			}
		}
	}
	return false
}

// oneArgument returns the command's only argument.
func oneArgument(c *cli.Context, name string) (string, error) {
	switch c.NArg() {
	case 1:
		return c.Args().First(), nil
	case 0:
		return "", usage("usage: "+c.Command.HelpName+" "+c.Command.ArgsUsage, "%s is missing", name)
	}
	return "", usage("usage: "+c.Command.HelpName+" "+c.Command.ArgsUsage, "unexpected argument %q", c.Args().Get(1))
}

func noArguments(c *cli.Context) error {
	if c.NArg() > 0 {
		return usage("usage: "+c.Command.HelpName+" "+c.Command.ArgsUsage, "unexpected argument %q", c.Args().First())
	}
	return nil
}

// env names the environment variable of a flag.
func env(flag string) []string {
	return []string{"CULVERT_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))}
}

func logLevelFlag() cli.Flag {
	return &cli.StringFlag{
		Name: "log-level", EnvVars: env("log-level"), Value: "info", Category: "output",
		Usage: "least `LEVEL` that is logged: debug, info, warn, error or disabled",
	}
}

// newLogger makes the logger for standard error.
func newLogger(c *cli.Context) (zerolog.Logger, error) {
	level, err := zerolog.ParseLevel(c.String("log-level"))
	if err != nil || level == zerolog.NoLevel {
		return zerolog.Logger{}, usage("levels are debug, info, warn, error and disabled", "unknown log level %q", c.String("log-level"))
	}
	return zerolog.New(logWriter(os.Stderr)).Level(level).With().Timestamp().Logger(), nil
}

func logWriter(w io.Writer) io.Writer {
	return zerolog.ConsoleWriter{Out: w, NoColor: true, TimeFormat: "2006-01-02T15:04:05.000"}
}
