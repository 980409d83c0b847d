package cli

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/BurntSushi/toml"
	"github.com/urfave/cli/v2"
)

// maxConfigSize bounds a configuration file in bytes, against one that is something else. It is not seen by a user.
const maxConfigSize = 1 << 20

// configFlag is the flag that every command with flags has, in the style of the command's first one.
func configFlag(first cli.Flag) cli.Flag {
	category := ""
	if f, ok := first.(cli.CategorizableFlag); ok && f.GetCategory() != "" {
		category = "settings"
	}
	return &cli.StringFlag{
		Name: "config", EnvVars: env("config"), Category: category,
		Usage: "take flags that are not given from `FILE`, which is TOML",
	}
}

// holdsSecret says that a flag's value is, or may hold, a password.
func holdsSecret(flag string) bool {
	switch flag {
	case "socks-auth", "via", "header":
		return true
	}
	return false
}

// applyConfig gives a command's flags the values of the configuration file, but for those that have been given on the
// command line or by their variable. The whole file is checked, also what is for other commands.
func applyConfig(c *cli.Context) error {
	config, err := loadConfig(c)
	if config == nil {
		return err
	}
	given := map[string]bool{}
	for _, f := range c.Command.Flags {
		name := f.Names()[0]
		if c.IsSet(name) {
			given[name] = true
			continue
		}
		values, err := config.values(c, f)
		if err != nil {
			return err
		}
		for _, value := range values {
			if c.Set(name, value) != nil {
				return config.wants(c, name, "another value")
			}
		}
	}
	c.App.Metadata[givenFlags] = given
	return nil
}

// givenFlags is the key of the app's metadata for the flags that don't come from the configuration file.
const givenFlags = "given flags"

// currentList returns the values of a flag that can be repeated: those it was given, or those in the configuration file as
// the file is now.
func currentList(c *cli.Context, name string) ([]string, error) {
	given, applied := c.App.Metadata[givenFlags].(map[string]bool)
	if !applied || given[name] {
		return c.StringSlice(name), nil
	}
	config, err := loadConfig(c)
	if err != nil {
		return nil, err
	}
	for _, f := range c.Command.Flags {
		if f.Names()[0] == name {
			return config.values(c, f)
		}
	}
	return nil, nil
}

// loadConfig reads and checks the configuration file. It returns nil when there is none.
func loadConfig(c *cli.Context) (*config, error) {
	path := c.String("config")
	if path == "" {
		return nil, nil
	}
	text, err := readConfig(path)
	if err != nil {
		return nil, &Failure{exitFailed, "can't use the configuration file", err, ""}
	}
	config, err := parseConfig(text.content, c.App.Commands)
	var bad *configError
	switch {
	case errors.As(err, &bad):
		return nil, usage(bad.hint, "bad configuration: %s: line %d: %s", path, bad.line, bad.what)
	case err != nil:
		return nil, usage("", "bad configuration: %s: %v", path, err)
	case config.secret != "" && text.exposed:
		return nil, &Failure{exitFailed, "can't use the configuration file",
			fmt.Errorf("%s holds %s and is accessible by others than its owner (mode %04o)", path, config.secret, text.mode),
			"only its owner may read it: chmod 600 " + path}
	}
	return config, nil
}

// values returns what the file gives a flag of the command, as on the command line; nothing when it doesn't name it.
func (c *config) values(command *cli.Context, f cli.Flag) ([]string, error) {
	s, ok := c.lookup(commandTable(command), f.Names()[0])
	if !ok {
		return nil, nil
	}
	values, want := convert(f, s.value)
	if want != "" {
		return nil, c.wants(command, f.Names()[0], want)
	}
	return values, nil
}

// wants says that a flag's value in the file is not what it should be.
func (c *config) wants(command *cli.Context, name, want string) error {
	s, _ := c.lookup(commandTable(command), name)
	return usage("", "bad configuration: %s: line %d: %s: want %s", command.String("config"), s.line, name, want)
}

// commandTable is the name of a command's table in the file.
func commandTable(c *cli.Context) string {
	return strings.Join(strings.Fields(c.Command.HelpName)[1:], ".")
}

