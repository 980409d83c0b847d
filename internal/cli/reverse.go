package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"culvert/socks"
	"culvert/tunnel"
	"culvert/tunnel/mux"

	"github.com/rs/zerolog"
	"github.com/urfave/cli/v2"
)

func reverseFlag() cli.Flag {
	return &cli.StringSliceFlag{
		Name: "R", EnvVars: env("R"), Category: "listening",
		Usage: "have the remote listen and forward to here, as it allows: `REVERSE` is [BIND:]PORT:HOST:HOSTPORT, the host as this side sees it, or [BIND:]PORT:socks; repeatable",
	}
}

// reverseSpec is a parsed -R.
type reverseSpec struct {
	listen string // host:port at the remote, or unix:/path
	target string // host:port as this machine sees it, or unix:/path; empty for a proxy
}

// parseReverse reads what parseForward does, the other way round, and [BIND:]PORT:socks. A BIND is an address, localhost, or *
// or nothing for all.
func parseReverse(text string) (reverseSpec, error) {
	fail := func(why string) (reverseSpec, error) {
		return reverseSpec{}, usage("it is [BIND:]PORT:HOST:HOSTPORT, such as 8022:localhost:22, or [BIND:]PORT:socks",
			"bad -R %q: %s", text, why)
	}
	fields, err := splitColons(text)
	if err != nil {
		return fail(err.Error())
	}
	var spec reverseSpec
	n := len(fields) - 1
	if fields[n] != "socks" {
		if n--; n >= 1 {
			spec.target = net.JoinHostPort(fields[n], fields[n+1])
			if fields[n] == "unix" && strings.HasPrefix(fields[n+1], "/") {
				spec.target = "unix:" + fields[n+1]
			}
			if err := checkTarget(spec.target); err != nil {
				return fail(err.Error())
			}
		}
	}
	if n < 1 || n > 2 {
		return fail("wrong number of colons")
	}
	if n == 2 && fields[0] == "unix" {
		if !strings.HasPrefix(fields[1], "/") {
			return fail("the path of the remote's socket is not absolute")
		}
		spec.listen = "unix:" + fields[1]
		return spec, nil
	}
	bind := "localhost"
	if n == 2 {
		bind = fields[0]
	}
	if _, err := netip.ParseAddr(bind); err != nil && bind != "" && bind != "*" && bind != "localhost" {
		return fail("what to bind is no address, and neither localhost nor *")
	}
	if _, err := strconv.ParseUint(fields[n-1], 10, 16); err != nil {
		return fail("the remote's port is no number up to 65535")
	}
	if bind == "" {
		bind = "*"
	}
	spec.listen = net.JoinHostPort(bind, fields[n-1])
	return spec, nil
}

// reverseDoors are the listeners at the remote.
type reverseDoors struct {
	specs     []reverseSpec
	listeners []*tunnel.RemoteListener // in the order of specs
	socksCfg  socks.Config
	server    *socks.Server // nil when no spec needs one
}

// parseReverses reads all -R. A proxy among them asks its clients for what --socks-auth says.
func parseReverses(c *cli.Context, log zerolog.Logger) (*reverseDoors, error) {
	d := &reverseDoors{}
	for _, text := range c.StringSlice("R") {
		spec, err := parseReverse(text)
		if err != nil {
			return nil, err
		}
		d.specs = append(d.specs, spec)
	}
	user, pass, err := parseSocksAuth(c.String("socks-auth"))
	if err != nil {
		return nil, err
	}
	var here net.Dialer
	d.socksCfg = socks.Config{Username: user, Password: pass, Log: &log, Dial: here.DialContext, Relay: tunnel.Join}
	return d, nil
}

// listen has the remote bind all addresses, or none.
func (d *reverseDoors) listen(ctx context.Context, node *tunnel.Local, opts *localOptions) error {
	for _, spec := range d.specs {
		ln, err := node.ListenRemote(ctx, spec.listen)
		if err != nil {
			d.close()
			return reverseFailure(spec.listen, err, opts)
		}
		d.listeners = append(d.listeners, ln)
	}
	return nil
}

// reverseFailure explains why the remote does not listen.
func reverseFailure(address string, err error, opts *localOptions) error {
	f := &Failure{exitFailed, fmt.Sprintf("can't listen on %s at the remote", address), err, ""}
	var refused *mux.OpenError
	if !errors.As(err, &refused) {
		return f
	}
	switch refused.Code {
	case mux.CodeNotAllowed:
		f.Code = exitNotAdmitted
		rule := strings.TrimSuffix(address, ":0") // any port needs a rule without
		f.Hint = fmt.Sprintf("ask who runs the remote for --reverse '%s', or for reverse=%s in its authorized-keys line of %s",
			rule, rule, opts.key.Public())
	case mux.CodeAddressInUse:
		f.Code, f.Hint = exitCannotListen, "another program or client has it: give another port with -R"
	case mux.CodeCannotListen, mux.CodeBadTarget:
		f.Code, f.Hint = exitCannotListen, "give another address with -R"
	case mux.CodeTooManyStreams:
		f.Code, f.Hint = exitCannotListen, "give fewer -R"
	}
	return f
}

// serve starts serving what the remote accepts.
func (d *reverseDoors) serve(ctx context.Context, node *tunnel.Local, start func(func() error)) error {
	for i, ln := range d.listeners {
		target := d.specs[i].target
		if target != "" {
			start(func() error {
				node.ServeReverse(ctx, ln, target)
				return nil
			})
			continue
		}
		if d.server == nil {
			server, err := socks.New(d.socksCfg)
			if err != nil {
				return err
			}
			d.server = server
		}
		start(func() error { return d.server.Serve(context.WithoutCancel(ctx), ln) })
	}
	return nil
}

// shutdownSocks stops accepting and lets what is relayed end with the session, which drains meanwhile.
func shutdownSocks(server *socks.Server, servers *sync.WaitGroup) {
	if server == nil {
		return
	}
	servers.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), tunnel.DrainTimeout+time.Second)
		defer cancel()
		server.Shutdown(ctx) // its error only says that relays were cut, which the session's end has logged
	})
}

func (d *reverseDoors) close() {
	for _, ln := range d.listeners {
		ln.Close()
	}
}

func (d *reverseDoors) addresses() []string {
	var addresses []string
	for _, ln := range d.listeners {
		addresses = append(addresses, ln.Addr().String())
	}
	return addresses
}
