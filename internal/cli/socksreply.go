package cli

import (
	"errors"
	"net"

	"culvert/socks"
	"culvert/tunnel"
	"culvert/tunnel/mux"
)

// unreached reports whether a stream that was opened before its target answered failed because the
// target can't be reached.
func unreached(err error) bool {
	_, refused := errors.AsType[*mux.OpenError](err)
	return refused
}

// socksReply translates why a target can't be reached.
func socksReply(err error) socks.Reply {
	var refused *mux.OpenError
	switch {
	case errors.Is(err, tunnel.ErrNoSession), errors.Is(err, net.ErrClosed):
		return socks.ReplyUnavailable
	case !errors.As(err, &refused):
		return socks.ClassifyNetError(err)
	}
	switch refused.Code {
	case mux.CodeRefused:
		return socks.ReplyConnectionRefused
	case mux.CodeHostUnreach:
		return socks.ReplyHostUnreachable
	case mux.CodeNameNotFound:
		return socks.ReplyNameNotFound
	case mux.CodeNetUnreach:
		return socks.ReplyNetworkUnreachable
	case mux.CodeTimeout:
		return socks.ReplyTTLExpired
	case mux.CodeNotAllowed, mux.CodeQuota:
		return socks.ReplyNotAllowed
	case mux.CodeLookupFailed:
		return socks.ReplyLookupFailed
	case mux.CodeTooManyStreams, mux.CodeDraining, mux.CodeExhausted, mux.CodeOverload:
		return socks.ReplyBusy
	}
	return socks.ReplyGeneralFailure
}
