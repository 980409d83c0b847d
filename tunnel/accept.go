package tunnel

import (
	"context"
	"net"
	"sync"

	"culvert/internal/netfault"

	"github.com/rs/zerolog"
)

// retrying returns a listener that accepts from ln and logs what it retries after.
func retrying(ln net.Listener, log zerolog.Logger) *netfault.Listener {
	return netfault.NewListener(ln, netfault.LogPauses(log))
}

// serveConns calls handle on a new goroutine for each connection that ln accepts, limiting
// concurrent ones to most. When ctx is done it closes ln, and returns once every handler has. It
// returns an error only when ln fails.
func serveConns(ctx context.Context, ln *netfault.Listener, most int, handle func(net.Conn)) error {
	stop := context.AfterFunc(ctx, func() { ln.Close() })
	defer stop()
	var conns sync.WaitGroup
	defer conns.Wait()
	defer ln.Close()
	handlers := newPlaces(most)
	for handlers.await(ctx) {
		conn, err := ln.Accept()
		switch {
		case err == nil:
			conns.Go(func() {
				defer handlers.leave()
				handle(conn)
			})
		case ctx.Err() != nil:
			return nil
		default:
			return err
		}
	}
	return nil
}
