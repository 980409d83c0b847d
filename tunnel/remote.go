package tunnel

import (
	"context"
	"crypto/tls"
	"net"
	"net/url"
	"sync"
	"time"

	"culvert/internal/bounds"
	"culvert/internal/quota"
	"culvert/internal/state"
	"culvert/protocol"
	"culvert/tunnel/mux"
	"culvert/tunnel/policy"

	"github.com/rs/zerolog"
)

// RemoteConfig configures a Remote. Required are an Identity with a key, and a Trust that admits
// somebody. Its fields are the options of a remote, most of them independent of the others.
type RemoteConfig struct {
	Identity RemoteIdentity
	Trust    RemoteTrust

	// Rights are those of clients, as far as the line of their key grants no others. Zero Sessions
	// and Streams of the share mean DefaultClientSessions and DefaultClientStreams; other zero fields
	// are no bound.
	policy.Rights

	Path string      // of the WebSocket; "/" when empty
	TLS  *tls.Config // of Serve; nil serves without TLS

	// Taken are addresses on which the process listens besides, such as for its status. Not every
	// system keeps -R from binding them too.
	Taken []net.Addr

	// Proxies are believed about the addresses of the clients that connect through them.
	Proxies TrustedProxies

	// Fallback is a site that answers every request except WebSocket upgrades on Path, so that a
	// visitor sees only that site. Without one, other paths are not found.
	Fallback *url.URL

	// RequireForwardSecrecy refuses clients without the handshake's extension.
	RequireForwardSecrecy bool

	// ResumeWindow is how long a session without a connection waits for its client; 0 means
	// mux.DefaultResumeWindow.
	ResumeWindow time.Duration

	// Congestion is the congestion control of carriers: "auto", "system" or a name, as package
	// congestion has them; "" means "auto".
	Congestion string

	// Memory bounds what the streams of all clients hold together, in bytes: see package budget. 0
	// means DefaultMemory.
	Memory int64

	// MaxHandshakeRate is how many handshakes begin in a second at most; 0 means
	// DefaultMaxHandshakeRate. More clients are asked to come later.
	MaxHandshakeRate int

	MaxSessions int // 0 means DefaultMaxSessions
	MaxStreams  int // per session; 0 means mux.DefaultMaxStreams

	// NoSpeed refuses speed tests: see package speed.
	NoSpeed bool

	// Ledger counts what clients use of their quotas; nil for one without a file. The caller closes
	// it after the Remote has ended.
	Ledger *quota.Ledger

	// DrainTimeout is how long sessions may last when the Remote stops, or when they move, until
	// their streams have ended; 0 means DefaultDrainTimeout.
	DrainTimeout time.Duration

	// MaxSessionAge is how old a session may be before its client is told to open another, up to a
	// fifth sooner; 0 for any age. It should be longer than the DrainTimeout: until that is over,
	// the client has both.
	MaxSessionAge time.Duration

	// Replay is the cache of the process that had the key before, nil for a new one. Predecessor is
	// that process, if it still has sessions: upgrades for these are passed on to it.
	Replay      *protocol.ReplayCache
	Predecessor Predecessor

	Events *state.Events  // gets what happens, for observers; may be nil
	Log    zerolog.Logger // the zero value is silent

	// Access is called with each stream that has ended or was refused, with locks held: it must not
	// wait, nor call the Remote. nil for none.
	Access func(StreamRecord)

	Observer Observer       // nil for none
	Bounds   *bounds.Counts // counts what is refused because of a bound; nil counts nothing
}

// Remote is the end of a tunnel where the traffic comes out. It is an http.Handler; Serve serves it
// on listeners. All methods may be called concurrently.
type Remote struct {
	cfg      RemoteConfig
	observed remoteObserved
	gate     *remoteGate
	fallback *remoteFallback // nil when there is none
	moving   *remoteMoving
	host     *mux.Host
	session  mux.Config
	remotePlaces
	congestion *carrierCongestion

	ctx     context.Context // ends all work at once
	stop    context.CancelFunc
	serving sync.WaitGroup // calls of ServeHTTP

	mu       sync.Mutex // guards all below
	access   *remoteAccess
	binds    map[*remoteBind]struct{}
	draining bool      // no new sessions
	ended    bool      // no new calls of ServeHTTP
	changed  sync.Cond // a session was removed
	remoteUse

	remoteHooks
}

