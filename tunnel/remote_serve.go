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
// them fails. Then it shuts down within DrainTimeout.
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
