package flags

import (
	"errors"
	"slices"
	"strings"

	"culvert/internal/cli/exit"
)

// Argument is an argument of a command, which is required unless it is made optional.
type Argument struct {
	name     string
	take     func(text string) error
	values   []string               // nil if any text will do
	optional bool                   // it may be left out, as may all that follow
	dashed   func(word string) bool // nil if no word that begins with - is one
	host     bool                   // it may be the name of a host in the configuration file
	hosts    bool                   // likewise each that follows it
	repeated bool                   // there may be several

	candidates func(value func(flag string) string) []string // for completion; may be nil
}

// Argument defines the next argument. An error of take, which gets its text, is one of usage.
func (s *Set) Argument(name string, take func(text string) error) *Argument {
	a := &Argument{name: name, take: take}
	s.arguments = append(s.arguments, a)
	return a
}

// Optional declares that the argument may be left out. It follows all required ones.
func (a *Argument) Optional() { a.optional = true }

// Repeated declares that the argument, which is the last, may be given several times.
func (a *Argument) Repeated() *Argument {
	a.repeated = true
	return a
}

// Dashed declares that a word that begins with - is the argument, and no flag, if is reports so.
func (a *Argument) Dashed(is func(word string) bool) { a.dashed = is }

// isArgument reports whether a word that begins with - is an argument.
func (s *Set) isArgument(word string) bool {
	return slices.ContainsFunc(s.arguments, func(a *Argument) bool {
		return a.dashed != nil && a.dashed(word)
	})
}

// Values lists the words that the argument may be.
func (a *Argument) Values(words ...string) { a.values = words }

// Candidates sets what completion offers for the argument if it has no values, in addition to the
// names of defined hosts. The function's argument returns the value of a flag that was typed or is
// in a variable, or "".
func (a *Argument) Candidates(list func(value func(flag string) string) []string) *Argument {
	a.candidates = list
	return a
}

// Command takes a command and its arguments, which follow the arguments after "--".
func (s *Set) Command(p *[]string) { s.command = p }

// argumentsUsage shows the required flags and the arguments as they are typed, with others, which
// may be empty, as the place of all other flags.
func (s *Set) argumentsUsage(others string) string {
	var words []string
	for _, f := range s.flags {
		if f.required {
			words = append(words, f.spelled()+" "+f.Placeholder())
		}
	}
	for _, a := range s.arguments {
		switch {
		case a.values != nil:
			words = append(words, strings.Join(a.values, "|"))
		case a.optional:
			words = append(words, "["+a.name+"]")
		case a.repeated:
			words = append(words, a.name+"...")
		default:
			words = append(words, a.name)
		}
	}
	if others != "" {
		words = append(words, others)
	}
	if s.command != nil {
		words = append(words, "-- COMMAND [ARGUMENT]...")
	}
	return strings.Join(words, " ")
}

// argument returns what the argument at a place is, or nil if it is one too many.
func (s *Set) argument(i int) *Argument {
	last := len(s.arguments) - 1
	if i > last && last >= 0 && s.arguments[last].repeated {
		i = last
	}
	if i > last {
		return nil
	}
	return s.arguments[i]
}

// takeArguments hands the arguments to the functions that want them. Its errors have the hint, but
// for those of the first arguments that come from the configuration file, which inFile explains.
func (s *Set) takeArguments(
	args []string, hint string, fromFile int, inFile func(error) error,
) error {
	if s.command != nil {
		var err error
		if args, err = s.takeCommand(args, hint); err != nil {
			return err
		}
	}
	for i, a := range s.arguments {
		if i == len(args) && !a.optional {
			return exit.Usagef(hint, "%s is missing", a.name)
		}
	}
	for i, text := range args {
		if s.argument(i) == nil {
			return exit.Usagef(hint, "unexpected argument %q", text)
		}
	}
	for i, text := range args {
		a := s.argument(i)
		err := a.take(text)
		_, complete := errors.AsType[*exit.Failure](err)
		switch {
		case err == nil:
		case complete:
			return err
		case i < fromFile:
			return inFile(err)
		default:
			return exit.Usagef(didYouMean(nearest(text, a.values), hint), "%v", err)
		}
	}
	return nil
}

// takeCommand takes what follows "--" and returns what precedes it.
func (s *Set) takeCommand(args []string, hint string) ([]string, error) {
	at := slices.Index(args, "--")
	switch {
	case len(args) == 0 || at == 0:
		return nil, nil
	case at < 0 || at == len(args)-1:
		var names []string
		for _, a := range s.arguments {
			names = append(names, a.name)
		}
		return nil, exit.Usagef(hint, "no command after %s and --", strings.Join(names, " "))
	}
	*s.command = args[at+1:]
	return args[:at], nil
}

// checkRequired refuses flags that were left out.
func (s *Set) checkRequired(hint string) error {
	for _, f := range s.flags {
		if f.required && f.Value() == "" {
			return exit.Usagef(hint, "%s is missing", f.spelled())
		}
	}
	return nil
}
