package cli

import (
	"bytes"
	"io"
	"os"
	"time"

	"culvert/internal/cli/exit"
	"culvert/internal/cli/flags"
	"culvert/internal/printable"
	"culvert/internal/systemd"

	"github.com/mattn/go-isatty"
	"github.com/rs/zerolog"
)

// logOptions set up the log of a node.
type logOptions struct {
	out   *outputs
	level string
	given bool // the user chose the level

	format string // "" for the one that standard error calls for

	quiet, verbose bool
}

func (o *logOptions) define(s *flags.Set) {
	s.Group("output")
	s.String(&o.level, "log-level", "info",
		"log events of `LEVEL` and above: debug, info, warn, error or disabled").
		Values("debug", "info", "warn", "error", "disabled").Given(&o.given).Overrides("q", "v")
	s.String(&o.format, "log-format", "", "write log events as `FORMAT` console, for people, or json "+
		"(default: console if standard error is a terminal, else json)").
		Values("console", "json")
	s.Bool(&o.quiet, "q", "log errors only: --log-level error").Overrides("v")
	s.Bool(&o.verbose, "v", "log all events: --log-level debug").Overrides("q")
}

// choose applies -q and -v, which take precedence over a --log-level that was given in the same
// place.
func (o *logOptions) choose() error {
	switch {
	case o.quiet && o.verbose:
		return exit.Usagef("leave one of them out", "-q contradicts -v")
	case o.quiet:
		o.level, o.given = "error", true
	case o.verbose:
		o.level, o.given = "debug", true
	}
	return nil
}

// logger returns the logger for standard error.
func (o *logOptions) logger() (zerolog.Logger, error) {
	if err := o.choose(); err != nil {
		return zerolog.Logger{}, err
	}
	level, err := zerolog.ParseLevel(o.level)
	if err != nil || level == zerolog.NoLevel {
		return zerolog.Logger{}, &flags.ValueError{
			Flag: "log-level", Value: o.level, Why: "it is debug, info, warn, error or disabled",
			Example: "info",
		}
	}
	if err := o.out.setLogFormat(o.format); err != nil {
		return zerolog.Logger{}, err
	}
	target, _ := o.out.logTarget()
	log := zerolog.New(o.out.logWriter(target)).Level(level).Hook(timestamp{})
	takeLibraryLog(log)
	return log, nil
}

// quietLogger returns a logger for a command that shares standard error with another program, or
// tells its result itself: it logs warnings and errors, unless the user chose a level.
func (o *logOptions) quietLogger() (zerolog.Logger, error) {
	log, err := o.logger()
	if !o.given {
		log = log.Level(zerolog.WarnLevel)
		takeLibraryLog(log)
	}
	return log, err
}

// logTime is the format of an event's time: RFC 3339 with milliseconds.
const logTime = "2006-01-02T15:04:05.000Z07:00"

// timestamp adds the time to each event. Zerolog's own has whole seconds unless a global variable
// of the library is changed.
type timestamp struct{}

func (timestamp) Run(e *zerolog.Event, _ zerolog.Level, _ string) {
	e.Str(zerolog.TimestampFieldName, time.Now().Format(logTime))
}

// logFormat is how log events are written.
type logFormat struct {
	console, color bool
	journal        bool // systemd's journal reads them
}

// newLogFormat returns the format of a name, or for "" the one that file calls for.
func newLogFormat(name string, file *os.File) (logFormat, error) {
	terminal := isatty.IsTerminal(file.Fd()) || isatty.IsCygwinTerminal(file.Fd())
	f := logFormat{journal: file == os.Stderr && systemd.LogsStderr()}
	switch name {
	case "console":
	case "json":
		return f, nil
	case "":
		if !terminal {
			return f, nil
		}
	default:
		return logFormat{}, &flags.ValueError{
			Flag: "log-format", Value: name, Why: "it is console or json", Example: "json",
		}
	}
	// See no-color.org and terminfo(5).
	plain := os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb"
	f.console, f.color = true, terminal && !plain && enableColor(file)
	return f, nil
}

// writer returns a writer of events to w.
func (f logFormat) writer(w io.Writer) io.Writer {
	if f.journal {
		return journalWriter{w, f}
	}
	return f.plainWriter(w)
}

// plainWriter returns a writer of events to w that says nothing to a journal.
func (f logFormat) plainWriter(w io.Writer) io.Writer {
	if !f.console {
		return printable.JSONWriter{W: w}
	}
	console := zerolog.ConsoleWriter{
		Out: w, NoColor: !f.color, TimeFormat: logTime, FormatPrepare: printableMessage,
	}
	if !f.color {
		console.Out = printable.Writer{W: w}
	}
	return console
}

// journalWriter writes each event behind its priority, for `journalctl -p`: see sd-daemon(3).
type journalWriter struct {
	w      io.Writer
	format logFormat
}

// Write implements io.Writer.
func (j journalWriter) Write(p []byte) (int, error) { return j.WriteLevel(zerolog.NoLevel, p) }

// WriteLevel implements zerolog.LevelWriter.
func (j journalWriter) WriteLevel(level zerolog.Level, p []byte) (int, error) {
	line := bytes.NewBufferString(priority(level))
	if _, err := j.format.plainWriter(line).Write(p); err != nil {
		return 0, err
	}
	if _, err := j.w.Write(line.Bytes()); err != nil {
		return 0, err
	}
	return len(p), nil
}

// errorForJournal returns the lines of an error, each behind its priority.
func errorForJournal(lines []byte) (text []byte) {
	for line := range bytes.Lines(lines) {
		text = append(append(text, priority(zerolog.ErrorLevel)...), line...)
	}
	return text
}

// priority returns what a line for the journal begins with.
func priority(level zerolog.Level) string {
	switch level {
	case zerolog.TraceLevel, zerolog.DebugLevel:
		return "<7>"
	case zerolog.WarnLevel:
		return "<4>"
	case zerolog.ErrorLevel, zerolog.FatalLevel, zerolog.PanicLevel:
		return "<3>"
	}
	return "<6>"
}

// printableMessage makes the parts of an event printable that the library doesn't quote: messages,
// and strings in lists.
func printableMessage(event map[string]any) error {
	for name, value := range event {
		switch value := value.(type) {
		case string:
			if name == zerolog.MessageFieldName {
				event[name] = printable.Line(value)
			}
		case []any:
			for i, item := range value {
				if text, ok := item.(string); ok {
					value[i] = printable.Line(text)
				}
			}
		}
	}
	return nil
}
