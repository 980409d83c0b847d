package cli

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"culvert/internal/bounds"
	"culvert/internal/cli/exit"
	"culvert/internal/cli/flags"
	"culvert/internal/state"
	"culvert/socks"
	"culvert/tunnel"

	"github.com/rs/zerolog"
)

const defaultSocks = "127.0.0.1:1080"

// preferVariable is in the help of flags whose value may hold a password.
const preferVariable = "prefer the variable for a password, since other users can see arguments"

// proxyOptions are the proxy port of local and the file that makes browsers use it.
type proxyOptions struct {
	socks      string // address, or "none"
	socksGiven bool
	socksFlag  string // as it was typed
	socksAuth  string // USER:PASS or ""
	pac        string // address or ""
	pacDirect  []string
}

func (o *proxyOptions) define(s *flags.Set) {
	s.Group("listening")
	s.String(&o.socks, "socks,D", defaultSocks,
		"listen on `ADDR`, or a port of loopback, as a SOCKS5, SOCKS4a and HTTP proxy; "+
			"none disables it").Common().
		Values(defaultSocks+"\tthe default", "none\tno SOCKS port").Given(&o.socksGiven).
		TypedAs(&o.socksFlag)
	s.String(&o.socksAuth, "socks-auth", "",
		"require `USER:PASS` from the proxy's clients, which excludes SOCKS4; "+preferVariable).
		Secret()
	s.String(&o.pac, "pac", "", "serve /proxy.pac, which configures browsers, on `ADDR`")
	s.Strings(&o.pacDirect, "pac-direct", nil, "let these browsers connect directly to hosts that "+
		"match `PATTERN`, such as *.example.org or 10.0.0.0/8; repeatable")
}

// listeners are the listeners of a local.
type listeners struct {
	socks    net.Listener                // nil if disabled
	asked    string                      // the address for socks
	auth     struct{ user, pass string } // of the clients of all proxies; "" for none
	logger   *zerolog.Logger
	bounds   *bounds.Counts // nil counts nothing
	pac      *pac           // nil if not served
	forwards []forward
	reverse  reverseListeners

	live atomic.Pointer[liveForwards] // while they are served
}

// openProxy binds the ports of the options.
func (l *listeners) openProxy(o *proxyOptions, log zerolog.Logger) error {
	if o.socks != "none" {
		address, err := listenAddress("socks", o.socks, thisMachine, "1080")
		if err != nil {
			return err
		}
		if err := l.openSocks(address, o.socksAuth, log); err != nil {
			return cannotListen(address, fmt.Sprintf(
				"give another port with %s, or turn it off with %[1]s none", o.socksFlag), err)
		}
	}
	if o.pac == "" {
		if len(o.pacDirect) > 0 {
			return exit.Usagef("give --pac ADDR", "--pac-direct needs --pac")
		}
		return nil
	}
	var err error
	l.pac, err = openPAC(o.pac, o.pacDirect, l.socks, o.socksAuth != "", log)
	return err
}

func (l *listeners) openForwards(specs []forwardSpec) error {
	for _, spec := range specs {
		f, err := openForward(spec)
		if err != nil {
			return cannotListen(portName(spec.listen, spec.udp), "give another port with -L", err)
		}
		l.forwards = append(l.forwards, f)
	}
	return nil
}

// parseSocksAuth parses USER:PASS, or nothing.
func parseSocksAuth(auth string) (user, pass string, err error) {
	user, pass, ok := strings.Cut(auth, ":")
	if auth != "" && (!ok || user == "" || pass == "" || len(user) > 255 || len(pass) > 255) {
		return "", "", &flags.ValueError{
			Flag: "socks-auth", Value: auth, Secret: true, Why: "want USER:PASS, each of 1 to 255 bytes",
			Example: "alice:PASS",
		}
	}
	return user, pass, nil
}

// openSocks binds the port of the proxy. Clients need auth, which is USER:PASS, unless it is empty.
// An error is a *exit.Failure for a bad auth, or the system's.
func (l *listeners) openSocks(address, auth string, log zerolog.Logger) error {
	var err error
	if l.auth.user, l.auth.pass, err = parseSocksAuth(auth); err != nil {
		return err
	}
	l.logger = &log
	l.asked = address
	l.socks, err = l.bindProxy(address, log)
	return err
}

