package cli

import (
	"context"
	"io"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"github.com/rs/zerolog"
	"github.com/urfave/cli/v2"
)

// gcPercent is by how much the heap may grow between two collections, in per cent of what is in use. Data is in pooled
// buffers and makes no garbage, so that collections are rare and cheap; half of Go's default saves memory with many streams.
const gcPercent = 50

// Main runs the command line args, args[0] being the program's name, and returns the exit status.
func Main(ctx context.Context, args []string, version string) int {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	app := newApp(version)
	if len(args) > 1 && args[1] == completeWord {
		printCandidates(app, args[2:])
		return exitOK
	}
	args, err := flagsFirst(app, helpFlag(args))
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
			runCommand(),
			checkCommand(),
			keygenCommand(),
			certCommand(),
			demoCommand(),
			completionCommand(),
		},
		HideHelpCommand:           true, // helpFlag does what it would
		CustomAppHelpTemplate:     appHelp,
		DisableSliceFlagSeparator: true,
		OnUsageError:              usageError,
		ExitErrHandler:            func(*cli.Context, error) {}, // Main reports
		Action: func(c *cli.Context) error {
			if c.NArg() > 0 {
				return unknownCommand("culvert", c.Args().First(), c.App.Commands)
			}
			return cli.ShowAppHelp(c)
		},
	}
	for _, command := range app.Commands {
		finish(command)
		for _, sub := range command.Subcommands {
			finish(sub)
		}
	}
	return app
}

// finish gives a command what all have.
func finish(command *cli.Command) {
	command.OnUsageError = usageError
	command.CustomHelpTemplate = commandHelp
	command.HideHelpCommand = true
	if len(command.Flags) > 0 {
		command.Flags = append(command.Flags, configFlag(command.Flags[0]))
		command.Before = applyConfig
	}
	for _, f := range command.Flags {
		if b, ok := f.(*cli.BoolFlag); ok {
			b.DisableDefaultText = true // "false" would be noise
		}
	}
}

// usageError makes what the flag parser says of a flag's value a failure of ours. Unknown flags and missing values have
// been found by flagsFirst.
func usageError(c *cli.Context, err error, _ bool) error {
	return usage(helpHint(c.Command.HelpName, "flags"), "%v", err)
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
	return zerolog.New(logWriter(os.Stderr)).Level(level).Hook(timestamp{}), nil
}

// timestamp adds the time to each event. Zerolog's own has whole seconds unless a variable of the library is changed.
type timestamp struct{}

func (timestamp) Run(e *zerolog.Event, _ zerolog.Level, _ string) {
	e.Str(zerolog.TimestampFieldName, time.Now().Format(time.RFC3339Nano))
}

// logTime is how the time stands in a log event.
const logTime = "2006-01-02T15:04:05.000"

func logWriter(w io.Writer) io.Writer {
	return zerolog.ConsoleWriter{Out: w, NoColor: true, TimeFormat: logTime}
}
