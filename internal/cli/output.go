package cli

import (
	"bytes"
	"cmp"
	"errors"
	"io"
	stdlog "log"
	"os"
	"sync/atomic"

	"culvert/internal/cli/exit"
	"culvert/internal/httplog"
	"culvert/internal/logsink"
	"culvert/internal/stdstream"

	"github.com/rs/zerolog"
)

// outputs are where commands that serve write: nothing holds them up, whether anybody reads that or
// not. The results of other commands, such as the certificate that `culvert cert show` prints, and
// the data of -W are written directly.
type outputs struct {
	stdout *output // the line of --print-ready, and what demo prints
	stderr *output // logs and errors

	log    *logFile                  // in place of stderr's log; nil for none
	format atomic.Pointer[logFormat] // of the log

	version string // of the program
}

// output is one of them.
type output struct {
	*logsink.Writer
	stream *stdstream.Stream
}

func newOutput(file *os.File, note func(dropped int) []byte) *output {
	stream := stdstream.New(file)
	return &output{logsink.New(&lineStream{Stream: stream}, note), stream}
}

// lineStream begins a line of its own after one that could be written in part, as to a file on a
// full disk. Only one goroutine may call Write.
type lineStream struct {
	*stdstream.Stream
	cut bool // the last line is not whole
}

// Write appends a line.
func (s *lineStream) Write(p []byte) (int, error) {
	n, err := s.Stream.Write(lineAfter(s.cut, p))
	return noteLine(&s.cut, n, p), err
}

// lineAfter returns what to write for a line, after one that is cut or not.
func lineAfter(cut bool, line []byte) []byte {
	if cut {
		return append([]byte{'\n'}, line...)
	}
	return line
}

// noteLine notes whether a line is cut of which n bytes were written, with what lineAfter has put
// before it. It returns how many are the line's.
func noteLine(cut *bool, n int, line []byte) int {
	size := len(lineAfter(*cut, line))
	if n > 0 {
		*cut = n < size
	}
	return max(0, n-size+len(line))
}

// close writes what is queued, followed by last.
func (o *output) close(last []byte) {
	if o.Close(last) {
		o.stream.Release()
	}
}

func openOutputs() *outputs {
	zerolog.DurationFieldFormat = zerolog.DurationFormatString // as 1.5s
	o := &outputs{stdout: newOutput(os.Stdout, nil)}
	format, _ := newLogFormat("", os.Stderr) // fails only for other names
	o.format.Store(&format)
	o.stderr = newOutput(os.Stderr, o.droppedNote)
	return o
}

// logFile is the file of --log-file.
type logFile struct {
	file *accessFile
	sink *logsink.Writer
}

// cannotWrite explains why standard output, which holds a result, can't be written; nil for nil.
func cannotWrite(err error) error {
	if err == nil {
		return nil
	}
	return exit.Fail(exit.Failed, "can't write", err, "")
}

// resultWriter keeps the first error of what a command writes to standard output.
type resultWriter struct {
	w   io.Writer
	err error
}

// Write implements io.Writer.
func (r *resultWriter) Write(p []byte) (int, error) {
	n, err := r.w.Write(p)
	r.err = cmp.Or(r.err, err)
	return n, err
}

// openLog makes the log go to a file. It stays open until finish.
func (o *outputs) openLog(path string) error {
	file := &accessFile{path: path}
	if err := file.open(); err != nil {
		return err
	}
	o.log = &logFile{file, logsink.New(file, o.droppedNote)}
	return nil
}

// reopenLog opens the file of the log again, which may have been renamed. A nil o has none.
func (o *outputs) reopenLog(log zerolog.Logger) {
	if o == nil || o.log == nil {
		return
	}
	if err := o.log.file.open(); err != nil {
		log.Error().Err(err).Msg("the log goes on in the old file")
	}
}

// logTarget returns what the log is written to, and the file that it ends up in.
func (o *outputs) logTarget() (io.Writer, *os.File) {
	if o.log != nil {
		return o.log.sink, o.log.file.current.Load()
	}
	return o.stderr, os.Stderr
}

// dropped returns how many lines of the log were dropped since whoever reads it is behind.
func (o *outputs) dropped() uint64 {
	lines := o.stderr.Dropped()
	if o.log != nil {
		lines += o.log.sink.Dropped()
	}
	return lines
}

// close writes what is queued, followed by the error that ends the program, which may be nil.
func (l *logFile) close(o *outputs, err error) {
	var last bytes.Buffer
	_, quiet := errors.AsType[exit.Status](err)
	if err != nil && !quiet {
		log := zerolog.New(o.logWriter(&last)).Hook(timestamp{})
		event := log.Error()
		if failure, ok := errors.AsType[*exit.Failure](err); ok && failure.Hint != "" {
			event.Str("hint", failure.Hint)
		}
		event.Msg(err.Error())
	}
	if l.sink.Close(last.Bytes()) {
		l.file.Interrupt()
	}
}

// setLogFormat sets the format of log events from now on: see newLogFormat.
func (o *outputs) setLogFormat(name string) error {
	_, file := o.logTarget()
	format, err := newLogFormat(name, file)
	if err != nil {
		return err
	}
	o.format.Store(&format)
	return nil
}

// logWriter returns a writer of log events to w.
func (o *outputs) logWriter(w io.Writer) io.Writer { return o.format.Load().writer(w) }

// finish reports the error that ended the command, if there is one, and returns the exit status.
func (o *outputs) finish(err error) int {
	var text bytes.Buffer
	status := exit.OK
	if err != nil {
		status = exit.Report(&text, err)
	}
	last := text.Bytes()
	if o.format.Load().journal {
		last = errorForJournal(last)
	}
	if o.log != nil {
		o.log.close(o, err)
	}
	o.stdout.close(nil)
	o.stderr.close(last)
	return status
}

// droppedNote returns the line about lines of the log that are missing.
func (o *outputs) droppedNote(dropped int) []byte {
	var line bytes.Buffer
	log := zerolog.New(o.logWriter(&line)).Hook(timestamp{})
	log.Warn().Int("lines", dropped).Msg("log lines were dropped, as nobody read them")
	return line.Bytes()
}

// takeLibraryLog logs what libraries write to the standard logger, at the debug level: net/http has
// lines there about what peers send. Otherwise they would go to standard error, whatever the level.
func takeLibraryLog(log zerolog.Logger) {
	stdlog.SetFlags(0)
	stdlog.SetOutput(httplog.Writer{Log: log})
}
