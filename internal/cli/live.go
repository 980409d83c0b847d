package cli

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"culvert/internal/cli/exit"
	"culvert/internal/state"
	"culvert/internal/status/control"
	"culvert/socks"
	"culvert/tunnel"
)

// liveForwards are the proxy ports and forwards of a local while it serves. More can be added, and
// each can be cancelled: its listener ends, and its connections go on. All methods may be called
// concurrently.
type liveForwards struct {
	listeners  *listeners
	node       *tunnel.Local
	connection *connection
	ctx        context.Context // ends when the local stops
	servers    *sync.WaitGroup
	failed     chan error // has room for one, the first

	mu      sync.Mutex // guards all below
	open    []*liveForward
	stopped bool
}

// liveForward is one of them.
type liveForward struct {
	kind   string // of control.Forward
	spec   any    // a forwardSpec or a reverseSpec; for a proxy port, the address asked for
	shown  state.Listener
	moved  func() string // returns where it listens now; nil if that is always as shown
	cancel func()        // ends the listener, which is closed when it returns
	proxy  *socks.Server // nil for a forward
}

// listener describes where the forward listens.
func (f *liveForward) listener() state.Listener {
	shown := f.shown
	if f.moved != nil {
		shown.Address = f.moved()
	}
	return shown
}

func newLiveForwards(
	ctx context.Context, l *listeners, node *tunnel.Local, c *connection, servers *sync.WaitGroup,
) *liveForwards {
	return &liveForwards{
		listeners: l, node: node, connection: c, ctx: ctx, servers: servers,
		failed: make(chan error, 1),
	}
}

// start runs a function that serves. The first one's error ends the local.
func (f *liveForwards) start(serve func() error) {
	f.servers.Go(func() {
		if err := serve(); err != nil {
			select {
			case f.failed <- err:
			default:
			}
		}
	})
}

// add lists a forward that serve serves. It reports false once the local stops.
func (f *liveForwards) add(forward *liveForward, serve func() error) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stopped {
		return false
	}
	f.open = append(f.open, forward)
	f.start(serve)
	return true
}

// serveForward serves an open -L.
func (f *liveForwards) serveForward(open forward) bool {
	ctx, cancel := context.WithCancel(f.ctx)
	return f.add(&liveForward{
		kind: control.ForwardLocal, spec: open.spec,
		shown: state.Listener{
			Kind: state.ListenForward, Address: open.address(), Target: open.spec.target,
		},
		cancel: func() {
			cancel()
			open.close() // by its return the address is free
		},
	}, func() error { return open.serve(ctx, f.node) })
}

// serveReverse serves an open -R.
func (f *liveForwards) serveReverse(open reversePort) (bool, error) {
	ctx, cancel := context.WithCancel(f.ctx)
	live := &liveForward{
		kind: control.ForwardReverse, spec: open.spec,
		shown: state.Listener{
			Kind: state.ListenReverse, Address: open.address(), Target: open.spec.target,
		},
		moved: open.address, // another session may bind another port in place of 0
		cancel: func() {
			cancel()
			open.close()
		},
	}
	if open.spec.target != "" {
		return f.add(live, func() error {
			open.serve(ctx, f.node)
			return nil
		}), nil
	}
	cancel()
	err := live.useProxy(f.listeners.reverse.proxyConfig(f.node))
	if err != nil {
		return false, err
	}
	return f.addProxy(live, open.listener), nil
}

// serveProxy serves a port for SOCKS and HTTP proxy clients, which was asked for as an address.
func (f *liveForwards) serveProxy(asked string, ln net.Listener) (bool, error) {
	live := &liveForward{
		kind: control.ForwardSocks, spec: asked,
		shown: state.Listener{Kind: state.ListenSocks, Address: listenerAddress(ln)},
	}
	if err := live.useProxy(f.listeners.proxyConfig(f.node)); err != nil {
		return false, err
	}
	return f.addProxy(live, ln), nil
}

// useProxy gives a forward a proxy's server.
func (f *liveForward) useProxy(cfg socks.Config) (err error) {
	f.proxy, err = socks.New(cfg)
	return err
}

// addProxy serves a listener with the forward's proxy.
func (f *liveForwards) addProxy(live *liveForward, ln net.Listener) bool {
	noticed := &noticedListener{Listener: ln, closed: make(chan struct{})}
	live.cancel = func() {
		f.drainProxy(live.proxy)
		<-noticed.closed
	}
	return f.add(live, func() error {
		return live.proxy.Serve(context.WithoutCancel(f.ctx), noticed)
	})
}

// noticedListener closes a channel once it has been closed.
type noticedListener struct {
	net.Listener
	once   sync.Once
	closed chan struct{}
}

// Close implements net.Listener.
func (l *noticedListener) Close() error {
	err := l.Listener.Close()
	l.once.Do(func() { close(l.closed) })
	return err
}

// shutdown stops the proxies, whose connections end with the session. The forwards stop with the
// context.
func (f *liveForwards) shutdown() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stopped = true
	for _, forward := range f.open {
		shutdownSocks(forward.proxy, f.servers)
	}
}

// list describes what is open.
func (f *liveForwards) list() (all []state.Listener) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, forward := range f.open {
		all = append(all, forward.listener())
	}
	return all
}

// proxyAt returns what serves a proxy port, nil if it is no longer open.
func (f *liveForwards) proxyAt(ln net.Listener) *socks.Server {
	f.mu.Lock()
	defer f.mu.Unlock()
	address := listenerAddress(ln)
	for _, forward := range f.open {
		if forward.kind == control.ForwardSocks && forward.shown.Address == address {
			return forward.proxy
		}
	}
	return nil
}

