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
		Usage: "have the remote listen and forward to here, as it allows: `REVERSE` is [BIND:]PORT:HOST:HOSTPORT[/udp], the host as this side sees it, or [BIND:]PORT:socks, or unix:/PATH on either side; repeatable",
	}
}

// reverseSpec is a parsed -R.
type reverseSpec struct {
	listen string // host:port at the remote, or unix:/path
	target string // host:port as this machine sees it, or unix:/path; empty for a proxy
	udp    bool   // datagrams instead of connections
}

const reverseHint = "it is [BIND:]PORT:HOST:HOSTPORT, such as 8022:localhost:22 or 5353:192.0.2.1:53/udp, or [BIND:]PORT:socks; unix:/PATH may stand for either end"

// parseReverse reads what parseForward does, the other way round, and [BIND:]PORT:socks. A BIND is an address, localhost, or *
// or nothing for all.
func parseReverse(text string) (reverseSpec, error) {
	fail := func(why string) (reverseSpec, error) {
		return reverseSpec{}, usage(reverseHint, "bad -R %q: %s", text, why)
	}
	fields, err := splitColons(text)
	if err != nil {
		return fail(err.Error())
	}
	var spec reverseSpec
	n := len(fields) - 1
	if fields[n] != "socks" {
		if n--; n >= 1 {
			if spec.target, spec.udp, err = joinTarget(fields[n], fields[n+1]); err != nil {
				return fail(err.Error())
			}
		}
	}
	if n < 1 || n > 2 {
		return fail("wrong number of colons")
	}
	if n == 2 && fields[0] == "unix" {
		switch {
		case !strings.HasPrefix(fields[1], "/"):
			return fail("the path of the remote's socket is not absolute")
		case spec.udp:
			return fail(socketForUDP)
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

// reversePort is what the remote has bound for a -R, with one of the two.
type reversePort struct {
	spec     reverseSpec
	listener *tunnel.ReverseListener
	packets  *tunnel.ReverseUDP
}

// openReverse has the remote bind the address of a -R.
func openReverse(ctx context.Context, node *tunnel.Local, spec reverseSpec) (p reversePort, err error) {
	p.spec = spec
	if spec.udp {
		p.packets, err = node.ListenReverseUDP(ctx, spec.listen)
	} else {
		p.listener, err = node.ListenReverse(ctx, spec.listen)
	}
	return p, err
}

func (p reversePort) address() string {
	if p.spec.udp {
		return portName(p.packets.Addr().String(), true)
	}
	return p.listener.Addr().String()
}

// serve serves the port, which is no proxy's, until ctx is done.
func (p reversePort) serve(ctx context.Context, node *tunnel.Local) {
	if p.spec.udp {
		node.ServeReverseUDP(ctx, p.packets, p.spec.target)
	} else {
		node.ServeReverse(ctx, p.listener, p.spec.target)
	}
}

func (p reversePort) close() {
	if p.spec.udp {
		p.packets.Close()
	} else {
		p.listener.Close()
	}
}

// reverseDoors are the ports at the remote.
type reverseDoors struct {
	specs    []reverseSpec
	ports    []reversePort // in the order of specs
	socksCfg socks.Config
	server   *socks.Server // nil when no spec needs one
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
		port, err := openReverse(ctx, node, spec)
		if err != nil {
			d.close()
			return reverseFailure(spec, err, opts)
		}
		d.ports = append(d.ports, port)
	}
	return nil
}

// reverseFailure explains why the remote does not listen.
func reverseFailure(spec reverseSpec, err error, opts *localOptions) error {
	f := &Failure{exitFailed, fmt.Sprintf("can't listen on %s at the remote", portName(spec.listen, spec.udp)), err, ""}
	var refused *mux.OpenError
	if !errors.As(err, &refused) {
		return f
	}
	switch refused.Code {
	case mux.CodeNotAllowed:
		f.Code = exitNotAdmitted
		rule := strings.TrimSuffix(spec.listen, ":0") // any port needs a rule without
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
	for _, port := range d.ports {
		if port.spec.target != "" {
			start(func() error {
				port.serve(ctx, node)
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
		start(func() error { return d.server.Serve(context.WithoutCancel(ctx), port.listener) })
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
	for _, port := range d.ports {
		port.close()
	}
}

func (d *reverseDoors) addresses() []string {
	var addresses []string
	for _, port := range d.ports {
		addresses = append(addresses, port.address())
	}
	return addresses
}