// configText is a configuration file as it was read.
type configText struct {
	content string
	mode    os.FileMode
	exposed bool // others than its owner may read or write it
}

func readConfig(path string) (configText, error) {
	f, err := os.Open(path)
	if err != nil {
		return configText{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return configText{}, err
	}
	b, err := io.ReadAll(io.LimitReader(f, maxConfigSize+1))
	if err == nil && len(b) > maxConfigSize {
		err = fmt.Errorf("%s is larger than %d bytes", path, maxConfigSize)
	}
	mode := info.Mode().Perm()
	// Windows has no such modes: who may read a file there follows from its folder.
	return configText{string(b), mode, mode&0o077 != 0 && runtime.GOOS != "windows"}, err
}

// config is what a configuration file says: by table, and in it by key. The table of what stands before all tables is "".
type config struct {
	tables map[string]map[string]setting
	secret string // a key whose value may be a password, "" when there is none
}

type setting struct {
	value any // as package toml decodes into an any
	line  int
}

// lookup returns the setting of a command's flag: that in the command's table, or the one for all commands.
func (c *config) lookup(table, key string) (setting, bool) {
	if s, ok := c.tables[table][key]; ok {
		return s, true
	}
	s, ok := c.tables[""][key]
	return s, ok
}

// configError says what is wrong with a line of a configuration file. It never holds a value.
type configError struct {
	line       int
	what, hint string
}

func (e *configError) Error() string { return e.what }

// parseConfig reads a configuration file for an app with these commands. Of several errors it returns the first.
func parseConfig(text string, commands []*cli.Command) (*config, error) {
	p := &configParser{config: config{tables: map[string]map[string]setting{}}}
	var root map[string]toml.Primitive
	var err error
	if p.meta, err = toml.Decode(text, &root); err != nil {
		return nil, syntaxError(err)
	}
	p.table("", &cli.Command{Subcommands: commands}, root)
	if len(p.errors) > 0 {
		return nil, slices.MinFunc(p.errors, func(a, b *configError) int { return cmp.Compare(a.line, b.line) })
	}
	return &p.config, nil
}

// syntaxError is what package toml found, without any text that may be part of a password.
func syntaxError(err error) error {
	var syntax toml.ParseError
	if !errors.As(err, &syntax) {
		return err
	}
	key := syntax.LastKey[strings.LastIndexByte(syntax.LastKey, '.')+1:]
	if holdsSecret(key) {
		syntax.Message = key + ": not a TOML value; strings stand in quotes"
	}
	what := strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, syntax.Message)
	return &configError{line: max(1, syntax.Position.Line), what: what} // at the file's end it may be one less
}

type configParser struct {
	meta   toml.MetaData
	config config
	errors []*configError
}

func (p *configParser) fail(line int, hint, format string, args ...any) {
	p.errors = append(p.errors, &configError{line, fmt.Sprintf(format, args...), hint})
}

// table checks a table of the file and the tables in it. Its keys are those of the command's own flags, or, where other
// commands stand below it as in the file itself, theirs.
func (p *configParser) table(name string, command *cli.Command, content map[string]toml.Primitive) {
	settings := map[string]setting{}
	p.config.tables[name] = settings
	flags := command.Flags
	if name == "" {
		flags = allFlags(command)
	}
	for _, key := range slices.Sorted(maps.Keys(content)) {
		value, line := p.value(content[key])
		_, isTable := value.(map[string]any)
		_, isTables := value.([]map[string]any)
		sub := command.Command(key)
		switch {
		case isTables && sub != nil:
			p.fail(line, "it is ["+dotted(name, key)+"]", "more than one table for %s", dotted(name, key))
		case isTable && sub != nil:
			var inner map[string]toml.Primitive
			if err := p.meta.PrimitiveDecode(content[key], &inner); err != nil {
				p.fail(line, "", "%v", err)
				continue
			}
			p.table(dotted(name, key), sub, inner)
		case isTable || isTables:
			p.unknown(line, "table ["+dotted(name, key)+"]", key, tableNames(command))
		default:
			p.setting(settings, name, key, setting{value, line}, flags)
		}
	}
}

