package tunnel

import (
	"context"
	"net"
	"net/http"
	"sync"

	"culvert/internal/httplog"
)

// Serve serves HTTP on the listeners, over TLS if it is configured, until ctx is done or one of
// them fails. Then it shuts down within the DrainTimeout; until that is over, clients of sessions
// and visitors of the fallback site are served, and others are told that the node is busy.
func (r *Remote) Serve(ctx context.Context, listeners ...net.Listener) error {
	server := &http.Server{
		Handler:           httplog.Recover(r.cfg.Log, r),
		ReadHeaderTimeout: headerTimeout,
		WriteTimeout:      headerTimeout, // of what the server answers by itself
		IdleTimeout:       headerTimeout,
		ConnContext:       withStranger,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          httplog.New(r.cfg.Log),
		ConnState:         r.noteConn,

		DisableGeneralOptionsHandler: true, // the fallback site has an answer of its own
	}
	r.noteUnknownClients(listeners)
	failed := make(chan error, len(listeners)+1)
	var serving sync.WaitGroup
	serving.Go(func() { failed <- server.Serve(r.moving.passed) })
	var entrances []*entrance
	for _, ln := range listeners {
		e := r.moving.enter(ln)
		entrances = append(entrances, e)
		accepting := headListener{r.listenForStrangers(e), r.cfg.TLS, server.ErrorLog}
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
	for _, e := range entrances {
		e.Close()
	}
	r.moving.passed.Close()
	server.Close() // connections that never became WebSockets
	serving.Wait()
	return err
}

// noteConn is http.Server.ConnState.
func (r *Remote) noteConn(conn net.Conn, state http.ConnState) {
	if c, ok := conn.(*headConn); ok {
		c.note(state)
	}
	r.moving.noteConn(conn, state)
}
