package cli

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"sync/atomic"
	"time"

	"culvert/internal/cli/exit"
	"culvert/internal/cli/flags"
	"culvert/internal/logsink"
	"culvert/internal/printable"
	"culvert/tunnel"
	"culvert/tunnel/mux"
)

// accessLog writes a line of JSON for each stream of a remote to a file. It does nothing without a
// file.
type accessLog struct {
	path string // "" for none
	file *accessFile
	sink *logsink.Writer
}

func (l *accessLog) define(s *flags.Set) {
	s.Group("output")
	s.String(&l.path, "access-log", "",
		"write a line of JSON for each stream to `FILE`, which is opened again at a reload")
}

// open opens the file. The caller closes the log.
func (l *accessLog) open() error {
	if l.path == "" {
		return nil
	}
	l.file = &accessFile{path: l.path}
	if err := l.file.open(); err != nil {
		return exit.Fail(exit.Failed, "can't use the file of --access-log", err, "")
	}
	l.sink = logsink.New(l.file, accessGap)
	return nil
}

// reopen opens the file again, which may have been renamed. If that fails, the log goes on in the
// old one.
func (l *accessLog) reopen() error {
	if l.file == nil {
		return nil
	}
	return l.file.open()
}

func (l *accessLog) close() {
	if l.sink != nil && l.sink.Close(nil) {
		l.file.Interrupt()
	}
}

// recorder returns what a remote calls with its streams, nil without a file.
func (l *accessLog) recorder() func(tunnel.StreamRecord) {
	if l.sink == nil {
		return nil
	}
	return func(r tunnel.StreamRecord) { writeLine(l.sink, newAccessLine(r)) }
}

// accessLine is a line of the access log. docs/cli.md documents it.
type accessLine struct {
	Time     string   `json:"time"` // when the stream ended
	Session  string   `json:"session"`
	Stream   uint32   `json:"stream"`
	Key      string   `json:"key"`
	Name     string   `json:"name,omitempty"`
	From     string   `json:"from,omitempty"`
	Kind     string   `json:"kind"`
	Target   string   `json:"target"`
	Result   string   `json:"result"`
	Code     mux.Code `json:"code,omitempty"`
	Duration string   `json:"duration"`
	Sent     uint64   `json:"sent_bytes"` // to the client
	Received uint64   `json:"received_bytes"`
}

func newAccessLine(r tunnel.StreamRecord) accessLine {
	line := accessLine{
		Time:    time.Now().Format(logTime),
		Session: r.Session, Stream: r.Stream, Key: r.Key.String(), Name: r.Name,
		Kind: r.Kind, Target: r.Target, Result: r.Result.String(), Code: r.Code,
		Duration: r.Lasted.String(), Sent: r.Sent, Received: r.Received,
	}
	if r.From.IsValid() {
		line.From = r.From.String()
	}
	return line
}

// accessGap returns the line that counts lines which are missing: the disk was full, or too slow.
func accessGap(dropped int) []byte {
	var line lineBuffer
	writeLine(&line, struct {
		Time    string `json:"time"`
		Dropped int    `json:"dropped"`
	}{time.Now().Format(logTime), dropped})
	return line
}

// lineBuffer keeps what is written to it.
type lineBuffer []byte

func (b *lineBuffer) Write(p []byte) (int, error) {
	*b = append(*b, p...)
	return len(p), nil
}

// writeLine writes a value as a line of JSON, in one call of w, which doesn't fail.
func writeLine(w io.Writer, value any) {
	encoder := json.NewEncoder(printable.JSONWriter{W: w})
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(value) // all values here have an encoding
}

// accessFile is a file that may be opened again while it is written to. Only one goroutine may call
// Write.
type accessFile struct {
	path    string
	current atomic.Pointer[os.File]
	cut     bool // the last line is not whole
}

// open opens the file in place of the one before.
func (f *accessFile) open() error {
	opened, err := os.OpenFile(f.path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	if last := f.current.Swap(opened); last != nil {
		_ = last.Close() // what was written is written
	}
	return nil
}

// Write appends a line.
func (f *accessFile) Write(p []byte) (int, error) {
	for {
		file := f.current.Load()
		n, err := file.Write(lineAfter(f.cut, p))
		if errors.Is(err, fs.ErrClosed) && f.current.Load() != file {
			f.cut = false // another file has begun
			continue
		}
		return noteLine(&f.cut, n, p), err
	}
}

// Interrupt closes the file.
func (f *accessFile) Interrupt() { _ = f.current.Load().Close() }
