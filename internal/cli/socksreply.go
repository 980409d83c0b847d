package cli

import (
	"errors"
	"net"

	"culvert/socks"
	"culvert/tunnel"
	"culvert/tunnel/mux"
)

// unreached reports whether a stream failed because its target can't be reached, which may have
// turned out after it was opened, or because its session has ended: neither is the target's doing.
func unreached(err error) bool {
	_, refused := errors.AsType[*mux.OpenError](err)
	_, lost := errors.AsType[*mux.SessionError](err)
	return refused || lost
}

// socksReply translates why a target can't be reached.
func socksReply(err error) socks.Reply {
	var refused *mux.OpenError
	var lost *mux.SessionError
	switch {
	case errors.Is(err, tunnel.ErrNoSession), errors.Is(err, net.ErrClosed), errors.As(err, &lost):
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
