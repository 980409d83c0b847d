package flags

import (
	"maps"
	"slices"
	"strings"

	"culvert/internal/cli/exit"

	"github.com/BurntSushi/toml"
)

// The configuration file may define hosts: a table [hosts.NAME] has the URL of a remote, or those
// of several in order of preference, and flags of the command whose Hosts is set. A command with an
// argument that is a host takes NAME for it, and then the table's values before those of its own
// table.

const (
	hostsTable = "hosts"
	urlKey     = "url"
	urlsKey    = "urls"
)

// host is a defined host.
type host struct {
	urls     []string
	key      string             // that has them in the file
	line     int                // of that
	settings map[string]setting // by flag
}

// Hosts declares that each of a repeated argument may be the name of a host. Those behind the first
// are the function's to replace.
func (a *Argument) Hosts() *Argument {
	a.hosts = true
	return a.Host().Repeated()
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
	URLs []string // as they are in the file, with the keys that they pin
	Line int      // of the URLs in the file

	settings map[string]setting
}

// Locations returns the URLs without the keys that they pin.
func (h Host) Locations() []string {
	var locations []string
	for _, url := range h.URLs {
		location, _, _ := strings.Cut(url, "#")
		locations = append(locations, location)
	}
	return locations
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
		hosts = append(hosts, Host{name, h.urls, h.line, h.settings})
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
		h := p.hostURLs(table, line, keys)
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

// hostURLs takes the URLs of a host, which begins at a line, out of the keys of its table.
func (p *configParser) hostURLs(table string, line int, keys map[string]toml.Primitive) host {
	one, isOne := keys[urlKey]
	several, isSeveral := keys[urlsKey]
	delete(keys, urlKey)
	delete(keys, urlsKey)
	switch {
	case isOne && isSeveral:
		_, line := p.value(several)
		p.fail(line, "leave one of them out", "[%s] has both %s and %s", table, urlKey, urlsKey)
	case isOne:
		value, line := p.value(one)
		url, ok := value.(string)
		if !ok {
			p.fail(line, "", "%s: want a string, got %s", urlKey, kindOf(value))
		}
		return host{urls: []string{url}, key: urlKey, line: line}
	case isSeveral:
		value, line := p.value(several)
		list, _ := value.([]any)
		h := host{key: urlsKey, line: line}
		for _, element := range list {
			if url, ok := element.(string); ok {
				h.urls = append(h.urls, url)
			}
		}
		if len(list) == 0 || len(h.urls) != len(list) {
			p.fail(line, `such as urls = ["wss://a.example.org/", "wss://b.example.org/"]`,
				"%s: want a list of strings", urlsKey)
		}
		return h
	default:
		p.fail(line, `add url = "wss://exit.example.org/"`, "[%s] has no url", table)
	}
	return host{}
}

// chooseHost replaces the first argument with its URLs if that is the name of a host: with the
// first of them if the command takes no more. The host's settings apply from then on, so that no
// other argument can be a host.
func (s *Source) chooseHost(set *Set, args []string) ([]string, error) {
	if s.config == nil || len(args) == 0 || len(set.arguments) == 0 || !set.arguments[0].host {
		return args, nil
	}
	if err := s.refuseHosts(set, args[1:]); err != nil {
		return nil, err
	}
	h, ok := s.config.hosts[args[0]]
	if !ok {
		return args, nil
	}
	s.host = args[0]
	urls := h.urls
	if !set.arguments[0].repeated {
		urls = urls[:1]
	}
	s.hostURLs = len(urls)
	return append(slices.Clone(urls), args[1:]...), nil
}

// refuseHosts refuses the names of hosts among arguments that follow the first, unless the command
// knows what to do with them.
func (s *Source) refuseHosts(set *Set, args []string) error {
	if set.arguments[0].hosts {
		return nil
	}
	for i, name := range args {
		if name == "--" || set.argument(i+1) == nil {
			break
		}
		if _, ok := s.config.hosts[name]; ok {
			return exit.Usagef(`give the URLs of both in one host: urls = ["wss://…", "wss://…"]`,
				"%s is a host of %s, and only the first argument may be one", name, s.file)
		}
	}
	return nil
}

// badURL explains what is wrong with a URL of the host.
func (s *Source) badURL(err error) error {
	h := s.config.hosts[s.host]
	return exit.Usagef("", "bad configuration: %s: line %d: %s: %v", s.file, h.line, h.key, err)
}

// lookup returns the setting of a flag: the host's, or else the command's, or else the one for all
// commands, or placeNone.
func (s *Source) lookup(config *config, name string) (setting, place) {
	if config == nil {
		return setting{}, placeNone
	}
	if value, ok := config.hosts[s.host].settings[name]; ok {
		return value, placeHost
	}
	if value, ok := config.tables[strings.Join(s.path, ".")][name]; ok {
		return value, placeCommand
	}
	if value, ok := config.tables[""][name]; ok {
		return value, placeAll
	}
	return setting{}, placeNone
}
