package tunnel

import (
	"context"
	"net"
	"strings"

	"culvert/tunnel/mux"
	"culvert/tunnel/policy"
)

// dialTarget reaches a stream's target as the rules allow. Names are resolved here, at the remote.
func dialTarget(ctx context.Context, rules *policy.Rules, target mux.Target) (net.Conn, error) {
	switch target.Kind {
	case mux.StreamTCP:
		return rules.Dial(ctx, "tcp", target.Address)
	case mux.StreamUnix:
		return rules.DialUnix(ctx, target.Address)
	}
	return nil, policy.ErrBadTarget
}

// streamTarget is the target that the user of a Local has written as host:port, or as unix: and an
// absolute path. A host may be named unix too.
func streamTarget(text string) mux.Target {
	if socket, ok := strings.CutPrefix(text, policy.UnixPrefix); ok && strings.HasPrefix(socket, "/") {
		return mux.Target{Kind: mux.StreamUnix, Address: socket}
	}
	return mux.Target{Kind: mux.StreamTCP, Address: text}
}
