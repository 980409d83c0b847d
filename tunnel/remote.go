package tunnel

import (
	"context"
	"errors"
	"io"
	stdlog "log"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"time"

	"culvert/certs"
	"culvert/protocol"
	"culvert/tunnel/mux"
	"culvert/tunnel/policy"

	"github.com/rs/zerolog"
)

// RemoteConfig says who a Remote is and how much it takes. An Identity with a key is required, and a Trust that admits
// somebody.
type RemoteConfig struct {
	Identity Identity
	Trust    Trust
	Rules    *policy.Rules        // for the targets of all clients; nil forbids only what is special
	Reverse  *policy.ReverseRules // what the remote may bind for clients whose key's line does not say it; nil for nothing
	Path     string               // of the WebSocket, "/" when empty

	// Fallback is a site that answers every request but the WebSocket upgrades on Path, so that a visitor sees no more
	// than that site. Without one, other paths are not found.
	Fallback *url.URL

	// RequireForwardSecrecy refuses clients without the handshake's extension.
	RequireForwardSecrecy bool

	// ResumeWindow is how long a session without a connection waits for its client; 0 means mux.DefaultResumeWindow.
	ResumeWindow time.Duration

	MaxSessions int // 0 means DefaultMaxSessions
	MaxStreams  int // of one session; 0 means mux.DefaultMaxStreams

	Log zerolog.Logger // the zero value is silent
}

// Identity is what a Remote shows its clients.
type Identity struct {
	Key  *certs.KeyPair
	Cert *certs.Certificate // enables version 2 of the handshake; must be for Key
}

// Trust says which clients a Remote admits. Each condition that is given must hold.
type Trust struct {
	// Authorized, when set, must list the client's key.
	Authorized *certs.AuthorizedKeys

	// RequireCert makes the client show a certificate of CA, which only version 2 of the handshake can.
	RequireCert bool
	CA          *certs.Certificate
	Revoked     *certs.Revocations

	// Anyone admits every client that meets the conditions above, and there need be none.
	Anyone bool
}

// ErrNobodyAdmitted says that a Trust would admit nobody.
var ErrNobodyAdmitted = errors.New("no client could be admitted")

// check refuses a Trust that admits nobody, or that asks for certificates of no CA.
func (t *Trust) check() error {
	if t.RequireCert && t.CA == nil {
		return errors.New("a client certificate is required, but no CA is given")
	}
	if t.Authorized == nil && !t.RequireCert && !t.Anyone {
		return ErrNobodyAdmitted
	}
	return nil
}

var (
	errKeyNotListed = errors.New("key not listed")
	errNoCert       = errors.New("no certificate")
)

// admit decides on a client whose certificate, if it showed one, has been verified.
func (t *Trust) admit(peer protocol.Peer) error {
	if t.RequireCert && peer.Cert == nil {
		return errNoCert
	}
	if t.Authorized != nil {
		if _, ok := t.Authorized.Lookup(peer.Key); !ok {
			return errKeyNotListed
		}
	}
	return nil
}

// Remote is the node where the traffic comes out. It is an http.Handler; Serve serves it on listeners.
type Remote struct {
	cfg        RemoteConfig
	fallback   *fallback // nil when there is none
	replay     *protocol.ReplayCache
	handshakes chan struct{} // a token for each client that is not admitted yet
	host       *mux.Host
	session    mux.Config
	exits      places // for UDP sockets

	ctx     context.Context // ends all work at once
	stop    context.CancelFunc
	serving sync.WaitGroup // calls of ServeHTTP

	mu         sync.Mutex // guards all below
	identity   Identity
	trust      Trust
	rules      *policy.Rules
	keyRules   map[certs.PublicKey]*policy.Rules // of the keys whose lines restrict their targets, in place of rules
	reverse    *policy.ReverseRules
	keyReverse map[certs.PublicKey]*policy.ReverseRules // of the keys whose lines say what they may bind, in place of reverse
	exposures  map[*exposure]struct{}                   // the listeners for clients
	draining   bool
	sessions   map[*mux.Session]protocol.Peer
}

