package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"culvert/internal/cli/exit"
	"culvert/internal/cli/flags"
	"culvert/socks"
	"culvert/tunnel"
	"culvert/tunnel/mux"

	"github.com/rs/zerolog"
)

// reverseSpec is a parsed -R.
type reverseSpec struct {
	listen string // host:port at the remote, or unix:/path
	target string // host:port as this machine sees it, or unix:/path; empty for a proxy
	udp    bool   // datagrams instead of connections
}

const reverseForm = "it is [BIND:]PORT:HOST:HOSTPORT[/udp] or [BIND:]PORT:socks, " +
	"and either end may be unix:/PATH instead"

// parseReverse parses what parseForward does, with the sides swapped, and [BIND:]PORT:socks. A
// BIND is an address, localhost, or * or nothing for all addresses.
func parseReverse(text string) (reverseSpec, error) {
	fail := func(why string) (reverseSpec, error) {
		return reverseSpec{}, &flags.ValueError{
			Flag: "R", Value: text, Why: why, Form: reverseForm, Example: forwardExample,
		}
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
	_, err = netip.ParseAddr(bind)
	if err != nil && bind != "" && bind != "*" && bind != "localhost" {
		return fail("BIND must be an address, localhost or *")
	}
	if _, err := strconv.ParseUint(fields[n-1], 10, 16); err != nil {
		return fail("the remote's port must be 0 to 65535")
	}
	if bind == "" {
		bind = "*"
	}
	spec.listen = net.JoinHostPort(bind, fields[n-1])
	return spec, nil
}

// reversePort is an open -R.
type reversePort struct {
	spec     reverseSpec
	listener *tunnel.ReverseListener // nil for datagrams
	packets  *tunnel.ReverseUDP      // nil for connections
}

// openReverse makes the remote bind the address of a -R.
func openReverse(
	ctx context.Context, node *tunnel.Local, spec reverseSpec,
) (p reversePort, err error) {
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

// serve forwards what arrives at the port until ctx is done. The port is not a proxy's.
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

// reverseListeners are the ports at the remote.
type reverseListeners struct {
	specs    []reverseSpec
	ports    []reversePort // in the order of specs
	socksCfg socks.Config  // without a node: see proxyConfig
}

// parseReverses parses all -R. The proxies among them ask their clients for socksAuth, USER:PASS,
// unless it is empty.
func parseReverses(texts []string, socksAuth string, log zerolog.Logger) (reverseListeners, error) {
	l := reverseListeners{}
	for _, text := range texts {
		spec, err := parseReverse(text)
		if err != nil {
			return l, err
		}
		l.specs = append(l.specs, spec)
	}
	user, pass, err := parseSocksAuth(socksAuth)
	if err != nil {
		return l, err
	}
	l.socksCfg = socks.Config{
		Username: user, Password: pass,
		Log: &log,
	}
	return l, nil
}

// proxyConfig configures a proxy whose targets this side reaches.
func (l *reverseListeners) proxyConfig(node *tunnel.Local) socks.Config {
	cfg := l.socksCfg
	cfg.Dial, cfg.Relay = node.DialHere, node.Join
	return cfg
}

// listen makes the remote bind all addresses, or none.
func (l *reverseListeners) listen(ctx context.Context, node *tunnel.Local, c *connection) error {
	for _, spec := range l.specs {
		port, err := openReverse(ctx, node, spec)
		if err != nil {
			l.close()
			return reverseFailure(spec, err, c)
		}
		l.ports = append(l.ports, port)
	}
	return nil
}

// reverseFailure explains why the remote does not listen.
func reverseFailure(spec reverseSpec, err error, c *connection) error {
	f := &exit.Failure{
		Code: exit.Failed, Why: err,
		What: fmt.Sprintf("can't listen on %s at the remote", portName(spec.listen, spec.udp)),
	}
	var refused *mux.OpenError
	if !errors.As(err, &refused) {
		return f
	}
	switch refused.Code {
	case mux.CodeNotAllowed:
		f.Code = exit.NotAdmitted
		rule := strings.TrimSuffix(spec.listen, ":0") // a rule for any port has none
		f.Hint = fmt.Sprintf("ask the operator of the remote for --reverse '%s', "+
			"or for reverse=%s in its authorized-keys line of %s", rule, rule, c.key.Public())
	case mux.CodeAddressInUse:
		f.Code = exit.CannotListen
		f.Hint = "another program or client uses it: give another port with -R"
	case mux.CodeCannotListen, mux.CodeBadTarget:
		f.Code, f.Hint = exit.CannotListen, "give another address with -R"
	case mux.CodeTooManyStreams:
		f.Code, f.Hint = exit.CannotListen, "give fewer -R"
	}
	return f
}

func (l *reverseListeners) close() {
	for _, port := range l.ports {
		port.close()
	}
}

func (l *reverseListeners) addresses() []string {
	var addresses []string
	for _, port := range l.ports {
		addresses = append(addresses, port.address())
	}
	return addresses
}
