package tunnel

import (
	"context"
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
	Identity RemoteIdentity
	Trust    RemoteTrust
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

// Remote is the node where the traffic comes out. It is an http.Handler; Serve serves it on listeners.
type Remote struct {
	cfg        RemoteConfig
	fallback   *remoteFallback // nil when there is none
	replay     *protocol.ReplayCache
	handshakes chan struct{} // a token for each client that is not admitted yet
	host       *mux.Host
	session    mux.Config
	exits      places // for UDP sockets

	ctx     context.Context // ends all work at once
	stop    context.CancelFunc
	serving sync.WaitGroup // calls of ServeHTTP

	mu         sync.Mutex // guards all below
	identity   RemoteIdentity
	trust      RemoteTrust
	rules      *policy.Rules
	keyRules   map[certs.PublicKey]*policy.Rules // of the keys whose lines restrict their targets, in place of rules
	reverse    *policy.ReverseRules
	keyReverse map[certs.PublicKey]*policy.ReverseRules // of the keys whose lines say what they may bind, in place of reverse
	binds      map[*remoteBind]struct{}                 // the listeners for clients
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
		binds:      make(map[*remoteBind]struct{}),
		sessions:   make(map[*mux.Session]protocol.Peer),
	}
	if cfg.Fallback != nil {
		r.fallback = newRemoteFallback(cfg.Fallback, cfg.Log)
	}
	return r, nil
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
	r.endBinds(true)
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
