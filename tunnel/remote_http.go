package tunnel

import (
	"context"
	"errors"
	"io"
	"math"
	"net"
	"net/http"
	"strconv"
	"time"

	"culvert/certs"
	"culvert/internal/bounds"
	"culvert/internal/state"
	"culvert/protocol"
	"culvert/tunnel/mux"

	"github.com/gorilla/websocket"
	"github.com/rs/zerolog"
)

// ServeHTTP upgrades a request to a WebSocket and serves its session until that ends. Other
// requests go to the fallback site.
func (r *Remote) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	request = r.locate(request)
	boundRequest(w, request)
	ours := request.URL.Path == r.cfg.Path && (r.fallback == nil || isUpgrade(request))
	r.mu.Lock()
	route := routeNameOf(request)
	owns := ours && r.routes[route] > 0 // it may be for a session that is here
	ended, draining := r.ended, r.ended || r.draining && !owns
	if r.draining && !isUpgrade(request) { // the next request should go to whoever accepts now
		w.Header().Set("Connection", "close")
	}
	if !ended {
		r.serving.Add(1)
		defer r.serving.Done()
	}
	var back Predecessor
	if ours && !owns {
		back = r.leadsBack(route, request)
	}
	r.mu.Unlock()
	foreign := ours && websocket.IsWebSocketUpgrade(request) &&
		!r.currentAccess().trust.admitsOrigin(request.Header)
	switch {
	case back != nil && !foreign:
		r.passOn(back, w, request)
	case r.fallback != nil && ended && (!ours || foreign):
		w.WriteHeader(http.StatusBadGateway) // as for visits that the end has cut
	case r.fallback != nil && (!ours || foreign):
		r.fallback.serve(r.ctx, w, request, r.sourceOf(clientAddr(request)))
	case !ours:
		http.NotFound(w, request)
	case draining:
		w.Header().Set("Connection", "close")
		r.cfg.Observer.Handshake(Handshake{Result: HandshakeBusy})
		refuseBusy(w)
	case foreign:
		r.cfg.Observer.Handshake(Handshake{Result: HandshakeRefused})
		log := r.gate.refusals.With().Str("from", request.RemoteAddr).
			Strs("origin", request.Header.Values("Origin")).Logger()
		logRefusal(log, errOrigin)
		http.Error(w, "origin not allowed", http.StatusForbidden)
	case !websocket.IsWebSocketUpgrade(request):
		r.requireUpgrade(w, request)
	default:
		r.serveClient(w, request, owns)
	}
}

// requireUpgrade refuses a request that is none for a WebSocket: that of a visitor, a scanner or a
// health check. A client can tell by the status that a proxy has removed its Upgrade field.
func (r *Remote) requireUpgrade(w http.ResponseWriter, request *http.Request) {
	w.Header().Set("Upgrade", "websocket")
	w.Header().Set("Connection", "Upgrade")
	http.Error(w, "this is for WebSockets", http.StatusUpgradeRequired)
	r.cfg.Log.Debug().Str("from", request.RemoteAddr).Msg("client refused: not a WebSocket")
}

// refuse answers a client for which there is no room, as it answers visitors.
func (r *Remote) refuse(w http.ResponseWriter, request *http.Request) {
	if r.fallback != nil {
		r.fallback.serve(r.ctx, w, request, r.sourceOf(clientAddr(request)))
		return
	}
	refuseBusy(w)
}

// refuseClient is refuse for a client that wants to be admitted.
func (r *Remote) refuseClient(w http.ResponseWriter, request *http.Request) {
	r.cfg.Observer.Handshake(Handshake{Result: HandshakeBusy})
	r.refuse(w, request)
}

func refuseBusy(w http.ResponseWriter) { http.Error(w, "busy", http.StatusServiceUnavailable) }

// refusePenalized answers a client that is refused for the time left because others of its source
// failed to be admitted.
func (r *Remote) refusePenalized(
	w http.ResponseWriter, request *http.Request, left time.Duration,
) {
	if r.fallback != nil {
		r.refuse(w, request)
		return
	}
	setRetryAfter(w, left)
	http.Error(w, "too many failed attempts", http.StatusTooManyRequests)
}

// refuseForNow answers a client that should stay away for a time, 0 if that isn't known.
func (r *Remote) refuseForNow(
	w http.ResponseWriter, request *http.Request, after time.Duration,
) {
	if r.fallback == nil && after > 0 {
		setRetryAfter(w, after)
	}
	r.refuseClient(w, request)
}

// setRetryAfter asks a client to stay away for a time (RFC 9110, section 10.2.3).
func setRetryAfter(w http.ResponseWriter, after time.Duration) {
	w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(after.Seconds()))))
}

// turnAway reports whether a client may not begin a handshake, and answers it then. owned means
// that it may be for a session that is here.
func (r *Remote) turnAway(
	w http.ResponseWriter, request *http.Request, from source, owned bool,
) bool {
	if left := r.gate.penalized(from); left > 0 {
		r.cfg.Observer.Handshake(Handshake{Result: HandshakeRefused})
		r.refusePenalized(w, request, left)
		return true
	}
	owned = owned && routeNameOf(request) != "" // a session without a name is nobody's in particular
	if after, ok := r.gate.takeRate(from, owned); !ok {
		r.refuseForNow(w, request, after)
		return true
	}
	if owned {
		return false
	}
	// Last: isFull may look at all sessions, whose streams wait for that.
	r.mu.Lock()
	full := r.isFull()
	r.mu.Unlock()
	if full {
		r.cfg.Bounds.Refused(bounds.Sessions)
		r.refuseClient(w, request)
	}
	return full
}

