package flags

import (
	"errors"
	"maps"
	"slices"
	"strings"

	"culvert/internal/cli/exit"

	"github.com/BurntSushi/toml"
)

// The configuration file may define hosts: a table [hosts.NAME] has the URL of a remote and flags
// of the command whose Hosts is set. A command with an argument that is a host takes NAME for it,
// and then the table's values before those of its own table.

const (
	hostsTable = "hosts"
	urlKey     = "url"
)

// host is a defined host.
type host struct {
	url      setting
	settings map[string]setting // by flag
}

// Host declares that the argument may be the name of a host in the configuration file. It is the
// command's first argument.
func (a *Argument) Host() *Argument {
	a.host = true
	return a
}

// Host is a defined host.
type Host struct {
	Name string
	URL  string // as it is in the file, with the keys that it pins
	Line int    // of the URL in the file

	settings map[string]setting
}

// Location returns the URL without the keys that it pins.
func (h Host) Location() string {
	location, _, _ := strings.Cut(h.URL, "#")
	return location
}

// Text returns the value of a flag in the host's table, or "" if it has none that is a text.
func (h Host) Text(flag string) string {
	text, _ := h.settings[flag].value.(string)
	return text
}

// Hosts returns the hosts in the configuration file, by name.
func (s *Source) Hosts() []Host {
	if s.config == nil {
		return nil
	}
	var hosts []Host
	for _, name := range slices.Sorted(maps.Keys(s.config.hosts)) {
		h := s.config.hosts[name]
		url, _ := h.url.value.(string)
		hosts = append(hosts, Host{name, url, h.url.line, h.settings})
	}
	return hosts
}

// hostsFor returns the hosts in a configuration file, or if path is "" in the one that is read by
// default. It returns none if the file can't be used.
func (a *App) hostsFor(path string) []Host {
	s := &Source{commands: a.Commands, file: path}
	if path == "" {
		s.file = firstFile(a.ConfigFiles)
	}
	s.config, _ = s.readConfig()
	return s.Hosts()
}

// hostFlags returns the flags that hosts may have.
func hostFlags(commands []*Command) []*Flag {
	for _, c := range commands {
		if c.Hosts {
			return c.set.flags
		}
	}
	return nil
}

// hosts checks the table of all hosts.
func (p *configParser) hosts(line int, content toml.Primitive) {
	var tables map[string]toml.Primitive
	if p.meta.PrimitiveDecode(content, &tables) != nil {
		p.fail(line, "", "hosts: want tables, such as [hosts.work]")
		return
	}
	known := hostFlags(p.commands)
	for _, name := range slices.Sorted(maps.Keys(tables)) {
		table := dotted(hostsTable, name)
		var keys map[string]toml.Primitive
		value, line := p.value(tables[name])
		_, isTable := value.(map[string]any)
		switch {
		case !isTable || p.meta.PrimitiveDecode(tables[name], &keys) != nil:
			p.fail(line, "such as [hosts.work]", "%s: want a table", table)
			continue
		case name == "" || name[0] == '-':
			p.fail(line, "such as [hosts.work]", "%q is not a name for a host", name)
			continue
		}
		h := host{}
		if primitive, ok := keys[urlKey]; ok {
			value, line := p.value(primitive)
			if _, ok := value.(string); !ok {
				p.fail(line, "", "%s: want a string, got %s", urlKey, kindOf(value))
			}
			h.url = setting{value, line}
			delete(keys, urlKey)
		} else {
			p.fail(line, `add url = "wss://exit.example.org/"`, "[%s] has no url", table)
		}
		p.config.tables[table] = map[string]setting{}
		for _, key := range slices.Sorted(maps.Keys(keys)) {
			value, line := p.value(keys[key])
			p.setting(table, key, setting{value, line}, known)
		}
		h.settings = p.config.tables[table]
		delete(p.config.tables, table)
		p.config.hosts[name] = h
	}
}

// chooseHost replaces the first argument with its URL if that is the name of a host. The host's
// settings apply from then on.
func (s *Source) chooseHost(set *Set, args []string) ([]string, error) {
	if s.config == nil || len(args) == 0 || len(set.arguments) == 0 || !set.arguments[0].host {
		return args, nil
	}
	h, ok := s.config.hosts[args[0]]
	if !ok {
		return args, nil
	}
	s.host = args[0]
	url := h.url.value.(string)
	if err := set.arguments[0].take(url); err != nil {
		if _, complete := errors.AsType[*exit.Failure](err); complete {
			return nil, err
		}
		return nil, exit.Usagef("", "bad configuration: %s: line %d: url: %v",
			s.file, h.url.line, err)
	}
	return append([]string{url}, args[1:]...), nil
}

// lookup returns the setting of a flag: the host's, or else the command's, or else the one for all
// commands.
func (s *Source) lookup(config *config, name string) (setting, bool) {
	if config == nil {
		return setting{}, false
	}
	if value, ok := config.hosts[s.host].settings[name]; ok {
		return value, true
	}
	for _, table := range slices.Compact([]string{strings.Join(s.path, "."), ""}) {
		if value, ok := config.tables[table][name]; ok {
			return value, true
		}
	}
	return setting{}, false
}
