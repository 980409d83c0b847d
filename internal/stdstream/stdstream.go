// Package stdstream reads and writes the standard streams so that a blocked call can be ended.
//
// A process inherits them from another and often shares them with it, so they stay in the mode that
// they have: that is usually the blocking one, in which the deadlines of package os don't work. On
// Unix each call waits with poll(2) and only then reads or writes. Elsewhere a read that is blocked
// is left behind until the process exits, and its goroutine with it.
//
// A write to a pipe that nobody reads any more is an error like any other, even on standard output
// and standard error, for which package os ends the process.
package stdstream

import (
	"errors"
	"os"
)

// ErrInterrupted is returned by calls that Interrupt has ended.
var ErrInterrupted = errors.New("stdstream: interrupted")

// Stream is an inherited file. All methods but Release may be called concurrently.
type Stream struct {
	file *os.File
	wake wake
}

// New returns a Stream that reads from or writes to f. The caller releases it in the end.
func New(f *os.File) *Stream {
	s := &Stream{file: f}
	s.wake.open()
	return s
}

// Interrupt ends the calls that are blocked, and all later ones.
func (s *Stream) Interrupt() { s.wake.interrupt() }

// Release interrupts the stream and frees what it holds. No call may be under way. It leaves the
// file open.
func (s *Stream) Release() {
	s.wake.interrupt()
	s.wake.release()
}

// Close interrupts the stream and closes the file.
func (s *Stream) Close() error {
	s.wake.interrupt()
	return s.closeFile()
}
