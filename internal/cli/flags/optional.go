package flags

import (
	"fmt"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"
)

// OptionalDuration defines a switch that also takes a duration, after an equals sign: --wait or
// --wait=5m. Without a duration its value is bare; it is 0 by default.
func (s *Set) OptionalDuration(
	p *time.Duration, names string, bare time.Duration, usage string,
) *Flag {
	*p = 0
	kind := &optionalDuration{
		variable[time.Duration]{p: p, want: `true or a duration as in "5m"`}, bare,
	}
	kind.from = kind.decode
	f := s.add(names, usage, kind)
	f.library = &optionalFlag{&cli.GenericFlag{
		Name: f.names[0], Aliases: f.names[1:], EnvVars: f.variables(), Category: f.group,
		Usage: usage, Value: &optionalValue{kind: kind},
	}}
	return f
}

// optionalDuration is the kind of such a flag.
type optionalDuration struct {
	variable[time.Duration]
	bare time.Duration
}

func (k *optionalDuration) isSwitch() bool { return true }

func (k *optionalDuration) check(text string) (want string) {
	if _, ok := k.decode(text); !ok {
		return `a duration as in "5m"`
	}
	return ""
}

// decode reads a value of the command line, a variable or the configuration file.
func (k *optionalDuration) decode(decoded any) (time.Duration, bool) {
	on, isBool := decoded.(bool)
	text, _ := decoded.(string)
	if !isBool {
		var err error
		on, err = strconv.ParseBool(text)
		isBool = err == nil
	}
	switch {
	case isBool && on:
		return k.bare, true
	case isBool:
		return 0, true
	}
	d, err := time.ParseDuration(text)
	return d, err == nil && d > 0
}

// detached returns the error for a duration that is an argument of its own. It is not the flag's:
// what follows a switch may be the URL.
func (k *optionalDuration) detached(flag, next string) error {
	if _, err := time.ParseDuration(next); err != nil {
		return nil
	}
	return fmt.Errorf("%s takes its duration after =, as in %s=%s", flag, flag, next)
}

// optionalFlag is the library's flag, whose help shows no value.
type optionalFlag struct{ *cli.GenericFlag }

// TakesValue implements cli.DocGenerationFlag.
func (f *optionalFlag) TakesValue() bool { return false }

// GetDefaultText implements cli.DocGenerationFlag.
func (f *optionalFlag) GetDefaultText() string { return "" }

// String implements cli.Flag.
func (f *optionalFlag) String() string { return cli.FlagStringer(f) }

// optionalValue parses the value for the library.
type optionalValue struct {
	kind  *optionalDuration
	value time.Duration
}

// Set implements flag.Value.
func (v *optionalValue) Set(text string) error {
	value, ok := v.kind.decode(text)
	if !ok {
		return fmt.Errorf("want %s", v.kind.want)
	}
	v.value = value
	return nil
}

// String implements flag.Value. The zero value has to have one.
func (v *optionalValue) String() string {
	if v == nil || v.value == 0 {
		return ""
	}
	return v.value.String()
}

// Get implements flag.Getter.
func (v *optionalValue) Get() any { return v.value }

// IsBoolFlag tells package flag that the value may be left out.
func (v *optionalValue) IsBoolFlag() bool { return true }
