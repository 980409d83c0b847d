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

// exposure is a listener, or a UDP port, of the remote for one of its clients. It lives as long as the stream that asked for
// it, and so outlives a lost WebSocket with its session.
type exposure struct {
	client  certs.PublicKey
	session *mux.Session
	control *mux.Stream
	bind    policy.Bind        // with the port that was bound
	ln      net.Listener       // nil for a UDP port
	packets *oncePackets       // of a UDP port, else nil
	end     context.CancelFunc // has it closed
	freed   chan struct{}      // closed when it is
}

// address is the address that was really bound, for people.
func (e *exposure) address() string {
	switch {
	case e.bind.Socket != "":
		return policy.UnixPrefix + e.bind.Socket
	case e.packets != nil:
		return e.packets.LocalAddr().String()
	}
	return e.ln.Addr().String()
}

// streamAddress is the target of a stream for a connection, or for datagrams, from an address.
func (e *exposure) streamAddress(from fmt.Stringer) string {
	return fmt.Sprintf("%d %s", e.control.ID(), from)
}

// listen binds an address.
func (e *exposure) listen(bind policy.Bind) error {
	e.bind = bind
	if bind.UDP {
		conn, err := bind.ListenUDP()
		if err != nil {
			return err
		}
		e.packets = &oncePackets{UDPConn: conn}
		e.bind.Addr = conn.LocalAddr().(*net.UDPAddr).AddrPort()
		return nil
	}
	ln, err := bind.Listen()
	if err != nil {
		return err
	}
	e.ln = &onceListener{Listener: ln}
	if tcp, ok := ln.Addr().(*net.TCPAddr); ok {
		e.bind.Addr = tcp.AddrPort()
	}
	return nil
}

func (e *exposure) close() {
	if e.packets != nil {
		e.packets.Close()
	} else {
		e.ln.Close()
	}
}

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
	e := &exposure{client: client, session: session, control: control, end: end, freed: make(chan struct{})}
	if err := r.expose(ctx, e); err != nil {
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
		r.serveExposure(ctx, listening, e, &serving, log)
	})
	<-listening.Done()
	r.unexpose(e)
	mine.leave()
	control.Close()
	log.Info().Msg("reverse forward ended")
	serving.Wait()
}

// serveExposure answers the control stream, accepts connections once the local is ready for them, and returns when the
// stream has ended. Connections outlive the listener: they end with the session's context at the latest. Datagrams have no way
// then.
func (r *Remote) serveExposure(session, listening context.Context, e *exposure, serving *sync.WaitGroup, log zerolog.Logger) {
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

// forward joins a connection to a stream to the local. One that the local doesn't take is reset.
func (e *exposure) forward(ctx context.Context, conn net.Conn, log zerolog.Logger) {
	opening, cancel := context.WithTimeout(ctx, dialTimeout+openWait)
	stream, err := e.session.Open(opening, mux.Target{Kind: mux.StreamReverse, Address: e.streamAddress(conn.RemoteAddr())})
	cancel()
	if err != nil {
		log.Debug().Err(err).Msg("connection not taken")
		abort(conn)
		return
	}
	err = relay(ctx, stream, conn)
	log.Debug().Err(err).Msg("stream ended")
}

// expose binds what the exposure's stream asks for, and registers it. When the address is taken by a session of the same
// client that has lost its connection, it is taken over: that client has come back in another session.
func (r *Remote) expose(ctx context.Context, e *exposure) error {
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
	r.exposures[e] = struct{}{}
	return nil
}

// evict frees an address that an abandoned session of the same client holds.
func (r *Remote) evict(ctx context.Context, by *exposure, bind policy.Bind) bool {
	var found *exposure
	r.mu.Lock()
	for e := range r.exposures {
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

// unexpose closes the listener and forgets it.
func (r *Remote) unexpose(e *exposure) {
	e.close()
	r.mu.Lock()
	delete(r.exposures, e)
	r.mu.Unlock()
	close(e.freed)
}

// reverseFor returns the rules that now hold for what a client may bind: those of its key's line, if that has any.
func (r *Remote) reverseFor(client certs.PublicKey) *policy.ReverseRules {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.reverseRules(client)
}

// reverseRules is reverseFor, called with the mutex held.
func (r *Remote) reverseRules(client certs.PublicKey) *policy.ReverseRules {
	if rules, ok := r.keyReverse[client]; ok {
		return rules
	}
	return r.reverse
}

// endExposures ends those that are granted no more, or all. Called with the mutex held.
func (r *Remote) endExposures(all bool) {
	for e := range r.exposures {
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
