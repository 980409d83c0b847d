package cli

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"

	"culvert/socks"
	"culvert/tunnel"
	"culvert/tunnel/mux"

	"github.com/rs/zerolog"
	"github.com/urfave/cli/v2"
)

// doors are the listeners of a local.
type doors struct {
	socks    net.Listener // nil when turned off
	server   *socks.Server
	socksCfg socks.Config
	pac      *pac // nil when it is not served
	forwards []forward
	reverse  reverseDoors
}

// openDoors binds all listeners, before anything else is done: a port that is taken is then told at once.
func openDoors(c *cli.Context, forwards []forwardSpec, log zerolog.Logger) (*doors, error) {
	d := &doors{}
	address := c.String("socks")
	if c.String("W") != "" && !c.IsSet("socks") {
		address = "none"
	}
	if address != "none" {
		if err := d.openSocks(address, c.String("socks-auth"), log); err != nil {
			return nil, cannotListen(address, "--socks", "give another address with --socks, or turn it off with --socks none", err)
		}
	}
	var err error
	if c.String("pac") != "" {
		d.pac, err = openPAC(c.String("pac"), c.StringSlice("pac-direct"), d.socks, c.String("socks-auth") != "", log)
	} else if len(c.StringSlice("pac-direct")) > 0 {
		err = usage("give --pac ADDR", "--pac-direct needs --pac")
	}
	if err == nil {
		err = d.openForwards(forwards)
	}
	if err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

func (d *doors) openForwards(specs []forwardSpec) error {
	for _, spec := range specs {
		f, err := openForward(spec)
		if err != nil {
			return cannotListen(portName(spec.listen, spec.udp), "-L", "give another port with -L", err)
		}
		d.forwards = append(d.forwards, f)
	}
	return nil
}

// parseSocksAuth reads USER:PASS, or nothing.
func parseSocksAuth(auth string) (user, pass string, err error) {
	user, pass, ok := strings.Cut(auth, ":")
	if auth != "" && (!ok || user == "" || pass == "" || len(user) > 255 || len(pass) > 255) {
		return "", "", usage("it is USER:PASS, each of 1 to 255 bytes", "bad --socks-auth")
	}
	return user, pass, nil
}

// openSocks binds the port of the proxy. The clients need auth, which is USER:PASS, or nothing when it is empty. An error is that
// of --socks-auth, a *Failure, or what the system says.
func (d *doors) openSocks(address, auth string, log zerolog.Logger) error {
	user, pass, err := parseSocksAuth(auth)
	if err != nil {
		return err
	}
	ln, err := listen(address)
	if err != nil {
		return err
	}
	d.socks = ln
	if tcp, ok := ln.Addr().(*net.TCPAddr); ok && !tcp.IP.IsLoopback() && user == "" {
		log.Warn().Stringer("socks", tcp).Msg("anybody who reaches this port can use the tunnel: consider --socks-auth")
	}
	d.socksCfg = socks.Config{Username: user, Password: pass, Classify: socksReply, Log: &log}
	return nil
}

// serve starts serving through the node. A listener that breaks is sent to failed.
func (d *doors) serve(ctx context.Context, node *tunnel.Local, servers *sync.WaitGroup) (failed <-chan error) {
	errs := make(chan error, 3+len(d.forwards)+len(d.reverse.ports))
	start := func(serve func() error) {
		servers.Go(func() {
			if err := serve(); err != nil {
				errs <- err
			}
		})
	}
	if d.socks != nil {
		cfg := d.socksCfg
		cfg.Dial, cfg.Relay, cfg.Unreached = node.DialContext, node.Relay, unreached
		cfg.Associate = func(ctx context.Context) (socks.Association, error) {
			association, err := node.Associate(ctx)
			if err != nil {
				return nil, err // not a typed nil
			}
			return association, nil
		}
		server, err := socks.New(cfg)
		if err != nil {
			errs <- err
			return errs
		}
		d.server = server
		start(func() error { return server.Serve(context.WithoutCancel(ctx), d.socks) })
	}
	if d.pac != nil {
		start(func() error { return d.pac.serve(ctx) })
	}
	for _, f := range d.forwards {
		start(func() error { return f.serve(ctx, node) })
	}
	if err := d.reverse.serve(ctx, node, start); err != nil {
		errs <- err
	}
	return errs
}

// shutdown stops the proxies. The forwards stop with the context that they are served with.
func (d *doors) shutdown(servers *sync.WaitGroup) {
	shutdownSocks(d.server, servers)
	shutdownSocks(d.reverse.server, servers)
}

func (d *doors) close() {
	if d.socks != nil {
		d.socks.Close()
	}
	if d.pac != nil {
		d.pac.listener.Close()
	}
	for _, f := range d.forwards {
		f.close()
	}
	d.reverse.close()
}

func (d *doors) socksAddress() string {
	if d.socks == nil {
		return ""
	}
	return listenerAddress(d.socks)
}

func (d *doors) pacURL() string {
	if d.pac == nil {
		return ""
	}
	return d.pac.url()
}

func (d *doors) forwardAddresses() []string {
	var addresses []string
	for _, f := range d.forwards {
		addresses = append(addresses, f.address())
	}
	return addresses
}

// unreached says that a stream which was opened at once has failed of its target.
func unreached(err error) bool {
	_, refused := errors.AsType[*mux.OpenError](err)
	return refused
}

// socksReply translates why a target was not reached.
func socksReply(err error) socks.Reply {
	var refused *mux.OpenError
	switch {
	case errors.Is(err, tunnel.ErrNoSession), errors.Is(err, net.ErrClosed):
		return socks.ReplyUnavailable
	case !errors.As(err, &refused):
		return socks.ClassifyNetError(err)
	}
	switch refused.Code {
	case mux.CodeRefused:
		return socks.ReplyConnectionRefused
	case mux.CodeHostUnreach:
		return socks.ReplyHostUnreachable
	case mux.CodeNameNotFound:
		return socks.ReplyNameNotFound
	case mux.CodeNetUnreach:
		return socks.ReplyNetworkUnreachable
	case mux.CodeTimeout:
		return socks.ReplyTTLExpired
	case mux.CodeNotAllowed:
		return socks.ReplyNotAllowed
	case mux.CodeTooManyStreams, mux.CodeDraining:
		return socks.ReplyUnavailable
	}
	return socks.ReplyGeneralFailure
}
