package tunnel

import (
	"context"
	"net"

	"culvert/tunnel/mux"
)

// dialWhileWanted calls dial with a context that ends after dialTimeout, and when the opener of the
// stream gives up.
func dialWhileWanted(
	ctx context.Context, in mux.Incoming, dial func(context.Context) (net.Conn, error),
) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	in.NotifyEnd(cancel)
	defer in.NotifyEnd(nil)
	return dial(ctx)
}
