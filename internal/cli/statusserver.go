package cli

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
	"sync/atomic"

	"culvert/internal/bounds"
	"culvert/internal/cli/exit"
	"culvert/internal/cli/flags"
	"culvert/internal/state"
	"culvert/internal/status"
	"culvert/internal/status/metrics"
	"culvert/tunnel"

	"github.com/rs/zerolog"
)

// statusOptions are where and how a node serves its status over HTTP.
type statusOptions struct {
	address string // or ""
	hosts   []string
	profile bool
}

func (o *statusOptions) define(s *flags.Set) {
	s.Group("status")
	s.String(&o.address, "status", "", "serve metrics, health and a page with the state over HTTP "+
		"on `ADDR`: host:port, a port of this machine, or unix:/path")
	s.Strings(&o.hosts, "status-host", nil, "let --status be reached by the host name `NAME`, "+
		"besides addresses and localhost; repeatable")
	s.Bool(&o.profile, "pprof",
		"serve profiles of the process at /debug/pprof/ of --status")
}

// statusNode is what a status server needs of a node.
type statusNode interface {
	metrics.Node
	Ready() error
}

// statusServer serves the status of a node. A nil one serves nothing; all methods may be called on
// it.
type statusServer struct {
	options *statusOptions
	log     zerolog.Logger
	metrics *metrics.Metrics
	ln      net.Listener
	server  *status.Server // nil until serve is called
	node    atomic.Pointer[statusNode]
	ended   sync.WaitGroup
	closing sync.Once
}

// open binds the address, and returns nil if there is none.
func (o *statusOptions) open(version string, log zerolog.Logger) (*statusServer, error) {
	if o.address == "" {
		if len(o.hosts) > 0 || o.profile {
			return nil, exit.Usagef("give --status ADDR, such as --status localhost:7080",
				"--status-host and --pprof do nothing without --status")
		}
		return nil, nil
	}
	address, err := listenAddress("status", o.address, thisMachine, "7080")
	if err != nil {
		return nil, err
	}
	ln, err := listen(address)
	if err != nil {
		return nil, cannotListen(address, "give another address with --status", err)
	}
	return &statusServer{options: o, log: log, metrics: metrics.New(version), ln: ln}, nil
}

// addresses returns where it listens.
func (s *statusServer) addresses() []net.Addr {
	if s == nil {
		return nil
	}
	return []net.Addr{s.ln.Addr()}
}

// observer returns what the node has to tell, nil for nothing.
func (s *statusServer) observer() tunnel.Observer {
	if s == nil {
		return nil // not a typed nil
	}
	return s.metrics
}

// bounds returns what counts refusals, nil for nothing.
func (s *statusServer) bounds() *bounds.Counts {
	if s == nil {
		return nil
	}
	return s.metrics.Bounds
}

// watch makes the status that of a node; until then it is that of one that isn't ready.
func (s *statusServer) watch(node statusNode) {
	if s != nil {
		s.node.Store(&node)
	}
}

// Read implements metrics.Node.
func (s *statusServer) Read() tunnel.Reading {
	if node := s.node.Load(); node != nil {
		return (*node).Read()
	}
	return tunnel.Reading{}
}

// ready returns why the node is of no use at present, or nil.
func (s *statusServer) ready() error {
	if node := s.node.Load(); node != nil {
		return (*node).Ready()
	}
	return tunnel.ErrNoSession
}

// reloaded notes how a reload went.
func (s *statusServer) reloaded(err error) {
	if s != nil {
		s.metrics.Reloaded(err == nil)
	}
}

// statusSources are what a status server shows.
type statusSources struct {
	kind   string // of a state.Node
	source *state.Source
	events *state.Events
	tls    *tls.Config // for listeners that other machines can reach; may be nil
	out    *outputs
}

// serve starts serving.
func (s *statusServer) serve(from statusSources) {
	if s == nil {
		return
	}
	also := metrics.Sources{DroppedLines: from.out.dropped}
	ctx, stopSampling := context.WithCancel(context.Background())
	if from.kind == state.KindRemote {
		s.metrics.WatchRemote(s, also)
		s.ended.Go(func() { s.metrics.Sample(ctx, s) })
	} else {
		s.metrics.WatchLocal(s, also)
	}
	s.server = status.New(s.ln, status.Config{
		Hosts: s.options.hosts, TLS: from.tls, Metrics: s.metrics.Handler(), Ready: s.ready,
		Source: from.source, Events: from.events, Profile: s.options.profile, Bounds: s.bounds(),
		Log: s.log,
	})
	s.ended.Go(func() {
		defer stopSampling()
		if err := s.server.Serve(); err != nil {
			s.log.Error().Err(err).Msg("the status is no longer served")
		}
	})
	event := s.log.Info().Str("listen", s.server.Address())
	if url := s.server.URL(); url != "" {
		event.Str("page", url).Msg("status up")
	} else {
		event.Msg("status up: without the page, which needs loopback, a unix socket or TLS")
	}
}

// url returns the URL of the page or, where there is none, of the server; "" without a server.
func (s *statusServer) url() string {
	switch {
	case s == nil || s.server == nil:
		return ""
	case s.server.URL() != "":
		return s.server.URL()
	}
	return "http://" + s.server.Address() + "/"
}

// close ends serving.
func (s *statusServer) close() {
	if s == nil {
		return
	}
	s.closing.Do(func() {
		if s.server == nil {
			s.ln.Close()
			return
		}
		s.server.Close()
		s.ended.Wait()
	})
}

// openStatus binds the address of --status, if there is one, and lets the local count for it.
func (c *connection) openStatus(o *statusOptions, l *listeners, out *outputs) (err error) {
	if c.status, err = o.open(out.version, c.config.Log); err != nil || c.status == nil {
		return err
	}
	c.config.Observer, c.config.Bounds = c.status.observer(), c.status.bounds()
	l.bounds, l.reverse.socksCfg.Bounds = c.status.bounds(), c.status.bounds()
	return nil
}

// listener describes where the server listens, for the state of the node.
func (s *statusServer) listener() []state.Listener {
	if s == nil {
		return nil
	}
	return []state.Listener{{Kind: state.ListenStatus, Address: listenerAddress(s.ln)}}
}
