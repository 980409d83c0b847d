package status

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"slices"
	"strings"
	"time"

	"culvert/internal/bounds"
	"culvert/internal/httplog"
	"culvert/internal/netfault"
	"culvert/internal/state"

	"github.com/rs/zerolog"
	"golang.org/x/net/netutil"
)

// Config configures a Server. Metrics, Ready and Source are required.
type Config struct {
	// Hosts are the names by which the server may be reached, besides addresses and localhost: with
	// any other, a web page may have made its own name lead here (DNS rebinding).
	Hosts []string

	// TLS is used on a listener that other machines can reach. Without it such a listener serves
	// only metrics and health.
	TLS *tls.Config

	Metrics http.Handler
	Ready   func() error   // why the node is of no use at present, or nil
	Source  *state.Source  // of /api/state
	Events  *state.Events  // of /api/events
	Profile bool           // serve profiles on loopback
	Bounds  *bounds.Counts // counts what is refused; nil counts nothing
	Log     zerolog.Logger
}

// Server serves the status of a node on one listener.
type Server struct {
	cfg     Config
	token   string
	ln      net.Listener
	secured bool // with TLS
	streams chan struct{}
	stop    context.Context // ends the event streams
	end     context.CancelFunc
	http    *http.Server
}

// New returns a Server for a listener, which it owns.
func New(ln net.Listener, cfg Config) *Server {
	s := &Server{cfg: cfg, token: rand.Text(), ln: ln, streams: make(chan struct{}, maxEventStreams)}
	s.stop, s.end = context.WithCancel(context.Background())
	tcp, ok := ln.Addr().(*net.TCPAddr)
	s.secured = ok && !tcp.IP.IsLoopback() && cfg.TLS != nil
	s.http = &http.Server{
		Handler:           httplog.Recover(cfg.Log, s.handler()),
		ReadHeaderTimeout: requestTimeout,
		ReadTimeout:       requestTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          httplog.New(cfg.Log),
	}
	return s
}

// Address returns the listener's address, host:port or unix:/path.
func (s *Server) Address() string {
	if s.isUnix() {
		return "unix:" + s.ln.Addr().String()
	}
	return s.ln.Addr().String()
}

// URL returns that of the page, with the token; of a unix socket, its address; and "" where there
// is no page.
func (s *Server) URL() string {
	tcp, ok := s.ln.Addr().(*net.TCPAddr)
	switch {
	case !ok:
		return s.Address()
	case s.secured:
		return "https://" + s.Address() + "/?token=" + s.token
	case tcp.IP.IsLoopback():
		return "http://" + s.Address() + "/?token=" + s.token
	}
	return ""
}

// Serve serves until Close is called or the listener breaks, which is an error.
func (s *Server) Serve() error {
	accepting := netfault.NewListener(s.ln, netfault.LogPauses(s.cfg.Log))
	ln := netutil.LimitListener(accepting, maxConns)
	if s.secured {
		ln = tls.NewListener(ln, s.cfg.TLS)
	}
	if err := s.http.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Close ends Serve, if it was called, and all connections.
func (s *Server) Close() {
	s.end()
	s.http.Close()
	s.ln.Close()
}

func (s *Server) isUnix() bool { return s.ln.Addr().Network() == "unix" }

// handler returns the handler of all paths.
func (s *Server) handler() http.Handler {
	open, page := http.NewServeMux(), http.NewServeMux()
	open.Handle("GET /metrics", s.cfg.Metrics)
	open.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		writeLine(w, http.StatusOK, "ok")
	})
	open.HandleFunc("GET /readyz", s.serveReady)
	page.HandleFunc("GET /{$}", servePage)
	page.HandleFunc("GET /api/state", s.serveState)
	page.HandleFunc("GET /api/events", s.serveEvents)
	open.Handle("/{$}", s.protect(page))
	open.Handle("/api/", s.protect(page))
	open.Handle("GET /page/", pageFiles())
	if s.cfg.Profile {
		profiles := http.NewServeMux()
		profiles.HandleFunc("GET /debug/pprof/", pprof.Index)
		profiles.HandleFunc("GET /debug/pprof/profile", unbounded(pprof.Profile))
		profiles.HandleFunc("GET /debug/pprof/trace", unbounded(pprof.Trace))
		profiles.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
		open.Handle("/debug/pprof/", s.protect(profiles))
	}
	return s.checkHost(open)
}

// checkHost refuses requests under a name that is not the node's, and sets what all answers have in
// common.
func (s *Server) checkHost(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Cache-Control", "no-store")
		h.Set("Referrer-Policy", "no-referrer")
		if !s.isUnix() && !s.isOwnHost(r.Host) {
			writeLine(w, http.StatusMisdirectedRequest,
				"not a name of this machine: use its address, or give the name with --status-host")
			return
		}
		next.ServeHTTP(w, r)
	})
}

// isOwnHost reports whether a request's Host is an address, localhost or a name of Config.Hosts.
func (s *Server) isOwnHost(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
	if _, err := netip.ParseAddr(host); err == nil || host == "localhost" {
		return true
	}
	return slices.ContainsFunc(s.cfg.Hosts, func(name string) bool {
		return strings.EqualFold(strings.TrimSuffix(name, "."), host)
	})
}

// protect refuses requests for what shows where users go: those that others on the way could read,
// and those without the token.
func (s *Server) protect(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case s.isUnix():
		case !s.secured && !isLocal(r):
			writeLine(w, http.StatusForbidden,
				"only on loopback, a unix socket or TLS: others on the way could read it")
			return
		case !s.hasToken(r):
			writeLine(w, http.StatusForbidden,
				"the token is missing or wrong: use the URL that is logged at the start")
			return
		}
		next.ServeHTTP(w, r)
	})
}

// isLocal reports whether a request doesn't leave the machine.
func isLocal(r *http.Request) bool {
	addr, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	return ok && addr.IP.IsLoopback()
}

// hasToken reports whether a request has the token: in its query, or as a bearer token (RFC 6750).
func (s *Server) hasToken(r *http.Request) bool {
	token := r.URL.Query().Get("token")
	if bearer, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		token = bearer
	}
	return subtle.ConstantTimeCompare([]byte(token), []byte(s.token)) == 1
}

// serveReady reports whether the node is of use.
func (s *Server) serveReady(w http.ResponseWriter, _ *http.Request) {
	if err := s.cfg.Ready(); err != nil {
		reason, _, _ := strings.Cut(err.Error(), "\n")
		writeLine(w, http.StatusServiceUnavailable, "not ready: "+reason)
		return
	}
	writeLine(w, http.StatusOK, "ready")
}

// unbounded lets an answer take longer than writeTimeout: a profile is written when its time is
// over.
func unbounded(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).SetWriteDeadline(time.Time{})
		next(w, r)
	}
}

func writeLine(w http.ResponseWriter, status int, line string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	w.Write([]byte(line + "\n"))
}
