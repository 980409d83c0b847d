package cli

import (
	"cmp"
	"context"
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"culvert/certs"
	"culvert/internal/cli/exit"
	"culvert/internal/cli/flags"
	"culvert/internal/state"
	"culvert/internal/status/control"

	"github.com/rs/zerolog"
)

// controlOptions are the name of a node, and its control socket.
type controlOptions struct {
	name   string // "" for the default one
	socket string // auto or none
}

func (o *controlOptions) define(s *flags.Set) {
	s.Group("control")
	s.String(&o.name, "name", "", "be `NAME` for --take-over, and for culvert status, "+
		"stop, reload, restart and forward (default: the command and a number, such as local-1)")
	s.String(&o.socket, "control", "auto", "answer these commands on a socket in the user's runtime "+
		"folder: `MODE` auto, or none").Values("auto", "none")
}

// nodeControl is what observers see of a node, and its control socket.
type nodeControl struct {
	source *state.Source // of snapshots, for all observers
	events *state.Events

	node      state.Node // what doesn't change, except for its name and key, which mu guards
	mu        sync.Mutex
	served    control.Node // what can be asked
	take      atomic.Pointer[func() state.State]
	listeners atomic.Pointer[func() []state.Listener]

	log    zerolog.Logger
	socket *control.Socket // nil without one
	server *control.Server // nil until serve is called
}

// open makes a node's control socket. Its name is the base and a number unless the user has chosen
// one.
func (o *controlOptions) open(
	base, kind string, log zerolog.Logger, version string,
) (*nodeControl, error) {
	n, err := o.prepare(base, kind, log, version)
	if err == nil {
		err = o.bind(n, base)
	}
	return n, err
}

// prepare is open without the socket.
func (o *controlOptions) prepare(
	base, kind string, log zerolog.Logger, version string,
) (*nodeControl, error) {
	switch {
	case o.socket != "auto" && o.socket != "none":
		return nil, &flags.ValueError{
			Flag: "control", Value: o.socket, Form: "it is auto or none", Example: "none",
		}
	case o.name != "" && control.CheckName(o.name) != nil:
		return nil, &flags.ValueError{
			Flag: "name", Value: o.name, Form: control.ErrBadName.Error(), Example: base,
		}
	}
	n := &nodeControl{events: state.NewEvents(), log: log}
	n.source = state.NewSource(n.snapshot)
	n.node = state.Node{
		Name: cmp.Or(o.name, base), Kind: kind, Version: version, PID: os.Getpid(),
		Started: time.Now(),
	}
	return n, nil
}

// bind makes the socket of a node, unless there is to be none. That it can't be made matters only
// when the user has chosen the node's name.
func (o *controlOptions) bind(n *nodeControl, base string) (err error) {
	if o.socket == "none" {
		return nil
	}
	if o.name != "" {
		n.socket, err = control.Listen(o.name)
	} else {
		n.socket, err = control.ListenNumbered(base)
	}
	switch {
	case err == nil:
		n.node.Name = n.socket.Name
	case o.name != "" && errors.Is(err, control.ErrRunning):
		return exit.Fail(exit.CannotListen, "can't be "+o.name, err,
			"give another --name; culvert status lists those that run")
	case o.name != "" && errors.Is(err, control.ErrFolder):
		return exit.Fail(exit.CannotListen, "no control socket", err,
			"the folder has to be this user's alone (in a unit: RuntimeDirectoryMode=0700)")
	case o.name != "":
		return exit.Fail(exit.CannotListen, "no control socket", err,
			"give a shorter --name, or turn it off with --control none")
	default:
		n.log.Warn().Err(err).Msg("no control socket: culvert status can't see this node")
	}
	return nil
}

// bindAs is bind once another process has given up its name. A failure is logged.
func (o *controlOptions) bindAs(n *nodeControl, name string) {
	if o.socket == "none" {
		return
	}
	var err error
	name = cmp.Or(o.name, name)
	n.mu.Lock()
	n.node.Name = name
	n.mu.Unlock()
	if n.socket, err = control.Listen(name); err != nil {
		n.log.Warn().Err(err).Msg("no control socket: culvert status can't see this node")
	}
}

