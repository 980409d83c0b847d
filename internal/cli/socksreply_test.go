package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"testing"

	"culvert/socks"
	"culvert/tunnel"
	"culvert/tunnel/mux"
)

func TestSocksReply(t *testing.T) {
	for code, want := range map[mux.Code]socks.Reply{
		mux.CodeRefused:        socks.ReplyConnectionRefused,
		mux.CodeHostUnreach:    socks.ReplyHostUnreachable,
		mux.CodeNameNotFound:   socks.ReplyNameNotFound,
		mux.CodeNetUnreach:     socks.ReplyNetworkUnreachable,
		mux.CodeTimeout:        socks.ReplyTTLExpired,
		mux.CodeNotAllowed:     socks.ReplyNotAllowed,
		mux.CodeLookupFailed:   socks.ReplyLookupFailed,
		mux.CodeTooManyStreams: socks.ReplyBusy,
		mux.CodeDialFailed:     socks.ReplyGeneralFailure,
		mux.CodeDraining:       socks.ReplyBusy,
		mux.CodeExhausted:      socks.ReplyBusy,
		mux.CodeOverload:       socks.ReplyBusy,
	} {
		if got := socksReply(fmt.Errorf("open: %w", &mux.OpenError{Code: code})); got != want {
			t.Errorf("%v: reply %d, want %d", code, got, want)
		}
	}
	for err, want := range map[error]socks.Reply{
		tunnel.ErrNoSession:                      socks.ReplyUnavailable,
		net.ErrClosed:                            socks.ReplyUnavailable,
		&mux.SessionError{Err: context.Canceled}: socks.ReplyUnavailable,
		errors.New("anything"):                   socks.ReplyGeneralFailure,
		context.Canceled:                         socks.ReplyGeneralFailure,
	} {
		if got := socksReply(err); got != want {
			t.Errorf("%v: reply %d, want %d", err, got, want)
		}
	}
}
