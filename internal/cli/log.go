package cli

import (
	"io"
	"time"

	"culvert/internal/cli/exit"
	"culvert/internal/cli/flags"
	"culvert/internal/printable"

	"github.com/rs/zerolog"
)

// logOptions set up the log of a node.
type logOptions struct {
	out   *outputs
	level string
	given bool // the user chose the level
}

func (o *logOptions) define(s *flags.Set) {
	s.Group("output")
	s.String(&o.level, "log-level", "info",
		"log events of `LEVEL` and above: debug, info, warn, error or disabled").
		Values("debug", "info", "warn", "error", "disabled").Given(&o.given)
}

// logger returns the logger for standard error.
func (o *logOptions) logger() (zerolog.Logger, error) {
	level, err := zerolog.ParseLevel(o.level)
	if err != nil || level == zerolog.NoLevel {
		return zerolog.Logger{}, exit.Usagef("levels are debug, info, warn, error and disabled",
			"unknown log level %q", o.level)
	}
	log := zerolog.New(logWriter(o.out.stderr)).Level(level).Hook(timestamp{})
	takeLibraryLog(log)
	return log, nil
}

// quietLogger returns a logger for a command that shares standard error with another program: it
// logs warnings and errors, unless the user chose a level.
func (o *logOptions) quietLogger() (zerolog.Logger, error) {
	log, err := o.logger()
	if !o.given {
		log = log.Level(zerolog.WarnLevel)
		takeLibraryLog(log)
	}
	return log, err
}

// timestamp adds the time to each event. Zerolog's own has whole seconds unless a global variable
// of the library is changed.
type timestamp struct{}

func (timestamp) Run(e *zerolog.Event, _ zerolog.Level, _ string) {
	e.Str(zerolog.TimestampFieldName, time.Now().Format(time.RFC3339Nano))
}

// logTime is the format of an event's time.
const logTime = "2006-01-02T15:04:05.000"

func logWriter(w io.Writer) io.Writer {
	// The library quotes values, but no messages, and not all control characters.
	return zerolog.ConsoleWriter{Out: printable.Writer{W: w}, NoColor: true, TimeFormat: logTime}
}
