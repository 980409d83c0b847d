// Package exit holds culvert's exit statuses and its errors for people: what failed, why, and what
// to do about it.
package exit

import (
	"errors"
	"fmt"
	"io"

	"culvert/internal/printable"
)

// The exit statuses that scripts rely on. docs/cli.md documents them.
const (
	OK           = 0
	Failed       = 1 // failed while running
	Usage        = 2 // wrong usage
	Unreachable  = 3 // the remote can't be reached
	WrongRemote  = 4 // the remote isn't who it should be
	NotAdmitted  = 5 // the remote doesn't admit us
	CannotListen = 6 // a local address can't be bound
)

// Status is the error of a command that has nothing to report but its exit status.
type Status int

func (s Status) Error() string { return fmt.Sprintf("exit status %d", int(s)) }

// Failure is an error for people: a line with what failed and why, and a second with what to do.
type Failure struct {
	Code int    // exit status
	What string // what failed
	Why  error  // may be nil
	Hint string // what to do; may be empty
}

func (f *Failure) Error() string {
	if f.Why == nil {
		return f.What
	}
	return f.What + ": " + f.Why.Error()
}

// Unwrap returns the cause.
func (f *Failure) Unwrap() error { return f.Why }

// Fail returns a *Failure. The cause may be nil, and the hint empty.
func Fail(code int, what string, why error, hint string) error {
	return &Failure{Code: code, What: what, Why: why, Hint: hint}
}

// Usagef returns the *Failure of a wrong command line, variable or configuration file.
func Usagef(hint, format string, args ...any) error {
	return &Failure{Code: Usage, What: fmt.Sprintf(format, args...), Hint: hint}
}

// Report prints err, which is not nil, and returns its exit status. What the error has from another
// machine is made printable.
func Report(w io.Writer, err error) int {
	var status Status
	if errors.As(err, &status) {
		return int(status)
	}
	var f *Failure
	if !errors.As(err, &f) {
		f = &Failure{Code: Failed, What: err.Error()}
	}
	fmt.Fprintf(w, "culvert: %s\n", printable.Line(f.Error()))
	if f.Hint != "" {
		fmt.Fprintln(w, printable.Lines(f.Hint))
	}
	return f.Code
}