// stepAside gives up the node's name, for another process, and takes one for the time until it has
// drained.
func (n *nodeControl) stepAside() {
	switch {
	case n.server != nil:
		n.server.Retire() // which has been asked to restart the node, perhaps
	case n.socket != nil:
		n.socket.Close()
	}
	n.server, n.socket = nil, nil
	socket, err := control.ListenNumbered(n.node.Name + "-draining")
	if err != nil {
		n.log.Warn().Err(err).Msg("no control socket: culvert status can't see this node")
		return
	}
	n.mu.Lock()
	n.node.Name = socket.Name
	n.mu.Unlock()
	n.socket = socket
	n.serve(n.served)
}

// showKey makes the node's public key another one.
func (n *nodeControl) showKey(key certs.PublicKey) {
	n.mu.Lock()
	n.node.PublicKey = key.String()
	n.mu.Unlock()
	n.source.Invalidate()
}

// key returns the node's public key.
func (n *nodeControl) key() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.node.PublicKey
}

// name returns the node's name.
func (n *nodeControl) name() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.node.Name
}

// attach makes snapshots those of a node.
func (n *nodeControl) attach(take func() state.State) { n.take.Store(&take) }

// show sets what lists the node's listeners.
func (n *nodeControl) show(list func() []state.Listener) { n.listeners.Store(&list) }

// snapshot describes the node. There may be none yet.
func (n *nodeControl) snapshot() state.State {
	s := state.State{
		Sessions: []state.Session{}, Streams: []state.Stream{}, Events: n.events.Recent(),
	}
	if take := n.take.Load(); take != nil {
		s = (*take)()
	}
	known := s.Node
	n.mu.Lock()
	s.Node = n.node
	n.mu.Unlock()
	s.Node.Draining = known.Draining
	s.Node.Remote = cmp.Or(known.Remote, s.Node.Remote) // that of now, of several
	s.Node.Listen = []state.Listener{}
	if list := n.listeners.Load(); list != nil {
		s.Node.Listen = append(s.Node.Listen, (*list)()...)
	}
	return s
}

// serve starts answering on the socket, if there is one, until close is called.
func (n *nodeControl) serve(node control.Node) {
	if n.socket == nil {
		return
	}
	node.State = n.source.State
	n.served = node
	n.server = control.Serve(n.socket, node, n.log)
}

// close removes the socket. An error is that somebody else has done that.
func (n *nodeControl) close() {
	switch {
	case n.server != nil:
		n.server.Close()
	case n.socket != nil:
		n.socket.Close()
	}
}

// told words an error for whoever asked through the socket.
func told(err error) error {
	failure, ok := errors.AsType[*exit.Failure](err)
	if !ok {
		return err
	}
	return &control.Error{What: failure.Error(), Hint: failure.Hint, Status: failure.Code}
}

// observe makes the local visible to observers.
func (c *connection) observe(signals *interrupts, l *listeners) {
	c.config.Events = c.control.events
	c.control.node.Remote = c.address.String()
	c.control.showKey(c.key.Public())
	c.control.show(func() []state.Listener { return append(l.list(), c.status.listener()...) })
	c.control.serve(controlLocal(signals, l, c.control.source))
}

// controlLocal is what can be asked of a local.
func controlLocal(signals *interrupts, l *listeners, source *state.Source) control.Node {
	return control.Node{
		Stop: signals.drain,
		Reload: func(context.Context) error {
			signals.reloads.request()
			return nil
		},
		AddForward: func(ctx context.Context, f control.Forward) (string, error) {
			live, err := l.serving()
			if err != nil {
				return "", told(err)
			}
			defer source.Invalidate()
			address, err := live.addForward(ctx, f)
			return address, told(err)
		},
		CancelForward: func(_ context.Context, f control.Forward) error {
			live, err := l.serving()
			if err != nil {
				return told(err)
			}
			defer source.Invalidate()
			return told(live.cancelForward(f))
		},
	}
}

// serving returns the forwards once there is a session.
func (l *listeners) serving() (*liveForwards, error) {
	if live := l.live.Load(); live != nil {
		return live, nil
	}
	return nil, exit.Fail(exit.Unreachable, "not connected yet", nil, "")
}
