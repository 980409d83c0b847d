package tunnel

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/rs/zerolog"
)

// serveConns handles each connection that ln accepts on a goroutine of its own, most at a time. When ctx is done it closes
// ln, and returns once every handler has. A listener that breaks by itself is an error.
func serveConns(ctx context.Context, ln net.Listener, most int, log zerolog.Logger, handle func(net.Conn)) error {
	stop := context.AfterFunc(ctx, func() { ln.Close() })
	defer stop()
	var conns sync.WaitGroup
	defer conns.Wait()
	defer ln.Close()
	places := make(chan struct{}, most)
	pause := acceptPauseMin
	for {
		select {
		case places <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		conn, err := ln.Accept()
		if err == nil {
			pause = acceptPauseMin
			conns.Go(func() {
				handle(conn)
				<-places
			})
			continue
		}
		<-places
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return err
		default: // out of descriptors, say: it may pass
			log.Warn().Err(err).Msg("accept")
			select {
			case <-time.After(pause):
			case <-ctx.Done():
			}
			pause = min(2*pause, acceptPauseMax)
		}
	}
}
