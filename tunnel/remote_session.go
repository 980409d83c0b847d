package tunnel

import (
	"context"
	"errors"
	"io"
	"sync"

	"culvert/protocol"
	"culvert/tunnel/mux"

	"github.com/rs/zerolog"
)

// serveSession answers the session's streams until it ends.
func (r *Remote) serveSession(session *mux.Session, state protocol.State, log zerolog.Logger) {
	log = log.With().Stringer("client", state.Peer.Key).Logger()
	if !r.addSession(session, state.Peer) {
		session.CloseWith(mux.CodeDraining, "")
		return
	}
	log.Info().Int("version", state.Version).Str("suite", state.Suite).
		Bool("forward_secrecy", state.ForwardSecrecy).Msg("session up")
	ctx, cancel := context.WithCancel(r.ctx)
	var streams sync.WaitGroup
	exits, listeners := make(places, maxSessionExits), make(places, maxSessionListeners)
	for {
		stream, err := session.Accept(ctx)
		if err != nil {
			break
		}
		switch stream.Target().Kind {
		case mux.StreamUDP:
			rules := func() remoteRules { return r.rulesFor(state.Peer.Key) }
			streams.Go(func() { r.serveDatagrams(ctx, stream, rules, exits, log) })
		case mux.StreamListen:
			streams.Go(func() { r.serveListen(ctx, session, stream, state.Peer.Key, listeners, log) })
		default:
			streams.Go(func() { r.serveStream(ctx, stream, r.rulesFor(state.Peer.Key), &streams, &log) })
		}
	}
	cancel() // dials that are under way
	session.Close()
	streams.Wait()
	r.removeSession(session)
	log.Info().Err(endOf(session)).Msg("session ended")
}

// endOf returns why a session ended, nil when it was meant to.
func endOf(session *mux.Session) error {
	err := session.Err()
	var closed *mux.CloseError
	if errors.Is(err, mux.ErrSessionClosed) || (errors.As(err, &closed) && closed.Code == mux.CodeDone) ||
		errors.Is(err, io.EOF) { // the WebSocket was closed as planned
		return nil
	}
	return err
}
