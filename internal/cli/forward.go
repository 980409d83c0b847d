package cli

import (
	"context"
	"errors"
	"net"
	"strconv"
	"strings"

	"culvert/internal/cli/flags"
	"culvert/tunnel"
)

// forwardOptions are the ports that local and run forward.
type forwardOptions struct {
	forwards []string
	reverses []string
}

func (o *forwardOptions) define(s *flags.Set) {
	s.Group("listening")
	s.Strings(&o.forwards, "L", nil, "forward a port to a target as the remote sees it: `FORWARD` "+
		"is [BIND:]PORT:HOST:HOSTPORT[/udp], or has unix:/PATH on either side; repeatable").Common()
	s.Strings(&o.reverses, "R", nil, "forward a port of the remote, where its rules allow that, "+
		"to a target as this side sees it: `REVERSE` is [BIND:]PORT:HOST:HOSTPORT[/udp] or "+
		"[BIND:]PORT:socks, or has unix:/PATH on either side; repeatable").Common()
}

// forwardSpec is a parsed -L.
type forwardSpec struct {
	listen string // host:port on this machine, or unix:path
	target string // host:port as the remote sees it, or unix:/path
	udp    bool   // datagrams instead of connections
}

// portName returns a listening address as people and scripts get to see it.
func portName(address string, udp bool) string {
	if udp {
		return address + "/udp"
	}
	return address
}

const (
	forwardForm = "it is [BIND:]PORT:HOST:HOSTPORT[/udp], and either end may be unix:/PATH instead"

	forwardExample = "8022:localhost:22"
)

// parseForward parses [BIND:]PORT:HOST:HOSTPORT as ssh does: IPv6 addresses need brackets, an empty
// BIND or * means all addresses, and none means loopback. Either side may be unix:PATH instead,
// whose path has no colon; the remote's is absolute. With /udp at the end, datagrams are forwarded
// instead of connections.
func parseForward(text string) (forwardSpec, error) {
	fail := func(why string) (forwardSpec, error) {
		return forwardSpec{}, &flags.ValueError{
			Flag: "L", Value: text, Why: why, Form: forwardForm, Example: forwardExample,
		}
	}
	fields, err := splitColons(text)
	if err != nil {
		return fail(err.Error())
	}
	if len(fields) < 3 || len(fields) > 4 {
		return fail("wrong number of colons")
	}
	n := len(fields) - 2
	target, udp, err := joinTarget(fields[n], fields[n+1])
	if err != nil {
		return fail(err.Error())
	}
	if n == 2 && fields[0] == "unix" {
		switch {
		case fields[1] == "":
			return fail("the socket's path is empty")
		case udp:
			return fail(socketForUDP)
		}
		return forwardSpec{"unix:" + fields[1], target, false}, nil
	}
	bind := "127.0.0.1"
	if n == 2 {
		if bind = fields[0]; bind == "*" {
			bind = ""
		}
	}
	if _, err := strconv.ParseUint(fields[n-1], 10, 16); err != nil {
		return fail("the local port must be 0 to 65535")
	}
	return forwardSpec{net.JoinHostPort(bind, fields[n-1]), target, udp}, nil
}

const socketForUDP = "UDP has ports, not sockets with a path"

// joinTarget joins the two fields of a target: a host and a port, which ends in /udp for datagrams,
// or unix and a path.
func joinTarget(host, port string) (target string, udp bool, err error) {
	if host == "unix" && strings.HasPrefix(port, "/") {
		return "unix:" + port, false, nil
	}
	port, udp = strings.CutSuffix(port, "/udp")
	target = net.JoinHostPort(host, port)
	return target, udp, checkTarget(target)
}

// forward is an open -L.
type forward struct {
	spec     forwardSpec
	listener net.Listener // nil for datagrams
	packets  *net.UDPConn // nil for connections
}

// openForward binds the address of a -L.
func openForward(spec forwardSpec) (f forward, err error) {
	f.spec = spec
	if !spec.udp {
		f.listener, err = listen(spec.listen)
		return f, err
	}
	f.packets, err = listenUDP(spec.listen)
	return f, err
}

func (f forward) address() string {
	if f.spec.udp {
		return portName(f.packets.LocalAddr().String(), true)
	}
	return listenerAddress(f.listener)
}

func (f forward) serve(ctx context.Context, node *tunnel.Local) error {
	if f.spec.udp {
		return node.ServeForwardUDP(ctx, f.packets, f.spec.target)
	}
	return node.ServeForward(ctx, f.listener, f.spec.target)
}

func (f forward) close() {
	if f.spec.udp {
		f.packets.Close()
	} else {
		f.listener.Close()
	}
}

// parseForwards parses all -L.
func parseForwards(texts []string) ([]forwardSpec, error) {
	var specs []forwardSpec
	for _, text := range texts {
		spec, err := parseForward(text)
		if err != nil {
			return nil, err
		}
		specs = append(specs, spec)
	}
	return specs, nil
}

// checkTarget accepts HOST:PORT and unix:/PATH. Whether the host or socket exists is for the remote
// to find out.
func checkTarget(target string) error {
	if strings.HasPrefix(target, "unix:/") {
		return nil
	}
	host, port, err := net.SplitHostPort(target)
	switch {
	case err != nil:
		return errors.New(addressFault(target))
	case host == "":
		return errors.New("the host is empty")
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return errors.New("the host's port must be 1 to 65535")
	}
	return nil
}

// splitColons splits at colons outside brackets, and drops the brackets.
func splitColons(text string) ([]string, error) {
	var fields []string
	for {
		var field string
		if rest, ok := strings.CutPrefix(text, "["); ok {
			end := strings.IndexByte(rest, ']')
			if end < 0 || (end+1 < len(rest) && rest[end+1] != ':') {
				return nil, errors.New("brackets don't match")
			}
			field, text = rest[:end], rest[end+1:]
		} else {
			end := strings.IndexByte(text, ':')
			if end < 0 {
				end = len(text)
			}
			field, text = text[:end], text[end:]
		}
		fields = append(fields, field)
		if text == "" {
			return fields, nil
		}
		text = text[1:]
	}
}