// NewRemote makes a Remote. Close ends it.
func NewRemote(cfg RemoteConfig) (*Remote, error) {
	if err := cfg.Trust.check(); err != nil {
		return nil, err
	}
	keyRules, err := cfg.Rules.ForKeys(cfg.Trust.Authorized)
	if err != nil {
		return nil, err
	}
	keyReverse, err := policy.ReverseRulesForKeys(cfg.Trust.Authorized)
	if err != nil {
		return nil, err
	}
	if cfg.Path == "" {
		cfg.Path = "/"
	}
	if cfg.MaxSessions == 0 {
		cfg.MaxSessions = DefaultMaxSessions
	}
	ctx, stop := context.WithCancel(context.Background())
	r := &Remote{
		cfg:        cfg,
		replay:     protocol.NewReplayCache(protocol.DefaultReplayCapacity),
		handshakes: make(chan struct{}, maxHandshakes),
		host:       mux.NewHost(mux.HostConfig{ResumeWindow: cfg.ResumeWindow}),
		session:    mux.Config{MaxStreams: cfg.MaxStreams, Retention: mux.NewBudget(maxRetention)},
		exits:      make(places, maxExits),
		ctx:        ctx,
		stop:       stop,
		identity:   cfg.Identity,
		trust:      cfg.Trust,
		rules:      cfg.Rules,
		keyRules:   keyRules,
		reverse:    cfg.Reverse,
		keyReverse: keyReverse,
		exposures:  make(map[*exposure]struct{}),
		sessions:   make(map[*mux.Session]protocol.Peer),
	}
	if cfg.Fallback != nil {
		r.fallback = newFallback(cfg.Fallback, cfg.Log)
	}
	return r, nil
}

// Reload replaces what later clients are shown, who is admitted, and which targets later streams may have, also of
// sessions that exist, and what may be bound. It ends the sessions of those who are no longer admitted, and closes the
// listeners that are no longer granted.
func (r *Remote) Reload(identity Identity, trust Trust, rules *policy.Rules, reverse *policy.ReverseRules) error {
	if err := trust.check(); err != nil {
		return err
	}
	keyRules, err := rules.ForKeys(trust.Authorized)
	if err != nil {
		return err
	}
	keyReverse, err := policy.ReverseRulesForKeys(trust.Authorized)
	if err != nil {
		return err
	}
	var ended []*mux.Session
	r.mu.Lock()
	r.identity, r.trust, r.rules, r.keyRules = identity, trust, rules, keyRules
	r.reverse, r.keyReverse = reverse, keyReverse
	r.endExposures(false)
	for session, peer := range r.sessions {
		if err := r.readmit(trust, peer); err != nil {
			r.cfg.Log.Info().Err(err).Stringer("client", peer.Key).Msg("client no longer admitted")
			ended = append(ended, session)
		}
	}
	r.mu.Unlock()
	for _, session := range ended {
		session.CloseWith(mux.CodeNotAllowed, "no longer admitted")
	}
	return nil
}

// readmit decides on a client whose certificate was verified under another Trust.
func (r *Remote) readmit(trust Trust, peer protocol.Peer) error {
	if trust.RequireCert && peer.Cert != nil {
		if err := peer.Cert.Verify(certs.VerifyOptions{CA: trust.CA, Now: time.Now(), Revoked: trust.Revoked}); err != nil {
			return err
		}
	}
	return trust.admit(peer)
}

// ServeHTTP upgrades a request to a WebSocket and serves its session until that ends. Other requests are for the fallback
// site.
func (r *Remote) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	ours := request.URL.Path == r.cfg.Path && (r.fallback == nil || isUpgrade(request))
	r.mu.Lock()
	draining := r.draining
	if !draining {
		r.serving.Add(1)
		defer r.serving.Done()
	}
	refuse := draining || (ours && r.full())
	r.mu.Unlock()
	if ours && !refuse {
		select {
		case r.handshakes <- struct{}{}:
		default:
			refuse = true
		}
	}
	switch {
	case r.fallback != nil && !draining && (!ours || refuse):
		r.fallback.serve(r.ctx, w, request)
		return
	case !ours:
		http.NotFound(w, request)
		return
	case refuse:
		http.Error(w, "busy", http.StatusServiceUnavailable)
		return
	}
	session, state, resumed, err := r.shakeHands(w, request)
	<-r.handshakes
	log := r.cfg.Log.With().Str("from", request.RemoteAddr).Logger()
	if err != nil {
		log.Info().Err(err).Msg("client refused")
		return
	}
	if resumed { // the call that began the session serves it on
		stats := session.Stats()
		log.Info().Stringer("client", state.Peer.Key).Int("streams", stats.Streams).Uint64("resent_bytes", stats.Resent).
			Msg("session resumed")
		return
	}
	r.serveSession(session, state, log)
}

