package cli

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"culvert/socks"
	"culvert/tunnel"
	"culvert/tunnel/mux"
)

func TestSocksReply(t *testing.T) {
	for code, want := range map[mux.Code]socks.Reply{
		mux.CodeRefused:        socks.ReplyConnectionRefused,
		mux.CodeHostUnreach:    socks.ReplyHostUnreachable,
		mux.CodeNameNotFound:   socks.ReplyHostUnreachable,
		mux.CodeNetUnreach:     socks.ReplyNetworkUnreachable,
		mux.CodeTimeout:        socks.ReplyTTLExpired,
		mux.CodeNotAllowed:     socks.ReplyNotAllowed,
		mux.CodeTooManyStreams: socks.ReplyGeneralFailure,
		mux.CodeDialFailed:     socks.ReplyGeneralFailure,
		mux.CodeDraining:       socks.ReplyGeneralFailure,
	} {
		if got := socksReply(fmt.Errorf("open: %w", &mux.OpenError{Code: code})); got != want {
			t.Errorf("%v: reply %d, want %d", code, got, want)
		}
	}
	for _, err := range []error{tunnel.ErrNoSession, errors.New("anything"), context.Canceled} {
		if got := socksReply(err); got != socks.ReplyGeneralFailure {
			t.Errorf("%v: reply %d", err, got)
		}
	}
}
