package tunnel

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync"

	"culvert/internal/httplog"
)

// Serve serves HTTP on the listeners, over TLS if it is configured, until ctx is done or one of
// them fails. Then it shuts down within the DrainTimeout; until that is over, clients of sessions
// are served, and others are told that the node is busy.
func (r *Remote) Serve(ctx context.Context, listeners ...net.Listener) error {
	server := &http.Server{
		Handler:           httplog.Recover(r.cfg.Log, r),
		ReadHeaderTimeout: headerTimeout,
		WriteTimeout:      headerTimeout, // of what the server answers by itself
		IdleTimeout:       headerTimeout,
		ConnContext:       withStranger,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          httplog.New(r.cfg.Log),
	}
	r.noteUnknownClients(listeners)
	failed := make(chan error, len(listeners))
	var serving sync.WaitGroup
	for _, ln := range listeners {
		accepting := net.Listener(r.listenForStrangers(ln))
		if r.cfg.TLS != nil {
			accepting = tls.NewListener(accepting, r.cfg.TLS)
		}
		serving.Go(func() { failed <- server.Serve(accepting) })
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	drainCtx, cancel := context.WithTimeout(r.ctx, r.cfg.DrainTimeout)
	defer cancel()
	r.Shutdown(drainCtx)
	for _, ln := range listeners {
		ln.Close()
	}
	server.Close() // connections that never became WebSockets
	serving.Wait()
	return err
}
