package tunnel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"time"

	"culvert/internal/bounds"
	"culvert/internal/netfault"
	"culvert/tunnel/mux"
	"culvert/tunnel/policy"
)

// serveListen listens as a control stream asks for, if the client may, until the stream ends. It
// returns once the connections that were accepted have ended too.
func (s *remoteSession) serveListen(in *mux.IncomingStream, client clientStream) {
	log := s.log.With().Str("bind", in.Target().Address).Logger()
	events := s.asked.With().Str("bind", in.Target().Address).Logger()
	listening, end := context.WithCancel(s.ctx)
	defer end()
	b := &remoteBind{
		remote:  s.remote,
		client:  s.client,
		places:  client.listeners,
		session: s.Session,
		control: in,
		log:     log,
		end:     end,
		freed:   make(chan struct{}),
		release: func() {},
	}
	if err := s.remote.addBind(s.ctx, b); err != nil {
		code, text := listenCode(err)
		events.Info().Err(err).Msg("reverse forward refused")
		in.Refuse(code, text)
		return
	}
	defer b.release()
	b.log = log.With().Str("listen", b.address()).Logger()
	events = events.With().Str("listen", b.address()).Logger()
	events.Info().Msg("reverse forward up")
	var serving sync.WaitGroup
	control, err := in.Confirm()
	if err != nil { // the local has given up
		end()
	}
	serving.Go(func() {
		defer end()
		if err == nil && b.announce(control) {
			serving.Go(func() { b.serve(s.remote.ctx, s.ctx, listening) })
			io.Copy(io.Discard, control) // its error is how the stream ended
		}
	})
	<-listening.Done()
	s.remote.removeBind(b)
	if err == nil {
		control.Close()
	}
	events.Info().Msg("reverse forward ended")
	serving.Wait()
}

// announce writes the address that was bound to the control stream, and reports whether the local
// is ready for connections, which it has to be within listenTimeout.
func (b *remoteBind) announce(control *mux.Stream) bool {
	control.SetReadDeadline(time.Now().Add(listenTimeout))
	_, err := io.WriteString(control, b.address()+"\n")
	if err == nil {
		_, err = io.ReadFull(control, make([]byte, 1))
	}
	if err != nil {
		b.log.Debug().Err(err).Msg("reverse forward: the local is not ready")
		return false
	}
	control.SetReadDeadline(time.Time{})
	return true
}

// addBind takes a place for a listener, binds what the control stream asks for, and registers it.
// The caller calls release once nobody uses it any more.
func (r *Remote) addBind(ctx context.Context, b *remoteBind) error {
	bind, err := policy.ParseBind(b.control.Target().Address)
	if err != nil {
		return err
	}
	r.mu.Lock()
	granted := !r.isRevoked(b.session) && r.access.reverseFor(b.client).Grant(bind)
	r.mu.Unlock()
	if !granted {
		return policy.ErrNotAllowed
	}
	if !r.takeListener(ctx, b, bind) {
		return errListeners
	}
	if bind.UDP { // its buffer
		if b.release = b.session.ReserveMemory(exitMemory); b.release == nil {
			r.cfg.Bounds.Refused(bounds.Memory)
			b.places.leave()
			return errBindMemory
		}
	}
	if err := r.bind(ctx, b, bind); err != nil {
		b.release()
		b.places.leave()
		return err
	}
	return nil
}

// takeListener takes a place for a listener of a client. When there is none, a listener makes room
// whose session has the same key and has lost its connection: the client has come back with another
// session. It is the one that holds the address, or else any.
func (r *Remote) takeListener(ctx context.Context, b *remoteBind, bind policy.Bind) bool {
	conflicts := func(other *remoteBind) bool {
		return other.places == b.places && other.bind.Conflicts(bind)
	}
	lost := func(other *remoteBind) bool {
		return other.places == b.places && other.session.Stats().Away
	}
	for !b.places.take() {
		if !r.evict(ctx, b, conflicts) && !r.evict(ctx, b, lost) {
			r.cfg.Bounds.Refused(bounds.ClientListeners)
			return false
		}
	}
	return true
}

// bind binds an address and registers the bind. When the address is in use by a session of the same
// client that has lost its connection, it is taken over: the client has come back with another
// session. It may be in use by several, if it is that of all interfaces.
func (r *Remote) bind(ctx context.Context, b *remoteBind, bind policy.Bind) error {
	err := r.tryBind(b, bind)
	conflicts := func(other *remoteBind) bool { return other.bind.Conflicts(bind) }
	for netfault.Is(err, syscall.EADDRINUSE) && r.evict(ctx, b, conflicts) {
		err = r.tryBind(b, bind)
	}
	return err
}

// tryBind is bind without taking anything over.
func (r *Remote) tryBind(b *remoteBind, bind policy.Bind) error {
	if runtime.GOOS != "linux" { // elsewhere one of all addresses can be bound again: see Overlaps
		r.binding.Lock()
		defer r.binding.Unlock()
		if r.overlaps(bind) {
			return syscall.EADDRINUSE
		}
	}
	if err := b.listen(bind); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var err error
	switch {
	case r.draining || r.isMoving(b.session):
		err = errDraining
	case !r.isGranted(b): // a reload came in between
		err = policy.ErrNotAllowed
	}
	if err != nil {
		b.close()
		return err
	}
	r.binds[b] = struct{}{}
	return nil
}

