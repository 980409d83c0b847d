package load

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"sync"

	"culvert/certs"
	"culvert/protocol"
	"culvert/tunnel"
)

// sessions are sessions with culvert's remote, each with the key of another client.
type sessions struct {
	locals  []*tunnel.Local
	cancel  context.CancelFunc
	running sync.WaitGroup
}

// openSessions makes a session for each of the request's first n clients. The caller must close
// them.
func openSessions(ctx context.Context, r Request, n int) (_ *sessions, err error) {
	address, err := tunnel.ParseAddress(r.Remote)
	if err != nil {
		return nil, err
	}
	remote, err := certs.ParsePublicKey(r.RemoteKey)
	if err != nil {
		return nil, err
	}
	if n > len(r.Clients) {
		return nil, fmt.Errorf("%d keys for %d sessions", len(r.Clients), n)
	}
	verify := func(peer protocol.Peer) error {
		if !peer.Key.Equal(remote) {
			return errors.New("another remote answers")
		}
		return nil
	}
	s := &sessions{locals: make([]*tunnel.Local, n)}
	for i := range s.locals {
		key, err := clientKey(r.Clients[i])
		if err != nil {
			return nil, err
		}
		s.locals[i] = tunnel.NewLocal(tunnel.LocalConfig{Address: address, Key: key,
			VerifyRemote: verify, ConnectTimeout: connectTime})
	}
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s.cancel = cancel
	err = concurrently(ctx, connecting, n, func(ctx context.Context, i int) error {
		return s.connect(ctx, running, i)
	})
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// connect runs a local, and waits until it has a session.
func (s *sessions) connect(ctx, running context.Context, i int) error {
	s.running.Go(func() { s.locals[i].Run(running) }) // its error is also that of WaitSession
	if _, err := s.locals[i].WaitSession(ctx); err != nil {
		return fmt.Errorf("session %d of %d: %w", i+1, len(s.locals), err)
	}
	return nil
}

// close ends the sessions with their streams.
func (s *sessions) close() {
	s.cancel()
	for _, local := range s.locals {
		local.Abort()
	}
	s.running.Wait()
}

// dial opens a connection in one of the sessions.
func (s *sessions) dial(ctx context.Context, i int, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	return s.locals[i].DialContext(ctx, "tcp", address)
}

// dials are n connections to the target, which the sessions open in turn.
func (s *sessions) dials(n int, address string) []dialFunc {
	dials := make([]dialFunc, n)
	for i := range dials {
		dials[i] = func(ctx context.Context) (net.Conn, error) {
			return s.dial(ctx, i%len(s.locals), address)
		}
	}
	return dials
}

// clientKey returns the pair of a secret key in hexadecimal.
func clientKey(text string) (*certs.KeyPair, error) {
	var secret [32]byte
	if n, err := hex.Decode(secret[:], []byte(text)); err != nil || n != len(secret) {
		return nil, errors.New("not the secret key of a client")
	}
	return certs.NewKeyPair(secret)
}
