package tunnel

import (
	"context"
	"net"

	"culvert/tunnel/mux"
)

// dialWhileWanted calls dial for the stream, with a context that ends after dialTimeout, and when the opener gives up.
func dialWhileWanted(ctx context.Context, stream *mux.Stream, dial func(context.Context) (net.Conn, error)) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	stream.NotifyEnd(cancel)
	defer stream.NotifyEnd(nil)
	return dial(ctx)
}
