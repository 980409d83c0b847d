package tunnel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"

	"culvert/certs"
	"culvert/tunnel/mux"
	"culvert/tunnel/policy"

	"github.com/rs/zerolog"
)

// serveListen listens as the stream asks for, if the client may, until the stream ends. It returns when the connections
// that were accepted have ended too. The context ends with the session, whose places are mine.
func (r *Remote) serveListen(ctx context.Context, session *mux.Session, control *mux.Stream, client certs.PublicKey, mine places, log zerolog.Logger) {
	log = log.With().Str("bind", control.Target().Address).Logger()
	if !mine.take() {
		control.Refuse(mux.CodeTooManyStreams, fmt.Sprintf("%d listeners are the most", maxSessionListeners))
		return
	}
	listening, end := context.WithCancel(ctx)
	defer end()
	e := &remoteBind{client: client, session: session, control: control, end: end, freed: make(chan struct{})}
	if err := r.bindFor(ctx, e); err != nil {
		mine.leave()
		code, text := listenCode(err)
		log.Info().Err(err).Msg("reverse forward refused")
		control.Refuse(code, text)
		return
	}
	log = log.With().Str("listen", e.address()).Logger()
	log.Info().Msg("reverse forward up")
	var serving sync.WaitGroup
	serving.Go(func() {
		defer end()
		r.serveBind(ctx, listening, e, &serving, log)
	})
	<-listening.Done()
	r.unbind(e)
	mine.leave()
	control.Close()
	log.Info().Msg("reverse forward ended")
	serving.Wait()
}

// serveBind answers the control stream, accepts connections once the local is ready for them, and returns when the
// stream has ended. Connections outlive the listener: they end with the session's context at the latest. Datagrams have no way
// then.
func (r *Remote) serveBind(session, listening context.Context, e *remoteBind, serving *sync.WaitGroup, log zerolog.Logger) {
	if err := e.control.Confirm(); err != nil {
		return
	}
	if _, err := io.WriteString(e.control, e.address()+"\n"); err != nil {
		return
	}
	if _, err := io.ReadFull(e.control, make([]byte, 1)); err != nil {
		return
	}
	serving.Go(func() {
		defer e.end()
		var err error
		if e.packets != nil {
			err = e.servePackets(listening, log)
		} else {
			err = serveConns(listening, e.ln, maxListenerConns, log, func(conn net.Conn) { e.forward(session, conn, log) })
		}
		if err != nil && !errors.Is(err, net.ErrClosed) {
			log.Warn().Err(err).Msg("a reverse forward broke")
		}
	})
	io.Copy(io.Discard, e.control) // its error only says how the stream ended
}

// bindFor binds what the remoteBind's stream asks for, and registers it. When the address is taken by a session of the same
// client that has lost its connection, it is taken over: that client has come back in another session.
func (r *Remote) bindFor(ctx context.Context, e *remoteBind) error {
	bind, err := policy.ParseBind(e.control.Target().Address)
	if err != nil {
		return err
	}
	if !r.reverseFor(e.client).Grant(bind) {
		return policy.ErrNotAllowed
	}
	err = e.listen(bind)
	if errors.Is(err, syscall.EADDRINUSE) && r.evict(ctx, e, bind) {
		err = e.listen(bind)
	}
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.draining {
		e.close()
		return errDraining
	}
	r.binds[e] = struct{}{}
	return nil
}

// evict frees an address that an abandoned session of the same client holds.
func (r *Remote) evict(ctx context.Context, by *remoteBind, bind policy.Bind) bool {
	var found *remoteBind
	r.mu.Lock()
	for e := range r.binds {
		if e.client.Equal(by.client) && e.bind.Conflicts(bind) && e.session != by.session && e.session.Stats().Away {
			found = e
		}
	}
	r.mu.Unlock()
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

// unbind closes the listener and forgets it.
func (r *Remote) unbind(e *remoteBind) {
	e.close()
	r.mu.Lock()
	delete(r.binds, e)
	r.mu.Unlock()
	close(e.freed)
}

// endBinds ends those that are granted no more, or all. Called with the mutex held.
func (r *Remote) endBinds(all bool) {
	for e := range r.binds {
		if all || !r.reverseRules(e.client).GrantBound(e.bind, e.control.Target().Address) {
			e.end()
		}
	}
}

var errDraining = errors.New("shutting down")

// listenCode translates why an address was not bound into the session's code, and words for those that no code says.
func listenCode(err error) (mux.Code, string) {
	switch {
	case errors.Is(err, policy.ErrNotAllowed):
		return mux.CodeNotAllowed, ""
	case errors.Is(err, policy.ErrBadTarget):
		return mux.CodeBadTarget, ""
	case errors.Is(err, errDraining):
		return mux.CodeDraining, ""
	case errors.Is(err, syscall.EADDRINUSE):
		return mux.CodeAddressInUse, ""
	}
	return mux.CodeCannotListen, plainCause(err).Error()
}
