package tunnel

import (
	"context"
	"net"
	"net/http"
	"sync"

	"culvert/internal/httplog"

	"github.com/gorilla/websocket"
	"github.com/rs/zerolog"
)

// ServeHTTP upgrades a request to a WebSocket and serves its session until that ends. Other
// requests go to the fallback site.
func (r *Remote) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	ours := request.URL.Path == r.cfg.Path && (r.fallback == nil || isUpgrade(request))
	r.mu.Lock()
	draining := r.draining
	if !draining {
		r.serving.Add(1)
		defer r.serving.Done()
	}
	refuse := draining || (ours && r.isFull())
	r.mu.Unlock()
	if ours && !refuse && !r.handshakes.take() {
		refuse = true
	}
	switch {
	case r.fallback != nil && !draining && (!ours || refuse):
		r.fallback.serve(r.ctx, w, request)
	case !ours:
		http.NotFound(w, request)
	case refuse:
		http.Error(w, "busy", http.StatusServiceUnavailable)
	default:
		r.serveClient(w, request)
	}
}

// serveClient serves a client that holds a place among the handshakes.
func (r *Remote) serveClient(w http.ResponseWriter, request *http.Request) {
	session, state, resumed, err := r.admit(w, request)
	r.handshakes.leave()
	log := r.cfg.Log.With().Str("from", request.RemoteAddr).Logger()
	if err != nil {
		level := zerolog.InfoLevel
		if !websocket.IsWebSocketUpgrade(request) { // a visitor, a scanner or a health check
			level = zerolog.DebugLevel
		}
		log.WithLevel(level).Err(err).Msg("client refused")
		return
	}
	if resumed { // the call that began the session continues to serve it
		stats := session.Stats()
		log.Info().Stringer("client", state.Peer.Key).Int("streams", stats.Streams).
			Uint64("resent_bytes", stats.Resent).Msg("session resumed")
		return
	}
	r.serveSession(session, state, log)
}

// Serve serves HTTP on the listeners until ctx is done or one of them fails. Then it shuts down
// within DrainTimeout.
func (r *Remote) Serve(ctx context.Context, listeners ...net.Listener) error {
	server := &http.Server{
		Handler:           httplog.Recover(r.cfg.Log, r),
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       headerTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          httplog.New(r.cfg.Log),
	}
	failed := make(chan error, len(listeners))
	var serving sync.WaitGroup
	for _, ln := range listeners {
		serving.Go(func() { failed <- server.Serve(retrying(ln, r.cfg.Log)) })
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