// overlaps reports whether the remote listens already where a connection for an address would come.
func (r *Remote) overlaps(bind policy.Bind) bool {
	r.mu.Lock()
	for other := range r.binds {
		if other.bind.Overlaps(bind) {
			r.mu.Unlock()
			return true
		}
	}
	r.mu.Unlock()
	taken := slices.Clone(r.cfg.Taken)
	r.moving.mu.Lock()
	for _, e := range r.moving.entrances {
		taken = append(taken, e.Addr())
	}
	r.moving.mu.Unlock()
	return slices.ContainsFunc(taken, func(own net.Addr) bool {
		tcp, ok := own.(*net.TCPAddr)
		if !ok {
			return false
		}
		addr := tcp.AddrPort()
		return bind.Overlaps(policy.Bind{
			Addr: netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port()),
		})
	})
}

// evict ends a bind of an abandoned session of the same client for which inTheWay returns true, and
// reports whether it did: its address and its place are free then. A session that may have lost its
// connection unnoticed is asked for a sign of life. One that moves is about to free what it has.
// inTheWay is called with the mutex held.
func (r *Remote) evict(
	ctx context.Context, by *remoteBind, inTheWay func(*remoteBind) bool,
) bool {
	found := r.bindToEvict(ctx, by, inTheWay)
	if found == nil {
		return false
	}
	found.end()
	select {
	case <-found.freed:
		return true
	case <-ctx.Done():
		return false
	}
}

// bindToEvict returns the bind that evict ends, nil if there is none.
func (r *Remote) bindToEvict(
	ctx context.Context, by *remoteBind, inTheWay func(*remoteBind) bool,
) *remoteBind {
	var connected []*remoteBind
	r.mu.Lock()
	for b := range r.binds {
		if !b.client.Equal(by.client) || b.session == by.session || !inTheWay(b) {
			continue
		}
		if r.isMoving(b.session) || b.session.Stats().Away {
			r.mu.Unlock()
			return b
		}
		connected = append(connected, b)
	}
	r.mu.Unlock()
	for _, b := range connected {
		if isAbandoned(ctx, b.session) {
			return b
		}
	}
	return nil
}

// isAbandoned reports whether a session has no connection, or has none any more when its peer is
// asked for a sign of life.
func isAbandoned(ctx context.Context, session *mux.Session) bool {
	if session.Stats().Away {
		return true
	}
	session.Probe()
	ctx, alive := context.WithCancel(ctx)
	var asking sync.WaitGroup
	asking.Go(func() {
		if _, err := session.Ping(ctx); err == nil {
			alive()
		}
	})
	lost := session.AwaitLoss(ctx) == nil
	alive()
	asking.Wait()
	return lost || session.Err() != nil
}

// removeBind closes the listener or port, forgets it and gives its place back.
func (r *Remote) removeBind(b *remoteBind) {
	b.close()
	r.mu.Lock()
	delete(r.binds, b)
	r.mu.Unlock()
	b.places.leave()
	close(b.freed)
}

// endBinds ends the binds that are no longer granted, or all. Called with the mutex held.
func (r *Remote) endBinds(all bool) {
	for b := range r.binds {
		if all || !r.isGranted(b) {
			b.end()
		}
	}
}

// isGranted reports whether the client of a bind may have it. Called with the mutex held.
func (r *Remote) isGranted(b *remoteBind) bool {
	return !r.isRevoked(b.session) &&
		r.access.reverseFor(b.client).GrantBound(b.bind, b.control.Target().Address)
}

// isRevoked reports whether a session is about to end because its client is no longer admitted.
// Called with the mutex held.
func (r *Remote) isRevoked(session *mux.Session) bool {
	a := r.sessions[session]
	return a != nil && a.revoked
}

var (
	errDraining   = errors.New("shutting down")
	errBindMemory = errors.New("no memory for its buffer")
	errListeners  = fmt.Errorf("limit of %d listeners", maxClientListeners)
)

// listenCode translates why an address was not bound into the session's code, and into words where
// no code fits.
func listenCode(err error) (mux.Code, string) {
	switch {
	case errors.Is(err, policy.ErrNotAllowed):
		return mux.CodeNotAllowed, ""
	case errors.Is(err, policy.ErrBadTarget):
		return mux.CodeBadTarget, ""
	case errors.Is(err, errDraining):
		return mux.CodeDraining, ""
	case errors.Is(err, errListeners):
		return mux.CodeTooManyStreams, err.Error()
	case errors.Is(err, errBindMemory):
		return mux.CodeOverload, err.Error()
	case netfault.Is(err, syscall.EADDRINUSE):
		return mux.CodeAddressInUse, ""
	}
	return mux.CodeCannotListen, netfault.Cause(err).Error()
}
