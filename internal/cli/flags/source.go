package flags

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"culvert/internal/cli/exit"
	"culvert/internal/secretfile"
	"culvert/internal/shellquote"
)

// Source is where the options of a running command came from.
type Source struct {
	commands []*Command
	path     []string          // of the command
	given    map[string]any    // what the command line and variables give, by a flag's main name
	origins  map[string]origin // of what is given
	defaults []string          // configuration files, of which the first that exists is read
	file     string            // the configuration file, or ""
	host     string            // the defined host that the command connects to, or ""
	hostURLs int               // how many of the arguments are that host's
	config   *config           // as it was at the start; nil without a file
	flags    []*Flag           // of the last Decode
}

// place is where a value may be given. The first of them wins.
type place int

const (
	placeCommandLine place = iota
	placeVariable
	placeHost    // the table of the host in the configuration file
	placeCommand // that of the command
	placeAll     // what is before all tables
	placeNone
)

// File returns the path of the configuration file, or "".
func (s *Source) File() string { return s.file }

// Decode sets the variables of the flags that define defines, as they were set when the command
// started, but for reloadable flags, which take the configuration file's values as the file is now.
// The whole file has to be right, or Decode fails.
func (s *Source) Decode(define func(*Set)) error {
	set := &Set{}
	define(set)
	now, err := s.readConfig()
	if err != nil {
		return err
	}
	return s.decode(set, now)
}

// Spelled returns a flag, by its main name, as it was given, for errors that tell what to change:
// with the line if it is in the configuration file. Of a nil Source it is the flag.
func (s *Source) Spelled(name string) string {
	var f *Flag
	if s != nil {
		f = lookup(s.flags, name)
	}
	switch {
	case f == nil:
		return spellFlag(name)
	case f.origin.file != "":
		return fmt.Sprintf("%s (%s: line %d)", name, f.origin.file, f.origin.line)
	}
	return f.Typed()
}

// Explain returns an error of a function that used the options that Decode has set last, for
// people: a *ValueError shows where its value came from.
func (s *Source) Explain(err error) error { return explain(err, s.flags) }

// decodeFirst sets all variables of a command that is about to run.
func (s *Source) decodeFirst(c *Command, args []string) (err error) {
	f := lookup(c.set.flags, configName)
	if f == nil { // it takes nothing from a file, which need not be right
		return c.set.takeArguments(args, c.usageHint(), 0, nil)
	}
	s.file, _ = f.Value().(string)
	if given, ok := s.given[configName].(string); ok {
		s.file = given
	}
	if _, given := s.given[configName]; !given {
		s.file = firstFile(s.defaults)
	}
	if s.config, err = s.readConfig(); err != nil {
		return err
	}
	if args, err = s.chooseHost(c.set, args); err != nil {
		return err
	}
	if err := s.decode(c.set, s.config); err != nil {
		return err
	}
	if err := c.set.checkRequired(c.usageHint()); err != nil {
		return err
	}
	return c.set.takeArguments(args, c.usageHint(), s.hostURLs, s.badURL)
}

// decode sets the variables of a set. Reloadable flags take the file's values from now.
func (s *Source) decode(set *Set, now *config) error {
	s.flags = set.flags
	found := map[string]given{}
	for _, f := range set.flags {
		config := s.config
		if f.reloadable {
			config = now
		}
		value, ok, err := s.find(f, config)
		if err != nil {
			return err
		}
		if ok {
			found[f.names[0]] = value
		}
	}
	overridden := map[string]bool{}
	for _, f := range set.flags {
		by, ok := found[f.names[0]]
		if !ok || by.value == false {
			continue
		}
		for _, name := range f.overrides {
			if other, ok := found[name]; ok && by.place < other.place {
				overridden[name] = true
			}
		}
	}
	for _, f := range set.flags {
		if value, ok := found[f.names[0]]; ok && !overridden[f.names[0]] {
			f.take(value.value, value.origin)
		}
	}
	for _, p := range set.sources {
		*p = s
	}
	return nil
}

// given is a flag's value as somebody gave it.
type given struct {
	value  any
	origin origin
	place  place
}

// find returns the value that somebody gave a flag, in one of the places.
func (s *Source) find(f *Flag, config *config) (given, bool, error) {
	name := f.names[0]
	if value, ok := s.given[name]; ok {
		from := s.origins[name]
		at := placeCommandLine
		if from.variable {
			at = placeVariable
		}
		return given{value, from, at}, true, nil
	}
	if f.cmdline || name == configName {
		return given{}, false, nil
	}
	setting, at := s.lookup(config, name)
	if at == placeNone {
		return given{}, false, nil
	}
	value, want := f.kind.convert(setting.value)
	from := origin{file: s.file, line: setting.line}
	if want != "" {
		hint := ""
		if example := f.example(); example != "" {
			hint = "such as " + from.example(f, example)
		}
		return given{}, false, exit.Usagef(hint, "bad configuration: %s: line %d: %s: want %s",
			s.file, setting.line, name, want)
	}
	return given{value, from, at}, true, nil
}

// readConfig reads and checks the configuration file. It returns nil if there is none.
func (s *Source) readConfig() (*config, error) {
	if s.file == "" {
		return nil, nil
	}
	const unusable = "can't use the configuration file"
	text, err := readConfigFile(s.file)
	if err != nil {
		return nil, exit.Fail(exit.Failed, unusable, err, secretfile.Hint(err, s.file))
	}
	config, err := parseConfig(text.content, s.commands)
	bad, wrong := errors.AsType[*configError](err)
	switch {
	case wrong:
		return nil, exit.Usagef(bad.hint, "bad configuration: %s: line %d: %s",
			s.file, bad.line, bad.what)
	case err != nil:
		return nil, exit.Usagef("", "bad configuration: %s: %v", s.file, err)
	case config.secret != "" && text.exposed:
		return nil, exit.Fail(exit.Failed, unusable,
			fmt.Errorf("%s holds %s and is accessible by others than its owner (mode %04o)",
				s.file, config.secret, text.mode),
			"only its owner may read it: chmod 600 "+shellquote.Quote(s.file))
	}
	return config, nil
}

// firstFile returns the first of the files that exists, or "". A folder that this user may not
// search, such as another user's home, holds no configuration for it.
func firstFile(paths []string) string {
	for _, path := range paths {
		_, err := os.Stat(path)
		missing := errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) ||
			errors.Is(err, fs.ErrPermission)
		if !missing {
			return path // if it can't be read, reading it tells why
		}
	}
	return ""
}
