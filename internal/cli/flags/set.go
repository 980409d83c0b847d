package flags

import (
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
)

// Set collects the flags and arguments that a command defines.
type Set struct {
	flags     []*Flag
	arguments []*Argument
	command   *[]string // for what follows "--"; nil if the command takes none
	sources   []**Source
	group     string
	cmdline   bool // what is defined now is taken from the command line only
}

// Flag is a flag of a command, bound to a variable that gets its value.
type Flag struct {
	names  []string // the first is also the key in the configuration file
	group  string
	usage  string // the placeholder of its value is in backquotes
	values []string
	given  *bool // may be nil

	secret, reloadable, required, common bool

	origin  origin  // of the value
	typedAs *string // may be nil

	overrides []string // main names

	cmdline bool // taken from the command line only

	library cli.Flag // the same flag as the library has it
	kind    kind
}

// kind is a flag's variable, with the operations that depend on its type.
type kind interface {
	assign(value any) // a value of the variable's type
	value() any       // the variable's
	isSwitch() bool

	// convert returns a value of the configuration file as one of the variable's type. If it can't,
	// it returns in want what the file should hold.
	convert(decoded any) (value any, want string)

	// check returns "" if text is a valid value on the command line, or else what is wanted.
	check(text string) (want string)

	example() string             // a value, or "" if any text may be one
	literal(value string) string // a value as the configuration file has it
}

// variable is a kind for variables of type T.
type variable[T any] struct {
	p    *T
	want string
	from func(decoded any) (T, bool)
}

func (v *variable[T]) assign(value any) { *v.p = value.(T) }

func (v *variable[T]) value() any { return *v.p }

func (v *variable[T]) isSwitch() bool {
	_, ok := v.value().(bool)
	return ok
}

func (v *variable[T]) convert(decoded any) (value any, want string) {
	if value, ok := v.from(decoded); ok {
		return value, ""
	}
	return nil, v.want
}

func (v *variable[T]) check(text string) (want string) {
	var err error
	switch v.value().(type) {
	case bool:
		_, err = strconv.ParseBool(text)
	case int:
		_, err = strconv.ParseInt(text, 10, strconv.IntSize)
		if digits := strings.TrimLeft(text, "+-"); len(digits) > 1 && digits[0] == '0' {
			err = strconv.ErrSyntax // the library would take it for another base
		}
	case time.Duration:
		_, err = time.ParseDuration(text)
	}
	if err != nil {
		return v.want
	}
	return ""
}

func (v *variable[T]) example() string {
	switch any(*v.p).(type) {
	case bool:
		return "true"
	case int:
		return "10"
	case time.Duration:
		return "20s"
	}
	return ""
}

// Group names the part of the help that lists the flags defined after it.
func (s *Set) Group(name string) { s.group = name }

// FromCommandLine makes the flags that define defines be taken from the command line only: what
// they ask for is done once, so a variable or a file would do it again, or it is of this call alone
// and another command has a flag of the same name.
func (s *Set) FromCommandLine(define func()) {
	s.cmdline = true
	define()
	s.cmdline = false
}

// add defines a flag. Names are separated by commas, the main one comes first.
func (s *Set) add(names, usage string, kind kind) *Flag {
	f := &Flag{names: strings.Split(names, ","), group: s.group, usage: usage, kind: kind}
	f.cmdline = s.cmdline
	s.flags = append(s.flags, f)
	return f
}

// String defines a flag with a text for a value. In usage, backquotes mark the value's placeholder.
// Aliases follow the name after commas, as in "out,o".
func (s *Set) String(p *string, names, value, usage string) *Flag {
	*p = value
	f := s.add(names, usage, &variable[string]{p, "a string", asType[string]})
	f.library = &cli.StringFlag{
		Name: f.names[0], Aliases: f.names[1:], EnvVars: f.variables(), Category: f.group,
		Usage: usage, Value: value,
	}
	return f
}

// Strings defines a flag that may be repeated.
func (s *Set) Strings(p *[]string, names string, value []string, usage string) *Flag {
	*p = value
	f := s.add(names, usage, &variable[[]string]{p, "a string, or an array of strings", asStrings})
	library := &cli.StringSliceFlag{
		Name: f.names[0], Aliases: f.names[1:], EnvVars: f.variables(), Category: f.group,
		Usage: usage,
	}
	if len(value) > 0 {
		library.Value = cli.NewStringSlice(value...)
	}
	f.library = library
	return f
}

// Bool defines a switch, which is off by default.
func (s *Set) Bool(p *bool, names, usage string) *Flag {
	*p = false
	f := s.add(names, usage, &variable[bool]{p, "true or false", asType[bool]})
	f.library = &cli.BoolFlag{
		Name: f.names[0], Aliases: f.names[1:], EnvVars: f.variables(), Category: f.group,
		Usage: usage, DisableDefaultText: true, // "false" would be noise
	}
	return f
}

