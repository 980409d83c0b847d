package cli

import (
	"context"
	"errors"
	"sync"

	"culvert/certs"
	"culvert/internal/cli/exit"
	"culvert/protocol"
	"culvert/tunnel"
)

// service is a local node whose first session is up, with its listeners: what local, run and demo
// have in common. It goes through start, serve and stop.
type service struct {
	connection *connection
	listeners  *listeners
	node       *tunnel.Local

	ended   chan error         // gets the node's error, once, when the node has ended
	endNode context.CancelFunc // drains the node

	reloads     reloads // make the node reconnect
	stopReloads func()

	failed      <-chan error // gets the errors of listeners that break
	servers     sync.WaitGroup
	stopServing context.CancelFunc
}

// start runs a node until its first session is up; it asks the user about an unknown remote. The
// node ends when ctx is done or stop is called, and reconnects when reloads ask for it. If ctx is
// done before there is a session, start returns nil and no error.
func start(
	ctx context.Context, c *connection, l *listeners, reloads reloads,
) (*service, error) {
	s := &service{connection: c, listeners: l, reloads: reloads, stopServing: func() {}}
	asked := map[*remoteTrust]bool{}
	for {
		err := s.startNode(ctx)
		if err == nil {
			c.warnOfUnknown()
			return s, nil
		}
		var identity *protocol.IdentityError
		about := c.about(err)
		if !asked[about.trust] && errors.Is(err, certs.ErrUnknownRemote) &&
			errors.As(err, &identity) {
			asked[about.trust] = true
			yes, err := about.trust.ask(ctx, about.address.String(), identity.Key)
			if err != nil {
				return nil, connectFailure(err, c)
			}
			if yes {
				continue
			}
		}
		if ctx.Err() != nil {
			return nil, nil
		}
		return nil, connectFailure(err, c)
	}
}

// warnOfUnknown warns of the remotes that a local with several can't go to because their keys are
// not known: there may be nobody to ask when they are needed.
func (c *connection) warnOfUnknown() {
	for _, r := range c.remotes {
		if r.trust.unknown() {
			c.config.Log.Warn().Stringer("remote", r.address).
				Msg("the key of this remote is not known, so no stream goes there")
		}
	}
}

// startNode starts the node and waits for its first session. On an error the node has ended.
func (s *service) startNode(ctx context.Context) error {
	node := tunnel.NewLocal(s.connection.config)
	running, cancel := context.WithCancel(ctx)
	s.node, s.endNode = node, cancel
	s.ended = make(chan error, 1)
	ended := s.ended
	s.stopReloads = s.reloads.watch(func() {
		s.connection.out.reopenLog(s.connection.config.Log)
		node.Retry()
	})
	s.connection.status.watch(node)
	if c := s.connection.control; c != nil {
		c.attach(node.State)
	}
	go func() { ended <- node.Run(running) }()
	_, err := node.WaitSession(ctx)
	if err != nil {
		cancel()
		s.stopReloads()
		<-ended // err has the cause; Run returns nil if it sees that it was stopped
	}
	return err
}

// serve makes the remote listen as -R asks for, and starts serving all listeners, until ctx is done
// or stop is called.
func (s *service) serve(ctx context.Context) error {
	if err := s.listeners.reverse.listen(ctx, s.node, s.connection); err != nil {
		return err
	}
	ctx, s.stopServing = context.WithCancel(ctx)
	var err error
	s.failed, err = s.listeners.serve(ctx, s.node, s.connection, &s.servers)
	if err != nil {
		return err
	}
	s.servers.Go(func() { upkeep(ctx, s.node.MemoryHeld) })
	s.listeners.log(s.connection.config.Log)
	return nil
}

// ready returns the line for --print-ready.
func (s *service) ready() readyLine {
	return readyLine{
		Status:    s.connection.status.url(),
		Socks:     s.listeners.socksAddress(),
		PAC:       s.listeners.pacURL(),
		Forwards:  s.listeners.forwardAddresses(),
		Reverse:   s.listeners.reverse.addresses(),
		PublicKey: s.connection.key.Public().String(),
	}
}

// wait waits until the node ends, a listener breaks, done gets an error or nil, or ctx is done. It
// returns why, which is nil in the last case.
func (s *service) wait(ctx context.Context, done <-chan error) error {
	select {
	case err := <-s.ended:
		s.ended <- nil // for stop
		if err != nil {
			return connectFailure(err, s.connection)
		}
	case err := <-s.failed:
		return exit.Fail(exit.Failed, "a listener broke", err, "")
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	return nil
}

// stop drains the node, and waits until it and the listeners have ended. The listeners' ports are
// for listeners.close to release.
func (s *service) stop() {
	s.stopServing()
	s.listeners.shutdown()
	s.endNode()
	s.stopReloads()
	<-s.ended
	s.servers.Wait()
}
