package flags

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"culvert/internal/cli/exit"
	"culvert/internal/shellquote"
)

// ValueError is the error of a value that a command can't use. When a command returns one, package
// flags replaces it with a *exit.Failure that shows where the value came from: the flag as it was
// typed, the variable, or the configuration file and its line.
type ValueError struct {
	Flag    string // its main name
	Value   string // one of them, if the flag is repeatable
	Why     string
	Form    string // what a value is, such as "it is HOST:PORT"; may be empty
	Example string // a value that is right, or ""
	Secret  bool   // the value is not to be shown
}

func (e *ValueError) Error() string { return e.failure(nil).Error() }

// Unwrap returns the *exit.Failure that has the flag's main name.
func (e *ValueError) Unwrap() error { return e.failure(nil) }

// failure returns the error for people. The flag may be nil.
func (e *ValueError) failure(f *Flag) *exit.Failure {
	if f == nil {
		f = &Flag{names: []string{e.Flag}}
	}
	what := f.assigned(e.Value, e.Secret || f.secret)
	if e.Why != "" {
		what += ": " + e.Why
	}
	hint := e.Form
	if e.Example != "" {
		if hint != "" {
			hint += ", "
		}
		hint += "such as " + f.origin.example(f, e.Example)
	}
	return &exit.Failure{Code: exit.Usage, What: what, Hint: hint}
}

// origin is where a flag's value came from.
type origin struct {
	typed    string // the flag as it was typed; "" for its main name
	variable bool
	file     string // the configuration file, or ""
	line     int    // in that file
}

// assigned names a bad value and where it is, without the value if it is hidden.
func (f *Flag) assigned(value string, hidden bool) string {
	quoted := ""
	if !hidden {
		quoted = " " + strconv.Quote(value)
	}
	if f.origin.file != "" {
		return fmt.Sprintf("bad configuration: %s: line %d: %s%s",
			f.origin.file, f.origin.line, f.names[0], quoted)
	}
	return "bad " + f.Typed() + quoted
}

// example returns what to write at the same place.
func (o origin) example(f *Flag, value string) string {
	switch {
	case o.file != "":
		return f.names[0] + " = " + f.kindOrText().literal(value)
	case o.variable:
		return f.Variable() + "=" + shellquote.Quote(value)
	case f.kindOrText().isSwitch():
		return f.Typed() + "=" + shellquote.Quote(value)
	}
	return f.Typed() + " " + shellquote.Quote(value)
}

// Typed returns the flag as it was given: as on the command line, or its variable, or else its main
// name.
func (f *Flag) Typed() string {
	switch {
	case f.origin.variable:
		return f.Variable()
	case f.origin.typed != "":
		return f.origin.typed
	}
	return f.spelled()
}

// kindOrText returns the flag's kind, that of a text if it has none.
func (f *Flag) kindOrText() kind {
	if f.kind != nil {
		return f.kind
	}
	return &variable[string]{p: new(string)}
}

// literal returns a value as the configuration file has it.
func (v *variable[T]) literal(text string) string {
	switch any(*v.p).(type) {
	case bool, int:
		return text
	}
	return strconv.Quote(text)
}

// explain returns the *exit.Failure for an error that is a *ValueError of one of the flags, and
// other errors as they are.
func explain(err error, flags []*Flag) error {
	bad, ok := errors.AsType[*ValueError](err)
	if !ok {
		return err
	}
	return bad.failure(lookup(flags, bad.Flag))
}

// wrongKind returns the error of a text that is no value of the flag's kind.
func (f *Flag) wrongKind(text, want string) error {
	bad := &ValueError{Flag: f.names[0], Value: text, Why: "want " + want, Example: f.example()}
	return bad.failure(f)
}

// example returns a value of the flag's kind.
func (f *Flag) example() string {
	if standard := strings.Trim(f.Default(), `"`); standard != "" {
		return standard
	}
	return f.kind.example()
}

// checkVariable returns an error if the flag's variable is set to something that the flag can't be.
// The value of a flag that holds a secret is a text, and any text will do.
func (f *Flag) checkVariable() error {
	text := os.Getenv(f.Variable())
	if text == "" {
		return nil
	}
	want := f.kind.check(text)
	if want == "" {
		return nil
	}
	f.origin = origin{variable: true}
	return f.wrongKind(text, want)
}
