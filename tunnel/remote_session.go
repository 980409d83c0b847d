package tunnel

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"culvert/certs"
	"culvert/internal/pollbreak"
	"culvert/internal/state"
	"culvert/tunnel/mux"

	"github.com/rs/zerolog"
)

// remoteSession serves the streams of one session.
type remoteSession struct {
	*mux.Session
	remote  *Remote
	client  certs.PublicKey
	log     zerolog.Logger
	denials *limitedLog     // for targets that the rules forbid
	asked   *limitedLog     // for what the client may ask for again and again
	lookups *limitedLog     // for names that no name server has an answer for
	ctx     context.Context // ends with the session
	streams sync.WaitGroup
	test    atomic.Pointer[remoteTest] // nil while there is none
}

func newRemoteSession(
	ctx context.Context,
	r *Remote,
	session *mux.Session,
	client certs.PublicKey,
	from netip.Addr,
	log zerolog.Logger,
) *remoteSession {
	return &remoteSession{
		Session: session,
		remote:  r,
		client:  client,
		log:     log,
		denials: limitLog(log, 1, streamWarningsPeriod, r.gate.warnings),
		asked:   limitLog(log, maxListenerLines, listenerLinesPeriod, r.comingsOf(client, from).asked),
		lookups: limitLog(log, 1, streamWarningsPeriod, r.gate.warnings),
		ctx:     ctx,
	}
}

// serveSession serves a session that is registered until it ends.
func (r *Remote) serveSession(a admitted, from netip.Addr, log zerolog.Logger) {
	session, handshake := a.Session, a.state
	name, began := r.noteCarrier(a), time.Now()
	log = r.currentAccess().identify(log.With().Str("session", name), handshake.Peer.Key).Logger()
	coming := log.Sample(r.comingsOf(handshake.Peer.Key, from))
	coming.Info().Int("version", handshake.Version).Str("suite", handshake.Suite).
		Bool("forward_secrecy", handshake.ForwardSecrecy).Str("congestion", a.congestion).
		Msg("session up")
	r.observed.sums.begin(session)
	r.recordStreams(session, name, handshake.Peer.Key, from)
	r.event(state.EventSessionUp, name, handshake.Peer.Key, from, nil)
	ctx, cancel := context.WithCancel(r.ctx)
	s := newRemoteSession(ctx, r, session, handshake.Peer.Key, from, log)
	s.acceptStreams()
	cancel() // dials that are under way
	r.noteEnd(session)
	session.Close()
	s.streams.Wait()
	s.denials.close()
	s.asked.close()
	s.lookups.close()
	r.retire(session)
	if abandoned, ok := errors.AsType[*mux.AbandonedError](session.Err()); ok {
		r.cfg.Observer.Resume(false, abandoned.Window)
	}
	r.event(state.EventSessionEnded, name, handshake.Peer.Key, from, endOf(session))
	done := session.Inspect(0)
	coming = log.Sample(r.comingsOf(handshake.Peer.Key, from))
	coming.Info().Err(endOf(session)).Dur("duration", shortTime(time.Since(began))).
		Uint64("streams", done.Opened).Uint64("sent_bytes", done.Payload.Sent).
		Uint64("received_bytes", done.Payload.Received).Msg("session ended")
}

// streamCost is the work of beginning to serve a stream, for package pollbreak: some tens of
// microseconds. A client that opens very many at once has sixteen begun at a time, before all
// others have their turn.
const streamCost = 32 << 10

// acceptStreams serves each stream that the client's share has room for, on a new goroutine, until
// the session or its context ends.
func (s *remoteSession) acceptStreams() {
	var rest pollbreak.Break
	defer rest.Close()
	for {
		incoming, err := s.Accept(s.ctx)
		if err != nil {
			return
		}
		rest.Worked(streamCost)
		client, refusal := s.remote.takeStream(s.Session)
		if refusal != nil {
			incoming.Refuse(refusal.Code, refusal.Text)
			continue
		}
		leave := func() { s.remote.leaveStream(client.remoteClient) }
		switch in := incoming.(type) {
		case *mux.IncomingFlow:
			s.streams.Go(func() {
				defer leave()
				s.serveFlow(in, client)
			})
		case *mux.IncomingStream:
			s.startStream(in, client, leave)
		}
	}
}

// startStream serves a stream on a new goroutine, and calls leave when that has ended.
func (s *remoteSession) startStream(in *mux.IncomingStream, client clientStream, leave func()) {
	switch in.Target().Kind {
	case mux.StreamListen:
		s.streams.Go(func() {
			defer leave()
			s.serveListen(in, client)
		})
	case mux.StreamService:
		s.streams.Go(func() {
			defer leave()
			s.serveService(in, client)
		})
	default:
		s.streams.Go(func() { s.serveStream(in, client, leave) })
	}
}

// endOf returns why a session ended, nil when that was intended.
func endOf(session *mux.Session) error {
	err := session.Err()
	var closed *mux.CloseError
	var abandoned *mux.AbandonedError
	if errors.As(err, &abandoned) {
		return err
	}
	if errors.Is(err, mux.ErrSessionClosed) ||
		(errors.As(err, &closed) && closed.Code == mux.CodeDone) ||
		errors.Is(err, io.EOF) { // the peer closed the WebSocket
		return nil
	}
	return err
}
