package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"

	"culvert/certs"
	"culvert/internal/cli/exit"
	"culvert/internal/cli/flags"
	"culvert/internal/printable"
	"culvert/internal/secretfile"
)

// hostsOptions are those of the list of hosts, and of what removes from it.
type hostsOptions struct {
	source *flags.Source
	trust  trustOptions
	json   bool
	names  []string // of known remotes, or URLs of them
}

func hostsCommand() *flags.Command {
	list, forget := &hostsOptions{}, &hostsOptions{}
	return &flags.Command{
		Name:  "hosts",
		Usage: "list the hosts of the configuration file, and the remotes whose keys are known",
		Examples: []string{
			"culvert hosts",
			"culvert hosts --json",
		},
		Define: list.define,
		Run:    list.list,
		Commands: []*flags.Command{{
			Name:  "forget",
			Usage: "remove a remote from the file of known remotes",
			Examples: []string{
				"culvert hosts forget exit.example.org:8080",
				"culvert hosts forget wss://exit.example.org/t",
			},
			Define: forget.defineForget,
			Run:    forget.forget,
		}},
	}
}

func (o *hostsOptions) define(s *flags.Set) {
	s.Source(&o.source)
	o.trust.defineKnown(s)
	s.Bool(&o.json, "json", "print the list as an object in JSON")
}

func (o *hostsOptions) defineForget(s *flags.Set) {
	s.Argument("NAME", func(text string) error {
		o.names = append(o.names, text)
		return nil
	}).Hosts().Candidates(o.trust.knownNames)
	s.Source(&o.source)
	o.trust.defineKnown(s)
}

// hostList is what `culvert hosts --json` prints. docs/cli.md documents it.
type hostList struct {
	Config       string        `json:"config,omitempty"` // path of the configuration file
	KnownRemotes string        `json:"known_remotes"`    // path of the file of known remotes
	Hosts        []definedHost `json:"hosts"`
	Known        []knownHost   `json:"known"`
}

type definedHost struct {
	Name string   `json:"name"`
	URL  string   `json:"url"`            // the first, without keys
	URLs []string `json:"urls,omitempty"` // if there are several, without keys
	Keys []string `json:"keys,omitempty"` // that are pinned
	Line int      `json:"line"`           // in the configuration file

	rows [][2]string // each URL and its keys, for people
}

type knownHost struct {
	Name string `json:"name"` // HOST:PORT and the path
	Key  string `json:"key"`
	Line int    `json:"line"` // in the file of known remotes
}

func (o *hostsOptions) list(context.Context) error {
	known, err := o.trust.openKnown()
	if err != nil {
		return err
	}
	l := hostList{
		Config: o.source.File(), KnownRemotes: known.Path(),
		Hosts: []definedHost{}, Known: []knownHost{},
	}
	for _, host := range o.source.Hosts() {
		l.Hosts = append(l.Hosts, describe(host))
	}
	for remote := range known.All() {
		l.Known = append(l.Known, knownHost{remote.Addr, remote.Key.String(), remote.Line})
	}
	if o.json {
		err = writeJSON(os.Stdout, l)
	} else {
		err = l.print(os.Stdout)
	}
	return cannotWrite(err)
}

// describe returns a host of the configuration file as the list has it.
func describe(host flags.Host) definedHost {
	locations := host.Locations()
	defined := definedHost{Name: host.Name, URL: locations[0], Line: host.Line}
	if len(locations) > 1 {
		defined.URLs = locations
	}
	for i, url := range host.URLs {
		_, keys, _ := strings.Cut(url, "#")
		keys = cmp.Or(keys, host.Text("remote-key"))
		if keys != "" {
			defined.Keys = append(defined.Keys, strings.Split(keys, ",")...)
		}
		defined.rows = append(defined.rows, [2]string{locations[i], cmp.Or(keys, "-")})
	}
	return defined
}

// print writes the list for people: nothing if it is empty.
func (l *hostList) print(w io.Writer) error {
	if len(l.Hosts)+len(l.Known) == 0 {
		fmt.Fprintln(os.Stderr, "culvert: no host is defined, and no remote is known")
		return nil
	}
	const gap = 2
	table := tabwriter.NewWriter(w, 0, 0, gap, ' ', 0)
	fmt.Fprintln(table, "NAME\tURL\tKEY")
	for _, host := range l.Hosts {
		for _, cells := range host.rows {
			row(table, host.Name, cells[0], cells[1])
		}
	}
	for _, remote := range l.Known {
		row(table, remote.Name, "-", remote.Key)
	}
	return table.Flush()
}

func row(w io.Writer, cells ...string) {
	for i, cell := range cells {
		cells[i] = printable.Line(cell)
	}
	fmt.Fprintln(w, strings.Join(cells, "\t"))
}

// forget removes each of the remotes that it finds. The error is about the first that it doesn't.
func (o *hostsOptions) forget(context.Context) error {
	known, err := o.trust.openKnown()
	if err != nil {
		return err
	}
	var first error
	for _, name := range o.names { // the first may be a host's already, as for other commands
		locations := []string{name}
		for _, host := range o.source.Hosts() {
			if host.Name == name {
				locations = host.Locations()
			}
		}
		for _, location := range locations {
			first = cmp.Or(first, forget(known, location))
		}
	}
	return first
}

// forget removes a remote, by its name or a URL, from the file of known remotes.
func forget(known *certs.KnownRemotes, name string) error {
	err := known.Forget(name)
	if isNotListed(err) {
		if remote, notURL := parseRemote(name); notURL == nil {
			name = remote.address.Name()
			err = known.Forget(name)
		}
	}
	switch {
	case isNotListed(err):
		return exit.Fail(exit.Failed, "no remote "+strconv.Quote(name)+" is known", nil,
			"culvert hosts lists those that are")
	case err != nil:
		return exit.Fail(exit.Failed, "can't change the file of known remotes", err,
			secretfile.Hint(err, known.Path()))
	}
	fmt.Fprintf(os.Stderr, "culvert: %s: forgot %s\n", shortPath(known.Path()),
		printable.Line(name))
	return nil
}

func isNotListed(err error) bool {
	return errors.Is(err, certs.ErrNotListed) || errors.Is(err, fs.ErrNotExist)
}

// knownNames returns the names of the known remotes, for completion.
func (o *trustOptions) knownNames(value func(flag string) string) []string {
	with := trustOptions{knownRemotes: value("known-remotes")}
	known, err := with.openKnown()
	if err != nil {
		return nil
	}
	var names []string
	for remote := range known.All() {
		names = append(names, remote.Addr+"\tknown remote")
	}
	return names
}

// candidates returns URLs of the known remotes, for completion. The file doesn't record which of
// them use TLS: port 443 does, others are completed without.
func (o *trustOptions) candidates(value func(flag string) string) []string {
	urls := o.knownNames(value)
	for i, name := range urls {
		scheme := "ws://"
		hostport, _, _ := strings.Cut(name, "\t")
		hostport, _, _ = strings.Cut(hostport, "/")
		if strings.HasSuffix(hostport, ":443") {
			scheme = "wss://"
		}
		urls[i] = scheme + name
	}
	return urls
}