// shakeHands makes a session of a request, or answers it with an error.
func (r *Remote) shakeHands(w http.ResponseWriter, request *http.Request) (s *mux.Session, state protocol.State, resumed bool, err error) {
	ws, err := protocol.Upgrade(w, request)
	if err != nil {
		return nil, protocol.State{}, false, err
	}
	r.mu.Lock()
	identity, trust := r.identity, r.trust
	r.mu.Unlock()
	cfg := protocol.ServerConfig{
		Key:         identity.Key,
		Cert:        identity.Cert,
		CA:          trust.CA,
		RequireCert: trust.RequireCert,
		Revoked:     trust.Revoked,
		Admit:       trust.admit,
		Replay:      r.replay,
		MaxMessage:  mux.MaxRecordSize,
	}
	if r.cfg.RequireForwardSecrecy {
		cfg.Extension = protocol.ExtensionRequired
	}
	if addr, err := netip.ParseAddrPort(request.RemoteAddr); err == nil {
		cfg.PeerAddr = addr.Addr().Unmap()
	}
	conn, err := protocol.Server(r.ctx, ws, cfg)
	if err != nil {
		return nil, protocol.State{}, false, err
	}
	state = conn.State()
	s, resumed, err = r.host.Accept(r.ctx, conn, r.session, state.Peer.Key.String())
	return s, state, resumed, err
}

// full says that there is no room for another session, also not for one that would take the place of its own. Called with
// the mutex held.
func (r *Remote) full() bool {
	if len(r.sessions) < r.cfg.MaxSessions {
		return false
	}
	for session := range r.sessions {
		if session.Stats().Away {
			return false
		}
	}
	return true
}

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
			rules := func() resolver { return r.rulesFor(state.Peer.Key) }
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

// rulesFor returns the rules that now hold for a client's streams.
func (r *Remote) rulesFor(client certs.PublicKey) *policy.Rules {
	r.mu.Lock()
	defer r.mu.Unlock()
	if rules, ok := r.keyRules[client]; ok {
		return rules
	}
	return r.rules
}

// serveStream reaches the stream's target, and has the two joined by a goroutine of their own, which streams counts: the
// stack that dialing took is not held for as long as the stream lasts. The context ends with the session.
func (r *Remote) serveStream(ctx context.Context, stream *mux.Stream, rules *policy.Rules, streams *sync.WaitGroup, log *zerolog.Logger) {
	conn, err := dialWhileWanted(ctx, stream, func(ctx context.Context) (net.Conn, error) {
		return dialTarget(ctx, rules, stream.Target())
	})
	if err != nil {
		code := dialCode(err)
		log.Debug().Err(err).Str("target", stream.Target().Address).Stringer("code", code).Msg("target not reached")
		stream.Refuse(code, "")
		return
	}
	if err := stream.Confirm(); err != nil {
		abort(conn)
		return
	}
	streams.Go(func() {
		err := relay(ctx, stream, conn)
		log.Debug().Err(err).Str("target", stream.Target().Address).Msg("stream ended")
	})
}

// dialWhileWanted calls dial for the stream, with a context that ends after dialTimeout, and when the opener gives up.
func dialWhileWanted(ctx context.Context, stream *mux.Stream, dial func(context.Context) (net.Conn, error)) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	stream.NotifyEnd(cancel)
	defer stream.NotifyEnd(nil)
	return dial(ctx)
}

// addSession fails once the remote drains, or when there are too many.
func (r *Remote) addSession(session *mux.Session, peer protocol.Peer) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.draining || len(r.sessions) >= r.cfg.MaxSessions {
		return false
	}
	r.sessions[session] = peer
	return true
}

func (r *Remote) removeSession(session *mux.Session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.sessions, session)
}

// Sessions returns the number of sessions.
func (r *Remote) Sessions() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.sessions)
}

// Shutdown takes no new clients, tells the sessions to drain, waits until they have no streams or ctx is done, and ends
// the rest. All the Remote's goroutines have ended when it returns.
func (r *Remote) Shutdown(ctx context.Context) {
	r.mu.Lock()
	r.draining = true
	r.endExposures(true)
	var drains sync.WaitGroup
	for session := range r.sessions {
		drains.Go(func() {
			session.Drain(ctx)
			session.Close()
		})
	}
	r.mu.Unlock()
	drains.Wait()
	r.stop()
	r.serving.Wait()
	if r.fallback != nil {
		r.fallback.transport.CloseIdleConnections()
	}
}

// Abort makes a Shutdown that is under way, or Serve when it stops, wait for no streams. They are cut short.
func (r *Remote) Abort() { r.stop() }

// Serve serves HTTP on the listeners until ctx is done or one fails, then shuts down within DrainTimeout.
func (r *Remote) Serve(ctx context.Context, listeners ...net.Listener) error {
	server := &http.Server{
		Handler:           r,
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       headerTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          stdlog.New(r.cfg.Log, "", 0),
	}
	failed := make(chan error, len(listeners))
	var serving sync.WaitGroup
	for _, ln := range listeners {
		serving.Go(func() { failed <- server.Serve(ln) })
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	drainCtx, cancel := context.WithTimeout(r.ctx, DrainTimeout)
	defer cancel()
	for _, ln := range listeners {
		ln.Close()
	}
	r.Shutdown(drainCtx)
	server.Close() // connections that never became WebSockets
	serving.Wait()
	return err
}