// bindProxy binds a port of the proxy, and warns if others than this machine reach it and need no
// password.
func (l *listeners) bindProxy(address string, log zerolog.Logger) (net.Listener, error) {
	ln, err := listen(address)
	if err != nil {
		return nil, err
	}
	if tcp, ok := ln.Addr().(*net.TCPAddr); ok && !tcp.IP.IsLoopback() && l.auth.user == "" {
		log.Warn().Stringer("socks", tcp).
			Msg("anybody who reaches this port can use the tunnel: consider --socks-auth")
	}
	return ln, nil
}

// proxyConfig configures a proxy whose targets are reached through the node.
func (l *listeners) proxyConfig(node *tunnel.Local) socks.Config {
	cfg := socks.Config{
		Username: l.auth.user, Password: l.auth.pass, Classify: socksReply,
		Log: l.logger, Bounds: l.bounds,
		Dial: node.DialContext, Relay: node.Relay, Unreached: unreached,
	}
	cfg.Associate = func(ctx context.Context) (socks.Association, error) {
		association, err := node.Associate(ctx)
		if err != nil {
			return nil, err // not a typed nil
		}
		return association, nil
	}
	return cfg
}

// serve starts serving through the node, with goroutines of servers. Errors of listeners that break
// go to failed.
func (l *listeners) serve(
	ctx context.Context, node *tunnel.Local, c *connection, servers *sync.WaitGroup,
) (failed <-chan error, err error) {
	live := newLiveForwards(ctx, l, node, c, servers)
	if l.socks != nil {
		if _, err := live.serveProxy(l.asked, l.socks); err != nil {
			return nil, err
		}
	}
	if l.pac != nil {
		live.start(func() error { return l.pac.serve(ctx) })
	}
	for _, f := range l.forwards {
		live.serveForward(f)
	}
	for _, p := range l.reverse.ports {
		if _, err := live.serveReverse(p); err != nil {
			return nil, err
		}
	}
	l.live.Store(live)
	return live.failed, nil
}

// shutdown stops the proxies. The forwards stop with the context that they are served with.
func (l *listeners) shutdown() {
	if live := l.live.Load(); live != nil {
		live.shutdown()
	}
}

// list describes what is open, before serve is called and after.
func (l *listeners) list() (all []state.Listener) {
	if live := l.live.Load(); live != nil {
		all = live.list()
	} else {
		if l.socks != nil {
			all = append(all, state.Listener{Kind: state.ListenSocks, Address: l.socksAddress()})
		}
		for _, f := range l.forwards {
			all = append(all, state.Listener{
				Kind: state.ListenForward, Address: f.address(), Target: f.spec.target,
			})
		}
	}
	if l.pac != nil {
		all = append(all, state.Listener{Kind: state.ListenPAC, Address: l.pacURL()})
	}
	return all
}

// shutdownSocks stops accepting, and lets connections end with the session, which drains meanwhile.
func shutdownSocks(server *socks.Server, servers *sync.WaitGroup) {
	if server == nil {
		return
	}
	servers.Go(func() {
		timeout := tunnel.DrainTimeout + time.Second
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		defer cancel()
		server.Shutdown(ctx) // an error means that relays were cut, which the session's end has logged
	})
}

func (l *listeners) close() {
	if l.socks != nil {
		l.socks.Close()
	}
	if l.pac != nil {
		l.pac.listener.Close()
	}
	for _, f := range l.forwards {
		f.close()
	}
	l.reverse.close()
}

func (l *listeners) socksAddress() string {
	if l.socks == nil {
		return ""
	}
	return listenerAddress(l.socks)
}

func (l *listeners) pacURL() string {
	if l.pac == nil {
		return ""
	}
	return l.pac.url()
}

func (l *listeners) forwardAddresses() []string {
	var addresses []string
	for _, f := range l.forwards {
		addresses = append(addresses, f.address())
	}
	return addresses
}

// log logs where the listeners are. Those at the remote have lines of their own.
func (l *listeners) log(log zerolog.Logger) {
	if l.socks == nil && l.pac == nil && len(l.forwards) == 0 {
		return
	}
	event := log.Info()
	if l.socks != nil {
		event = event.Str("socks", l.socksAddress())
	}
	if l.pac != nil {
		event = event.Str("pac", l.pacURL())
	}
	if len(l.forwards) > 0 {
		event = event.Strs("forwards", l.forwardAddresses())
	}
	event.Msg("listening")
}
