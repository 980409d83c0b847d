package flags

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/BurntSushi/toml"
)

// configError is what is wrong with a line of a configuration file. It never quotes a value.
type configError struct {
	line       int
	what, hint string
}

func (e *configError) Error() string { return e.what }

// parseConfig parses a configuration file for a program with these commands. Of several errors it
// returns the first.
func parseConfig(text string, commands []*Command) (*config, error) {
	p := &configParser{commands: commands}
	p.config.tables, p.config.hosts = map[string]map[string]setting{}, map[string]host{}
	var root map[string]toml.Primitive
	var err error
	if p.meta, err = toml.Decode(text, &root); err != nil {
		return nil, p.syntaxError(err)
	}
	p.table("", nil, commands, root)
	if len(p.errors) > 0 {
		byLine := func(a, b *configError) int { return cmp.Compare(a.line, b.line) }
		return nil, slices.MinFunc(p.errors, byLine)
	}
	return &p.config, nil
}

type configParser struct {
	commands []*Command // of the program
	meta     toml.MetaData
	config   config
	errors   []*configError
}

func (p *configParser) fail(line int, hint, format string, args ...any) {
	p.errors = append(p.errors, &configError{line, fmt.Sprintf(format, args...), hint})
}

// syntaxError returns what package toml found, without any text that may be part of a password.
func (p *configParser) syntaxError(err error) error {
	var syntax toml.ParseError
	if !errors.As(err, &syntax) {
		return err
	}
	key := syntax.LastKey[strings.LastIndexByte(syntax.LastKey, '.')+1:]
	if p.isSecret(key) {
		syntax.Message = key + ": not a TOML value; strings need quotes"
	}
	what := strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, syntax.Message)
	line := max(1, syntax.Position.Line) // at the end of the file it may be 0
	return &configError{line: line, what: what}
}

// isSecret reports whether the value of a key may hold a password.
func (p *configParser) isSecret(key string) bool {
	return slices.ContainsFunc(allFlags(p.commands), func(f *Flag) bool {
		return f.secret && f.names[0] == key
	})
}

// table checks a table of the file and the tables in it. Its keys are those of the command's own
// flags, or in the file's root those of all flags.
func (p *configParser) table(
	name string, flags []*Flag, commands []*Command, content map[string]toml.Primitive,
) {
	settings := map[string]setting{}
	p.config.tables[name] = settings
	if name == "" {
		flags = allFlags(commands)
	}
	for _, key := range slices.Sorted(maps.Keys(content)) {
		value, line := p.value(content[key])
		_, isTable := value.(map[string]any)
		_, isTables := value.([]map[string]any)
		sub := find(commands, key)
		switch {
		case name == "" && key == hostsTable && hostFlags(p.commands) != nil:
			p.hosts(line, content[key])
		case isTables && sub != nil:
			p.fail(line, "it is ["+dotted(name, key)+"]",
				"more than one table for %s", dotted(name, key))
		case isTable && sub != nil:
			var inner map[string]toml.Primitive
			if err := p.meta.PrimitiveDecode(content[key], &inner); err != nil {
				p.fail(line, "", "%v", err)
				continue
			}
			p.table(dotted(name, key), fromFile(sub.set.flags), sub.Commands, inner)
		case isTable || isTables:
			p.unknown(line, "table ["+dotted(name, key)+"]", key, commandNames(commands))
		default:
			p.setting(name, key, setting{value, line}, flags)
		}
	}
}

// setting checks one key. In the file's root its value has to be right for one of the commands that
// have the flag.
func (p *configParser) setting(table, key string, s setting, flags []*Flag) {
	want, example, known := "", "", false
	var names []string
	for _, f := range flags {
		names = append(names, f.names[0])
		if key != f.names[0] || key == configName {
			continue
		}
		_, w := f.kind.convert(s.value)
		if !known || w == "" {
			want = w
			if example = f.example(); example != "" {
				example = f.kind.literal(example)
			}
		}
		known = true
	}
	switch {
	case !known:
		where := ""
		if table != "" {
			where = " in [" + table + "]"
		}
		p.unknown(s.line, "key "+strconv.Quote(key)+where, key, names)
	case want != "":
		hint := ""
		if example != "" {
			hint = "such as " + key + " = " + example
		}
		p.fail(s.line, hint, "%s: want %s, got %s", key, want, kindOf(s.value))
	default:
		p.config.tables[table][key] = s
		if p.isSecret(key) {
			p.config.secret = key
		}
	}
}

func (p *configParser) unknown(line int, what, word string, known []string) {
	hint := "a key is a flag's name without its dashes, a table the name of its command; " +
		"culvert COMMAND --help lists the flags"
	if suggestion := nearest(word, known); suggestion != "" && suggestion != word {
		hint = "did you mean " + suggestion + "?"
	}
	p.fail(line, hint, "unknown %s", what)
}

// located makes package toml report the position of a value, which it only does in errors.
type located struct{}

var errLocated = errors.New("located")

// UnmarshalTOML fails, so that the caller gets a position.
func (*located) UnmarshalTOML(any) error { return errLocated }

// value returns a value as package toml decodes it, and its line. A table that only occurs in
// dotted names begins at the first of its keys.
func (p *configParser) value(primitive toml.Primitive) (value any, line int) {
	var at toml.ParseError
	errors.As(p.meta.PrimitiveDecode(primitive, &located{}), &at)
	p.meta.PrimitiveDecode(primitive, &value) // into an any, which fits all values
	if line = at.Position.Line; line > 0 {
		return value, line
	}
	var inner map[string]toml.Primitive
	if p.meta.PrimitiveDecode(primitive, &inner) == nil {
		for _, key := range inner {
			if _, at := p.value(key); line == 0 || at < line {
				line = at
			}
		}
	}
	return value, line
}

func dotted(table, key string) string {
	if table == "" {
		return key
	}
	return table + "." + key
}

func commandNames(commands []*Command) []string {
	var names []string
	for _, c := range commands {
		names = append(names, c.Name)
	}
	return names
}

// allFlags returns the flags of the commands and of those below them.
func allFlags(commands []*Command) []*Flag {
	var flags []*Flag
	for _, c := range commands {
		flags = append(append(flags, fromFile(c.set.flags)...), allFlags(c.Commands)...)
	}
	return flags
}

// fromFile returns the flags that a configuration file may set.
func fromFile(flags []*Flag) []*Flag {
	return slices.DeleteFunc(slices.Clone(flags), func(f *Flag) bool { return f.cmdline })
}