// remotePlaces bound what all clients of a Remote may have at once.
type remotePlaces struct {
	exits places // for UDP sockets
	tests places // for speed tests
	names *policy.LookupPool

	binding sync.Mutex // held to bind an address where the system doesn't say that it is taken
}

// remoteUse is who uses a Remote. Its mutex guards it.
type remoteUse struct {
	sessions  map[*mux.Session]*admission
	uncounted int                        // of them, those that hold no place: see admission
	routes    map[string]int             // sessions by the value of sessionHeader, "" for none
	clients   map[clientID]*remoteClient // that have sessions
	streams   int                        // of all clients
	fullUntil time.Time                  // there is no room for a session: see isFull
}

// remoteHooks is what tests replace.
type remoteHooks struct {
	now    func() time.Time              // for certificates
	dialer func(remoteRules) remoteRules // replaces how allowed targets are dialed, if set
}

// NewRemote returns a Remote. The caller ends it with Shutdown or through Serve.
func NewRemote(cfg RemoteConfig) (*Remote, error) {
	access, err := newRemoteAccess(cfg.Identity, cfg.Trust, cfg.Rights)
	if err != nil {
		return nil, err
	}
	if cfg.Path == "" {
		cfg.Path = "/"
	}
	if cfg.MaxSessions == 0 {
		cfg.MaxSessions = DefaultMaxSessions
	}
	if cfg.MaxHandshakeRate == 0 {
		cfg.MaxHandshakeRate = DefaultMaxHandshakeRate
	}
	if cfg.DrainTimeout == 0 {
		cfg.DrainTimeout = DefaultDrainTimeout
	}
	if cfg.Ledger == nil {
		cfg.Ledger, _ = quota.Open("", nil) // which doesn't fail
	}
	if cfg.Observer == nil {
		cfg.Observer = noObserver{}
	}
	ctx, stop := context.WithCancel(context.Background())
	r := &Remote{
		cfg:        cfg,
		observed:   newRemoteObserved(),
		moving:     newRemoteMoving(cfg.Replay, cfg.Predecessor),
		gate:       newRemoteGate(cfg.Log, cfg.Bounds, cfg.MaxHandshakeRate),
		host:       newSessionHost(cfg),
		session:    newSessionConfig(cfg),
		congestion: newCarrierCongestion(cfg.Congestion, cfg.Log),

		remotePlaces: remotePlaces{
			exits: newPlaces(maxExits), tests: newPlaces(maxTests),
			names: policy.NewLookupPool(maxNames),
		},

		ctx:    ctx,
		stop:   stop,
		access: access,
		binds:  make(map[*remoteBind]struct{}),
		remoteUse: remoteUse{
			sessions: make(map[*mux.Session]*admission),
			routes:   make(map[string]int),
			clients:  make(map[clientID]*remoteClient),
		},
	}
	r.changed.L = &r.mu
	r.now = time.Now
	if cfg.Fallback != nil {
		r.fallback = newRemoteFallback(cfg.Fallback, cfg.TLS != nil, cfg.Log, cfg.Bounds)
	}
	return r, nil
}

// newSessionConfig configures the sessions of a Remote.
func newSessionConfig(cfg RemoteConfig) mux.Config {
	return mux.Config{
		MaxStreams: cfg.MaxStreams, Memory: newMemory(cfg.Memory), Bounds: cfg.Bounds,
	}
}

// newSessionHost returns what holds the sessions. All of them may be without a connection: a load
// balancer that restarts cuts all at once, and what they retain counts in Memory.
func newSessionHost(cfg RemoteConfig) *mux.Host {
	return mux.NewHost(mux.HostConfig{ResumeWindow: cfg.ResumeWindow, MaxAway: cfg.MaxSessions})
}

// MemoryHeld returns how many bytes the streams of all clients hold of RemoteConfig.Memory.
func (r *Remote) MemoryHeld() int64 { return r.session.Memory.Held() }

// Abort makes a Shutdown that is under way, or Serve when it stops, wait for no streams. They are
// cut short.
func (r *Remote) Abort() { r.stop() }