// Int defines a flag with a whole number for a value.
func (s *Set) Int(p *int, names string, value int, usage string) *Flag {
	*p = value
	f := s.add(names, usage, &variable[int]{p, "a number", asInt})
	f.library = &cli.IntFlag{
		Name: f.names[0], Aliases: f.names[1:], EnvVars: f.variables(), Category: f.group,
		Usage: usage, Value: value,
	}
	return f
}

// Duration defines a flag with a duration for a value, in Go's notation.
func (s *Set) Duration(p *time.Duration, names string, value time.Duration, usage string) *Flag {
	*p = value
	f := s.add(names, usage, &variable[time.Duration]{p, `a duration as in "20s"`, asDuration})
	f.library = &cli.DurationFlag{
		Name: f.names[0], Aliases: f.names[1:], EnvVars: f.variables(), Category: f.group,
		Usage: usage, Value: value,
	}
	return f
}

// Values lists the words that completion offers for the value, each with its meaning after a tab if
// it needs one. Other values are accepted too.
func (f *Flag) Values(words ...string) *Flag {
	f.values = words
	return f
}

// Given has *p report whether the value is other than the default because somebody set it.
func (f *Flag) Given(p *bool) *Flag {
	f.given = p
	return f
}

// Overrides declares that this flag, where it is given (a switch: as true), decides what the flags
// of the main names would decide: they don't count where they are given only by what the flag
// itself would win over, such as the configuration file if this one is on the command line.
func (f *Flag) Overrides(names ...string) *Flag {
	f.overrides = names
	return f
}

// TypedAs has *p hold the flag as it was typed, for errors that tell what to change.
func (f *Flag) TypedAs(p *string) *Flag {
	*p = f.spelled()
	f.typedAs = p
	return f
}

// Secret declares that the value may hold a password: a configuration file that sets the flag must
// be private, and errors don't quote it.
func (f *Flag) Secret() *Flag {
	f.secret = true
	return f
}

// Reloadable has Source.Decode take the value from the configuration file as the file is then.
func (f *Flag) Reloadable() *Flag {
	f.reloadable = true
	return f
}

// Required refuses a command line without the flag, or with an empty text for a value.
func (f *Flag) Required() *Flag {
	f.required = true
	return f
}

// Common declares that the flag is among those that are used most, with which the help begins.
func (f *Flag) Common() *Flag {
	f.common = true
	return f
}

// Names returns the flag's names without dashes, the main one first.
func (f *Flag) Names() []string { return f.names }

// Usage returns the description of the flag, with the placeholder of its value in backquotes.
func (f *Flag) Usage() string { return f.usage }

// Group returns the name of the part of the help that lists the flag.
func (f *Flag) Group() string { return f.group }

// Placeholder returns the word for the value in the help; it is empty for a switch.
func (f *Flag) Placeholder() string {
	if f.kind.isSwitch() {
		return ""
	}
	if parts := strings.Split(f.usage, "`"); len(parts) > 1 {
		return parts[1]
	}
	return "VALUE"
}

// Default returns the default as the help prints it; it is empty if there is none.
func (f *Flag) Default() string {
	if documented, ok := f.library.(cli.DocGenerationFlag); ok && !f.kind.isSwitch() {
		return documented.GetDefaultText()
	}
	return ""
}

// Variable returns the name of the flag's environment variable.
func (f *Flag) Variable() string {
	return "CULVERT_" + strings.ToUpper(strings.ReplaceAll(f.names[0], "-", "_"))
}

func (f *Flag) variables() []string {
	if f.cmdline {
		return nil
	}
	return []string{f.Variable()}
}

// Value returns what the flag's variable holds.
func (f *Flag) Value() any { return f.kind.value() }

// hasName reports whether the flag is called name.
func (f *Flag) hasName(name string) bool {
	for _, n := range f.names {
		if n == name {
			return true
		}
	}
	return false
}

// IsFromCommandLine reports whether the flag is taken from the command line only.
func (f *Flag) IsFromCommandLine() bool { return f.cmdline }

// take sets the variable to a value that somebody gave.
func (f *Flag) take(value any, from origin) {
	f.kind.assign(value)
	f.origin = from
	if f.typedAs != nil {
		*f.typedAs = f.Typed()
	}
	if f.given != nil {
		*f.given = true
	}
}

// spelled returns the flag's main name with its dashes.
func (f *Flag) spelled() string { return spellFlag(f.names[0]) }

// spellFlag returns a flag's name with its dashes.
func spellFlag(name string) string {
	if len(name) == 1 {
		return "-" + name
	}
	return "--" + name
}

// Source has *p point to where the values came from once the command runs, for Source.Decode.
func (s *Set) Source(p **Source) { s.sources = append(s.sources, p) }

// lookup returns the flag that is called name, or nil.
func lookup(flags []*Flag, name string) *Flag {
	for _, f := range flags {
		if f.hasName(name) {
			return f
		}
	}
	return nil
}