// serveClient serves a client. owned means that it may be for a session that is here.
func (r *Remote) serveClient(w http.ResponseWriter, request *http.Request, owned bool) {
	ctx, cancel := context.WithCancelCause(r.ctx)
	defer cancel(nil)
	from := r.sourceOf(clientAddr(request))
	if r.turnAway(w, request, from, owned) {
		return
	}
	waiting, stop := context.WithCancel(request.Context())
	defer stop()
	defer context.AfterFunc(r.ctx, stop)()
	place, after := r.gate.takeHandshake(waiting, from, func() { cancel(errDisplaced) })
	if place == nil {
		r.refuseForNow(w, request, after)
		return
	}
	release := r.session.Memory.Reserve(strangers, handshakeMemory)
	if release == nil {
		place.leave()
		r.cfg.Bounds.Refused(bounds.Memory)
		r.refuseClient(w, request)
		return
	}
	began := time.Now()
	r.moving.admits(+1) // before the connection is no newcomer's any more
	hijacker := &bareHijacker{ResponseWriter: w}
	a, err := r.admit(ctx, hijacker, request)
	r.moving.admits(-1)
	release()
	place.leave()
	if hijacker.hijacked { // else it stays open for another request
		leaveStrangers(request)
		clear(request.Header) // which net/http keeps while the session lasts
	}
	if err != nil && context.Cause(ctx) == errDisplaced {
		r.observeHandshake(a, errDisplaced, began)
	} else {
		r.observeHandshake(a, err, began)
	}
	if err != nil {
		r.noteRefusal(a, err, request, from)
		return
	}
	log := r.cfg.Log.With().Str("from", request.RemoteAddr).Logger()
	if a.resumed { // the call that began the session continues to serve it
		if r.renewSession(a.Session, a.state.Peer, clientAddr(request)) != nil {
			return
		}
		name := r.noteCarrier(a)
		r.event(state.EventResumed, name, a.state.Peer.Key, clientAddr(request), nil)
		stats := a.Stats()
		r.observed.sums.resumed()
		r.cfg.Observer.Resume(true, stats.LastAway)
		log = r.currentAccess().identify(log.With().Str("session", name), a.state.Peer.Key).Logger()
		log = log.Sample(r.comingsOf(a.state.Peer.Key, clientAddr(request)))
		log.Info().Int("streams", stats.Streams).Uint64("resent_bytes", stats.Resent).
			Msg("session resumed")
		return
	}
	r.serveSession(a, clientAddr(request), log)
}

// noteRefusal logs and remembers that a client was not admitted, because of err.
func (r *Remote) noteRefusal(a admitted, err error, request *http.Request, from source) {
	log := r.gate.refusals.With().Str("from", request.RemoteAddr).Logger()
	client := a.state.Peer.Key
	if refused, ok := errors.AsType[*refusedKeyError](err); ok {
		client = refused.key
	}
	if client != (certs.PublicKey{}) {
		log = r.currentAccess().identify(log.With(), client).Logger()
	}
	if a.state.Version == 0 && r.ctx.Err() == nil { // the handshake has failed
		r.gate.penalize(from, err)
	}
	if !hasLeft(err) {
		r.event(state.EventRefused, "", client, clientAddr(request), err)
	}
	logRefusal(log, err)
}

// hasLeft reports whether a client left during the handshake, or before its session: it was not
// refused.
func hasLeft(err error) bool {
	if handshake, ok := errors.AsType[*protocol.HandshakeError](err); ok {
		return handshake.Code == 0
	}
	return leftEarly(err)
}

// leftEarly reports whether a client left between the handshake and its session.
func leftEarly(err error) bool {
	_, closed := errors.AsType[*protocol.PeerClosedError](err)
	_, broken := errors.AsType[net.Error](err)
	return closed || broken || errors.Is(err, io.ErrUnexpectedEOF)
}

// observeHandshake reports how an attempt to be admitted ended that began at a time.
func (r *Remote) observeHandshake(a admitted, err error, began time.Time) {
	result := handshakeResult(err)
	r.cfg.Bounds.Note(err)
	failed, _ := errors.AsType[*protocol.HandshakeError](err)
	switch {
	case result == HandshakeTimeout && !errors.Is(err, mux.ErrNotCulvert):
		r.cfg.Bounds.Refused(bounds.Handshake)
	case failed == nil || !errors.Is(err, protocol.ErrTooLarge):
	case failed.Step == "3":
		r.cfg.Bounds.Refused(bounds.ClientHello)
	default:
		r.cfg.Bounds.Refused(bounds.ClearPart)
	}
	r.cfg.Observer.Handshake(Handshake{result, a.state.Version, a.state.Suite, time.Since(began)})
}

// logRefusal logs why a request has led to no session.
func logRefusal(log zerolog.Logger, err error) {
	var handshake *protocol.HandshakeError
	var refused *protocol.RefusedError
	var session *mux.RefusedError
	switch {
	case errors.As(err, &session):
		log.Info().Err(err).Uint16("code", uint16(session.Code)).Msg("client refused")
	case errors.As(err, &refused) && refused.Code == protocol.CloseIdentity:
		log.Info().Msg("client left: it does not know this remote's key, or expects another one")
	case errors.Is(err, errDisplaced):
		log.Info().Err(errDisplaced).Msg("client refused")
	case errors.As(err, &handshake) && handshake.Code == 0: // it could be told nothing
		log.Info().Err(handshake.Err).Msg("client left during the handshake")
	case handshake == nil && leftEarly(err):
		log.Info().Err(err).Msg("client left before its session")
	default:
		log.Info().Err(err).Msg("client refused")
	}
}
