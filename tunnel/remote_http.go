package tunnel

import (
	"context"
	stdlog "log"
	"net"
	"net/http"
	"sync"
)

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