// setting checks one key. A key that stands before all tables is right when it is for one of the commands that have it.
func (p *configParser) setting(settings map[string]setting, table, key string, s setting, flags []cli.Flag) {
	want, known := "", false
	var names []string
	for _, f := range flags {
		names = append(names, f.Names()[0])
		if key != f.Names()[0] || key == "config" {
			continue
		}
		_, w := convert(f, s.value)
		if !known || w == "" {
			want = w
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
		p.fail(s.line, "", "%s: want %s, got %s", key, want, kindOf(s.value))
	default:
		settings[key] = s
		if holdsSecret(key) {
			p.config.secret = key
		}
	}
}

func (p *configParser) unknown(line int, what, word string, known []string) {
	hint := "a key is a flag's name without its dashes, a table that of its command; culvert COMMAND --help lists the flags"
	if suggestion := nearest(word, known); suggestion != "" && suggestion != word {
		hint = "did you mean " + suggestion + "?"
	}
	p.fail(line, hint, "unknown %s", what)
}

// located has package toml tell where a value stands, which it does with errors alone.
type located struct{}

var errLocated = errors.New("located")

// UnmarshalTOML fails, so that the caller gets a position.
func (*located) UnmarshalTOML(any) error { return errLocated }

// value returns a value as package toml decodes it, and its line. A table that is only named before a dot begins where the
// first of its keys stands.
func (p *configParser) value(primitive toml.Primitive) (value any, line int) {
	var at toml.ParseError
	errors.As(p.meta.PrimitiveDecode(primitive, &located{}), &at)
	p.meta.PrimitiveDecode(primitive, &value) // into an any, which takes whatever there is
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

// convert writes a setting as the flag would be given on the command line, once for each value. When the setting is of
// another kind it says what is wanted.
func convert(f cli.Flag, value any) (values []string, want string) {
	switch f.(type) {
	case *cli.BoolFlag:
		if b, ok := value.(bool); ok {
			return []string{strconv.FormatBool(b)}, ""
		}
		return nil, "true or false"
	case *cli.IntFlag:
		if n, ok := value.(int64); ok {
			return []string{strconv.FormatInt(n, 10)}, ""
		}
		return nil, "a number"
	case *cli.DurationFlag:
		s, ok := value.(string)
		if _, err := time.ParseDuration(s); ok && err == nil {
			return []string{s}, ""
		}
		return nil, `a duration as in "20s"`
	case *cli.StringFlag:
		if s, ok := value.(string); ok {
			return []string{s}, ""
		}
		return nil, "a string"
	case *cli.StringSliceFlag:
		return convertList(value)
	}
	return nil, "nothing, since this flag can't be set here"
}

func convertList(value any) (values []string, want string) {
	want = "a string, or an array of strings"
	switch v := value.(type) {
	case string:
		return []string{v}, ""
	case []any:
		for _, element := range v {
			s, ok := element.(string)
			if !ok {
				return nil, want
			}
			values = append(values, s)
		}
		return values, ""
	}
	return nil, want
}

// kindOf names the kind of a setting.
func kindOf(value any) string {
	switch value.(type) {
	case string:
		return "a string"
	case int64:
		return "a whole number"
	case float64:
		return "a number with a fraction"
	case bool:
		return "true or false"
	case time.Time:
		return "a date"
	case []any:
		return "an array"
	}
	return "something else"
}

func dotted(table, key string) string {
	if table == "" {
		return key
	}
	return table + "." + key
}

func tableNames(command *cli.Command) []string {
	var names []string
	for _, sub := range command.Subcommands {
		names = append(names, sub.Name)
	}
	return names
}

// allFlags are the flags of the commands below a command.
func allFlags(command *cli.Command) []cli.Flag {
	var flags []cli.Flag
	for _, sub := range command.Subcommands {
		flags = append(append(flags, sub.Flags...), allFlags(sub)...)
	}
	return flags
}