// addForward opens another one, and returns its address.
func (f *liveForwards) addForward(ctx context.Context, asked control.Forward) (string, error) {
	spec, err := parseControlled(asked)
	if err != nil {
		return "", err
	}
	var address string
	var serving bool
	switch spec := spec.(type) {
	case forwardSpec:
		open, err := openForward(spec)
		if err != nil {
			return "", cannotListen(portName(spec.listen, spec.udp),
				"give another port with -L", err)
		}
		address, serving = open.address(), f.serveForward(open)
		if !serving {
			open.close()
		}
	case reverseSpec:
		open, err := openReverse(ctx, f.node, spec)
		if err != nil {
			return "", reverseFailure(spec, err, f.connection)
		}
		address = open.address()
		if serving, err = f.serveReverse(open); err != nil || !serving {
			open.close()
		}
		if err != nil {
			return "", err
		}
	case string:
		ln, err := f.listeners.bindProxy(spec, f.connection.config.Log)
		if err != nil {
			return "", cannotListen(spec, "give another address with -D", err)
		}
		address = listenerAddress(ln)
		if serving, err = f.serveProxy(spec, ln); err != nil || !serving {
			ln.Close()
		}
		if err != nil {
			return "", err
		}
	}
	if !serving {
		return "", errStopping
	}
	f.connection.config.Log.Info().Str("listen", address).Str("flag", "-"+asked.Kind).
		Msg("forward added")
	return address, nil
}

var errStopping = exit.Fail(exit.Failed, "the node is stopping", nil, "")

// parseControlled parses a forward as its flag's value: a forwardSpec, a reverseSpec, or the
// address of a proxy port.
func parseControlled(asked control.Forward) (any, error) {
	switch asked.Kind {
	case control.ForwardLocal:
		return parseForward(asked.Spec)
	case control.ForwardReverse:
		return parseReverse(asked.Spec)
	}
	return listenAddress("D", asked.Spec, thisMachine, "1081")
}

// cancelForward ends the listener of one that was asked for in the same words, or with the port
// that was bound in place of 0. Its connections go on.
func (f *liveForwards) cancelForward(asked control.Forward) error {
	spec, err := parseControlled(asked)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stopped {
		return errStopping
	}
	at := f.lastLocked(asked.Kind, func(forward *liveForward) bool {
		return absoluteListen(forward.spec) == spec
	})
	if at < 0 {
		at = f.lastLocked(asked.Kind, func(forward *liveForward) bool {
			return forward.isBound(spec)
		})
	}
	if at < 0 {
		return exit.Fail(exit.Failed, fmt.Sprintf("no -%s %s is open", asked.Kind, asked.Spec), nil,
			"culvert status shows what is")
	}
	forward := f.open[at]
	f.open = slices.Delete(f.open, at, at+1)
	forward.cancel()
	f.connection.config.Log.Info().Str("listen", forward.listener().Address).
		Str("flag", "-"+asked.Kind).Msg("forward cancelled")
	return nil
}

// absoluteListen is absoluteSocket for what parseControlled returns.
func absoluteListen(spec any) any {
	switch spec := spec.(type) {
	case string:
		return absoluteSocket(spec)
	case forwardSpec:
		spec.listen = absoluteSocket(spec.listen)
		return spec
	}
	return spec
}

// lastLocked returns the index of the forward that was added last of a kind and for which is
// returns true, or -1. Of several with port 0 it is the one that is cancelled first.
func (f *liveForwards) lastLocked(kind string, is func(*liveForward) bool) int {
	for at := len(f.open) - 1; at >= 0; at-- {
		if f.open[at].kind == kind && is(f.open[at]) {
			return at
		}
	}
	return -1
}

// isBound reports whether the forward is the one that a spec describes by the address that was
// bound.
func (f *liveForward) isBound(spec any) bool {
	switch spec := spec.(type) {
	case string:
		return isAt(spec, f.spec.(string), f.shown.Address)
	case forwardSpec:
		own := f.spec.(forwardSpec)
		asked := portName(own.listen, spec.udp)
		own.listen = spec.listen
		return own == spec && isAt(portName(spec.listen, spec.udp), asked, f.shown.Address)
	case reverseSpec:
		own := f.spec.(reverseSpec)
		asked := portName(own.listen, spec.udp)
		own.listen = spec.listen
		return own == spec && isAt(portName(spec.listen, spec.udp), asked, f.listener().Address)
	}
	return false
}

// isAt reports whether an address is the one that was bound for the one that was asked for: as it
// is shown, or with its port in place of 0.
func isAt(address, asked, bound string) bool {
	if address == bound {
		return true
	}
	host, _, err := net.SplitHostPort(address)
	askedHost, port, askedErr := net.SplitHostPort(asked)
	anyPort := strings.TrimSuffix(port, "/udp") == "0"
	return err == nil && askedErr == nil && host == askedHost && anyPort && samePort(address, bound)
}

// samePort reports whether two addresses have the same port: which addresses are bound for
// localhost is the remote's business.
func samePort(asked, bound string) bool {
	_, port, err := net.SplitHostPort(asked)
	_, boundPort, boundErr := net.SplitHostPort(bound)
	return err == nil && boundErr == nil && port == boundPort
}

// drainProxy lets the connections of a proxy end by themselves, or with the session.
func (f *liveForwards) drainProxy(server *socks.Server) {
	f.servers.Go(func() {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		defer context.AfterFunc(f.ctx, func() {
			time.AfterFunc(tunnel.DrainTimeout+time.Second, cancel)
		})()
		server.Shutdown(ctx) // an error means that relays were cut
	})
}
